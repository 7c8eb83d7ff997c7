"""Why the probability flow needs fewer evaluations than the reverse-time SDE, and what goes wrong near t = 0.

Eight Gaussians (s.d. .3) under VP noise, their exact score, from the exact law at t = 1. Both equations have the same
marginals; they differ in what a step of finite length gets wrong.

1. The SDE injects noise of variance g² h at every step and relies on later drift to take away what does not belong. A
   long step injects the noise of all its length at once, and the last ones have nobody after them. The flow has no such
   variance. Error: excess cross-entropy of the samples in nats, -mean log p(x) minus the entropy.
2. Where does a wrong network hurt? An error of .05 in ε, the same at every noise, moves samples of the flow *least*
   near the data: x/α moves by the error times the change of σ/α, which is small there. What is hard near t = 0 is to
   learn: the target of score matching, -ε/σ, is noise of variance 1/σ² around a bounded score (last column: what part
   of the target's square is signal), and what is .05 in ε is .05/σ in the score.
3. Equal steps of t are too long there: with equal steps of log SNR the same evaluations go where the score turns.

    python examples/fewer_evaluations.py [folder for fewer-evaluations.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from neuralsde import noising, sampling
from neuralsde.evaluate import style
from neuralsde.sampling.likelihood import Fixed, flow_likelihoods

SCHEDULE = noising.VP()
DATA = noising.eight_gaussians()
END = DATA.at(SCHEDULE, SCHEDULE.t0)
DECADES = ((0.0, 0.1), (0.1, 1.0), (1.0, 10.0), (10.0, float("inf")))
"""Of σ/α; VP goes from .01 to 150."""
METHODS: dict[str, tuple[sampling.Sampler, noising.Spacing]] = {
    "reverse SDE, Euler-Maruyama": (sampling.ReverseSDE(), "uniform"),
    "reverse SDE, half its noise": (sampling.ReverseSDE(eta=0.5), "uniform"),
    "flow, Euler": (sampling.Euler(), "uniform"),
    "flow, DPM-Solver++(2M)": (sampling.DPMSolverPP(), "log-snr"),
}


@jax.jit
def cross_entropy(points: jax.Array) -> jax.Array:
    """-mean log p(x), nats."""
    return -jax.vmap(END.log_density)(points).mean()


class Wrong(eqx.Module):
    """The exact ε plus a fixed error of r.m.s. .05 where low <= σ/α < high: smooth, or as fine as the noise."""

    low: jax.Array
    high: jax.Array
    fine: jax.Array

    def __call__(self, x: jax.Array, t: jax.Array) -> jax.Array:
        ratio = jnp.exp(-0.5 * SCHEDULE.log_snr(t))
        z = jnp.where(self.fine, x / SCHEDULE.sigma(t), x)
        waves = jnp.sin(3.0 * z[::-1] + jnp.arange(2.0)) + jnp.sin(2.0 * z + 1.0)
        return DATA.predictor(SCHEDULE).noise(x, t) + 0.05 * waves * ((ratio >= self.low) & (ratio < self.high))


def wrong(low: float, high: float, fine: bool) -> noising.Predictor:
    """A predictor that is wrong in one decade; all of them are one compiled program."""
    return noising.Predictor(Wrong(jnp.asarray(low), jnp.asarray(high), jnp.asarray(fine)), "noise", SCHEDULE)


def harm(x: jax.Array, key: jax.Array) -> None:
    """Print what an error in each decade does to samples of the flow and to their likelihood."""

    def ends(predictor: noising.Predictor) -> jax.Array:
        return sampling.draw(predictor, (2,), len(x), sampler=sampling.DPMSolverPP(), key=key, steps=96, x=x).x

    def nats(predictor: noising.Predictor, points: jax.Array) -> jax.Array:
        return flow_likelihoods(predictor, points, solver=Fixed(96)).log_density

    right = wrong(0.0, 0.0, False)
    truth = ends(right)
    known = nats(right, truth)
    names = f"{'samples move by (s.d. .3)':>30}{'log density by':>20}{'signal in target':>20}"
    print(f"\n2. ε wrong by .05, smooth | fine {names}")
    for low, high in DECADES:
        ratio = np.sqrt(max(low, 0.01) * min(high, 150.0))
        cells = ["", ""]
        for fine in (False, True):
            predictor = wrong(low, high, fine)
            cells[0] += f"{jnp.median(jnp.linalg.norm(ends(predictor) - truth, axis=1)):10.3f}"
            cells[1] += f"{jnp.abs(nats(predictor, truth) - known).mean():10.3f}"
        print(f"{f'{low:g} <= σ/α < {high:g}':<33}{cells[0]:>30}{cells[1]:>20}{signal(ratio, key):20.3f}")


@jax.jit
def signal(ratio: float, key: jax.Array) -> jax.Array:
    """What part of E|ε/σ|², the target of score matching, is the score's own square, at one σ/α."""
    t = SCHEDULE.time_at(-2 * jnp.log(ratio))
    noised = DATA.at(SCHEDULE, t)
    score = jax.vmap(noised.score)(noised.sample(4_000, key=key))
    return jnp.square(score).sum(1).mean() * SCHEDULE.sigma(t) ** 2 / 2


def main(
    n: int = 20_000, counts: tuple[int, ...] = (12, 24, 48, 96), folder: Path | None = None
) -> dict[tuple[str, int], float]:
    """Print the three tables; the picture goes to `folder`. Returns the errors of the first."""
    start, key = jax.random.split(jax.random.key(0))
    x = DATA.at(SCHEDULE, SCHEDULE.t1).sample(n, key=start)
    entropy = cross_entropy(END.sample(20 * n, key=key))

    def excess(predictor: noising.Predictor, sampler: sampling.Sampler, steps: int, spacing: noising.Spacing) -> float:
        found = sampling.draw(predictor, (2,), n, sampler=sampler, key=key, steps=steps, spacing=spacing, x=x)
        return float(cross_entropy(found.x) - entropy)

    exact = DATA.predictor(SCHEDULE)
    print("1. excess nats (error .01)   " + "".join(f"{f'{count} steps':>12}" for count in counts))
    found = {}
    for name, (sampler, spacing) in METHODS.items():
        row = {(name, count): excess(exact, sampler, count, spacing) for count in counts}
        print(f"{name:<29}" + "".join(f"{value:12.3f}" for value in row.values()))
        found |= row

    harm(x[:400], key)
    print(f"\n3. DPM-Solver++(2M), 24 steps: uniform in t {excess(exact, sampling.DPMSolverPP(), 24, 'uniform'):.3f}, "
          f"uniform in log SNR {excess(exact, sampling.DPMSolverPP(), 24, 'log-snr'):.3f}")  # fmt: skip
    if folder is not None:
        picture(found, x, key, folder / "fewer-evaluations.png")
    return found


def picture(found: dict[tuple[str, int], float], x: jax.Array, key: jax.Array, path: Path) -> None:
    """Errors over evaluations, and 24 paths of SDE and flow from the same starts."""
    fig = style.figure(780, 270)
    ax = fig.add_axes((0.08, 0.17, 0.33, 0.7), facecolor=style.PAPER)
    counts = sorted({count for _, count in found})
    for name, shade in zip(METHODS, (style.INK, style.MUTED, style.FAINT, style.ACCENT), strict=True):
        ax.loglog(counts, [found[name, count] for count in counts], "o-", color=shade, markersize=4, label=name)
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.set_yticks([0.01, 0.1, 1.0], ["0.01", "0.1", "1"])
    ax.set_ylim(0.008, 1.5)
    ax.minorticks_off()
    ax.set_title("excess nats over evaluations (error .01)", fontsize=11, color=style.INK)
    ax.legend(fontsize=8, frameon=False, loc="upper right")
    ts = noising.times(SCHEDULE, 96, "uniform")
    for k, name in enumerate(("reverse SDE, Euler-Maruyama", "flow, Euler")):
        lines = sampling.draw(
            DATA.predictor(SCHEDULE), (2,), 24, sampler=METHODS[name][0], key=key, ts=ts, x=x[:24], save=True
        )
        ax = fig.add_axes((0.46 + 0.28 * k, 0.17, 0.25, 0.7), facecolor=style.PAPER)
        assert lines.xs is not None
        ax.plot(np.asarray(ts), np.asarray(lines.xs[:, :, 0]).T, color=style.ACCENT, linewidth=0.8)
        ax.invert_xaxis()
        ax.set_title(name.split(",")[0] + ": first coordinate over t", fontsize=10, color=style.INK)
    for ax in fig.axes:
        ax.tick_params(length=0, labelsize=9, colors=style.MUTED)
        for spine in ax.spines.values():
            spine.set_visible(False)
    style.save(fig, path)


if __name__ == "__main__":
    main(folder=Path(sys.argv[1]) if len(sys.argv) > 1 else None)

"""Validation loss of the flow against its number of weights and against compute (METHOD 6.6, eq. 31).

    L' = E log(|f - Δx/Δ|² + δ) - log δ,   δ = .001,   mean over channels; ≥ 0

The paper reports L' as a power law of the size of its network on video, Pearson -.9988 on log scales, and gives no
exponent. Here the same loss trains the flow of a sequence SDE (`nets.MLP`) on two sets:

    field    x' = x + f(x) + σ Z with f a sum of waves, fresh transitions at every step. The floor is known: that of f
             itself, E log(σ² Z² + δ) - log δ.
    weather  hourly, 26,000 transitions, held-out last part of each series. The floor is not known.

With a floor a power law can only be one of the excess L' - floor; and with a finite table more weights fit the table.
Fits: log L' and log excess on the logarithm of the number of weights, over all seeds; intervals by the bootstrap over
seeds. Compute is 6 FLOPs a weight and sample (a forward and a backward pass), as the literature counts it.

    neuralsde reproduce scaling
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Key
from matplotlib.ticker import FuncFormatter, NullFormatter

from neuralsde.data.embedded import weather
from neuralsde.data.windows import Table
from neuralsde.evaluate import style
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.seeds import cell
from neuralsde.models.sequence_sde import Config
from neuralsde.nets import MLP
from neuralsde.runs.plan import prepare
from neuralsde.train.problem import TrainConfig

DELTA = 1e-3
DIM, WAVES, SIGMA = 4, 192, 0.1
LONGEST, SHORTEST, DECAY = 8.0, 2.0, 2.0
"""Wave lengths of the field in units of x's s.d., and by what power of the length a wave is weaker."""
PAPER = {"sizes": (0.13e6, 113.44e6), "pearson": -0.9988}
_POINTS = 8
_BOOTSTRAP = 2_000


@dataclass(frozen=True)
class Size:
    """Widths of two hidden layers; steps on the field and on the weather; `fits` of each width."""

    widths: tuple[int, ...] = (24, 48, 90, 170, 310, 560, 990)
    batch: int = 64
    steps: tuple[int, int] = (500, 300)
    rate: float = 3e-3
    fits: int = 3
    validation: int = 4_096


SMALL = Size(widths=(4, 8), batch=16, steps=(16, 16), fits=2, validation=64)
FULL = Size(widths=(24, 48, 90, 170, 310, 560, 990, 1_780, 3_150), batch=512, steps=(50_000, 20_000), fits=5)


# -- what is learnt ----------------------------------------------------------------------------------------------------


class Batch(eqx.Module):
    """Inputs x (b, n), velocities v (b, d), and which of these were seen."""

    x: Float[Array, "b n"]
    v: Float[Array, "b d"]
    seen: Float[Array, "b d"]


class Field(eqx.Module):
    """f(x) = Σ a sin(ω·x + φ), each channel of variance one over x ~ N(0, I); a transition is one step of it."""

    omega: Float[Array, "d waves"]
    phase: Float[Array, " waves"]
    size: Float[Array, "waves d"]

    @classmethod
    def of(cls, seed: int) -> Field:
        """Wave lengths evenly over the logarithm, amplitudes a power of them."""
        rng = np.random.default_rng(seed)
        length = np.exp(rng.uniform(np.log(SHORTEST), np.log(LONGEST), WAVES))
        omega = rng.standard_normal((DIM, WAVES))
        omega *= 2 * np.pi / length / np.linalg.norm(omega, axis=0)
        phase = rng.uniform(0, 2 * np.pi, WAVES)
        size = rng.standard_normal((WAVES, DIM)) * length[:, None] ** DECAY
        x = rng.standard_normal((20_000, DIM))
        size /= (np.sin(x @ omega + phase) @ size).std(0)
        return cls(*(jnp.asarray(part, jnp.float32) for part in (omega, phase, size)))

    def __call__(self, x: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """The velocities at states x."""
        return jnp.sin(x @ self.omega + self.phase) @ self.size

    def batch(self, key: Key[Array, ""], size: int) -> Batch:
        """Fresh transitions, over gaps of one."""
        where, noise = jax.random.split(key)
        x = jax.random.normal(where, (size, DIM))
        v = self(x) + SIGMA * jax.random.normal(noise, x.shape)
        return Batch(x, v, jnp.ones_like(v))


class Rows(eqx.Module):
    """Transitions of a table, drawn with replacement."""

    all: Batch

    def batch(self, key: Key[Array, ""], size: int) -> Batch:
        """Some of them."""
        rows = jax.random.randint(key, (size,), 0, len(self.all.x))
        return jax.tree.map(lambda part: part[rows], self.all)


def weather_rows() -> tuple[Rows, Batch]:
    """Training and validation transitions of the embedded weather, as the networks of `fit` read them."""
    prepared = prepare(weather(), Config(), TrainConfig(), None)
    table, model = Table.of(prepared.rows), prepared.plan.model()

    @eqx.filter_jit
    def read(start: Array) -> Batch:
        rows = jax.vmap(lambda row: table.transition(row, model.config.past))(start)
        span = rows.dt[:, None] + jax.vmap(lambda w: w.staleness)(rows.window)
        seen = rows.seen & (span > 0)
        v = jnp.where(seen, (rows.target - rows.window.value[:, -1]) / jnp.where(seen, span, 1.0), 0.0)
        return Batch(jax.vmap(model.read)(rows.window), v, seen.astype(v.dtype))

    train, validation = (read(jnp.asarray(part)) for part in (prepared.train_starts, prepared.validation_starts))
    return Rows(train), validation


def loss(flow: Array, batch: Batch) -> Float[Array, ""]:
    """L' of velocities (b, d)."""
    found = jnp.log(jnp.square(flow - batch.v) + DELTA) - jnp.log(DELTA)
    return (found * batch.seen).sum() / batch.seen.sum()


def floor() -> float:
    """L' of the field itself: E log(σ² Z² + δ) - log δ, by quadrature."""
    z, h = np.linspace(-12, 12, 400_001, retstep=True)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return float((np.log(SIGMA**2 * z**2 / DELTA + 1) * density).sum() * h)


# -- one network -------------------------------------------------------------------------------------------------------


def weights(net: MLP) -> int:
    """Their number."""
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(net, eqx.is_inexact_array)))


def flops(net: MLP, samples: int) -> float:
    """Of training on so many samples."""
    return 6.0 * weights(net) * samples


def curve(source: Field | Rows, validation: Batch, width: int, steps: int, size: Size, seed: int) -> dict[str, Any]:
    """Train one network; its L' on the validation part at `_POINTS` moments, the last after all steps."""
    key = jax.random.key(seed)
    inputs, d = validation.x.shape[1], validation.v.shape[1]
    net = MLP(inputs, d, width=width, depth=2, key=jax.random.fold_in(key, 1))
    params, static = eqx.partition(net, eqx.is_inexact_array)
    rate = size.rate * min(1.0, (64 / width) ** 0.5)
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adam(optax.warmup_cosine_decay_schedule(0.0, rate, max(steps // 20, 1), steps, 0.01 * rate)),
    )
    each = steps // _POINTS

    @eqx.filter_jit
    def onward(carry: Any, source: Any, validation: Batch, key: Array, first: Array) -> tuple[Any, Array]:
        def step(carry: Any, i: Array) -> tuple[Any, None]:
            params, state = carry
            batch = source.batch(jax.random.fold_in(key, i), size.batch)
            slope = jax.grad(lambda p: loss(jax.vmap(eqx.combine(p, static))(batch.x), batch))(params)
            change, state = optimiser.update(slope, state)
            return (optax.apply_updates(params, change), state), None

        carry, _ = lax.scan(step, carry, first + jnp.arange(each))
        return carry, loss(jax.vmap(eqx.combine(carry[0], static))(validation.x), validation)

    carry, found = (params, optimiser.init(params)), []
    for part in range(_POINTS):
        carry, value = onward(carry, source, validation, jax.random.fold_in(key, 2), jnp.asarray(part * each))
        found.append(float(value))
    samples = [size.batch * each * (part + 1) for part in range(_POINTS)]
    return {"weights": weights(net), "flops": [flops(net, n) for n in samples], "losses": found}


# -- power laws --------------------------------------------------------------------------------------------------------


def power_law(x: np.ndarray, y: np.ndarray, rng: np.random.Generator | None = None) -> dict[str, Any]:
    """Of y (seeds, sizes) against x (sizes,): y = c x^slope, Pearson on log scales; 95 % intervals over seeds.

    Sizes of which some seed is not above zero (below the floor) are left out, and counted.
    """
    keep = (y > 0).all(0)
    left_out = int((~keep).sum())
    if keep.sum() < 3:
        return {"left_out": left_out}
    u, v = np.log(x[keep]), np.log(y[:, keep])

    def fitted(v: np.ndarray) -> tuple[float, float, float]:
        mean = v.mean(0)
        slope, level = np.polyfit(u, mean, 1)
        return float(slope), float(level), float(np.corrcoef(u, mean)[0, 1])

    slope, level, pearson = fitted(v)
    rng = rng or np.random.default_rng(0)
    again = np.array([fitted(v[rng.integers(0, len(v), len(v))]) for _ in range(_BOOTSTRAP)])
    return {
        "slope": slope,
        "slope_interval": np.quantile(again[:, 0], [0.025, 0.975]).tolist(),
        "level": level,
        "pearson": pearson,
        "band": np.exp(np.quantile(again[:, :1] * u + again[:, 1:2], [0.025, 0.975], axis=0)).tolist(),
        "at": x[keep].tolist(),
        "left_out": left_out,
    }


# -- the whole of it ---------------------------------------------------------------------------------------------------


@experiment("scaling", Size(), FULL)
def reproduce(asked: Asked[Size]) -> Iterator[str]:
    """Train every width on both sets, write scaling.json, scaling.md and scaling.png into `out`; yields lines.

    What the same command has left in `out` already is kept and not made again. seeds: times the size: two seeds are
    six fits of each width.
    """
    size = asked.size
    field = Field.of(asked.seed)
    rows, held_out = weather_rows()
    sources: dict[str, tuple[Field | Rows, Batch]] = {
        "field": (field, field.batch(jax.random.key(10_000 + asked.seed), 8 * size.validation)),
        "weather": (rows, jax.tree.map(lambda part: part[: size.validation], held_out)),
    }
    facts = asked.first | {
        "fits": size.fits * asked.seeds,
        "floor": {"field": floor()},
        "still": {name: float(loss(jnp.zeros_like(v.v), v)) for name, (_, v) in sources.items()},
        "exact": float(loss(field(sources["field"][1].x), sources["field"][1])),
        "paper": PAPER,
    }
    saved = asked.before()
    facts["curves"] = saved.get("curves", {name: [] for name in sources})
    before = facts["seconds"] = saved.get("seconds", 0)
    for (name, (source, validation)), steps in zip(sources.items(), size.steps, strict=True):
        for width in size.widths[len(facts["curves"][name]) :]:
            numbers = range(asked.seed, asked.seed + facts["fits"])
            found = [curve(source, validation, width, steps, size, number) for number in numbers]
            facts["curves"][name].append(found)
            yield f"{name}, {found[0]['weights']:,} weights: L' " + cell([one["losses"][-1] for one in found])
            facts["seconds"] = before + asked.seconds
            asked.write(facts, "# Scaling\n\nnot finished")  # a stopped run leaves what it has
    facts["laws"] = {name: laws(facts, name) for name in sources}
    asked.write(facts, page(facts))
    _picture(facts, asked.path())
    yield from page(facts).splitlines()


def table(facts: dict[str, Any], name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (sizes,), compute of all steps (sizes,) and the last L' (seeds, sizes)."""
    found = facts["curves"][name]
    count = np.array([one[0]["weights"] for one in found], float)
    compute = np.array([one[0]["flops"][-1] for one in found])
    return count, compute, np.array([[fit["losses"][-1] for fit in one] for one in found]).T


def frontier(facts: dict[str, Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    """FLOPs (grid,) and the least L' (seeds, grid) that any size has reached with no more than that."""
    found = facts["curves"][name]
    grid = np.geomspace(found[0][0]["flops"][-1], found[-1][0]["flops"][-1], 12)
    spent = np.array([fit["flops"] for one in found for fit in one[:1]]).ravel()
    losses = np.array([[fit["losses"] for fit in seed] for seed in zip(*found, strict=True)])
    flat = losses.reshape(len(losses), -1)
    return grid, np.stack([np.where(spent <= most * (1 + 1e-9), flat, np.inf).min(1) for most in grid], axis=1)


def base(facts: dict[str, Any], name: str) -> float:
    """The floor on the validation part itself, 0 where none is known."""
    return facts["exact"] if name == "field" else 0.0


def laws(facts: dict[str, Any], name: str) -> dict[str, Any]:
    """Power laws of L' and of the excess over the floor, against the number of weights; and up to the best size."""
    count, _, losses = table(facts, name)
    best = int(np.argmin(losses.mean(0)))
    found = {"L'": power_law(count, losses), "best": int(count[best])}
    found["L' up to the best"] = power_law(count[: best + 1], losses[:, : best + 1])
    if name == "field":
        found["excess"] = power_law(count, losses - base(facts, name))
    compute, least = frontier(facts, name)
    found["against compute, least " + ("excess" if name == "field" else "L'")] = power_law(
        compute, least - base(facts, name)
    )
    found["falls by"] = float(1 - losses[:, -1].mean() / losses[:, 0].mean())
    return found


def page(facts: dict[str, Any]) -> str:
    """The results as markdown."""
    size = facts["size"]
    lines = [
        "# Scaling",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. L' of eq. 31 (δ = {DELTA}) of the flow on "
        f"transitions that were not trained on, {facts['fits']} fits of each size, mean ± standard error; two hidden "
        f"layers, batch {size['batch']}, {size['steps'][0]:,} steps (field) and {size['steps'][1]:,} (weather). "
        "Compute: 6 FLOPs a weight and sample. Trivial line: no flow at all. All sizes make the same few steps, so "
        "none is at its limit; what is said holds for that budget.",
    ]
    for name, told in (("field", "a known field in four dimensions"), ("weather", "hourly weather, four columns")):
        count, compute, losses = table(facts, name)
        known = (
            f", floor {facts['exact']:.3f} (on endless data {facts['floor']['field']:.3f})" if name == "field" else ""
        )
        lines += ["", f"## {name}: {told}", "", f"L' without a flow {facts['still'][name]:.3f}{known}.", ""]
        lines += ["| weights | FLOPs | L' | excess over the floor |", "|--:|--:|--:|--:|"]
        for j, n in enumerate(count):
            excess = cell(losses[:, j] - base(facts, name)) if name == "field" else "floor not known"
            lines.append(f"| {int(n):,} | {compute[j]:.2g} | {cell(losses[:, j])} | {excess} |")
        lines += [
            "",
            "| power law in the number of weights | paper (video) | measured | slope, 95 % |",
            "|---|--:|--:|--:|",
        ]
        for what, law in facts["laws"][name].items():
            if what in ("best", "falls by"):
                continue
            paper = f"Pearson {PAPER['pearson']}" if what == "L'" else ""
            if "slope" not in law:
                lines.append(f"| {what} | {paper} | fewer than three sizes are above the floor | |")
                continue
            low, high = law["slope_interval"]
            left = f", {law['left_out']} sizes at the floor left out" if law["left_out"] else ""
            slope = f"{law['slope']:.3f} ({low:.3f} to {high:.3f})"
            lines.append(f"| {what} | {paper} | Pearson {law['pearson']:.4f}{left} | {slope} |")
        fall = facts["laws"][name]["falls by"]
        lines += ["", f"From the smallest to the largest L' falls by {100 * fall:.1f} %."]
    return "\n".join([*lines, "", *verdict(facts)])


def verdict(facts: dict[str, Any]) -> list[str]:
    """What was seen, in words."""
    told = []
    for name in ("field", "weather"):
        law = facts["laws"][name]
        key = "excess" if name == "field" else "L'"
        if "pearson" not in law[key]:
            told.append(f"* {name}: no power law can be told.")
            continue
        pearson, (low, high) = law[key]["pearson"], law[key]["slope_interval"]
        seen = pearson < -0.97 and high < 0
        what = "excess over the floor" if name == "field" else "L'"
        told.append(
            f"* {name}: {'a' if seen else 'no'} power law of the {what} over all sizes (asked: Pearson below -.97 and "
            f"a slope below 0; found {pearson:.3f}, {low:.3f} to {high:.3f}); the paper's is {PAPER['pearson']}. "
            f"L' falls by {100 * law['falls by']:.1f} % in all."
        )
    return told


def _picture(facts: dict[str, Any], path: Path) -> None:
    """L' against weights and against compute, log scales, the fitted law with its band."""
    fig = style.figure(940, 560)
    for row, name in enumerate(("field", "weather")):
        count, _, losses = table(facts, name)
        law = facts["laws"][name]["excess" if name == "field" else "L'"]
        for column, what in enumerate(("number of weights", "compute, FLOPs")):
            ax = fig.add_axes((0.08 + 0.5 * column, 0.57 - 0.48 * row, 0.4, 0.36), facecolor="none")
            if column == 0:
                if "slope" in law:
                    ax.fill_between(law["at"], *law["band"], color=style.BAND_INNER)
                    at = np.array(law["at"])
                    ax.plot(at, np.exp(law["level"]) * at ** law["slope"], color=style.ACCENT, linewidth=1.2)
                for one in losses - base(facts, name):
                    ax.plot(count, one, "o", color=style.INK, markersize=3.5)
            else:
                shades = np.linspace(0.75, 0.0, len(count))
                for found, shade in zip(facts["curves"][name], shades, strict=True):
                    mean = np.mean([fit["losses"] for fit in found], axis=0) - base(facts, name)
                    ax.plot(found[0]["flops"], mean, color=str(shade), linewidth=1.2)
            ax.set_xscale("log")
            ax.set_yscale("log")
            y = "L' - floor" if name == "field" else "L'"
            ax.set_title(f"{name}: {y} against {what}", fontsize=10, color=style.INK)
            ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"1e{round(np.log10(v))}"))
            low, high = ax.get_ylim()
            ax.set_yticks(np.geomspace(low, high, 6)[1:-1], minor=False)
            ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.4g}"))
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_minor_formatter(NullFormatter())
            ax.tick_params(which="both", length=0, labelsize=9, colors=style.MUTED)
            ax.grid(color=style.RULE, linewidth=0.9)
            for spine in ax.spines.values():
                spine.set_visible(False)
    style.save(fig, path)

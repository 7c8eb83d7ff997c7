"""Where between two rows the flow is trained, and what then has to be sampled: THEORY 17 and 18 on known laws.

With uniform points on the chord the network learns the current velocity f - ½ σ² ∂ log p, which is zero for a
stationary process on the line: sampled alone it lets paths wander off (variance v + σ² t), with its partner
½ σ² ∂ log p it is the drift. At the first row, or on a Brownian bridge, it learns f itself; adding the partner there
pulls twice, and an OU process of variance one gets about ½. The denoiser's noise s smooths p, which takes s² of its
pull. All models start from the stationary law and are sampled for many gaps.

    neuralsde reproduce interpolation --seeds 5
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

from neuralsde.evaluate import style
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.one_dimension import Line, double_well, ornstein_uhlenbeck
from neuralsde.experiments.seeds import cell, paths, train, window
from neuralsde.models.sequence_sde import Config, SequenceSDE
from neuralsde.models.sequence_sde.objective import LAST_OF_BRIDGE

NOISE = 0.1
"""The denoiser's, in units of x."""
WAYS: dict[str, dict[str, Any]] = {
    "first row": {},
    "chord, flow alone": {"interpolation": "chord"},
    "chord + partner": {"interpolation": "chord", "denoiser": "consistent", "denoiser_noise": NOISE},
    "bridge": {"interpolation": "bridge"},
    "first row + partner (wrong)": {"denoiser": "state", "strength": 1.0, "denoiser_noise": NOISE},
}
FLOOR = "exact law (floor)"
MEASURES = ("variance", "weight", "distance", "drift")


@dataclass(frozen=True)
class Size:
    """Transitions, steps of training, chains and the gaps for which they are sampled (OU process, double well)."""

    transitions: int = 20_000
    steps: int = 1_500
    chains: int = 1_000
    gaps: tuple[int, int] = (60, 200)
    width: int = 16


SMALL = Size(transitions=4_000, steps=600, chains=300, gaps=(60, 60), width=8)
FULL = Size(transitions=200_000, steps=15_000, chains=5_000, gaps=(200, 1_000), width=64)


def expected(line: Line, gaps: int) -> dict[str, float]:
    """Variance of the samples that theory has, by way, for the OU process of variance one; empty for the well.

    Every way samples x' = (1 - b) x + s Z with the b that its flow regression has in expectation.
    """
    if not line.linear:
        return {}
    e = float(np.exp(-line.gap))
    first, noise, bridge = 1 - e, 1 - e * e, bridge_slope(line.gap)
    partner = 0.5 * noise / ((2 + e) / 3 + NOISE**2)  # of the law of the chord's points, smoothed
    twice = first - float(np.expm1(-0.5 * noise / (1 + NOISE**2)))  # a stabiliser's step decays as in continuous time
    return {
        "first row": 1.0,
        "chord, flow alone": 1 + 2 * first * gaps,
        "chord + partner": _stationary(partner, noise + (partner - first) ** 2),
        "bridge": _stationary(bridge, noise + (bridge - first) ** 2),
        "first row + partner (wrong)": _stationary(twice, noise),
    }


def bridge_slope(gap: float) -> float:
    """B of the drift -b x that a bridge finds for the OU process of variance one, per gap."""
    e = float(np.exp(-gap))
    tau = (np.arange(10_000) + 0.5) / 10_000 * LAST_OF_BRIDGE
    on_chord = (1 - tau) ** 2 + tau**2 + 2 * tau * (1 - tau) * e
    on_bridge = on_chord + (1 - e * e) * tau * (1 - tau)
    return -float((((1 - tau) * e + tau - on_bridge).sum()) / ((1 - tau) * on_bridge).sum())


def _stationary(b: float, variance: float) -> float:
    """Variance of x' = (1 - b) x + s Z, s² = variance."""
    return variance / (1 - (1 - b) ** 2)


def measure(line: Line, seed: int, seeds: int, size: Size) -> tuple[dict[str, dict[str, list[float]]], dict[str, Any]]:
    """Figures by way and measure, one a seed; and the states at the end of the first seed's chains."""
    rng = np.random.default_rng(seed)
    x0 = line.states((seeds, size.transitions), rng)
    x1 = line.path(x0, 1, rng)[0]
    starts = line.states((seeds, size.chains, 1), rng)
    drawn = line.states((seeds, size.chains), rng)
    found = {FLOOR: {**_law(line, drawn), "drift": [0.0] * seeds}}
    ends = {FLOOR: drawn[0]}
    shape = {"depth": 0} if line.linear else {"width": size.width, "depth": 1}
    for way, options in WAYS.items():
        models = train(Config(history=0, **shape, **options), x0[..., None], x1[..., None], steps=size.steps, seed=seed)
        last = _after(models, starts, size.gaps[not line.linear], seed)
        states = line.states((2_000,), np.random.default_rng(seed + 1))
        drift = np.asarray(_drift(models, jnp.float32(states)), np.float64)
        truth = line.drift(states)
        error = np.sqrt(np.square(drift - truth).mean(1) / np.square(truth).mean())
        found[way] = {**_law(line, last), "drift": error.tolist()}
        ends[way] = last[0]
    return found, ends


def _after(models: SequenceSDE, starts: np.ndarray, gaps: int, seed: int) -> np.ndarray:
    """States (seeds, chains) after so many gaps."""
    return paths(models, starts, np.ones(gaps), n=1, seed=seed)[:, :, 0, -1, 0]


@eqx.filter_jit
def _drift(models: SequenceSDE, x: jax.Array) -> jax.Array:
    """What is sampled, in the limit of short steps: (seeds, n)."""
    return eqx.filter_vmap(lambda model: jax.vmap(lambda at: model.drift(window(at[None]))[0])(x))(models)


def _law(line: Line, x: np.ndarray) -> dict[str, list[float]]:
    """Variance, weight of x > 0, and W1 distance to the stationary law, of each row of x (seeds, n)."""
    grid = line.quantile((np.arange(x.shape[1]) + 0.5) / x.shape[1])
    return {
        "variance": x.var(1).tolist(),
        "weight": (x > 0).mean(1).tolist(),
        "distance": np.abs(np.sort(x, 1) - grid).mean(1).tolist(),
    }


@experiment("interpolation", Size(), FULL)
def reproduce(asked: Asked[Size]) -> Iterator[str]:
    """Train and sample every way on both processes, write interpolation.json, .md and .png; yields lines."""
    size = asked.size
    facts = asked.first | {"processes": {}}
    pictures = {}
    for line in (ornstein_uhlenbeck(0.1), double_well(0.05)):
        found, pictures[line] = measure(line, asked.seed, asked.seeds, size)
        theory = expected(line, size.gaps[0])
        exact = {"variance": line.variance, "weight": line.right}
        facts["processes"][line.name] = {"exact": exact, "expected variance": theory, "found": found}
        yield f"{line.name}: variance " + ", ".join(f"{way} {cell(row['variance'])}" for way, row in found.items())
    facts["seconds"] = asked.seconds
    _picture(pictures, asked.path())
    asked.write(facts, _page(facts))
    yield from _page(facts).splitlines()


def _page(facts: dict[str, Any]) -> str:
    size, (short, long) = facts["size"], facts["size"]["gaps"]
    lines = [
        "# Interpolation between rows",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. {size['transitions']:,} transitions, "
        f"{size['steps']:,} steps of training, {short} (OU) and {long} gaps of sampling, "
        f"{facts['seeds']} seeds, mean ± standard error. Weight: share of x > 0. Distance: W1 to the stationary law. "
        "Drift: relative RMS error of what is sampled. The trivial line is the flow of a chord alone, which for these "
        "processes is zero.",
    ]
    for name, part in facts["processes"].items():
        exact, theory = part["exact"], part["expected variance"]
        lines += [
            "",
            f"**{name}** (exact: variance {exact['variance']:.3f}, weight {exact['weight']:.3f})",
            "",
            "| | variance expected | " + " | ".join(MEASURES) + " |",
            "|---|--:|" + "--:|" * len(MEASURES),
        ]
        for way, row in part["found"].items():
            said = f"{theory[way]:.3f}" if way in theory else ""
            lines.append(f"| {way} | {said} | " + " | ".join(cell(row[m]) for m in MEASURES) + " |")
    return "\n".join(lines)


def _picture(ends: dict[Line, dict[str, Any]], path: Path) -> None:
    """The end of the chains of one seed against the stationary law."""
    fig = style.figure(900, 320)
    bins = np.linspace(-3.5, 3.5, 57)
    grid = np.linspace(0.0005, 0.9995, 200_000)
    for row, (line, states) in enumerate(ends.items()):
        law, _ = np.histogram(line.quantile(grid), bins, density=True)
        for column, way in enumerate(WAYS):
            ax = fig.add_axes((0.02 + 0.195 * column, 0.56 - 0.48 * row, 0.18, 0.34), facecolor="none")
            ax.hist(states[way], bins[::2].tolist(), density=True, color=style.BAND_INNER)
            ax.plot((bins[1:] + bins[:-1]) / 2, law, color=style.INK, linewidth=1.0)
            ax.set_title(f"{line.name}: {way}", fontsize=8, color=style.INK)
            ax.set_yticks([])
            ax.set_xlim(-3.5, 3.5)
            ax.tick_params(length=0, labelsize=8, colors=style.MUTED)
            for spine in ax.spines.values():
                spine.set_visible(False)
    style.save(fig, path)

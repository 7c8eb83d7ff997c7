"""Trained on every fifth point, what is the law of the points in between? THEORY 15 and 22 on known laws.

One step a gap learns the slope b = 1 - e^-θΔ and the noise of the whole gap, which are right at its end only. In m = 5
steps x' = (1 - b/m) x + s/√m Z they have at θΔ = .5 a mean factor of .66 for .61 and an s.d. that is 14 % too small.
Every way of fitting and sampling makes of the OU process such a Gaussian chain (`laws.chain`), so each of its errors is
known beforehand (`expected`):

    free          points given the start:        mean a^k x0, covariances s² a^(k-j) (1 - a^2j) / (1 - a²), j <= k
    between       points given both ends:        the same Gaussian conditioned on its last point
    double well   both, by the forward-backward recursion with the fine kernel on a grid (`Grid`)

A second sample of the exact law is the floor, a straight line to the end of the gap the trivial line.

    neuralsde reproduce super-resolution
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
from jaxtyping import Array

from neuralsde.evaluate import style
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.interpolation import bridge_slope
from neuralsde.experiments.one_dimension import Line, double_well, ornstein_uhlenbeck
from neuralsde.experiments.seeds import cell, paths, train, window
from neuralsde.experiments.super_resolution.laws import (
    LEVELS,
    POINTS,
    Chain,
    Grid,
    Law,
    chain,
    exact_chain,
    free_errors,
)
from neuralsde.models.sequence_sde import Config, SequenceSDE
from neuralsde.models.sequence_sde.conditional import Points, conditional

_EULER, _FIVE = {}, {"substeps": POINTS}
_LINEAR = {"law": "local-linear", "substeps": POINTS}
HELD = "one step, held in the gap"
WAYS: dict[str, tuple[dict[str, Any], int]] = {
    HELD: (_EULER, 0),
    "one step, 5 sampled": (_EULER, 1),
    "bridge, 5 sampled": ({"interpolation": "bridge"}, 1),
    "five steps, 5 sampled": (_FIVE, 1),
    "five steps, 40 sampled": (_FIVE, 8),
    "local linear, 5 sampled": (_LINEAR, 1),
    "local linear, 40 sampled": (_LINEAR, 8),
}
"""Options of the fit, and Euler-Maruyama steps from point to point; 0: one step a gap, its coefficients held in it."""
TRIVIAL, FLOOR = "straight line (trivial)", "exact law again (floor)"
MEASURES = ("mean", "s.d.", "bias of s.d.", "covariance", "W1", "KS")
AT_THE_END = ("mean at the end", "s.d. at the end")
_GAPS, _HEADLINE, _WELL_GAP = (0.1, 0.5, 1.0), 0.5, 0.25
_ENDS = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Size:
    """Gaps to train on, steps of training; starts, and paths from each (free) and through each pair of ends."""

    fits: int = 5
    transitions: int = 20_000
    steps: int = 1_200
    starts: int = 5
    paths: int = 2_000
    width: int = 16


SMALL = Size(fits=2, transitions=4_000, steps=400, starts=3, paths=1_000, width=8)
FULL = Size(fits=10, transitions=200_000, steps=10_000, starts=9, paths=10_000, width=64)


# -- what theory has -----------------------------------------------------------------------------------------------


def expected(way: str, gap: float) -> Chain:
    """What a way makes of the OU process with endless data: the coefficients of its loss, in its number of steps."""
    options, finer = WAYS[way]
    steps, variance = POINTS * max(finer, 1), -np.expm1(-2 * gap)
    b, noise = -np.expm1(-gap), variance
    if options == _LINEAR:
        b, noise = gap, 2 * gap
    elif options == _FIVE:
        a = np.exp(-gap / POINTS)
        b, noise = POINTS * (1 - a), POINTS * (1 - a**2)
    elif options:
        b = bridge_slope(gap)
        noise = variance + (b + np.expm1(-gap)) ** 2
    if finer:
        return chain(float(1 - b / steps), float(np.sqrt(noise / steps)), finer)
    share = np.arange(1, POINTS + 1) / POINTS
    return Chain(1 - b * share, noise * np.minimum(share[:, None], share))


_filter_jit: Any = eqx.filter_jit
_quickly_compiled = _filter_jit(compiler_options={"xla_backend_optimization_level": 1})
"""A guided path is a large program that runs for seconds only (as in `tasks.between`)."""


# -- paths of the fitted models ------------------------------------------------------------------------------------


def free_draws(models: SequenceSDE, finer: int, x0: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Points (seeds, gaps, n, POINTS) from starts x0 (gaps,)."""
    count = len(jax.tree.leaves(eqx.filter(models, eqx.is_inexact_array))[0])
    starts = np.broadcast_to(x0[None, :, None], (count, len(x0), 1))
    if not finer:
        return np.asarray(_held(models, jnp.asarray(starts, jnp.float32), jax.random.key(seed), n))
    return paths(models, starts, np.full(POINTS, 1 / POINTS), n=n, seed=seed, substeps=finer)[..., 0]


@eqx.filter_jit
def _held(models: SequenceSDE, starts: Array, key: Array, n: int) -> Array:
    """A Brownian path with the drift and the noise of the start: the process whose gaps have the one-step law."""
    normals = jax.random.normal(key, (*starts.shape[:2], n, POINTS)) / jnp.sqrt(POINTS)
    share = jnp.arange(1, POINTS + 1) / POINTS

    def one(model: SequenceSDE, x0: Array, noise: Array) -> Array:
        def gap(x: Array, z: Array) -> Array:
            law = model.step(window(x), jnp.ones(1))
            return x + share * (law.mean - x) + law.sd * jnp.cumsum(z, -1)

        return jax.vmap(gap)(x0, noise)

    return eqx.filter_vmap(one)(models, starts, normals)


def draws_between(models: SequenceSDE, finer: int, x0: np.ndarray, x1: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Points (seeds, gaps, n, POINTS - 1) between given ends (gaps,), equally weighted."""
    found = np.asarray(_between(models, jnp.asarray(x0), jnp.asarray(x1), jax.random.key(seed), n, finer * POINTS))
    return found[..., finer - 1 : -1 : finer, 0]


@_quickly_compiled
def _between(models: SequenceSDE, x0: Array, x1: Array, key: Array, n: int, steps: int) -> Array:
    points = Points(jnp.full(steps, 1 / steps), jnp.ones(steps), jnp.arange(steps) == steps - 1, jnp.zeros((steps, 0)))
    keys = jax.random.split(key, len(x0))
    mask = points.closes[:, None]

    def one(model: SequenceSDE) -> Array:
        def gap(a: Array, b: Array, k: Array) -> Array:
            target = jnp.where(mask, b, 0.0)
            draw, pick = jax.random.split(k)
            found = conditional(model, window(a[None]), points, target, mask, key=draw, n=n)
            return found.equally_weighted(pick)

        return jax.vmap(gap)(x0, x1, keys)

    return eqx.filter_vmap(one)(models)


# -- the measurement -----------------------------------------------------------------------------------------------

Found = dict[str, dict[str, list[float]]]
"""Errors by way and measure, one a fit."""


@dataclass(frozen=True)
class Case:
    """A process, its exact laws, and the gaps at which they are compared."""

    line: Line
    starts: np.ndarray
    ends: tuple[np.ndarray, np.ndarray]
    free: Law
    between: Law

    @classmethod
    def of(cls, line: Line, size: Size) -> Case:
        """Starts at quantiles of the stationary law; ends at quantiles of what follows each start."""
        starts = line.quantile((np.arange(size.starts) + 0.5) / size.starts)
        free = exact_chain(line.gap).free(starts) if line.linear else Grid.of(line).law(starts)
        last = np.stack([np.interp(_ENDS, LEVELS, q) for q in free.quantiles[:, -1]])
        x0, x1 = np.repeat(starts, len(_ENDS)), last.ravel()
        between = exact_chain(line.gap).between(x0, x1) if line.linear else Grid.of(line).law(x0, x1)
        return cls(line, starts, (x0, x1), free, between)

    def again(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws of the exact laws: free and in between."""
        if self.line.linear:
            return _gaussian_draws(self.free, n, rng), _gaussian_draws(self.between, n, rng)
        grid = Grid.of(self.line)
        return grid.draws(self.starts, None, n, rng), grid.draws(*self.ends, n, rng)


def _gaussian_draws(law: Law, n: int, rng: np.random.Generator) -> np.ndarray:
    root = np.linalg.cholesky(law.covariance)
    return law.mean[:, None] + rng.standard_normal((len(root), n, root.shape[-1])) @ np.swapaxes(root, 1, 2)


def measure(line: Line, seed: int, count: int, size: Size) -> tuple[dict[str, Found], dict[str, Any]]:
    """Errors of the free points and of those in between; and laws of the first seed for the figure."""
    rng, case = np.random.default_rng(seed), Case.of(line, size)
    x0 = line.states((count, size.transitions), rng)
    x1 = line.path(x0, 1, rng)[0]
    again = [case.again(size.paths, rng) for _ in range(count)]
    free: Found = {FLOOR: _table([free_errors(Law.of(a), case.free) for a, _ in again])}
    between: Found = {FLOOR: _table([Law.of(b).errors(case.between) for _, b in again]), TRIVIAL: _straight(case)}
    shown: dict[str, Any] = {"exact law": case.free}
    models, last = None, None
    for way, (options, finer) in WAYS.items():
        if models is None or options is not last:
            config, last = Config(history=0, width=size.width, depth=1, **options), options
            models = train(config, x0[..., None], x1[..., None], steps=size.steps, seed=seed)
        draws = free_draws(models, finer, case.starts, size.paths, seed)
        laws = [Law.of(some) for some in draws]
        free[way], shown[way] = _table([free_errors(law, case.free) for law in laws]), laws[0]
        if finer:
            draws = draws_between(models, finer, *case.ends, size.paths, seed)
            between[way] = _table([Law.of(some).errors(case.between) for some in draws])
        else:
            share = np.arange(1, POINTS + 1) / POINTS
            at = case.starts[None, :, None, None]
            lines = at + share * (draws[..., -1:] - at)
            free[TRIVIAL] = _table([free_errors(Law.of(some), case.free) for some in lines])
    order = [FLOOR, TRIVIAL, *WAYS]
    return {"free": {w: free[w] for w in order}, "between": {w: between[w] for w in order if w in between}}, shown


def _straight(case: Case) -> dict[str, list[float]]:
    """Linear interpolation between the given ends."""
    share, (x0, x1) = np.arange(1, POINTS) / POINTS, case.ends
    mean = x0[:, None] + share * (x1 - x0)[:, None]
    return _table([Law.gaussian(mean, np.zeros((POINTS - 1, POINTS - 1))).errors(case.between)])


def _table(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    return {measure: [row[measure] for row in rows] for measure in rows[0]}


def expectations(gap: float, size: Size) -> dict[str, dict[str, dict[str, float]]]:
    """The errors that theory has on the OU process, for both kinds and every way, with endless data and paths."""
    case = Case.of(ornstein_uhlenbeck(gap), size)
    free = {way: free_errors(expected(way, gap).free(case.starts), case.free) for way in WAYS}
    ways = [way for way, (_, finer) in WAYS.items() if finer]
    return {"free": free, "between": {w: expected(w, gap).between(*case.ends).errors(case.between) for w in ways}}


# -- the whole of it -----------------------------------------------------------------------------------------------


@experiment("super-resolution", Size(), FULL)
def reproduce(asked: Asked[Size]) -> Iterator[str]:
    """Fit every way to each process, write super-resolution.json, .md and .png into `out`; yields lines.

    seeds: times the fits of the size.
    """
    size = asked.size
    count = size.fits * asked.seeds
    facts = asked.first | {
        "fits": count,
        "expected": {f"{gap:g}": expectations(gap, size) for gap in _GAPS},
        "OU": {},
    }
    shown = {}
    for gap in _GAPS:
        facts["OU"][f"{gap:g}"], law = measure(ornstein_uhlenbeck(gap), asked.seed, count, size)
        shown |= {"OU": law} if gap == _HEADLINE else {}
        yield f"OU, θΔ = {gap:g}: {_summary(facts['OU'][f'{gap:g}'])}"
    facts["double well"], shown["double well"] = measure(double_well(_WELL_GAP), asked.seed, count, size)
    yield f"double well: {_summary(facts['double well'])}"
    facts["seconds"] = asked.seconds
    asked.write(facts, page(facts))
    _picture(facts, shown, asked.path())
    yield from page(facts).splitlines()


def _summary(found: dict[str, Found]) -> str:
    return "bias of s.d. " + ", ".join(f"{way} {cell(row['bias of s.d.'])}" for way, row in found["free"].items())


def page(facts: dict[str, Any]) -> str:
    """The results as markdown."""
    size, theory = facts["size"], facts["expected"]
    a = float(expected("one step, 5 sampled", _HEADLINE).slope[-1])
    sd = theory[f"{_HEADLINE:g}"]["free"]["one step, 5 sampled"]["s.d. at the end"]
    lines = [
        "# Super-resolution",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. Every fifth point of a known process, "
        f"{size['transitions']:,} gaps, {size['steps']:,} steps of training, {facts['fits']} fits, mean ± standard "
        "error; in brackets what theory has for endless data. Points at 1/5 ... 4/5 of a gap, given its start (*free*) "
        "or both ends (*between*, guided bridges). Mean, covariance and W1 in units of the exact s.d., s.d. relative "
        "to it; root mean squares over gaps and points; bias: with its sign; W1 and KS: means. The last two columns "
        f"are the end of the gap. The floor is a second sample of the exact law, {size['paths']:,} paths a gap: what "
        "is not more than it is not resolved, and of what is measured √(expected² + floor²) is to be expected.",
        "",
        f"Expected of one step sampled in 5 at θΔ = {_HEADLINE:g} (THEORY 15): mean factor {a:.3f} for "
        f"{np.exp(-_HEADLINE):.3f}, s.d. at the end {100 * sd:+.0f} %.",
    ]
    name = f"{_HEADLINE:g}"
    lines += _tables(f"OU, θΔ = {name}", facts["OU"][name], theory[name])
    lines += _tables(f"double well, (rate in a well) Δ = {2 * _WELL_GAP:g}", facts["double well"], {})
    lines += ["", "## When does it matter: s.d. at the end of a gap, OU, free", ""]
    lines += ["| | " + " | ".join(f"θΔ = {gap:g}" for gap in _GAPS) + " |", "|---|" + "--:|" * len(_GAPS)]
    for way in (FLOOR, *WAYS):
        cells = [
            _cell(facts["OU"][f"{gap:g}"]["free"][way], theory[f"{gap:g}"]["free"].get(way, {}), "s.d. at the end")
            for gap in _GAPS
        ]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _tables(name: str, found: dict[str, Found], theory: dict[str, Any]) -> list[str]:
    lines = []
    for kind, measures in (("free", (*MEASURES, *AT_THE_END)), ("between", MEASURES)):
        lines += ["", f"## {name}: {kind}", "", "| | " + " | ".join(measures) + " |", "|---|" + "--:|" * len(measures)]
        for way, row in found[kind].items():
            cells = [_cell(row, theory.get(kind, {}).get(way, {}), measure) for measure in measures]
            lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return lines


def _cell(row: dict[str, list[float]], theory: dict[str, float], measure: str) -> str:
    said = f" ({theory[measure]:.3f})" if measure in theory else ""
    return cell(row[measure]) + said


_COLOURS = {
    HELD: style.FAINT,
    "one step, 5 sampled": style.INK,
    "five steps, 5 sampled": style.ACCENT,
    "local linear, 40 sampled": style.MUTED,
}


def _picture(facts: dict[str, Any], shown: dict[str, Any], path: Path) -> None:
    """S.d. over a gap, mean over the starts, of one fit; and the s.d. at its end over θΔ, expected and measured."""
    fig = style.figure(920, 280)
    share = np.arange(1, POINTS + 1) / POINTS
    for k, (name, laws) in enumerate(shown.items()):
        ax = fig.add_axes((0.05 + 0.33 * k, 0.14, 0.27, 0.72), facecolor=style.PAPER)
        ax.plot(share, laws["exact law"].sd.mean(0), color=style.BAND_INNER, linewidth=7, label="exact law")
        for way, colour in _COLOURS.items():
            ax.plot(share, laws[way].sd.mean(0), "o-", color=colour, markersize=3, linewidth=1.2, label=way)
        ax.set_title(f"{name}: s.d. given the start", fontsize=10, color=style.INK)
        ax.set_xlabel("part of the gap", fontsize=9, color=style.MUTED)
        if not k:
            ax.legend(frameon=False, fontsize=8)
        _bare(ax)
    ax = fig.add_axes((0.71, 0.14, 0.27, 0.72), facecolor=style.PAPER)
    gaps = np.linspace(0.02, 1.1, 40)
    for way, colour in _COLOURS.items():
        exact = np.array([exact_chain(gap).covariance[-1, -1] for gap in gaps])
        ratio = np.sqrt(np.array([expected(way, gap).covariance[-1, -1] for gap in gaps]) / exact) - 1
        ax.plot(gaps, ratio, color=colour, linewidth=1.2)
        for gap in _GAPS:
            values = facts["OU"][f"{gap:g}"]["free"][way]["s.d. at the end"]
            ax.plot([gap] * len(values), values, "o", color=colour, markersize=3, alpha=0.7)
    ax.set_title("OU: error of the s.d. at the end", fontsize=10, color=style.INK)
    ax.set_xlabel("θΔ (lines: theory, points: fits)", fontsize=9, color=style.MUTED)
    _bare(ax)
    style.save(fig, path)


def _bare(ax: Any) -> None:
    ax.tick_params(length=0, labelsize=9, colors=style.MUTED)
    for spine in ax.spines.values():
        spine.set_visible(False)

"""Rates of a stated SDE from incomplete data, and what a network adds when the statement is wrong.

    dx = x (a (1 - x/K) - b y) dt + s1 x dW1,      dy = y (c x - d) dt + s2 y dW2          (Lotka-Volterra; K = inf)

*Recovery*: 50 simulated sets of 5 series of 80 rows at irregular times, three entries in ten missing. 95 % intervals
of the four rates and of both noise scales shall cover in 90-100 % of the sets. Beside them: the same fit on complete
data (the floor), and what one would do by hand, least squares of the increments between rows without a hole.
*Wrong physics*: data with K = 8, fitted without it; alone, with a residual network, and by a network alone; the right
SDE, fitted, is the floor. Scored on fresh series.

    neuralsde reproduce physics --seed 0
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

from neuralsde.data import Nothing, Trajectories, from_arrays
from neuralsde.evaluate import style
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.models.physics import Panel, Physics, PhysicsSDE, Positive, Residual
from neuralsde.models.sequence_sde import Config
from neuralsde.runs.fit import fit
from neuralsde.runs.physics.estimate import Estimate, Kind, estimate, intervals, starts_around
from neuralsde.runs.physics.panel import make_panel, moments, most_blocks
from neuralsde.sde import SDE, Diagonal, Milstein, simulate
from neuralsde.tasks.score import MODEL

RATES = {"a": 1.0, "b": 0.5, "c": 0.3, "d": 0.9, "s1": 0.15, "s2": 0.15}
CAPACITY = 8.0
GAPS, MISSING, COLUMNS = (0.1, 0.5), 0.3, ("prey", "predators")
COVERAGE = (0.9, 1.0)
_SUBSTEPS, _WRONG_START, _SETS_AT_ONCE = 50, 0.5, 25


class LotkaVolterra(eqx.Module):
    """Prey x and predators y; every field a number, or a parameter to be estimated."""

    a: Any
    b: Any
    c: Any
    d: Any
    s1: Any
    s2: Any
    capacity: Any = float("inf")

    def drift(self, t: Any, y: Any, args: Any) -> Any:
        """(2,) per unit of time."""
        prey, predators = y
        growth = self.a * (1 - prey / self.capacity) - self.b * predators
        return jnp.stack([prey * growth, predators * (self.c * prey - self.d)])

    def diffusion(self, t: Any, y: Any, args: Any) -> Any:
        """(2,) per root of time."""
        return jnp.stack([self.s1 * y[0], self.s2 * y[1]])


@dataclass(frozen=True)
class Size:
    """Recovery: `sets` of `series` of `rows`. Wrong physics: `wrong_sets`, and steps of both trainings."""

    sets: int = 50
    series: int = 5
    rows: int = 80
    wrong_sets: int = 5
    wrong_series: int = 10
    wrong_rows: int = 80
    residual_steps: int = 300
    network_steps: int = 1_000
    width: int = 32


SMALL = Size(
    sets=3, series=2, rows=25, wrong_sets=1, wrong_series=2, wrong_rows=40, residual_steps=3, network_steps=3, width=4
)
FULL = Size(sets=500, wrong_sets=20, residual_steps=3_000, network_steps=10_000, width=64)


# -- data ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sets:
    """Simulated sets: times (sets, series, rows), states (sets, series, rows, 2), and which entries were seen."""

    times: np.ndarray
    states: np.ndarray
    keep: np.ndarray

    def table(self, number: int, *, complete: bool = False) -> Trajectories:
        """One set as a table."""
        values = self.states[number] if complete else np.where(self.keep[number], self.states[number], np.nan)
        return from_arrays(list(self.times[number]), list(values), columns=COLUMNS)


def draw(model: LotkaVolterra, sets: int, series: int, rows: int, seed: int) -> Sets:
    """Paths by Milstein's method with 50 steps a gap, from starts around the equilibrium."""
    rng = np.random.default_rng(seed)
    gaps = rng.uniform(*GAPS, (sets, series, rows - 1))
    times = np.concatenate([np.zeros((sets, series, 1)), np.cumsum(gaps, axis=-1)], axis=-1)
    starts = np.exp(np.log([3.0, 2.0]) + 0.4 * rng.standard_normal((sets, series, 2)))
    with jax.enable_x64(True):
        process = SDE(model.drift, model.diffusion, Diagonal(depends="separable"))
        keys = jax.random.split(jax.random.key(seed), (sets, series))

        def path(y0: Any, ts: Any, key: Any) -> Any:
            return simulate(process, y0, ts, key=key, method=Milstein(), substeps=_SUBSTEPS).ys

        states = np.asarray(jax.jit(jax.vmap(jax.vmap(path)))(jnp.asarray(starts), jnp.asarray(times), keys))
    return Sets(times, states, rng.random(states.shape) >= MISSING)


# -- recovery ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fits:
    """Estimates and ends of the 95 % intervals, each (sets, 6)."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def summary(self) -> dict[str, dict[str, float]]:
        """By parameter: bias, RMSE and mean half width relative to the truth, and the share of sets that cover."""
        truth = np.array(list(RATES.values()))
        error = self.value / truth - 1
        parts = {
            "bias": error.mean(0),
            "rmse": np.sqrt(np.square(error).mean(0)),
            "half width": ((self.high - self.low) / 2 / truth).mean(0),
            "coverage": ((self.low <= truth) & (truth <= self.high)).mean(0),
        }
        return {name: {key: float(part[i]) for key, part in parts.items()} for i, name in enumerate(RATES)}


def by_filter(sets: Sets, *, complete: bool, seed: int, in_logs: bool = True) -> dict[Kind, Fits]:
    """The filter's likelihood, from starts that are off by e^±½; all sets in one program."""
    rng = np.random.default_rng(seed)
    off = np.exp(_WRONG_START * rng.standard_normal(len(RATES)))
    model = LotkaVolterra(**{name: Positive(v * o) for (name, v), o in zip(RATES.items(), off, strict=True)})
    config = Physics(model.drift, model.diffusion, in_logs=in_logs)
    logs = config.logs(COLUMNS)
    tables = [sets.table(i, complete=complete) for i in range(len(sets.times))]
    panels = [make_panel(table, logs, 1.0) for table in tables]
    found: list[Estimate] = []
    with jax.enable_x64(True):
        mean, sd = moments(tables[0], logs)
        stated = PhysicsSDE(config, COLUMNS, mean=mean, sd=sd, gap=float(np.mean(GAPS)), key=jax.random.key(0))
        starts = jnp.asarray(starts_around(stated.parameters, np.array(stated.parameters.start), 1))
        most = most_blocks(panels[0])
        for first in range(0, len(panels), _SETS_AT_ONCE):
            stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *panels[first : first + _SETS_AT_ONCE])
            part = jax.tree.map(np.asarray, _estimates(stated, stacked, starts, most))
            found += [jax.tree.map(lambda leaf, i=i: leaf[i], part) for i in range(len(part.z))]
    assert all(bool(one.settled) for one in found), "a search did not settle"
    fits: dict[Kind, Fits] = {}
    for kind in ("sandwich", "information"):
        rows = [intervals(stated.parameters, one, kind=kind) for one in found]
        value, _, low, high = (np.stack(part) for part in zip(*rows, strict=True))
        fits[kind] = Fits(value, low, high)
    return fits


@eqx.filter_jit
def _estimates(model: PhysicsSDE, panels: Panel, starts: jax.Array, most: int) -> Estimate:
    return jax.vmap(lambda panel: estimate(model, panel, starts, most))(panels)


def by_regression(sets: Sets) -> Fits:
    """By hand: rows with a hole are left out, and (Δx/x)/Δ is regressed on y (or x) with weights Δ, one Euler step."""
    rows = [_regression(sets.table(i)) for i in range(len(sets.times))]
    value, low, high = (np.stack(part) for part in zip(*rows, strict=True))
    return Fits(value, low, high)


def _regression(table: Trajectories) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y0, y1, gap = [], [], []
    for series in table:
        whole = ~np.isnan(series.values).any(1)
        values, times = series.values[whole], series.times[whole]
        y0.append(values[:-1])
        y1.append(values[1:])
        gap.append(np.diff(times))
    start, end, dt = np.concatenate(y0), np.concatenate(y1), np.concatenate(gap)
    rate, weight = (end / start - 1) / dt[:, None], np.sqrt(dt)
    value, error, noise = np.zeros(6), np.zeros(6), np.zeros(2)
    for k, sign in ((0, (1.0, -1.0)), (1, (-1.0, 1.0))):  # a - b y, and c x - d as (-d) + c x
        inputs = np.stack([np.ones(len(dt)), start[:, 1 - k]], axis=1) * sign * weight[:, None]
        solution, *_ = np.linalg.lstsq(inputs, rate[:, k] * weight, rcond=None)
        residual = rate[:, k] * weight - inputs @ solution
        noise[k] = np.sqrt((residual**2).sum() / (len(dt) - 2))
        spread = noise[k] * np.sqrt(np.diagonal(np.linalg.inv(inputs.T @ inputs)))
        place = [0, 1] if k == 0 else [3, 2]
        value[place], error[place] = solution, spread
    value[4:], error[4:] = noise, noise / np.sqrt(2 * (len(dt) - 2))
    return value, value - 1.96 * error, value + 1.96 * error


# -- wrong physics -------------------------------------------------------------------------------------------------

WAYS = ("right physics", "wrong physics", "wrong physics + residual", "network alone")
LEADS = (1, 6, 12)


def wrong_physics(seed: int, size: Size) -> dict[str, dict[str, float]]:
    """Scores on fresh series of one set fitted in four ways, and of persistence; nats one step ahead, CRPS by lead."""
    truth = LotkaVolterra(**RATES, capacity=CAPACITY)
    sets = draw(truth, 2, size.wrong_series, size.wrong_rows, seed)
    table, fresh = sets.table(0), sets.table(1)
    a, b, c, d, s1, s2 = (Positive(v) for v in RATES.values())
    stated = LotkaVolterra(a, b, c, d, s1, s2)
    right = LotkaVolterra(a, b, c, d, s1, s2, Positive(CAPACITY))
    net = Residual(width=size.width, depth=2)
    models: dict[str, Any] = {
        "right physics": Physics(right.drift, right.diffusion, in_logs=True, starts=1),
        "wrong physics": Physics(stated.drift, stated.diffusion, in_logs=True, starts=1),
        "wrong physics + residual": Physics(stated.drift, stated.diffusion, in_logs=True, starts=1, residual=net),
        "network alone": Config(history=0, width=size.width // 2),
    }
    found: dict[str, dict[str, float]] = {}
    for name, model in models.items():
        steps = size.network_steps if isinstance(model, Config) else size.residual_steps
        run = fit(table, model=model, steps=steps, seed=seed, split=Nothing())
        scores = run.score(fresh, leads=LEADS, n=100, seed=seed)
        found |= _scores(name, scores.table().to_dicts())
    return found


def _scores(name: str, rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean over the columns of nats and CRPS, of the model, and of persistence."""
    found: dict[str, dict[str, float]] = {}
    for method, label in ((MODEL, name), ("persistence", "persistence")):
        mine = [row for row in rows if row["method"] == method and row["variable"]]
        for row in mine:
            if row["metric"] in ("nll", "crps") or row["metric"].startswith("coverage-"):
                key = f"{row['metric']} {row['lead']}"
                found.setdefault(label, {}).setdefault(key, 0.0)
                found[label][key] += float(row["value"]) / len(COLUMNS)
    return found


# -- the whole of it -----------------------------------------------------------------------------------------------


@experiment("physics", Size(), FULL)
def reproduce(asked: Asked[Size]) -> Iterator[str]:
    """Run both parts, write physics.json, physics.md and physics.png into `out`; yields lines as they become known.

    seeds: times the size: two seeds are 100 sets and 10 sets.
    """
    size = asked.size
    sets = draw(LotkaVolterra(**RATES), size.sets * asked.seeds, size.series, size.rows, asked.seed)
    missing = by_filter(sets, complete=False, seed=asked.seed)
    fits = {
        "filter, 30 % missing": missing["sandwich"],
        "the same, information": missing["information"],
        "the same, not in logs": by_filter(sets, complete=False, seed=asked.seed, in_logs=False)["sandwich"],
        "filter, complete (floor)": by_filter(sets, complete=True, seed=asked.seed)["sandwich"],
        "regression by hand": by_regression(sets),
    }
    recovery = {name: fit.summary() for name, fit in fits.items()}
    met = [COVERAGE[0] <= one["coverage"] <= COVERAGE[1] for one in recovery["filter, 30 % missing"].values()]
    yield f"recovery: {sum(met)} of {len(met)} parameters covered in 90-100 % of {len(sets.times)} sets"
    _picture(fits, asked.path())
    facts = asked.first | {
        "rates": RATES,
        "capacity": CAPACITY,
        "sets": len(sets.times),
        "entries": int(sets.keep.sum(axis=(1, 2, 3)).mean()),
        "asked": {"coverage of every parameter": list(COVERAGE)},
        "met": all(met),
        "recovery": recovery,
        "wrong physics": [],
    }
    for number in asked.numbers(size.wrong_sets):
        found = wrong_physics(1_000 + number, size)
        facts["wrong physics"].append(found)
        facts["seconds"] = asked.seconds
        asked.write(facts, _page(facts))  # after every set: a stopped run leaves what it has
        yield f"wrong physics, set {number}: " + ", ".join(f"{way} {_nats(found[way]):.3f}" for way in WAYS)
    yield from _page(facts).splitlines()


def _nats(scores: dict[str, float]) -> float:
    return next(value for key, value in scores.items() if key.startswith("nll"))


def _page(facts: dict[str, Any]) -> str:
    """The tables."""
    lines = [
        "# Known physics",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. Lotka-Volterra with noise, {facts['sets']} sets of "
        f"{facts['entries']} observed entries: bias and RMSE in % of the truth, and the share of 95 % intervals that "
        f"cover (asked: 90-100 %; {'met' if facts['met'] else 'not met'} by the filter with 30 % missing).",
        "",
        "| | " + " | ".join(RATES) + " |",
        "|---|" + "--:|" * len(RATES),
    ]
    for name, row in facts["recovery"].items():
        cells = [f"{100 * v['bias']:+.1f} ± {100 * v['rmse']:.1f}, {100 * v['coverage']:.0f} %" for v in row.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    first = facts["wrong physics"][0]["right physics"]
    keys = [key for key in first if not key.startswith("coverage-80")]
    lines += [
        "",
        "Bias ± RMSE, coverage. By hand: rows with a hole left out, one Euler step from row to row.",
        "",
        f"Wrong physics: data with a capacity K = {facts['capacity']:g} that the statement leaves out; "
        f"{len(facts['wrong physics'])} sets, fresh series, mean over sets and columns ± standard error. nll is in "
        "nats of an entry one step ahead. The floor is the right SDE, fitted; the trivial line is persistence.",
        "",
        "| | " + " | ".join(keys) + " |",
        "|---|" + "--:|" * len(keys),
    ]
    for way in (*WAYS, "persistence"):
        cells = []
        for key in keys:
            values = [one[way][key] for one in facts["wrong physics"] if key in one[way]]
            error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
            cells.append(f"{np.mean(values):.3f} ± {error:.3f}" if values else "")
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _picture(fits: dict[str, Fits], path: Path) -> None:
    """Intervals of all sets, by parameter: in order of the estimate, those that miss the truth in colour."""
    fig, shown = style.figure(780, 300), fits["filter, 30 % missing"]
    for k, (name, truth) in enumerate(RATES.items()):
        ax = fig.add_axes((0.05 + 0.158 * k, 0.12, 0.135, 0.74))
        order = np.argsort(shown.value[:, k])
        low, high, value = (part[order, k] / truth for part in (shown.low, shown.high, shown.value))
        rows, hit = np.arange(len(order)), (low <= 1) & (high >= 1)
        ax.axvline(1.0, color=style.INK, linewidth=0.8)
        for colour, which in ((style.FAINT, hit), (style.ACCENT, ~hit)):
            ax.hlines(rows[which], low[which], high[which], color=colour, linewidth=1.2)
        ax.plot(value, rows, ".", color=style.INK, markersize=2)
        ax.set_title(f"{name}: {100 * hit.mean():.0f} % cover", fontsize=10, color=style.INK)
        ax.set_yticks([])
        ax.tick_params(length=0, labelsize=9, colors=style.MUTED)
        for spine in ax.spines.values():
            spine.set_visible(False)
    fig.text(0.5, 0.01, "estimate and 95 % interval over the truth, one line a set", ha="center", fontsize=10)
    style.save(fig, path)

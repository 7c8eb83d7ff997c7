"""Filling in the weather: entries of the held-out weeks are hidden, and both answers are scored on what was hidden.

Two patterns: 10 % of the entries at random, each by itself; and outages, where one column is away for six hours in a
row. The model is the demo's, fitted without the held-out weeks; its answer is `impute`, weighted paths from both sides.
The other answer is what one would do by hand: the straight line between the neighbours of the same column, with the
Gaussian error that such lines have on the training weeks, by hours to the left and to the right. Scores are fair CRPS
(lower is better), with 95 % intervals by bootstrap over the held-out weeks, and coverage; hidden entries are the same
for both.

    python -m neuralsde.experiments.impute_weather      # writes experiments/results/impute_weather.{json,md}
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from neuralsde.data import Split, Trajectories
from neuralsde.data.embedded import weather
from neuralsde.data.split import TEST
from neuralsde.evaluate.bootstrap import block_bootstrap, stretch_blocks
from neuralsde.evaluate.scores import covered, covered_gaussian, crps_gaussian
from neuralsde.evaluate.weighted import crps_weighted, equally_weighted
from neuralsde.experiments.results import write_results
from neuralsde.experiments.weather import MODEL, PATHS, SPLIT, STEPS
from neuralsde.runs.fit import fit
from neuralsde.tasks.between import fill
from neuralsde.tasks.fitted import Fitted

SHARE = 0.1
OUTAGE = 6
LEVELS = (80, 95)
HOUR = 3600.0
MODEL_NAME, LINE_NAME = "neural SDE", "linear interpolation"
_FARTHEST = 24
_EDGE = 24


@dataclass(frozen=True)
class Pattern:
    """What is hidden: one mask (R, d) for each series."""

    name: str
    masks: tuple[np.ndarray, ...]

    def applied(self, data: Trajectories) -> Trajectories:
        hidden = [replace(s, values=np.where(m, np.nan, s.values)) for s, m in zip(data, self.masks, strict=True)]
        return replace(data, series=tuple(hidden))


def single_entries(data: Trajectories, seed: int) -> Pattern:
    """A share of the observed held-out entries, each by itself."""
    rng = np.random.default_rng(seed)
    masks = [free & (rng.uniform(size=free.shape) < SHARE) for free in _hideable(data)]
    return Pattern(f"{100 * SHARE:g} % of the entries", tuple(masks))


def outages(data: Trajectories, seed: int) -> Pattern:
    """Every twelve hours one column, in turn, is away for `OUTAGE` hours that begin at random in the first half."""
    rng = np.random.default_rng(seed)
    masks = []
    for s, free in zip(data, _hideable(data), strict=True):
        half_day = np.floor(s.times / (12 * HOUR)).astype(np.int64)
        begin = rng.integers(0, 12 - OUTAGE + 1, half_day.max() - half_day.min() + 1)[half_day - half_day.min()]
        away = (s.times / HOUR % 12 >= begin) & (s.times / HOUR % 12 < begin + OUTAGE)
        column = half_day[:, None] % free.shape[1] == np.arange(free.shape[1])
        masks.append(free & away[:, None] & column)
    return Pattern(f"outages of {OUTAGE} hours", tuple(masks))


def _hideable(data: Trajectories) -> list[np.ndarray]:
    """Observed entries of the held-out weeks, not at the very ends of a series, where there is no other side."""
    found = []
    for s, role in zip(data, Split.of(data, SPLIT).roles, strict=True):
        inner = (role == TEST) & (np.arange(len(s)) >= _EDGE) & (np.arange(len(s)) < len(s) - _EDGE)
        found.append(inner[:, None] & ~np.isnan(s.values))
    return found


@dataclass
class Lines:
    """Straight lines between the neighbours, with the s.d. that their errors have on the training rows."""

    grids: list[np.ndarray]
    sds: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    @classmethod
    def fit(cls, data: Trajectories) -> Lines:
        """`data`: training stretches, laid on an hourly grid with NaN where nothing was seen."""
        grids = []
        for s in data:
            hour = np.rint((s.times - s.times[0]) / HOUR).astype(np.int64)
            grid = np.full((hour[-1] + 1, s.values.shape[1]), np.nan)
            grid[hour] = s.values
            grids.append(grid)
        return cls(grids)

    def sd(self, left: int, right: int) -> np.ndarray:
        """S.d. (d,) of the error, `left` and `right` hours (up to a day) from the neighbours."""
        a, b = min(left, _FARTHEST), min(right, _FARTHEST)
        if (a, b) not in self.sds:
            parts = [g[a : len(g) - b] - (b * g[: len(g) - a - b] + a * g[a + b :]) / (a + b) for g in self.grids]
            self.sds[a, b] = np.sqrt(np.nanmean(np.concatenate(parts) ** 2, axis=0))
        return self.sds[a, b]

    def predict(self, times: np.ndarray, values: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and s.d. (R, d), NaN where the mask `at` (R, d) is false."""
        mean, sd = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
        for j in range(values.shape[1]):
            seen = np.flatnonzero(~np.isnan(values[:, j]))
            wanted = np.flatnonzero(at[:, j])
            after = np.searchsorted(seen, wanted)
            mean[wanted, j] = np.interp(times[wanted], times[seen], values[seen, j])
            left = np.rint((times[wanted] - times[seen[after - 1]]) / HOUR).astype(np.int64)
            right = np.rint((times[seen[after]] - times[wanted]) / HOUR).astype(np.int64)
            sd[wanted, j] = [self.sd(a, b)[j] for a, b in zip(left.tolist(), right.tolist(), strict=True)]
        return mean, sd


@dataclass(frozen=True)
class Scored:
    """CRPS and shares inside the bands by method, (R, d) over all rows, NaN where nothing was hidden; and the ess."""

    crps: dict[str, np.ndarray]
    inside: dict[str, dict[int, np.ndarray]]
    ess: np.ndarray


def score_pattern(fitted: Fitted, data: Trajectories, lines: Lines, pattern: Pattern, *, n: int, seed: int) -> Scored:
    """Both answers on what the pattern hides."""
    holes = pattern.applied(data)
    hidden = np.concatenate(pattern.masks)
    truth = np.where(hidden, np.concatenate([s.values for s in data]), np.nan)
    q = np.array(fitted.encoder.resolution)
    crps = {name: np.full(truth.shape, np.nan) for name in (MODEL_NAME, LINE_NAME)}
    inside = {name: {level: np.full(truth.shape, np.nan) for level in LEVELS} for name in crps}
    ess = np.full(truth.shape, np.nan)
    rows = fitted.encoder.encode(holes)
    for drawn in fill(fitted, holes, rows, [np.zeros(0)] * len(holes), n=n, seed=seed):
        here = truth[drawn.slot]
        support = np.broadcast_to(drawn.support[:, None], here.shape)
        crps[MODEL_NAME][drawn.slot] = crps_weighted(drawn.samples, drawn.weights, support, here)
        ess[drawn.slot] = np.where(np.isnan(here), np.nan, support)
        equal = equally_weighted(drawn.samples, drawn.weights)
        for level in LEVELS:
            inside[MODEL_NAME][level][drawn.slot] = covered(equal, here, level, q)
    guesses = [lines.predict(s.times, s.values, m) for s, m in zip(holes, pattern.masks, strict=True)]
    mean, sd = (np.concatenate(part) for part in zip(*guesses, strict=True))
    crps[LINE_NAME] = crps_gaussian(mean, np.where(hidden, sd, 1.0), truth)
    for level in LEVELS:
        inside[LINE_NAME][level] = covered_gaussian(mean, np.where(hidden, sd, 1.0), truth, level, q)
    return Scored(crps, inside, ess)


def report(data: Trajectories, pattern: Pattern, scored: Scored) -> list[dict[str, Any]]:
    """One record for each column: scores with their intervals, the paired difference, coverage, ess."""
    held = np.concatenate(pattern.masks).any(1)
    weeks = stretch_blocks(np.concatenate([s.times for s in data])[held], 48 * HOUR)
    records = []
    for j, column in enumerate(data.columns):
        own, line = (scored.crps[name][held, j] for name in (MODEL_NAME, LINE_NAME))
        records.append({
            "pattern": pattern.name,
            "variable": column,
            "entries": int(np.isfinite(own).sum()),
            "crps": {name: _interval(scored.crps[name][held, j], weeks) for name in scored.crps},
            "difference": _interval(line - own, weeks),
            "coverage": {
                name: {str(level): float(np.nanmean(share[held, j])) for level, share in shares.items()}
                for name, shares in scored.inside.items()
            },
            "ess": {"median": float(np.nanmedian(scored.ess[held, j])), "least": float(np.nanmin(scored.ess[held, j]))},
        })  # fmt: skip
    return records


def _interval(values: np.ndarray, blocks: np.ndarray) -> list[float]:
    found = block_bootstrap(values, blocks)
    return [float(found.value), float(found.low), float(found.high)]


def run(*, steps: int = STEPS, n: int = PATHS, seed: int = 0) -> dict[str, Any]:
    """The whole experiment as plain values."""
    began = time.monotonic()
    data = weather()
    fitted = fit(data, model=MODEL, steps=steps, seed=seed, split=SPLIT).fitted
    trained = time.monotonic()
    lines = Lines.fit(Split.of(data, SPLIT).train_data)
    records = []
    for pattern in (single_entries(data, seed), outages(data, seed)):
        records += report(data, pattern, score_pattern(fitted, data, lines, pattern, n=n, seed=seed))
    return {
        "settings": {"model": asdict(MODEL), "steps": steps, "paths": n, "seed": seed, "held out": SPLIT.describe()},
        "seconds": {"fit": round(trained - began, 1), "impute": round(time.monotonic() - trained, 1)},
        "scores": records,
    }


def markdown(result: dict[str, Any]) -> str:
    """The result as a page."""
    settings = result["settings"]
    lines = [
        "# Filling in the weather",
        "",
        f"Entries hidden in {settings['held out']}; {settings['steps']} training steps, {settings['paths']} paths, "
        f"seed {settings['seed']}. CRPS in data units, lower is better; asked: the model below linear interpolation "
        "with Gaussian error. The difference is line minus model, with a 95 % interval over the held-out weeks. "
        "Coverage of the 80 and 95 % bands in percent; ess is the median (and least) effective number of paths.",
        "",
        "| hidden | variable | entries | model | line | difference | met | coverage model | coverage line | ess |",
        "|---|---|--:|--:|--:|--:|---|--:|--:|--:|",
    ]
    for r in result["scores"]:
        own, line = (r["crps"][name][0] for name in (MODEL_NAME, LINE_NAME))
        value, low, high = r["difference"]
        met = "no" if value <= 0 else "yes" if low > 0 else "yes, unresolved"
        cover = [" / ".join(f"{100 * s:.0f}" for s in r["coverage"][name].values()) for name in (MODEL_NAME, LINE_NAME)]
        lines.append(
            f"| {r['pattern']} | {r['variable']} | {r['entries']} | {own:.4g} | {line:.4g} "
            f"| {value:.3g} [{low:.3g}, {high:.3g}] | {met} | {cover[0]} | {cover[1]} "
            f"| {r['ess']['median']:.0f} ({r['ess']['least']:.0f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run it and write its figures: `python -m neuralsde.experiments.impute_weather`."""
    result = run()
    table = markdown(result)
    write_results("impute_weather", result, table)
    sys.stdout.write(table + "\n")


if __name__ == "__main__":
    main()

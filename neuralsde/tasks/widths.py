"""How much wider forecasts have lately had to be: a factor on the spread of paths, for each lead and column.

What was learnt before is too sure of a series that has grown rougher since. Forecasts from earlier origins, beside what
came, tell by how much. Of a forecast with median m and central L % interval [a, b] the truth y misses by

    z = (y - m) / (b - m) above the median, (m - y) / (m - a) below it;        it is covered when z <= 1

and the L % quantile of earlier z is what the interval has to be multiplied by (conformal prediction with scaled
residuals: Lei et al. 2018). An earlier forecast whose truth has been known for a time s counts 2^(-s / half-life)
(Barber et al. 2023), so the factor follows a series that changes. One factor for all levels, the geometric mean of
those of `LEVELS`, moves every path, x' = m + factor (x - m): order, shape and the ties between columns stay.
All of it in model units, so that no path leaves the support.
"""

from __future__ import annotations

import numpy as np

from neuralsde.data import Trajectories
from neuralsde.errors import InputError
from neuralsde.evaluate.scores import quantiles
from neuralsde.tasks.ahead import paths_ahead
from neuralsde.tasks.fitted import Fitted
from neuralsde.tasks.windows import carried, find_windows

LEVELS = (80, 95)
TAILS = (0.025, 0.1, 0.5, 0.9, 0.975)
"""Ends of the intervals of `LEVELS`, and the median."""
HALF_LIFE, LEADS = 50.0, 3.0
"""Half-life of a forecast's weight: so many typical gaps, and no less than so many times its lead."""
FEWEST = 30
"""Earlier forecasts below which a factor would be made of chance."""
WIDEST = 4.0
"""A factor lies between its inverse and this."""
_ORIGINS, _PATHS, _SOME_LEADS, _HALF_LIVES = 300, 100, 6, 5.0
_TINY = 1e-12


def misses(ends: np.ndarray, low: np.ndarray, high: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Misses z (levels, ...) of forecasts with the quantiles ends (5, ...) at `TAILS`; NaN where the truth is missing.

    low, high (...): the interval that a rounded truth stands for, in which a place is drawn; equal where it is exact.
    """
    low = np.where(np.isneginf(low), np.minimum(ends[0], high), low)
    high = np.where(np.isposinf(high), np.maximum(ends[-1], low), high)
    y = low + np.random.default_rng(seed).uniform(size=np.shape(low)) * (high - low)
    median = ends[2]
    found = []
    for a, b in ((ends[1], ends[3]), (ends[0], ends[4])):
        above, below = np.maximum(b - median, _TINY), np.maximum(median - a, _TINY)
        found.append(np.where(y > median, (y - median) / above, (median - y) / below))
    return np.where(np.isnan(y), np.nan, np.stack(found))


def factor(z: np.ndarray, age: np.ndarray, lead: float) -> np.ndarray:
    """The factor (d,) of one lead from earlier misses z (levels, n, d), known for times age (n,) >= 0; 1 from too few.

    Times and lead in typical gaps.
    """
    weight = 0.5 ** (age / max(HALF_LIFE, LEADS * lead))
    logs = []
    for level, some in zip(LEVELS, z, strict=True):
        logs.append([np.log(max(_quantile(column, weight, level / 100), _TINY)) for column in some.T])
    enough = (~np.isnan(z[0])).sum(0) >= FEWEST
    bound = np.log(WIDEST)
    return np.where(enough, np.exp(np.clip(np.mean(logs, axis=0), -bound, bound)), 1.0)


def _quantile(values: np.ndarray, weight: np.ndarray, p: float) -> float:
    """The smallest value with at least the share p of the weight at or below it; 1 where there is none."""
    seen = ~np.isnan(values)
    if not seen.any():
        return 1.0
    order = np.argsort(values[seen])
    total = np.cumsum(weight[seen][order])
    return float(values[seen][order][np.searchsorted(total, p * total[-1]).clip(max=len(order) - 1)])


def recent(
    fitted: Fitted, data: Trajectories, unseen: np.ndarray, reach: float, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Leads (k,), in typical gaps up to `reach`, and the factor (k, d) of each at the end of the table.

    unseen: (R,) the rows of all series that the model was not fitted on; forecasts start and end among them, from the
            last few half-lives. What a series has seen lately counts for all of them.

    Raises InputError where that gives too few forecasts.
    """
    rows, values = fitted.encoder.encode(data), np.concatenate([s.values for s in data])
    leads = np.unique(np.round(np.geomspace(1, max(reach, 1.0), _SOME_LEADS))).astype(np.int64)
    left = rows.time[rows.start[1:] - 1][rows.series] - rows.time
    marked = unseen & (left <= _HALF_LIVES * max(HALF_LIFE, LEADS * float(leads[-1])))
    stride = max(1.0, float(marked.sum() // _ORIGINS))
    windows = find_windows(rows, marked, tuple(leads.tolist()), stride)
    there = windows.target >= 0
    if there[:, 0].sum() < FEWEST:
        raise InputError(
            f"{there[:, 0].sum()} forecasts among the rows that the run was not fitted on",
            "too few to say how wide they should have been",
            f"at least {FEWEST}",
            "a forecast without calibrate",
        )
    ahead = paths_ahead(fitted, rows, windows.origin, carried(windows.lead), [[s] for s in data], n=_PATHS, seed=seed)
    found = np.ones((len(leads), len(fitted.encoder.columns)))
    for j, lead in enumerate(leads):
        target = windows.target[there[:, j], j]
        ends = quantiles(np.moveaxis(ahead.states[there[:, j], :, j], 1, 0), TAILS)
        z = misses(ends, *fitted.encoder.interval(values[target]), seed=seed)
        found[j] = factor(z, left[target], float(lead))
    return leads, found


def widened(states: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Paths (n, ..., q, d) with the spread around their median multiplied by factors (..., q, d)."""
    median = np.median(states, axis=0)
    return median + factors * (states - median)


def between(leads: np.ndarray, factors: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Factors (..., d) at any leads `wanted` (...), from those (k, d) at `leads`: straight lines in the logarithms."""
    x = np.log(np.maximum(wanted, _TINY))
    return np.stack([np.exp(np.interp(x, np.log(leads), np.log(column))) for column in factors.T], axis=-1)

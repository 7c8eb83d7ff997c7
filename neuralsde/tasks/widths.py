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

from dataclasses import dataclass

import numpy as np

from neuralsde.data import Trajectories
from neuralsde.errors import InputError
from neuralsde.evaluate.scores import quantiles
from neuralsde.tasks.ahead import paths_ahead
from neuralsde.tasks.fitted import Fitted
from neuralsde.tasks.windows import Windows, carried, find_windows

LEVELS = (80, 95)
TAILS = (0.025, 0.1, 0.5, 0.9, 0.975)
"""Ends of the intervals of `LEVELS`, and the median."""
HALF_LIFE, LEADS = 50.0, 3.0
"""Half-life of a forecast's weight: so many typical gaps, and no less than so many times its lead."""
FEWEST = 30
"""Earlier forecasts below which a factor would be made of chance."""
WIDEST = 4.0
"""A factor lies between its inverse and this."""
_ORIGINS, _MOST_ORIGINS, _PATHS, _SOME_LEADS, _HALF_LIVES = 300, 2_000, 100, 6, 5.0
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


@dataclass(frozen=True)
class Earlier:
    """Earlier forecasts and what came: `misses` z (levels, n, k, d) at the leads (k,), and when the truth was `known`.

    leads in typical gaps; known (n, k) on the clock that `factors` is asked by, in typical gaps; NaN without a truth.
    """

    leads: np.ndarray
    misses: np.ndarray
    known: np.ndarray

    @classmethod
    def of(
        cls, fitted: Fitted, data: Trajectories, marked: np.ndarray, time: np.ndarray, reach: float, stride: float,
        *, seed: int,
    ) -> Earlier:  # fmt: skip
        """Forecasts that start and end among the marked rows (R,), `stride` gaps apart, at some leads up to `reach`.

        time: (R,) the clock. Raises InputError where there are too few.
        """
        rows, values = fitted.encoder.encode(data), np.concatenate([s.values for s in data])
        leads = _some_leads(reach)
        windows = find_windows(rows, marked, tuple(leads.tolist()), stride)
        there = windows.target >= 0
        if there[:, 0].sum() < FEWEST:
            raise InputError(
                f"{there[:, 0].sum()} forecasts among the rows that the run was not fitted on",
                "too few to say how wide they should have been",
                f"at least {FEWEST}",
                "the same without calibrate",
            )
        ahead = paths_ahead(
            fitted, rows, windows.origin, carried(windows.lead), [[s] for s in data], n=_PATHS, seed=seed
        )
        z = np.full((len(LEVELS), *there.shape, len(fitted.encoder.columns)), np.nan)
        for j in range(len(leads)):
            ends = quantiles(np.moveaxis(ahead.states[there[:, j], :, j], 1, 0), TAILS)
            around = fitted.encoder.interval(values[windows.target[there[:, j], j]])
            z[:, there[:, j], j] = misses(ends, *around, seed=seed)
        return cls(leads, z, np.where(there, time[np.maximum(windows.target, 0)], np.nan))

    def factors(self, now: np.ndarray) -> np.ndarray:
        """At times now (m,) the factor (m, k, d) of each lead; only what had come by then counts."""
        found = np.ones((len(now), *self.misses.shape[2:]))
        for i, j in np.ndindex(len(now), len(self.leads)):
            seen = self.known[:, j] <= now[i]
            if seen.any():
                age = now[i] - self.known[seen, j]
                found[i, j] = factor(self.misses[:, seen, j], age, float(self.leads[j]))
        return found


def recent(
    fitted: Fitted, data: Trajectories, unseen: np.ndarray, reach: float, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Leads (k,), in typical gaps up to `reach`, and the factor (k, d) of each at the end of the table.

    unseen: (R,) the rows of all series that the model was not fitted on; forecasts start and end among them, from the
            last few half-lives. What a series has seen lately counts for all of them.

    Raises InputError where that gives too few forecasts.
    """
    rows = fitted.encoder.encode(data)
    left = rows.time[rows.start[1:] - 1][rows.series] - rows.time
    marked = unseen & (left <= _memory(reach))
    earlier = Earlier.of(fitted, data, marked, -left, reach, max(1.0, float(marked.sum() // _ORIGINS)), seed=seed)
    return earlier.leads, earlier.factors(np.zeros(1))[0]


def followed(fitted: Fitted, data: Trajectories, unseen: np.ndarray, windows: Windows, *, seed: int = 0) -> np.ndarray:
    """The factor (m, q, d) of every origin and lead of `windows`, as if each origin were the present.

    unseen: as of `recent`. The clock is that of the table: what one series has seen counts for the others from then on.
    """
    rows = fitted.encoder.encode(data)
    time = rows.origin[rows.series] / fitted.encoder.tau + rows.time
    reach, span = float(np.nanmax(windows.lead)), float(np.ptp(time[unseen])) if unseen.any() else 0.0
    dense = unseen.sum() * min(1.0, _memory(reach) / max(span, 1.0)) / _ORIGINS
    stride = max(1.0, dense // 1, float(unseen.sum() // _MOST_ORIGINS))
    earlier = Earlier.of(fitted, data, unseen, time, reach, stride, seed=seed)
    now, place = np.unique(time[windows.origin], return_inverse=True)
    factors, lead = earlier.factors(now)[place], carried(windows.lead)
    return np.stack([between(earlier.leads, one, at) for one, at in zip(factors, lead, strict=True)])


def _some_leads(reach: float) -> np.ndarray:
    return np.unique(np.round(np.geomspace(1, max(reach, 1.0), _SOME_LEADS))).astype(np.int64)


def _memory(reach: float) -> float:
    """Typical gaps after which an earlier forecast hardly counts."""
    return _HALF_LIVES * max(HALF_LIFE, LEADS * float(_some_leads(reach)[-1]))


def widened(states: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Paths (n, ..., q, d) with the spread around their median multiplied by factors (..., q, d)."""
    median = np.median(states, axis=0)
    return median + factors * (states - median)


def between(leads: np.ndarray, factors: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Factors (..., d) at any leads `wanted` (...), from those (k, d) at `leads`: straight lines in the logarithms."""
    x = np.log(np.maximum(wanted, _TINY))
    return np.stack([np.exp(np.interp(x, np.log(leads), np.log(column))) for column in factors.T], axis=-1)

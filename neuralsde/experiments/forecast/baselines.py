"""The simple forecasts: a random walk, what is usual, and a vector autoregression.

Persistence and climatology are those of `evaluate.baselines`, fitted directly to each horizon. The VAR is fitted once,

    y_t - D'c_t = a + A_1 (y_{t-1} - D'c_{t-1}) + ... + A_p (y_{t-p} - D'c_{t-p}) + e_t,     e_t ~ N(0, S),

c_t the dummies of hour and weekday, and the first two harmonics of the year where two years are known. With
Psi_0 = I, Psi_k = sum_j A_j Psi_{k-j} its law h steps on has covariance sum_{k<h} Psi_k S Psi_k' (Lütkepohl 2005,
section 2.2). The order, and whether the series of a table share one VAR, follow from BIC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuralsde.data import TEST, Clock
from neuralsde.errors import InputError
from neuralsde.evaluate.baselines import Climatology, Pairs, Persistence, gaussian_samples
from neuralsde.experiments.forecast.case import Case, Grid
from neuralsde.experiments.forecast.law import Forecast
from neuralsde.tasks.windows import Windows, find_windows, pairs

ORDERS = (1, 2, 3, 4, 6, 8, 12, 24, 25, 26)
_YEAR = 365.25 * 86_400.0


def by_horizon(baseline: Persistence | Climatology, case: Case, *, n: int, seed: int) -> Forecast:
    """A baseline that is fitted to each horizon by itself, on every row before the test part."""
    means, sds = [], []
    known = np.concatenate(case.split.roles) != TEST
    start = case.rows.start[case.series] + case.row
    for j, horizon in enumerate(case.spec.horizons):
        train = find_windows(case.rows, known, (horizon,), 0.0)
        fitted = baseline.fit(pairs(case.encoder, case.rows, train, 0, 1))
        mean, sd = fitted.predict(_targets(case, start, j))
        means.append(mean)
        sds.append(sd)
    mean, sd = np.stack(means, 1), np.stack(sds, 1)
    return Forecast(gaussian_samples(mean, sd, n, seed=seed), mean, sd)


def _targets(case: Case, start: np.ndarray, j: int) -> Pairs:
    """What a baseline may look at: the origin, and the calendar of the target, whether it is observed or not."""
    n, horizon = len(start), float(case.spec.horizons[j])
    here = Windows(start, start[:, None], np.full((n, 1), horizon))
    seen = pairs(case.encoder, case.rows, here, 0, 1)
    hour = month = None
    if case.data.clock.is_calendar:
        times = [case.grids[s].times[a] for s, a in zip(case.series, case.at + case.spec.horizons[j], strict=True)]
        hour, month = case.data.clock.hour_and_month(np.array(times))
    return Pairs(seen.history, case.truth[:, j], seen.lead, seen.context, seen.target_context, hour, month)


def persistence(case: Case, *, n: int, seed: int) -> Forecast:
    """The last value, with the spread that a walk of this length had before the test."""
    return by_horizon(Persistence(), case, n=n, seed=seed)


def climatology(case: Case, *, n: int, seed: int) -> Forecast:
    """The mean of that hour of that month."""
    return by_horizon(Climatology(), case, n=n, seed=seed)


# -- vector autoregression ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VAR:
    """Intercept (d,), matrices (p, d, d) and covariance (d, d) of the residuals; `bic` per observation in all."""

    intercept: np.ndarray
    matrices: np.ndarray
    covariance: np.ndarray
    bic: float

    @property
    def order(self) -> int:
        return len(self.matrices)

    def mean(self, past: np.ndarray, steps: int) -> np.ndarray:
        """Means (n, steps, d) after past (n, >= p, d), its last row the present."""
        path = list(np.moveaxis(past[:, len(past[0]) - self.order :], 1, 0))
        for _ in range(steps):
            lags = path[: -self.order - 1 : -1]
            path.append(self.intercept + sum(y @ a.T for y, a in zip(lags, self.matrices, strict=True)))
        return np.stack(path[self.order :], axis=1)

    def covariances(self, steps: int) -> np.ndarray:
        """Covariances (steps, d, d) of the law 1, ..., steps ahead."""
        d = len(self.intercept)
        psi = [np.eye(d)]
        for k in range(1, steps):
            used = self.matrices[: min(k, self.order)]
            psi.append(np.sum([a @ psi[k - 1 - j] for j, a in enumerate(used)], axis=0))
        return np.cumsum([p @ self.covariance @ p.T for p in psi], axis=0)


@dataclass(frozen=True)
class Moments:
    """Sums of squares over `count` complete rows of [1, y_{t-1}, ..., y_{t-P}] and of y_t."""

    inputs: np.ndarray
    cross: np.ndarray
    target: np.ndarray
    count: int

    @classmethod
    def of(cls, values: np.ndarray, longest: int) -> Moments:
        """Of one series (T, d); a row with a missing entry, or one in its lags, is left out."""
        lags = [values[longest - k : len(values) - k] for k in range(longest + 1)]
        whole = ~np.isnan(np.concatenate(lags, axis=1)).any(1)
        y = lags[0][whole]
        x = np.concatenate([np.ones((len(y), 1)), *(lag[whole] for lag in lags[1:])], axis=1)
        return cls(x.T @ x, x.T @ y, y.T @ y, len(y))

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.inputs + other.inputs,
            self.cross + other.cross,
            self.target + other.target,
            self.count + other.count,
        )

    def fit(self, order: int) -> VAR:
        """Least squares, the maximum of the likelihood."""
        d = len(self.target)
        size = 1 + order * d
        if self.count <= size + d:
            raise InputError(f"{self.count} complete rows", f"too few for a VAR of order {order}", f"over {size + d}")
        weights = np.linalg.solve(self.inputs[:size, :size], self.cross[:size])
        residual = self.target - self.cross[:size].T @ weights
        covariance = (residual + residual.T) / (2 * self.count)
        bic = self.count * np.linalg.slogdet(covariance)[1] + size * d * np.log(self.count)
        return VAR(weights[0], np.moveaxis(weights[1:].reshape(order, d, d), 1, 2), covariance, float(bic))


def choose_vars(series: Sequence[np.ndarray], orders: Sequence[int] = ORDERS) -> list[VAR]:
    """A VAR for each of the series (T, d), one for all or one each, of the order with the lowest BIC."""
    moments = [Moments.of(values, max(orders)) for values in series]
    together = sum(moments[1:], moments[0])
    shared = min((together.fit(order) for order in orders), key=lambda found: found.bic)
    if len(series) == 1:
        return [shared]
    own = [min((each.fit(order) for order in orders), key=lambda found: found.bic) for each in moments]
    return own if sum(found.bic for found in own) < shared.bic else [shared] * len(series)


def var(case: Case, *, n: int, seed: int, orders: Sequence[int] = ORDERS) -> Forecast:
    """Gaussian forecasts of the VAR: exact means and covariances, samples with the columns' correlation."""
    seasons = [_seasons(grid, case.data.clock) for grid in case.grids]
    rest = [grid.values - season for grid, season in zip(case.grids, seasons, strict=True)]
    # units that differ by powers of ten would spoil the normal equations
    unit = np.nanstd(np.concatenate([part[: g.test] for part, g in zip(rest, case.grids, strict=True)]), axis=0)
    models = choose_vars([part[: g.test] / unit for part, g in zip(rest, case.grids, strict=True)], orders)
    steps, d = max(case.spec.horizons), len(unit)
    mean, chol = np.empty(case.truth.shape), np.empty((*case.truth.shape, d))
    for s, (model, season, part) in enumerate(zip(models, seasons, rest, strict=True)):
        mine, at = case.series == s, case.at[case.series == s]
        filled = _carried(part / unit)
        past = filled[at[:, None] + np.arange(1 - model.order, 1)]
        law, spread = model.mean(past, steps), np.linalg.cholesky(model.covariances(steps))
        for j, horizon in enumerate(case.spec.horizons):
            mean[mine, j] = law[:, horizon - 1] * unit + season[at + horizon]
            chol[mine, j] = spread[horizon - 1] * unit[:, None]
    noise = np.random.default_rng(seed).standard_normal((n, *mean.shape))
    samples = mean + np.einsum("nqij,mnqj->mnqi", chol, noise)
    return Forecast(samples, mean, np.sqrt((chol**2).sum(-1)))


def _seasons(grid: Grid, clock: Clock) -> np.ndarray:
    """D'c_t (T, d), least squares before the test; zero where the times are plain numbers."""
    if not clock.is_calendar:
        return np.zeros_like(grid.values)
    hour, _ = clock.hour_and_month(grid.times)
    weekday = clock.wall(grid.times, "D").astype(np.int64) % 7
    terms = [np.eye(24)[hour], np.eye(7)[weekday][:, 1:]]
    if grid.times[grid.test] - grid.times[0] >= 2 * _YEAR:
        angle = 2 * np.pi * (grid.times - grid.times[0])[:, None] / _YEAR * np.array([1, 2])
        terms += [np.sin(angle), np.cos(angle)]
    design, found = np.concatenate(terms, axis=1), np.empty_like(grid.values)
    for column, y in enumerate(grid.values.T):
        seen = np.flatnonzero(~np.isnan(y[: grid.test]))
        found[:, column] = design @ np.linalg.lstsq(design[seen], y[seen], rcond=None)[0]
    return found


def _carried(values: np.ndarray) -> np.ndarray:
    """Missing entries (T, d) replaced by the last one before them, 0 (the usual) before the first."""
    known = ~np.isnan(values)
    last = np.maximum.accumulate(np.where(known, np.arange(len(known))[:, None], -1), axis=0)
    return np.where(last >= 0, np.take_along_axis(values, np.maximum(last, 0), axis=0), 0.0)

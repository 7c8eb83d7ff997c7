"""Three forecasts that a model has to beat, each a Gaussian in data units, fitted on training rows only.

    Persistence   m = x_t                                     a random walk
    Climatology   m = mean of the column by (month, hour)     the overall mean when times are plain numbers
    LinearAR      m = W [x_t, .., x_{t-h}, context] + b        ridge, fitted directly to each lead

The s.d. is the root mean square of the training errors at that lead and, when times are time stamps, at that hour of
the target's day: the maximum-likelihood spread around the mean as named. One `Pairs` holds one lead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neuralsde.errors import InputError
from neuralsde.evaluate.scores import Floats

Ints = NDArray[np.int64]

# A cell with fewer errors than this borrows the spread (or the mean) of the next coarser cell.
_FEW_ERRORS, _FEW_VALUES = 20, 3
_SMALLEST = 1e-9


@dataclass(frozen=True)
class Pairs:
    """n forecast origins and what came one lead later.

    history (n, h + 1, d): values up to the origin, the origin's last, missing ones filled from before.
    target (n, d): NaN where missing. lead (n,): the actual lead, in any one unit.
    context, target_context (n, c): known covariates at the origin and at the target; c may be 0.
    hour, month (n,): hour 0-23 and month 1-12 of the target, when times are time stamps.
    """

    history: Floats
    target: Floats
    lead: Floats
    context: Floats
    target_context: Floats
    hour: Ints | None = None
    month: Ints | None = None

    def __post_init__(self) -> None:
        n = len(self.target)
        parts = (self.history, self.lead, self.context, self.target_context, self.hour, self.month)
        shapes = [None if part is None else part.shape for part in parts]
        wrong = self.history.ndim != 3 or self.target.ndim != 2 or self.history.shape[2] != self.target.shape[1]
        if wrong or any(shape is not None and shape[0] != n for shape in shapes):
            raise InputError(
                f"pairs with history, lead, context, target_context, hour, month of shapes {shapes} "
                f"and target {self.target.shape}",
                expected="history (n, h + 1, d), target (n, d), everything else with n rows",
            )

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Fitted:
    """A baseline after `fit`: `predict(pairs)` gives mean and s.d., each `(n, d)`, in data units."""

    name: str
    mean_of: Callable[[Pairs], Floats]
    spread: Spread

    def predict(self, pairs: Pairs) -> tuple[Floats, Floats]:
        return self.mean_of(pairs), self.spread.at(pairs)


class Baseline(Protocol):
    """What the three below have in common."""

    @property
    def name(self) -> str: ...

    def fit(self, train: Pairs) -> Fitted: ...


@dataclass(frozen=True)
class Spread:
    """Root mean square of errors: `by_hour (24, d)` when there are hours, `overall (d,)` otherwise."""

    overall: Floats
    by_hour: Floats | None

    @classmethod
    def fit(cls, errors: Floats, hour: Ints | None, used: int = 0) -> Spread:
        """From errors `(n, d)` with NaN; `used` parameters were spent on the mean (n - used in the denominator).

        At most a factor 2, since the cells of a climatology may be nearly as many as its rows.
        """
        square = errors**2
        total, count = _cell_sums(square, np.zeros(len(errors), np.int64), 1)
        inflate = count[0] / np.maximum(count[0] - used, np.maximum(count[0] / 4, 1.0))
        overall = np.sqrt(total[0] / np.maximum(count[0], 1.0) * inflate)
        overall = np.maximum(overall, _SMALLEST * np.maximum(1.0, overall.max(initial=0.0)))
        if hour is None:
            return cls(overall, None)
        total, count = _cell_sums(square, hour, 24)
        each = np.sqrt(total / np.maximum(count, 1.0) * inflate)
        return cls(overall, np.where((count >= _FEW_ERRORS) & (each > 0), each, overall))

    def at(self, pairs: Pairs) -> Floats:
        if self.by_hour is None or pairs.hour is None:
            return np.broadcast_to(self.overall, pairs.target.shape).copy()
        return self.by_hour[pairs.hour]


@dataclass(frozen=True)
class Persistence:
    """Tomorrow is like today: the last observed value, with the spread of a random walk over that lead."""

    name: str = "persistence"

    def fit(self, train: Pairs) -> Fitted:
        centre = _column_means(train.target)

        def mean_of(pairs: Pairs) -> Floats:
            last = pairs.history[:, -1]
            return np.where(np.isnan(last), centre, last)

        return _fitted(self.name, mean_of, train)


@dataclass(frozen=True)
class Climatology:
    """What is usual at that hour of that month, whatever happened before; empty cells fall back to the hour's mean."""

    name: str = "climatology"

    def fit(self, train: Pairs) -> Fitted:
        table = _calendar_means(train)
        cells = np.unique(_calendar_cell(train)).size

        def mean_of(pairs: Pairs) -> Floats:
            return table[_calendar_cell(pairs) if len(table) > 1 else np.zeros(len(pairs), np.int64)]

        return _fitted(self.name, mean_of, train, used=cells)


@dataclass(frozen=True)
class LinearAR:
    """Ridge regression from the last h + 1 states and the known covariates straight to the lead.

    `ridge` is relative to inputs of unit variance. The actual lead is an input too where it varies.
    """

    name: str = "linear AR"
    ridge: float = 1e-4

    def fit(self, train: Pairs) -> Fitted:
        raw = _inputs(train)
        centre = _column_means(raw)
        scale = np.sqrt(_column_means((raw - centre) ** 2))
        scale = np.where(scale > _SMALLEST * np.maximum(1.0, np.abs(centre)), scale, np.inf)  # constants weigh nothing
        weights, offset = self._solve(_standard(raw, centre, scale), train.target)

        def mean_of(pairs: Pairs) -> Floats:
            return _standard(_inputs(pairs), centre, scale) @ weights + offset

        return _fitted(self.name, mean_of, train, used=int(np.isfinite(scale).sum()) + 1)

    def _solve(self, x: Floats, target: Floats) -> tuple[Floats, Floats]:
        """Weights `(p, d)` and offsets `(d,)`, column by column since each has its own missing rows."""
        weights, offset = np.zeros((x.shape[1], target.shape[1])), np.zeros(target.shape[1])
        for column in range(target.shape[1]):
            seen = ~np.isnan(target[:, column])
            if not seen.any():
                continue
            inputs, y = x[seen], target[seen, column]
            at, level = inputs.mean(axis=0), y.mean()
            centred = inputs - at
            gram = centred.T @ centred / len(y) + self.ridge * np.eye(x.shape[1])
            weights[:, column] = np.linalg.solve(gram, centred.T @ (y - level) / len(y))
            offset[column] = level - at @ weights[:, column]
        return weights, offset


BASELINES: tuple[Baseline, ...] = (Persistence(), Climatology(), LinearAR())


def gaussian_samples(mean: Floats, sd: Floats, n: int, *, seed: int = 0) -> Floats:
    """Draws `(n, ...)` from independent Gaussians, for scores that need samples (the energy score)."""
    return mean + sd * np.random.default_rng(seed).standard_normal((n, *np.shape(mean)))


def _fitted(name: str, mean_of: Callable[[Pairs], Floats], train: Pairs, used: int = 0) -> Fitted:
    if len(train) == 0:
        raise InputError(f"no training pairs for {name}", expected="at least one origin with a target at this lead")
    return Fitted(name, mean_of, Spread.fit(train.target - mean_of(train), train.hour, used))


def _cell_sums(values: Floats, cell: Ints, n_cells: int) -> tuple[Floats, Floats]:
    """Sums and counts of the entries of `values (n, d)` that are there, by cell: two arrays `(n_cells, d)`."""
    present = ~np.isnan(values)
    sums, counts = np.zeros((n_cells, values.shape[1])), np.zeros((n_cells, values.shape[1]))
    np.add.at(sums, cell, np.where(present, values, 0.0))
    np.add.at(counts, cell, present.astype(np.float64))
    return sums, counts


def _column_means(values: Floats) -> Floats:
    """Means over the entries that are there; 0 for a column without any."""
    total, count = _cell_sums(values, np.zeros(len(values), np.int64), 1)
    return total[0] / np.maximum(count[0], 1.0)


def _calendar_cell(pairs: Pairs) -> Ints:
    """0..287 = month and hour; all rows in one cell when there is no calendar."""
    if pairs.hour is None or pairs.month is None:
        return np.zeros(len(pairs), np.int64)
    return (pairs.month - 1) * 24 + pairs.hour


def _calendar_means(train: Pairs) -> Floats:
    """Means `(288, d)` by month and hour; thin cells take the hour's mean, and that the overall mean."""
    overall = _column_means(train.target)
    if train.hour is None or train.month is None:
        return overall[None]
    total, count = _cell_sums(train.target, train.hour, 24)
    hourly = np.where(count >= _FEW_VALUES, total / np.maximum(count, 1.0), overall)
    total, count = _cell_sums(train.target, _calendar_cell(train), 288)
    return np.where(count >= _FEW_VALUES, total / np.maximum(count, 1.0), np.tile(hourly, (12, 1)))


def _inputs(pairs: Pairs) -> Floats:
    parts = (pairs.history.reshape(len(pairs), -1), pairs.context, pairs.target_context, pairs.lead[:, None])
    return np.concatenate(parts, axis=1)


def _standard(raw: Floats, centre: Floats, scale: Floats) -> Floats:
    """Inputs in units of their training s.d.; a missing one counts as its mean."""
    return np.nan_to_num((raw - centre) / scale, nan=0.0)

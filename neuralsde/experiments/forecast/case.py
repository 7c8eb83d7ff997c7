"""One table made ready for forecasts: what was known at each origin, and what came.

The last 20 % of each series' time is the test part. Origins are spread evenly over it, the same for every method; a
window never leaves the test part. Everything before it, validation rows included, is there for a method to learn from.
A missing target is not scored. Scores are given in units of a column's root mean square one-step change before the
test, the scale of the M5 competition's RMSSE (Makridakis et al. 2022): free of units and of where zero lies.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from neuralsde.data import TEST, TRAIN, Encoder, LastPart, Rows, Split, Trajectories
from neuralsde.errors import InputError
from neuralsde.evaluate.bootstrap import length_blocks
from neuralsde.experiments.forecast.data import Spec

FEWEST = 50
"""Windows that a table must give."""
EARLIER, _IN_ALL, _DAY = (130, 400), 1_600, 24
"""Origins from which earlier forecasts are looked at: least and most of a series, of all of them; rows in a day."""


@dataclass(frozen=True)
class Grid:
    """A series on the full grid of its typical gap: `values (T, d)`, NaN where nothing is known; `times (T,)` of the
    clock; `place (n,)` of the n rows on the grid; the first `test` of the test part.
    """

    times: np.ndarray
    values: np.ndarray
    place: np.ndarray
    test: int

    @cached_property
    def filled(self) -> np.ndarray:
        """Each missing value replaced by the last one known before it; a column's first by its mean before the test."""
        known = ~np.isnan(self.values)
        last = np.maximum.accumulate(np.where(known, np.arange(len(known))[:, None], -1), axis=0)
        carried = np.take_along_axis(self.values, np.maximum(last, 0), axis=0)
        count = known[: self.test].sum(0)
        mean = np.where(known, self.values, 0.0)[: self.test].sum(0) / np.maximum(count, 1)
        return np.where(last >= 0, carried, mean)


@dataclass(frozen=True)
class Case:
    """A table with its origins.

    series, row (n,): where each forecast starts.  truth (n, q, d): NaN where missing.
    scale (d,): root mean square one-step change.  blocks (n,): labels for the bootstrap.
    """

    spec: Spec
    data: Trajectories
    split: Split
    grids: tuple[Grid, ...]
    series: np.ndarray
    row: np.ndarray
    truth: np.ndarray
    scale: np.ndarray
    blocks: np.ndarray

    @classmethod
    def of(cls, spec: Spec, data: Trajectories) -> Case:
        split = Split.of(data, LastPart(0.2))
        gap = data.typical_gap()
        grids = tuple(
            _grid(s.times, s.values, gap, int(np.flatnonzero(role == TEST)[0]))
            for s, role in zip(data, split.roles, strict=True)
        )
        found = cls._starting(spec, data, split, grids, [_origins(grid, spec) for grid in grids])
        if len(found.row) < FEWEST:
            raise InputError(f"{len(found.row)} windows of {spec.title}", "", f"at least {FEWEST}", "a longer table")
        return found

    @classmethod
    def _starting(
        cls, spec: Spec, data: Trajectories, split: Split, grids: tuple[Grid, ...], starts: list[np.ndarray]
    ) -> Case:
        """With these rows of each series as origins."""
        series = np.repeat(np.arange(len(grids)), [len(rows) for rows in starts])
        row = np.concatenate(starts)
        at = np.array([grids[s].place[r] for s, r in zip(series, row, strict=True)])
        ahead = at[:, None] + np.array(spec.horizons)
        truth = np.stack([grids[s].values[places] for s, places in zip(series, ahead, strict=True)])
        times = np.array([grids[s].times[a] for s, a in zip(series, at, strict=True)])
        blocks = length_blocks(times, spec.block * data.typical_gap())
        return cls(spec, data, split, grids, series, row, truth, _scale(grids), blocks)

    def earlier(self) -> Case:
        """The same table with origins all through its validation and test parts, whose hours of the day differ."""
        starts = []
        per_series = int(np.clip(_IN_ALL // len(self.grids), *EARLIER))
        for grid, role in zip(self.grids, self.split.roles, strict=True):
            possible = np.flatnonzero((role != TRAIN) & (grid.place + max(self.spec.horizons) < len(grid.values)))
            stride = max(1, len(possible) // per_series)
            while np.gcd(stride, _DAY) > 1:
                stride += 1
            starts.append(possible[::stride])
        return self._starting(self.spec, self.data, self.split, self.grids, starts)

    @property
    def gap(self) -> float:
        """One step, in clock units."""
        return self.data.typical_gap()

    @property
    def when(self) -> np.ndarray:
        """Clock time (n,) of each origin."""
        return np.array([self.grids[s].times[a] for s, a in zip(self.series, self.at, strict=True)])

    @property
    def at(self) -> np.ndarray:
        """Place (n,) of each origin on the grid of its series."""
        return np.array([self.grids[s].place[r] for s, r in zip(self.series, self.row, strict=True)])

    def unrest(self) -> np.ndarray:
        """Root mean square one-step change in the test part over that before it (d,): 1 where nothing has changed."""
        late = np.concatenate([np.diff(grid.values[grid.test :], axis=0) for grid in self.grids])
        return np.sqrt(np.nanmean(late**2, axis=0)) / self.scale

    def fingerprint(self) -> str:
        """SHA-256 of origins, targets and scale: says whether two results are of the same windows."""
        digest = hashlib.sha256()
        for array in (self.series, self.row, self.truth, self.scale):
            digest.update(np.ascontiguousarray(array, np.float64).tobytes())
        return digest.hexdigest()

    @cached_property
    def encoder(self) -> Encoder:
        """Scales of the training rows."""
        return Encoder.fit(self.split.train_data)

    @cached_property
    def rows(self) -> Rows:
        """The whole table in model units."""
        return self.encoder.encode(self.data)

    @property
    def resolution(self) -> np.ndarray:
        """Rounding steps (d,), 0 where a column is not rounded."""
        return np.array(self.encoder.resolution)


def rehearsal(data: Trajectories, share: float = 0.2) -> Trajectories:
    """The table without its test part: a case of it is where settings are chosen."""
    held = LastPart(share).held_out(data)
    return replace(data, series=tuple(s.rows(~late) for s, late in zip(data, held, strict=True)))


def _grid(times: np.ndarray, values: np.ndarray, gap: float, test_row: int) -> Grid:
    place = np.round((times - times[0]) / gap).astype(np.int64)
    if np.any(np.diff(place) < 1) or np.abs(times - times[0] - place * gap).max() > 0.1 * gap:
        raise InputError("a table with irregular times", "the baselines need rows on a grid", "rows at equal gaps")
    full = np.full((place[-1] + 1, values.shape[1]), np.nan)
    full[place] = values
    return Grid(times[0] + gap * np.arange(len(full)), full, place, int(place[test_row]))


def _origins(grid: Grid, spec: Spec) -> np.ndarray:
    """Rows (n,), evenly spread over those test rows whose longest window ends inside the table."""
    possible = np.flatnonzero((grid.place >= grid.test) & (grid.place + max(spec.horizons) < len(grid.values)))
    if not len(possible):
        raise InputError(f"a test part of {len(grid.values) - grid.test} steps", "", f"over {max(spec.horizons)} steps")
    chosen = np.linspace(0, len(possible) - 1, min(spec.origins, len(possible)))
    return possible[np.round(chosen).astype(np.int64)]


def _scale(grids: tuple[Grid, ...]) -> np.ndarray:
    change = np.concatenate([np.diff(grid.values[: grid.test], axis=0) for grid in grids])
    return np.sqrt(np.nanmean(change**2, axis=0))

"""What lies between the observations: weighted paths conditioned on both sides, summed up in data units.

Every missing entry of every row, and every asked time, is a point of a path of the model that passes through all that
was observed before and after it (`tasks.between`, `models.conditional`; THEORY 22). Each path is decoded before it is
summed up, so that means and intervals are those of the data's own units and stay within a column's support.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from neuralsde.data import Clock, Rows, Series, Trajectories
from neuralsde.errors import InputError
from neuralsde.evaluate import weighted
from neuralsde.tasks.between import Drawn, fill
from neuralsde.tasks.fitted import Fitted
from neuralsde.tasks.forecast import Summary, checked_levels, long_table, require_paths


def impute(
    fitted: Fitted,
    data: Trajectories,
    *,
    times: Sequence[Any] | None = None,
    levels: Sequence[float] = (80, 95),
    n: int = 200,
    seed: int = 0,
) -> pl.DataFrame:
    """A table with the columns id, time, variable, observed, mean, sd, lo-L, hi-L, ess, in data units.

    times: further times, written as in the table. Each series gets those that lie between its first and its last row.

    It holds every row and every asked time of every series. An observed entry stands as it is, with a spread of zero.
    A missing one has the weighted mean, s.d. and quantiles of n paths through everything observed around it, and in
    `ess` the number of distinct, equally weighted paths that these are worth: about n at best; below some 30 the answer
    is rough (a surprise nearby, or a long stretch of holes), and a larger n helps.

    Between two rows paths take the steps under which the model was fitted, as a forecast does; an asked time inside a
    step divides it. Missing entries before the first observation of a column start from its climatology.

    Raises InputError for a time outside every series (after the end, that is a forecast), levels outside (0, 100) and
    fewer than two paths; RunFailed for paths that are not finite.
    """
    percents = checked_levels(levels)
    require_paths(n)
    rows = fitted.encoder.encode(data)
    asked = asked_times(fitted, data, rows, times)
    filled = _Filled.empty(data, asked, percents)
    for drawn in fill(fitted, data, rows, [each.model for each in asked], n=n, seed=seed):
        filled.put(drawn)
    return pl.concat([filled.table(fitted, data.clock, rows, s, i, asked) for i, s in enumerate(data)])


@dataclass(frozen=True)
class Asked:
    """Asked times of one series: `clock (a,)` as they were given, `model (a,)` since its first row."""

    clock: np.ndarray
    model: np.ndarray


def asked_times(fitted: Fitted, data: Trajectories, rows: Rows, times: Sequence[Any] | None) -> tuple[Asked, ...]:
    """The asked times that lie strictly between the first and the last row of each series and are not rows."""
    wanted = np.unique(data.clock.parse(times)) if times is not None and len(times) else np.zeros(0)
    outside = np.ones(len(wanted), bool)
    found = []
    for i, s in enumerate(data):
        outside &= (wanted < s.times[0]) | (wanted > s.times[-1])
        here = rows.time[rows.of(i)]
        model, first = np.unique(fitted.encoder.model_time(wanted, s.times[0]), return_index=True)
        inside = (model > here[0]) & (model < here[-1]) & ~np.isin(model, here)
        found.append(Asked(wanted[first[inside]], model[inside]))
    if outside.any():
        raise _outside(data, float(wanted[outside][0]))
    return tuple(found)


def _outside(data: Trajectories, time: float) -> InputError:
    clock = data.clock
    first, last = min(s.times[0] for s in data), max(s.times[-1] for s in data)
    whose = f"series '{data.series[0].id}' runs" if len(data) == 1 else "the series run"
    return InputError(
        f"the time {clock.show(time)}",
        f"no observations lie around it: {whose} from {clock.show(first)} to {clock.show(last)}",
        "times between the rows of a series",
        "forecast for times after the end" if time > last else "times after the first row",
    )


@dataclass(frozen=True)
class _Filled:
    """Summaries by slot: mean, sd, ess (slots, d), low and high ends by level; NaN where nothing is to be filled in."""

    mean: np.ndarray
    sd: np.ndarray
    ess: np.ndarray
    bands: dict[float, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def empty(cls, data: Trajectories, asked: Sequence[Asked], levels: Sequence[float]) -> _Filled:
        shape = (data.n_rows + sum(len(each.clock) for each in asked), len(data.columns))
        mean, sd, ess = (np.full(shape, np.nan) for _ in range(3))
        return cls(mean, sd, ess, {level: (np.full(shape, np.nan), np.full(shape, np.nan)) for level in levels})

    def put(self, drawn: Drawn) -> None:
        support = np.repeat(drawn.support[:, None], self.mean.shape[1], axis=1)
        self.mean[drawn.slot], self.sd[drawn.slot] = weighted.mean_and_sd(drawn.samples, drawn.weights, support)
        self.ess[drawn.slot] = support
        tails = [p for level in self.bands for p in (0.5 - level / 200, 0.5 + level / 200)]
        ends = weighted.quantiles(drawn.samples, drawn.weights, support, tails)
        for i, (low, high) in enumerate(self.bands.values()):
            low[drawn.slot], high[drawn.slot] = ends[2 * i], ends[2 * i + 1]

    def table(
        self, fitted: Fitted, clock: Clock, rows: Rows, series: Series, number: int, asked: Sequence[Asked]
    ) -> pl.DataFrame:
        """The rows of one series in order of time; observed entries as they were given."""
        here = asked[number]
        first = len(rows) + sum(len(each.clock) for each in asked[:number])
        slot = np.concatenate([np.arange(len(rows))[rows.of(number)], first + np.arange(len(here.clock))])
        given = np.concatenate([series.values, np.full((len(here.clock), len(fitted.encoder.columns)), np.nan)])
        times = np.concatenate([series.times, here.clock])
        order = np.argsort(times, kind="stable")
        slot, given = slot[order], given[order]
        observed = ~np.isnan(given)

        def settled(block: np.ndarray) -> np.ndarray:
            return np.where(observed, given, block[slot])

        bands = {level: (settled(low), settled(high)) for level, (low, high) in self.bands.items()}
        summary = Summary(settled(self.mean), np.where(observed, 0.0, self.sd[slot]), bands)
        extra = {"observed": observed, "ess": self.ess[slot]}
        labels = fitted.encoder.labels_at(times[order], series)
        table = long_table(fitted, clock, series.id, times[order], summary, labels, **extra)
        ess = pl.when("observed").then(None).otherwise("ess").alias("ess")
        return table.select(pl.exclude("ess"), ess)

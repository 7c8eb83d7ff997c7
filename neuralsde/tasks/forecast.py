"""The law of what follows each series: paths from its last row, summed up as mean, spread and central intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from neuralsde.data import Clock, Series, Trajectories
from neuralsde.data.labels import number_of
from neuralsde.errors import InputError
from neuralsde.evaluate.scores import quantiles
from neuralsde.tasks.ahead import paths_ahead
from neuralsde.tasks.fitted import Fitted
from neuralsde.tasks.widths import between, recent, widened

DEFAULT_HORIZON = 24


def forecast(
    fitted: Fitted,
    data: Trajectories,
    *,
    horizon: int | str | None = None,
    times: Sequence[Any] | None = None,
    levels: Sequence[float] = (80, 95),
    n: int = 200,
    seed: int = 0,
    future: Trajectories | None = None,
    substeps: int | None = None,
    unseen: np.ndarray | None = None,
) -> pl.DataFrame:
    """A table with the columns id, time, variable, mean, sd, lo-L, hi-L, in data units.

    horizon: steps of the typical gap, or a length of time ("36h"); 24 steps by default. Or
    times:   explicit times after the end of every series, written as in the table.
    future:  known covariates after the end, from `data.future`; without it the last known ones go on.
    unseen:  the rows (R,) of all series that the model was not fitted on: paths are made as wide as forecasts from
             these should have been (`tasks.widths`). Without it they are as fitted.

    Discrete columns have rows too: in `label` what they hold, the last label unless `future` gives one, and that as a
    number, with a spread of zero, where it is one.

    Raises InputError for a horizon below one step, times that are not after the end, levels outside (0, 100).
    """
    percents = checked_levels(levels)
    require_paths(n)
    targets = [target_times(fitted, s, data.clock, horizon, times) for s in data]
    rows = fitted.encoder.encode(data)
    last = rows.start[1:] - 1
    ends = [fitted.encoder.model_time(ts, s.times[0]) for ts, s in zip(targets, data, strict=True)]
    span = np.stack([end - rows.time[row] for end, row in zip(ends, last, strict=True)])
    _require_labels(fitted, future)
    known = [[*_later(future, s.id), s] for s in data]
    ahead = paths_ahead(fitted, rows, last, span, known, n=n, seed=seed, substeps=substeps, told=True)
    states = np.moveaxis(ahead.states, 1, 0)
    if unseen is not None:
        leads, factors = recent(fitted, data, unseen, float(span.max()), seed=seed)
        states = widened(states, between(leads, factors, span))
    samples = np.moveaxis(fitted.encoder.decode(states), 0, 1)
    summaries = [Summary.of(samples[i], percents) for i in range(len(data))]
    labels = [fitted.encoder.labels_at(ts, *given) for ts, given in zip(targets, known, strict=True)]
    parts = [
        long_table(fitted, data.clock, s.id, ts, one, label)
        for s, ts, one, label in zip(data, targets, summaries, labels, strict=True)
    ]
    return pl.concat(parts)


@dataclass(frozen=True)
class Summary:
    """Mean, s.d. and central intervals by level, each (k, d), of weighted or equal paths (n, k, d)."""

    mean: np.ndarray
    sd: np.ndarray
    bands: dict[float, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, samples: np.ndarray, levels: Sequence[float]) -> Summary:
        tails = [p for level in levels for p in (0.5 - level / 200, 0.5 + level / 200)]
        ends = quantiles(samples, tails)
        bands = {level: (ends[2 * i], ends[2 * i + 1]) for i, level in enumerate(levels)}
        return cls(samples.mean(0), samples.std(0, ddof=1), bands)


def long_table(
    fitted: Fitted,
    clock: Clock,
    id: str,
    times: np.ndarray,
    summary: Summary,
    labels: Mapping[str, Sequence[str | None]],
    **extra: np.ndarray,
) -> pl.DataFrame:
    """One row for each time and variable; what never changes, and labels, stand there with a spread of zero.

    labels: (k,) of each discrete column; a column `label` shows them.
    """
    encoder, k = fitted.encoder, len(times)
    names = (*encoder.columns, *encoder.constants, *labels)
    numbers = [np.full(k, value) for value in encoder.constants.values()]
    numbers += [np.array([number_of(label or "") for label in column]) for column in labels.values()]
    fixed = np.stack(numbers, axis=1) if numbers else np.zeros((k, 0))

    def widen(block: np.ndarray, constant: np.ndarray) -> np.ndarray:
        return np.concatenate([block, constant], axis=1).ravel()

    zero = np.where(np.isnan(fixed), np.nan, 0.0)
    table: dict[str, Any] = {
        "id": [id] * (k * len(names)),
        "time": np.repeat(np.array(clock.format(times)), len(names)),
        "variable": list(names) * k,
    }
    for name, block in extra.items():
        table[name] = widen(block, zero if block.dtype != bool else np.ones(fixed.shape, bool))
    table |= {"mean": widen(summary.mean, fixed), "sd": widen(summary.sd, zero)}
    for level, (low, high) in summary.bands.items():
        table |= {f"lo-{level:g}": widen(low, fixed), f"hi-{level:g}": widen(high, fixed)}
    if not labels:
        return pl.DataFrame(table)
    blank = [None] * (len(encoder.columns) + len(encoder.constants))
    named = [cell for row in zip(*labels.values(), strict=True) for cell in (*blank, *row)]
    return pl.DataFrame(table).with_columns(pl.col(pl.Float64).fill_nan(None), label=pl.Series(named, dtype=pl.String))


def target_times(
    fitted: Fitted, series: Series, clock: Clock, horizon: int | str | None, times: Sequence[Any] | None
) -> np.ndarray:
    """Clock times (q,) after the end of a series."""
    end, tau = series.times[-1], fitted.encoder.tau
    if times is None:
        return end + tau * np.arange(1, steps_of(fitted, clock, horizon) + 1)
    if horizon is not None:
        raise InputError("both a horizon and times", "", "one of the two")
    wanted = np.unique(clock.parse(times))
    if len(wanted) == 0 or not wanted[0] > end:
        first = clock.show(wanted[0]) if len(wanted) else "none"
        meaning = f"series '{series.id}' ends at {clock.show(end)}: a forecast is of what comes after it"
        raise InputError(f"the time {first}", meaning, "later times", "impute for times between observations")
    return wanted


def steps_of(fitted: Fitted, clock: Clock, horizon: int | str | None) -> int:
    """A horizon as a whole number of typical gaps."""
    if horizon is None:
        return DEFAULT_HORIZON
    steps = round(clock.duration(horizon) / fitted.encoder.tau) if isinstance(horizon, str) else horizon
    if isinstance(steps, bool) or int(steps) != steps or steps < 1:
        gap = clock.show_duration(fitted.encoder.tau)
        raise InputError(f"a horizon of {horizon}", f"one step is {gap}", "a whole number of steps, at least 1", "24")
    return int(steps)


def checked_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Levels in percent, strictly between 0 and 100, each once."""
    for level in levels:
        if not 0 < level < 100:
            raise InputError(f"the level {level:g}", "", "percent, between 0 and 100", "80 95")
    return tuple(dict.fromkeys(float(level) for level in levels))


def require_paths(n: int) -> None:
    if isinstance(n, bool) or n < 2:
        raise InputError(f"n={n}", "a law cannot be told from so few paths", "at least 2 paths", "n=200")


def _require_labels(fitted: Fitted, future: Trajectories | None) -> None:
    layout = fitted.encoder.layout
    if future is not None and (future.covariates, future.levels) != (layout.covariates, layout.levels):
        raise InputError(
            "a future with other covariates or labels than the run",
            "",
            "what neuralsde.data.future(table, layout) reads",
        )


def _later(future: Trajectories | None, id: str) -> list[Series]:
    return [] if future is None else [s for s in future if s.id == id]

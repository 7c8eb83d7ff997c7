"""What may be wrong with a table, and what is done about it.

Refused (`InputError`): duplicated times within a series; a column that is all missing or only constants; no series
with two rows and a value. Repaired, with a note: unsorted times (sorted); values outside a plausible range or the
declared support (missing); missing covariates (carried forward); series of one row (left out); constant columns (kept
out of the model). Kept, with a note: values more than 25 robust s.d. from the median. Rows without any value stay:
their times and covariates are known. A table for a run that is fitted already keeps its columns and short series.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from neuralsde.data.layout import Layout
from neuralsde.data.long import Long
from neuralsde.data.trajectories import Series, Trajectories
from neuralsde.errors import InputError

OUTLIER = 25.0
"""Robust standard deviations from the median beyond which a value is pointed out."""


def clean(long: Long, layout: Layout, notes: Iterable[str] = (), *, fitted: bool = False) -> Trajectories:
    """Sorted, checked and repaired series of a table; `fitted` for the data of a run that exists already."""
    notes = list(notes)
    long = _sorted(long, notes)
    _refuse_duplicates(long, layout)
    long = _within(long, layout, layout.plausible, "outside the plausible range", notes)
    long = _within(long, layout, layout.support, "outside the range that was declared", notes)
    if not fitted:
        _point_out_outliers(long, layout, notes)
        _refuse_all_missing(long, layout)
    long = _fill_context(long, layout, notes)
    series = _split(long)
    constants = layout.constants
    if not fitted:
        series = _usable(series, notes)
        constants = _constants(series, layout, notes)
    keep = [layout.modelled.index(name) for name in layout.modelled if name not in constants]
    ranges = [{n: r for n, r in each.items() if n not in constants} for each in (layout.support, layout.plausible)]
    return Trajectories(
        tuple(replace(s, values=s.values[:, keep]) for s in series),
        columns=tuple(name for name in layout.modelled if name not in constants),
        context_columns=layout.context,
        calendar=layout.calendar,
        clock=long.clock,
        id_name=layout.id,
        time_name=layout.time,
        constants=dict(constants),
        support=ranges[0],
        plausible=ranges[1],
        notes=tuple(notes),
    )


# -- order and time --------------------------------------------------------------------------------------------------


def _sorted(long: Long, notes: list[str]) -> Long:
    order = np.lexsort((long.times, long.series))
    in_file_order = np.argsort(long.series, kind="stable")
    moved = np.unique(long.series[order[order != in_file_order]])
    if len(moved):
        notes.append(f"times out of order in {len(moved)} series, sorted: {_some([long.names[k] for k in moved])}")
    picked = {name: getattr(long, name)[order] for name in ("series", "times", "values", "context", "row")}
    return replace(long, **picked)


def _refuse_duplicates(long: Long, layout: Layout) -> None:
    same = (np.diff(long.times) == 0) & (np.diff(long.series) == 0)
    if not same.any():
        return
    first = int(np.argmax(same))
    time = long.clock.show(float(long.times[first]))
    where = "" if layout.id is None else f" in the series {long.names[long.series[first]]!r}"
    raise InputError(
        f"the time {time} twice{where} (rows {long.row[first]} and {long.row[first + 1]})",
        "" if same.sum() == 1 else f"the table has {same.sum()} such rows",
        "one row for each time of a series",
        "" if layout.id else "an id column, if the table holds several series",
    )


# -- values ----------------------------------------------------------------------------------------------------------


def _within(long: Long, layout: Layout, ranges: dict[str, tuple[float, float]], why: str, notes: list[str]) -> Long:
    values = long.values.copy()
    for name, (lo, hi) in ranges.items():
        if name not in layout.modelled:
            continue
        column = values[:, layout.modelled.index(name)]
        bad = np.flatnonzero((column < lo) | (column > hi))
        if len(bad):
            listed = _some([f"{column[i]:.6g} ({long.where(i)})" for i in bad.tolist()])
            values_lie = "value lies" if len(bad) == 1 else "values lie"
            notes.append(f"{name}: {len(bad)} {values_lie} {why} {_range_text(lo, hi)}, taken as missing: {listed}")
            column[bad] = np.nan
    return replace(long, values=values)


def _point_out_outliers(long: Long, layout: Layout, notes: list[str]) -> None:
    for name, column in zip(layout.modelled, long.values.T, strict=True):
        present = column[~np.isnan(column)]
        if not len(present):
            continue
        median = np.median(present)
        spread = 1.4826 * np.median(np.abs(present - median))
        if spread == 0:
            continue  # more than half of the values are equal: no scale to judge by
        far = np.flatnonzero(np.abs(column - median) > OUTLIER * spread)
        if len(far):
            worst = int(far[np.argmax(np.abs(column[far] - median))])
            what = "value lies" if len(far) == 1 else "values lie"
            notes.append(
                f"{name}: {len(far)} {what} more than {OUTLIER:g} robust s.d. from the median {median:.6g}, the "
                f"farthest {column[worst]:.6g} ({long.where(worst)}): kept; if impossible, --plausible {name} LO HI"
            )


def _refuse_all_missing(long: Long, layout: Layout) -> None:
    for name, column in zip(layout.modelled, long.values.T, strict=True):
        if np.isnan(column).all():
            raise InputError(
                f"the column {name!r}", "all of its values are missing", "numbers", "leaving it out of the values"
            )


def _fill_context(long: Long, layout: Layout, notes: list[str]) -> Long:
    """Missing covariates: the last one known of the series; before the first, the first; without any, the mean."""
    if not np.isnan(long.context).any():
        return long
    context = long.context.copy()
    for name, column in zip(layout.context, context.T, strict=True):
        missing = np.isnan(column)
        if missing.all():
            raise InputError(f"the covariate {name!r}", "all of its values are missing", "numbers", "leaving it out")
        if missing.any():
            mean = column[~missing].mean()
            for rows in _slices(long):
                column[rows] = _carried(column[rows], mean)
            notes.append(f"{name}: {int(missing.sum())} missing covariates, the last known one carried forward")
    return replace(long, context=context)


def _carried(column: np.ndarray, otherwise: float) -> np.ndarray:
    known = np.flatnonzero(~np.isnan(column))
    if not len(known):
        return np.full_like(column, otherwise)
    last = np.searchsorted(known, np.arange(len(column)), side="right") - 1
    return column[known[np.maximum(last, 0)]]


# -- series and columns ----------------------------------------------------------------------------------------------


def _slices(long: Long) -> list[slice]:
    ends = np.flatnonzero(np.diff(long.series, append=-1)) + 1
    return [slice(start, stop) for start, stop in zip([0, *ends[:-1]], ends, strict=True)]


def _split(long: Long) -> list[Series]:
    return [
        Series(long.names[long.series[rows.start]], long.times[rows], long.values[rows], long.context[rows])
        for rows in _slices(long)
    ]


def _usable(series: list[Series], notes: list[str]) -> list[Series]:
    short = [s.id for s in series if len(s) < 2]
    empty = [s.id for s in series if len(s) >= 2 and np.isnan(s.values).all()]
    for left_out, what in ((short, "one row"), (empty, "no value")):
        if left_out:
            notes.append(f"{len(left_out)} series with {what}, left out: {_some(left_out)}")
    left = [s for s in series if s.id not in {*short, *empty}]
    if not left:
        raise InputError(
            f"{len(series)} series", "none has two rows and a value", "at least one series of two rows",
            "another id column: this one may give every row a name of its own",
        )  # fmt: skip
    return left


def _constants(series: list[Series], layout: Layout, notes: list[str]) -> dict[str, float]:
    values = np.concatenate([s.values for s in series])
    constants = {}
    for name, column in zip(layout.modelled, values.T, strict=True):
        present = column[~np.isnan(column)]
        if len(present) == 0:
            raise InputError(f"the column {name!r}", "no series of two rows has a value of it", "numbers")
        if np.all(present == present[0]):
            constants[name] = float(present[0])
            notes.append(f"{name}: always {present[0]:.6g}, carried through and kept out of the model")
    if len(constants) == len(layout.modelled):
        raise InputError(f"the columns {', '.join(constants)}", "none of them ever changes", "a column that varies")
    return constants


def _some(items: list[str], shown: int = 3) -> str:
    rest = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + rest


def _range_text(lo: float, hi: float) -> str:
    return f"{lo:g} to {hi:g}" if np.isfinite(hi) else f"{lo:g} and above"

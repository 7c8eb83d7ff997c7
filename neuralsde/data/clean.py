"""What may be wrong with a table, and what is done about it.

Refused (`InputError`): duplicated times within a series; a column that is all missing or only constants; a static
column that changes in a series; no series with two rows and a value. Repaired, with a note: unsorted times (sorted);
values outside a plausible range or the declared support (missing); missing covariates and labels (carried forward);
series of one row (left out); constant columns (kept out of the model). Kept, with a note: values more than 25 robust
s.d. from the median. Rows without any value stay: their times and covariates are known. A table for a run that is
fitted already keeps its columns and short series.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from neuralsde.data.labels import labels_at, missing_code
from neuralsde.data.layout import Layout
from neuralsde.data.long import Long
from neuralsde.data.trajectories import Series, Trajectories
from neuralsde.errors import InputError

OUTLIER = 25.0
"""Robust standard deviations from the median beyond which a value is pointed out."""


def clean(
    long: Long, layout: Layout, notes: Iterable[str] = (), *, fitted: bool = False, ahead: bool = False
) -> Trajectories:
    """Sorted, checked and repaired series of a table; `fitted` for the data of a run that exists already.

    ahead: a table of the future, in which static and discrete covariates that it does not give stay NaN: what was
           known before goes on.
    """
    notes = [*notes, *long.notes]
    long = _sorted(long, notes)
    _refuse_duplicates(long, layout)
    long = _within(long, layout, layout.plausible, "outside the plausible range", notes)
    long = _within(long, layout, layout.support, "outside the range that was declared", notes)
    if not fitted:
        _point_out_outliers(long, layout, notes)
        _refuse_all_missing(long, layout)
    long = _fill_context(long, layout, notes)
    long = _fill_static(long, layout, notes, told=not fitted, ahead=ahead)
    long = _fill_discrete(long, layout, notes, ahead=ahead)
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
        static=layout.static,
        discrete=layout.discrete,
        levels=dict(layout.levels),
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
    context = long.context.copy()
    for name, column in zip(layout.context, context.T, strict=False):
        missing = np.isnan(column)
        if missing.all():
            raise InputError(f"the covariate {name!r}", "all of its values are missing", "numbers", "leaving it out")
        if missing.any():
            mean = column[~missing].mean()
            for rows in _slices(long):
                column[rows] = _carried(column[rows], mean)
            notes.append(f"{name}: {int(missing.sum())} missing covariates, the last known one carried forward")
    return replace(long, context=context)


def _carried(column: np.ndarray, otherwise: float, before: float | None = None) -> np.ndarray:
    """The last known entry; `before` the first one that, or `before` when it is given; `otherwise` without any."""
    known = np.flatnonzero(~np.isnan(column))
    if not len(known):
        return np.full_like(column, otherwise)
    last = np.searchsorted(known, np.arange(len(column)), side="right") - 1
    return np.where((last < 0) & (before is not None), before or 0.0, column[known[np.maximum(last, 0)]])


def _fill_static(long: Long, layout: Layout, notes: list[str], *, told: bool, ahead: bool) -> Long:
    """The one entry of each series in all its rows; without one the missing label, or the mean of the series."""
    context = long.context.copy()
    for name in layout.static:
        column, levels = context[:, layout.covariates.index(name)], layout.levels.get(name)
        empty = []
        for rows in _slices(long):
            seen = np.unique(column[rows][~np.isnan(column[rows])])
            if len(seen) > 1:
                raise _changes(long, layout, name, rows)
            if not len(seen):
                empty.append(rows)
            column[rows] = seen[0] if len(seen) else np.nan
        series = column[[rows.start for rows in _slices(long)]]
        if ahead or not len(series):
            continue
        if np.isnan(series).all():
            raise InputError(f"the static column {name!r}", "all of its cells are missing", hint="leaving it out")
        otherwise = float(np.nanmean(series)) if levels is None else missing_code(levels)
        for rows in empty:
            column[rows] = otherwise
        if empty:
            what = "the mean of the others" if levels is None else "no label"
            ids = _some([long.names[long.series[rows.start]] for rows in empty])
            notes.append(f"{name}: missing in {len(empty)} series, taken as {what}: {ids}")
        if told and len(np.unique(series)) == 1 and not empty:
            notes.append(f"{name}: the same in every series, so nothing can be learned from it")
    return replace(long, context=context)


def _changes(long: Long, layout: Layout, name: str, rows: slice) -> InputError:
    """A static column that has two entries in one series."""
    column = long.context[rows, layout.covariates.index(name)]
    known = np.flatnonzero(~np.isnan(column))
    other = int(known[np.argmax(column[known] != column[known[0]])])
    levels = layout.levels.get(name)
    shown = labels_at(column, levels) if levels is not None else [f"{value:g}" for value in column]
    places = [f"{shown[k]} ({long.where(rows.start + k)})" for k in (int(known[0]), other)]
    return InputError(
        f"the static column {name!r}",
        f"it changes within a series: {places[0]}, {places[1]}",
        "one entry for each series",
        f"--discrete {name} for labels that change, --context {name} for numbers that are known ahead",
    )


def _fill_discrete(long: Long, layout: Layout, notes: list[str], *, ahead: bool) -> Long:
    """The last label carried forward; before the first one the missing label."""
    context = long.context.copy()
    for name in layout.discrete:
        column = context[:, layout.covariates.index(name)]
        nothing = np.nan if ahead else missing_code(layout.levels[name])
        missing = int(np.isnan(column).sum())
        for rows in _slices(long) if missing else ():
            column[rows] = _carried(column[rows], nothing, nothing)
        if missing and not ahead:
            notes.append(f"{name}: {missing} missing labels, the last one carried forward")
    return replace(long, context=context)


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

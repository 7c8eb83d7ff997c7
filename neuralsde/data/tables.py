"""From a table to trajectories: choose the columns, read the cells, sort into series, clean.

`read` opens a file, `from_frame` takes a data frame of any library (narwhals), `from_arrays` takes arrays; the three
share every rule and every message. What was chosen or changed on the way is written in `Trajectories.notes`. With
`layout=`, the layout of a run, the table must have the columns on which the run was fitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import narwhals as nw

from neuralsde.data.arrays import Table, arrays_to_table
from neuralsde.data.choose import choose, require
from neuralsde.data.clean import clean
from neuralsde.data.files import open_table
from neuralsde.data.layout import Layout, declared_ranges, declared_support
from neuralsde.data.long import read_long
from neuralsde.data.trajectories import Trajectories
from neuralsde.errors import InputError

Names = str | Iterable[str]
Ranges = Mapping[str, Sequence[float | int]]


def read(
    path: str | Path,
    *,
    id: str | None = None,
    time: str | None = None,
    values: Names | None = None,
    context: Names = (),
    positive: Names = (),
    bounded: Ranges | None = None,
    plausible: Ranges | None = None,
    static: Names = (),
    discrete: Names = (),
    layout: Layout | None = None,
) -> Trajectories:
    """Sequences from a .csv, .csv.gz, .tsv, .parquet or .npz file.

    id:        column that tells the series apart; without it the table is one series.
    time:      column of times, numbers or time stamps; guessed when it has a usual name or is the only one of stamps.
    values:    columns to model; by default all columns of numbers that have no other use.
    context:   covariates known ahead: columns, or calendar features of a time stamp ("hour-of-day", "day-of-week",
               "day-of-year", "month-of-year").
    positive:  columns that are never negative;  bounded: {column: (lo, hi)}.  No sample breaks either.
    plausible: {column: (lo, hi)}; entries outside are taken as missing.
    static:    covariates that never change within a series, numbers or text: known ahead by nature.
    discrete:  columns of a few labels (0/1, codes, words) that change and are not known ahead: an input of the model
               that is never simulated; it keeps its last label unless a table of the future gives it.
    layout:    the layout of a run, instead of all the options above.

    Raises `InputError` for everything that cannot be read as meant (see `clean.py`). NPZ layout: `files.py`.
    """
    options = (id, time, values, context, positive, bounded, plausible, static, discrete)
    return replace(_assemble(open_table(path), options, layout), source=str(Path(path).resolve()))


def from_frame(
    frame: Any,
    *,
    id: str | None = None,
    time: str | None = None,
    values: Names | None = None,
    context: Names = (),
    positive: Names = (),
    bounded: Ranges | None = None,
    plausible: Ranges | None = None,
    static: Names = (),
    discrete: Names = (),
    layout: Layout | None = None,
) -> Trajectories:
    """Sequences from a data frame of pandas, polars, pyarrow, or any other that narwhals knows; options as `read`."""
    return _assemble(Table(frame), (id, time, values, context, positive, bounded, plausible, static, discrete), layout)


def from_arrays(
    times: Any,
    values: Any,
    *,
    context: Any = None,
    ids: Sequence[Any] | None = None,
    columns: Names | None = None,
    context_columns: Names | None = None,
    calendar: Names = (),
    positive: Names = (),
    bounded: Ranges | None = None,
    plausible: Ranges | None = None,
    static: Mapping[str, Any] | None = None,
    discrete: Mapping[str, Any] | None = None,
    layout: Layout | None = None,
) -> Trajectories:
    """Sequences from arrays.

    values: (n,) or (n, d) for one series; a list of such, or (S, n, d), for several. NaN where missing.
    times:  (n,), (S, n) or a list, to match; numbers, datetime64 or ISO text; None for row numbers.
    context: known covariates, shaped like `values`.  ids: one name a series.  calendar: see `context` of `read`.
    static: {column: one number or text a series}.  discrete: {column: labels, an array (n,) or one a series}.
    """
    table = arrays_to_table(
        times, values, context=context, ids=ids, columns=columns, context_columns=context_columns, static=static,
        discrete=discrete,
    )  # fmt: skip
    return _assemble(table, (None, None, None, calendar, positive, bounded, plausible, (), ()), layout)


def future(source: str | Path | Any, layout: Layout) -> Trajectories:
    """Known future covariates for a run: a table with its id, time and context columns; all values NaN.

    Discrete columns may be among them; those that are not keep their last label. Static ones need not come again.
    """
    if not layout.covariates:
        raise InputError("a table of future covariates", "the run was fitted without covariates from the table", "none")
    table = open_table(source) if isinstance(source, str | Path) else Table(source)
    frame = _eager(table.frame)
    if layout.time is None:
        raise InputError("future covariates by row number", "the run was fitted without a column of times", "times")
    require(frame, layout, values=False)
    if not any(name in frame.columns for name in layout.covariates):
        raise InputError("a future without covariates", "nothing in it is an input of the run", layout.covariates[0])
    return clean(read_long(frame, layout, table.clock, values=False), layout, fitted=True, ahead=True)


def _assemble(table: Table, options: tuple[Any, ...], layout: Layout | None) -> Trajectories:
    frame = _eager(table.frame)
    if layout is not None:
        if any(options):
            raise InputError("a layout together with other options", expected="one of the two")
        require(frame, layout)
        return clean(read_long(frame, layout, table.clock), layout, fitted=True)
    id, time, values, context, positive, bounded, plausible, static, discrete = options
    layout, notes = choose(frame, table, id, time, values, context, static, discrete)
    layout = replace(
        layout,
        support=declared_support(positive, bounded, layout.values),
        plausible=declared_ranges(plausible, layout.values, "plausible"),
    )
    return clean(read_long(frame, layout, table.clock), layout, notes)


def _eager(frame: Any) -> nw.DataFrame[Any]:
    """Any frame as one of narwhals, with text for names and a time index as a column."""
    try:
        wrapped = nw.from_native(frame)
        index = nw.maybe_get_index(wrapped)
        if index is not None and index.dtype.kind == "M":
            wrapped = nw.from_native(wrapped.to_native().reset_index())
        table = wrapped.collect() if isinstance(wrapped, nw.LazyFrame) else wrapped
        table = table.rename({name: str(name) for name in table.columns if not isinstance(name, str)})
    except TypeError:
        raise InputError(
            f"a {type(frame).__name__}",
            "it is not a data frame",
            "a frame of pandas, polars or pyarrow",
            "from_arrays(times, values) for arrays, read(path) for files",
        ) from None
    except nw.exceptions.DuplicateError:
        raise InputError("a frame with a column name twice", expected="each name once") from None
    if not len(table):
        raise InputError("a table without rows", expected="at least two rows")
    return table

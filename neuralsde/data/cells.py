"""One column of any data frame as numbers, text or times.

Text is read here and not by the file reader, so that a word among numbers is reported with its row and value. Rows
are counted from 1, the heading left out.
"""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from neuralsde.data.clock import Clock
from neuralsde.data.stamps import MISSING, is_missing
from neuralsde.errors import InputError

Column = nw.Series[Any]


def as_numbers(column: Column) -> np.ndarray:
    """Column of numbers as (n,) float64 with NaN for missing; `InputError` names the first cell that is text."""
    if not _is_text(column):
        return _numeric(column)
    numbers, bad = _parsed(column)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"the text {as_text(column)[row]!r} in row {row + 1} of the column {column.name!r}",
            "a column of values or covariates holds numbers",
            "a number with a decimal point, or an empty cell (or NA, NaN, null) where it is missing",
        )
    return numbers


def is_number_column(column: Column) -> bool:
    """Whether a column is meant to hold numbers: most of the cells that are not missing do."""
    if not _is_text(column):
        return column.dtype.is_numeric()
    numbers, bad = _parsed(column)
    return int(np.isfinite(numbers).sum()) > int(bad.sum()) or not bad.any()


def as_text(column: Column) -> list[str | None]:
    """Cells as text without blanks around them, None for missing ones."""
    return _text(column).to_list()


def as_times(column: Column) -> tuple[np.ndarray, Clock]:
    """Column of times as (n,) float64, NaN for missing, and its clock."""
    dtype = column.dtype
    if isinstance(dtype, nw.Datetime):
        return _numeric(column.dt.timestamp("us")) / 1e6, Clock("timestamp", _zone(dtype.time_zone))
    if isinstance(dtype, nw.Date):
        return _numeric(column.cast(nw.Datetime("us")).dt.timestamp("us")) / 1e6, Clock("timestamp", None, dates=True)
    if isinstance(dtype, nw.Duration):
        return _numeric(column.dt.total_microseconds()) / 1e6, Clock()
    if dtype.is_numeric():
        return _numeric(column), Clock()
    return _named(column, as_text(column) if column.dtype == nw.String else column.to_list())


def is_time_column(column: Column) -> bool:
    """Whether a column holds time stamps, judged by its type or its first cell."""
    if not _is_text(column):
        return isinstance(column.dtype, nw.Datetime | nw.Date)
    first = _text(column).drop_nulls().head(1).to_list()
    try:
        return Clock.infer(first)[1].is_calendar
    except InputError:
        return False


def _named(column: Column, cells: list[Any]) -> tuple[np.ndarray, Clock]:
    try:
        return Clock.infer(cells)
    except InputError as error:
        got = f"{error.got} of the column {column.name!r}"
        raise InputError(got, error.meaning, error.expected, error.hint) from None


def _zone(name: str | None) -> str | None:
    """The name that `Clock` has for a zone of a frame: pandas writes UTC+02:00, others +02:00."""
    if name in ("Etc/UTC", "+00:00", "UTC+00:00"):
        return "UTC"
    return name.removeprefix("UTC") or "UTC" if name else None


def _is_text(column: Column) -> bool:
    return not (column.dtype.is_numeric() or column.dtype.is_temporal() or column.dtype == nw.Boolean)


def _text(column: Column) -> pl.Series:
    cells = [c if isinstance(c, str) else None if is_missing(c) else str(c) for c in column.to_list()]
    text = pl.Series(cells, dtype=pl.String).str.strip_chars()
    return pl.select(pl.when(~text.str.to_lowercase().is_in(list(MISSING))).then(text)).to_series()


def _numeric(column: Column) -> np.ndarray:
    if column.dtype.is_temporal():
        raise InputError(f"the column {column.name!r} of {column.dtype}", "it holds times", "a column of numbers")
    return np.array(column.cast(nw.Float64).to_numpy(), np.float64)


def _parsed(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Numbers with NaN, and where a cell is neither a number nor missing."""
    text = _text(column)
    numbers = text.cast(pl.Float64, strict=False)
    return numbers.to_numpy().astype(np.float64), (numbers.is_null() & text.is_not_null()).to_numpy()

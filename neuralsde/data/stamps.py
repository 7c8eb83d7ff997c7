"""Reading a column of times without being told what it holds: numbers, ISO 8601 text, dates, numpy datetime64.

Numbers stay numbers. Stamps become float64 seconds since 1970-01-01 UTC: exact to the microsecond, because a double
holds 53 bits and the microseconds of three centuries need 53.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

import numpy as np

from neuralsde.errors import InputError

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
"""Cells, in lower case and without blanks around them, that mean "no value"."""

_SLASHED = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})(.*)")
_SECOND = timedelta(seconds=1)
_DATE_LENGTH = len("2013-01-31")


@dataclass(frozen=True)
class ReadTimes:
    """`times (n,)` float64 with NaN for missing ones; whether they are time stamps, of which zone, and days only."""

    times: np.ndarray
    stamps: bool = False
    zone: str | None = None
    dates: bool = False


def read_times(values: Any) -> ReadTimes:
    """Read a column of times; `InputError` names the row (from 1) and the cell that cannot be read."""
    array = values if isinstance(values, np.ndarray) else np.asarray(values, dtype=object)
    if array.ndim != 1:
        raise InputError(f"times of shape {array.shape}", expected="one time a row, shape (n,)")
    if array.dtype.kind == "M":
        return _numpy_stamps(array)
    if array.dtype.kind in "iuf":
        return ReadTimes(array.astype(np.float64))
    if array.dtype.kind == "m":
        return ReadTimes(array.astype("timedelta64[us]").astype(np.int64) / 1e6)
    return _read_cells(array.tolist())


def _numpy_stamps(array: np.ndarray) -> ReadTimes:
    missing = np.isnat(array)
    seconds = array.astype("datetime64[us]").astype(np.int64) / 1e6
    return ReadTimes(np.where(missing, np.nan, seconds), stamps=True, dates=np.datetime_data(array.dtype)[0] == "D")


def _read_cells(cells: list[Any]) -> ReadTimes:
    # the loops over cells call nothing of ours for text, which makes them fast enough for millions of rows
    cells = [None if (c.strip().lower() in MISSING if isinstance(c, str) else is_missing(c)) else c for c in cells]
    numbers: list[float] = []
    for row, cell in enumerate(cells, start=1):
        try:
            numbers.append(np.nan if cell is None else float(cell))
        except (TypeError, ValueError):
            if np.isfinite(numbers).any():
                got = f"the time {str(cell)!r} in row {row}"
                raise InputError(got, "the times before it are numbers", "a number") from None
            return _read_stamps(cells)
    return ReadTimes(np.asarray(numbers, np.float64))


def is_missing(cell: Any) -> bool:
    """Whether a cell means "no value": None, NaN, NaT, NA, or a text of `MISSING`."""
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING
    # NaN and NaT differ from themselves; pandas' NA refuses to say so
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or bool(cell != cell)


def _read_stamps(cells: list[Any]) -> ReadTimes:
    try:
        stamps = [None if cell is None else datetime.fromisoformat(cell) for cell in cells]
    except (TypeError, ValueError):
        stamps = [None if cell is None else _to_datetime(cell, row) for row, cell in enumerate(cells, start=1)]
    zones = {_zone_name(zone) for zone in {stamp.tzinfo for stamp in stamps if stamp is not None}}
    if None in zones and len(zones) > 1:
        raise InputError("times with and without a zone in one column", expected="all of one sort")
    epoch = datetime(1970, 1, 1, tzinfo=None if None in zones else UTC)
    seconds = [np.nan if stamp is None else (stamp - epoch) / _SECOND for stamp in stamps]
    # several offsets, as over a change to summer time, say no zone: keep the instants, show them in UTC
    zone = zones.pop() if len(zones) == 1 else "UTC"
    return ReadTimes(np.asarray(seconds, np.float64), True, zone, all(_is_date(c) for c in cells if c is not None))


def _to_datetime(cell: Any, row: int) -> datetime:
    """Any one cell; `InputError` when it is no time."""
    if isinstance(cell, datetime):
        return cell
    if isinstance(cell, date):
        return datetime(cell.year, cell.month, cell.day)
    if isinstance(cell, np.datetime64):
        return cell.astype("datetime64[us]").item()
    text = str(cell).strip()
    slashed = _SLASHED.fullmatch(text)
    if slashed:
        year, month, day, rest = slashed.groups()
        text = f"{year}-{int(month):02d}-{int(day):02d}{rest}"
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"the time {str(cell)!r} in row {row}",
            "it is neither a number nor a time stamp",
            "ISO 8601, such as 2013-01-31T06:00:00Z",
        ) from None


def _zone_name(zone: tzinfo | None) -> str | None:
    if zone is None:
        return None
    key = getattr(zone, "key", None)
    if key:
        return "UTC" if key in ("UTC", "Etc/UTC") else key
    minutes = round((zone.utcoffset(None) or timedelta(0)).total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}" if minutes else "UTC"


def _is_date(cell: Any) -> bool:
    if isinstance(cell, str):
        return len(cell.strip()) <= _DATE_LENGTH
    return isinstance(cell, date) and not isinstance(cell, datetime)

"""The table as long arrays, one row a time of a series, in the order of the file: what `clean.py` works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np

from neuralsde.data.cells import as_numbers, as_text, as_times
from neuralsde.data.clock import Clock
from neuralsde.data.labels import codes_of, labels_of
from neuralsde.data.layout import Layout
from neuralsde.errors import InputError


@dataclass(frozen=True)
class Long:
    """Rows of all series. `names` of the series in the order of their first row, `series (n,)` an index into them,
    `times (n,)`, `values (n, d)` and `context (n, c)` float64 with NaN for missing, `row (n,)` counted from 1; `notes`
    says which labels were not understood.
    """

    names: tuple[str, ...]
    series: np.ndarray
    times: np.ndarray
    values: np.ndarray
    context: np.ndarray
    row: np.ndarray
    clock: Clock
    notes: tuple[str, ...] = ()

    def where(self, row: int) -> str:
        """A row in words: its series and its time."""
        name = self.names[int(self.series[row])]
        return f"{name} at {self.clock.show(float(self.times[row]))}"


def read_long(frame: nw.DataFrame[Any], layout: Layout, clock: Clock | None = None, *, values: bool = True) -> Long:
    """Read the columns that the layout names; `InputError` for a cell that cannot be read or a missing id or time.

    With a `clock` the column of times holds its numbers; otherwise the column says what it is. Without `values` the
    table is one of the future: columns of values are not read, and static and discrete ones only where they are there.
    """
    names, series = _series(frame, layout.id)
    times, found = _times(frame, layout.time, series)
    clock = clock or found
    if layout.calendar:
        clock.features(times[:0], layout.calendar)  # refuses plain numbers
    columns = layout.modelled
    context, notes = _covariates(frame, layout)
    return Long(
        names,
        series,
        times,
        _matrix(frame, columns) if values else np.full((len(frame), len(columns)), np.nan),
        context,
        np.arange(1, len(frame) + 1),
        clock,
        notes,
    )


def _covariates(frame: nw.DataFrame[Any], layout: Layout) -> tuple[np.ndarray, tuple[str, ...]]:
    """All covariates (n, c), labels as codes, NaN for a column that is not there; and what was not understood."""
    parts, notes = [np.zeros((len(frame), 0))], []
    for name in layout.covariates:
        if name not in frame.columns:
            parts.append(np.full((len(frame), 1), np.nan))
        elif name in layout.levels:
            labels, levels = labels_of(frame[name]), layout.levels[name]
            new = list(dict.fromkeys(each for each in labels if each is not None and each not in levels))
            if new:
                listed = ", ".join(new[:3]) + (f" and {len(new) - 3} more" if len(new) > 3 else "")
                notes.append(f"{name}: labels that the run has never seen, read as none of those it knows: {listed}")
            parts.append(codes_of(labels, levels)[:, None])
        else:
            parts.append(_matrix(frame, (name,)))
    return np.concatenate(parts, axis=1), tuple(notes)


def _matrix(frame: nw.DataFrame[Any], columns: tuple[str, ...]) -> np.ndarray:
    parts = []
    for name in columns:
        numbers = as_numbers(frame[name])
        if np.isinf(numbers).any():
            row = int(np.argmax(np.isinf(numbers))) + 1
            raise InputError(
                f"{numbers[row - 1]:g} in row {row} of the column {name!r}",
                f"infinite values in the column: {int(np.isinf(numbers).sum())}",
                "finite numbers, or an empty cell where a value is missing",
            )
        parts.append(numbers)
    return np.stack(parts, axis=1) if parts else np.zeros((len(frame), 0))


def _series(frame: nw.DataFrame[Any], id: str | None) -> tuple[tuple[str, ...], np.ndarray]:
    if id is None:
        return ("series",), np.zeros(len(frame), np.int64)
    cells = as_text(frame[id])
    if None in cells:
        raise InputError(f"row {cells.index(None) + 1} of the column {id!r}", "the name of the series is missing")
    index: dict[str, int] = {}
    series = np.array([index.setdefault(str(cell), len(index)) for cell in cells], np.int64)
    return tuple(index), series


def _times(frame: nw.DataFrame[Any], time: str | None, series: np.ndarray) -> tuple[np.ndarray, Clock]:
    if time is None:
        order = np.argsort(series, kind="stable")
        numbers = np.empty(len(series))
        first = np.searchsorted(series[order], series[order])
        numbers[order] = np.arange(len(series)) - first
        return numbers, Clock()
    times, clock = as_times(frame[time])
    bad = ~np.isfinite(times)
    if bad.any():
        row = int(np.argmax(bad))
        what = "missing" if np.isnan(times[row]) else "infinite"
        raise InputError(f"row {row + 1} of the column {time!r}", f"its time is {what}", "a time in every row")
    return times, clock

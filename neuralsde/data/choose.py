"""Which column plays which part, where the user has left it open; each choice is noted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import narwhals as nw

from neuralsde.data.arrays import Table
from neuralsde.data.cells import is_number_column, is_time_column
from neuralsde.data.clock import CALENDAR
from neuralsde.data.labels import labels_of, levels_of
from neuralsde.data.layout import Layout, names
from neuralsde.errors import InputError, closest

TIME_NAMES = ("time", "timestamp", "datetime", "date_time", "date", "ts", "ds", "t")

Frame = nw.DataFrame[Any]


def choose(
    frame: Frame,
    table: Table,
    id: str | None,
    time: str | None,
    values: str | Iterable[str] | None,
    context: str | Iterable[str],
    static: str | Iterable[str],
    discrete: str | Iterable[str],
) -> tuple[Layout, list[str]]:
    """The layout that the options name, completed by what the table shows; and the notes on what was completed."""
    notes: list[str] = []
    id, time = id or table.id, time or table.time
    asked = (*table.context, *names(context))
    still, labelled = (*table.static, *names(static)), (*table.discrete, *names(discrete))
    for name in (id, time, *names(values), *still, *labelled):
        if name is not None:
            _existing(frame, name)
    columns = tuple(_existing(frame, name, CALENDAR) for name in asked if name in frame.columns or name not in CALENDAR)
    calendar = tuple(name for name in asked if name in CALENDAR and name not in frame.columns)
    if time is None:
        time = _guess_time(frame, {id, *names(values), *columns, *still, *labelled})
        notes.append(f"time column: {time}" if time else "no column of times: row numbers are used")
    chosen = names(values) or table.values
    if not chosen:
        taken = {id, time, *columns, *still, *labelled}
        chosen = tuple(n for n in frame.columns if n not in taken and is_number_column(frame[n]))
        if not chosen:
            raise InputError("a table without a column of numbers", expected="at least one column of values")
        other = [name for name in frame.columns if name not in taken and name not in chosen]
        unused = f"; not used: {', '.join(other)}" if other else ""
        notes.append(f"values: {', '.join(chosen)} (all columns of numbers{unused})")
    _once([n for n in (id, time, *chosen, *columns, *calendar, *still, *labelled) if n is not None])
    words = [name for name in still if not is_number_column(frame[name])]
    levels = {name: levels_of(name, labels_of(frame[name])) for name in (*words, *labelled)}
    return Layout(id, time, chosen, columns, calendar, static=still, discrete=labelled, levels=levels), notes


def require(frame: Frame, layout: Layout, values: bool = True) -> None:
    """Refuse a table that lacks a column of the layout."""
    always = (layout.id, layout.time, *layout.context)
    needed = (*always, *layout.static, *layout.discrete, *layout.modelled) if values else always
    missing = [name for name in needed if name is not None and name not in frame.columns]
    if missing:
        raise InputError(
            f"a table without the column {missing[0]!r}",
            "the data are of another shape than the run was trained on",
            "the columns " + ", ".join(name for name in needed if name is not None),
            closest(missing[0], frame.columns),
        )


def _existing(frame: Frame, name: str, also: tuple[str, ...] = ()) -> str:
    if name not in frame.columns:
        known = (*frame.columns, *also)
        raise InputError(f"the column {name!r}", "the table does not have it", hint=closest(name, known))
    return name


def _guess_time(frame: Frame, taken: set[str | None]) -> str | None:
    free = [name for name in frame.columns if name not in taken]
    by_name = {name.lower(): name for name in reversed(free)}
    for usual in TIME_NAMES:
        if usual in by_name:
            return by_name[usual]
    stamped = [name for name in free if is_time_column(frame[name])]
    if len(stamped) > 1:
        raise InputError(f"the columns {', '.join(stamped)}", "each may be the time", "one of them", "--time NAME")
    return stamped[0] if stamped else None


def _once(used: list[str]) -> None:
    for name in used:
        if used.count(name) > 1:
            raise InputError(
                f"the column {name!r} in two parts", expected="one of id, time, values, context, static, discrete each"
            )

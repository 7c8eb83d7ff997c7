"""Arrays as a table: one long frame with a row for each time of each series.

`values` is one series (n, d) or (n,), or several: a list of such arrays of any length, or one array (S, n, d). `times`
goes with it: (n,) once for all series, (S, n), a list, or None for row numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from neuralsde.data.clock import Clock
from neuralsde.data.layout import names
from neuralsde.errors import InputError


@dataclass(frozen=True)
class Table:
    """A frame, and the names of its columns where the source settles them (None: to be chosen by the user).

    With a `clock`, the column of times holds its float64 numbers already.
    """

    frame: Any
    id: str | None = None
    time: str | None = None
    values: tuple[str, ...] | None = None
    context: tuple[str, ...] = ()
    clock: Clock | None = None
    static: tuple[str, ...] = ()
    discrete: tuple[str, ...] = ()


def arrays_to_table(
    times: Any,
    values: Any,
    *,
    context: Any = None,
    ids: Sequence[Any] | None = None,
    columns: str | Iterable[str] | None = None,
    context_columns: str | Iterable[str] | None = None,
    static: Mapping[str, Any] | None = None,
    discrete: Mapping[str, Any] | None = None,
) -> Table:
    """Arrays as a `Table` with columns id, time, `columns`, `context_columns`; `InputError` when shapes disagree.

    Columns are called x0, x1, ... and covariates c0, c1, ... unless named; a single value column is called value.
    static: {column: one entry a series}; discrete: {column: (n,) labels of one series, or one such array a series}.
    """
    many = _is_many(values)
    values = [_matrix(v, "values") for v in (values if many else [values])]
    times, clock = _times(_per_series(times, values, many))
    context = [_matrix(c, "context") for c in (_per_series(context, values, many) if context is not None else [])]
    for k, (t, v) in enumerate(zip(times, values, strict=True)):
        _same_length(k, t, "times", v)
    for k, (c, v) in enumerate(zip(context, values if context else [], strict=True)):
        _same_length(k, c, "context", v)
    ids = None if ids is None and not many else _ids(ids, len(values))
    value_names = _names(columns, values, "columns", ["value"] if values[0].shape[1] == 1 else None, "x")
    context_names = _names(context_columns, context, "context_columns", None, "c") if context else ()
    data: dict[str, Any] = {} if ids is None else {"id": np.repeat(ids, [len(v) for v in values])}
    data["time"] = np.concatenate(times)
    stacked = np.concatenate([np.hstack([v, *context[k : k + 1]]) for k, v in enumerate(values)])
    lengths = [len(v) for v in values]
    named = [*zip((*value_names, *context_names), map(np.ascontiguousarray, stacked.T), strict=True)]
    named += [(name, _each(name, given, lengths, many)) for name, given in (static or {}).items()]
    named += [(name, _along(name, given, lengths, many)) for name, given in (discrete or {}).items()]
    for name, column in named:
        if name in data:
            raise InputError(f"the column name {name!r} twice", "id and time are taken too", "a name of its own")
        data[name] = column
    return Table(
        pl.DataFrame(data), None if ids is None else "id", "time", value_names, context_names, clock,
        tuple(static or ()), tuple(discrete or ()),
    )  # fmt: skip


def _each(name: str, given: Any, lengths: list[int], many: bool) -> pl.Series:
    """One entry a series, in every row of it."""
    entries = [given] if not many and np.ndim(given) == 0 else list(given)
    if len(entries) != len(lengths):
        raise InputError(f"{len(entries)} entries of {name!r} for {len(lengths)} series", "", "one for each series")
    return pl.Series([entry for entry, n in zip(entries, lengths, strict=True) for _ in range(n)], strict=False)


def _along(name: str, given: Any, lengths: list[int], many: bool) -> pl.Series:
    """One label a row."""
    parts = [list(part) for part in (given if many else [given])]
    if [len(part) for part in parts] != lengths:
        raise InputError(
            f"{name!r} with {[len(part) for part in parts]} labels", f"the series have {lengths} rows", "as many"
        )
    return pl.Series([label for part in parts for label in part], strict=False)


def _is_many(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return values.ndim == 3
    return (
        isinstance(values, list | tuple)
        and len(values) > 0
        and all(np.ndim(v) > 0 for v in values)
        and any(isinstance(v, np.ndarray) or np.ndim(v) == 2 for v in values)
    )


def _per_series(given: Any, values: list[np.ndarray], many: bool) -> list[Any]:
    """One array a series: given once for all, one for each, or not at all (row numbers)."""
    if given is None:
        return [np.arange(len(v), dtype=np.float64) for v in values]
    if not many:
        return [given]
    shared = isinstance(given, np.ndarray) and given.ndim == 1 and given.dtype != object
    shared = shared or not any(np.ndim(part) for part in given)
    given = [given] * len(values) if shared else list(given)
    if len(given) != len(values):
        raise InputError(f"{len(given)} series of times or context for {len(values)} series of values", "", "as many")
    return given


def _matrix(array: Any, what: str) -> np.ndarray:
    try:
        matrix = np.asarray(np.ma.filled(np.ma.asarray(array, np.float64), np.nan))
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} that are not numbers ({error})", expected="an array (n,) or (n, d)") from None
    if matrix.ndim not in (1, 2):
        raise InputError(f"{what} of shape {matrix.shape}", expected="(n,) or (n, d), or a list of such")
    return matrix[:, None] if matrix.ndim == 1 else matrix


def _times(arrays: list[Any]) -> tuple[list[np.ndarray], Clock]:
    """The times of each series, float64, and the clock that they share."""
    read = [Clock.infer(array) for array in arrays]
    clock = read[0][1]
    for _, other in read:
        clock.require_kind(other)
        if other != clock:
            clock = Clock(clock.kind, "UTC" if clock.zone or other.zone else None)
    return [times for times, _ in read], clock


def _same_length(series: int, array: np.ndarray, what: str, values: np.ndarray) -> None:
    if len(array) != len(values):
        raise InputError(f"series {series} with {len(array)} rows of {what} and {len(values)} of values", "", "as many")


def _ids(ids: Sequence[Any] | None, count: int) -> list[str]:
    named = [str(k) for k in (range(count) if ids is None else ids)]
    if len(named) != count or len(set(named)) != count:
        raise InputError(f"{len(named)} ids, {len(set(named))} of them different", "", f"{count} different ids")
    return named


def _names(
    given: str | Iterable[str] | None, arrays: list[np.ndarray], what: str, default: list[str] | None, prefix: str
) -> tuple[str, ...]:
    widths = {array.shape[1] for array in arrays}
    if len(widths) != 1:
        raise InputError(f"series with {sorted(widths)} columns", "", "the same columns in every series")
    width = widths.pop()
    named = names(given) if given is not None else tuple(default or [f"{prefix}{k}" for k in range(width)])
    if len(named) != width:
        raise InputError(f"{len(named)} {what} for {width} columns", "", "one name each")
    return tuple(str(name) for name in named)

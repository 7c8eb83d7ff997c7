"""Points from a file: an NPZ or NPY of an array, or a table of which each row is a point.

Nothing pickled is read.

    digits.npz     the one array of two or more axes in it, or the one that `values` names; labels: an array (n,)
    points.csv     the numeric columns, or those that `values` names, in their order; labels: a column
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from neuralsde.data.files import SUFFIXES, open_table
from neuralsde.data.images import Points, points
from neuralsde.errors import InputError, closest

_KINDS = (".npz", ".npy", *(suffix for suffix in SUFFIXES if suffix != ".npz"))


def read_points(path: str | Path, values: str | Sequence[str] = (), labels: str | None = None) -> Points:
    """The points in a file.

    values: the name of the array, or of the columns; needed where there are several arrays.
    labels: the name of the array or column that holds classes; read as text or whole numbers.
    Raises InputError for a file that is absent, broken or of no known kind, and for names that are not in it.
    """
    path = Path(path)
    named = (values,) if isinstance(values, str) else tuple(values)
    if not path.name.lower().endswith(_KINDS):
        raise InputError(f"the file {str(path)!r}", "its kind is not known", "one of " + ", ".join(_KINDS))
    if not path.is_file():
        raise InputError(f"the file {str(path)!r}", "there is no such file", "points or images: " + ", ".join(_KINDS))
    if path.suffix.lower() in (".npz", ".npy"):
        arrays = _arrays(path)
        chosen = _chosen(arrays, named, path)
        told = None if labels is None else _named(arrays, labels, path)
        return points(chosen, told, source=str(path), named=named, label_name=labels or "")
    return _table(path, named, labels)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            return {name: found[name] for name in found.files} if isinstance(found, np.lib.npyio.NpzFile) else {
                "array": found
            }  # fmt: skip
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        why = "it holds objects, which are not read" if "allow_pickle" in str(error) else "it is cut off or garbled"
        raise InputError(f"the file {str(path)!r}", f"it cannot be read as {path.suffix[1:].upper()}: {why}") from None


def _chosen(arrays: dict[str, np.ndarray], named: tuple[str, ...], path: Path) -> np.ndarray:
    if len(named) == 1:
        return _named(arrays, named[0], path)
    if named:
        raise InputError(f"{len(named)} arrays of {path.name}", "points lie in one array", "one name")
    many = [name for name, array in arrays.items() if array.ndim > 1]
    if len(many) != 1:
        listed = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        meaning = "several could be the points" if many else "no array of two or more axes is in it"
        hint = f"--values {many[0]} (in Python: values={many[0]!r})" if many else ""
        raise InputError(f"{path.name} with {listed}", meaning, "(n, d), (n, h, w) or (n, h, w, c)", hint)
    return arrays[many[0]]


def _named(arrays: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    if name not in arrays:
        raise InputError(f"the array {name!r}", f"{path.name} has none of that name", hint=closest(name, arrays))
    return arrays[name]


def _table(path: Path, named: tuple[str, ...], labels: str | None) -> Points:
    frame: pl.DataFrame = open_table(path).frame
    for name in (*named, *([labels] if labels else [])):
        if name not in frame.columns:
            raise InputError(f"the column {name!r}", f"{path.name} has none of that name",
                             hint=closest(name, frame.columns))  # fmt: skip
    numbers = {name: _numbers(frame[name]) for name in (named or frame.columns) if name != labels}
    dropped = [name for name, column in numbers.items() if column is None]
    if named and dropped:
        raise InputError(f"the column {dropped[0]!r} of {path.name}", "it holds no numbers", "numeric columns")
    kept = {name: column for name, column in numbers.items() if column is not None}
    if not kept:
        raise InputError(f"{path.name} with the columns {', '.join(frame.columns)}", "none is numeric", "numbers")
    holes = {name: int(column.null_count() + column.is_nan().sum()) for name, column in kept.items()}
    worst = max(holes, key=lambda name: holes[name])
    if holes[worst]:
        raise InputError(
            f"{holes[worst]} missing entries in the column {worst!r}", "a point is complete", "no missing entries",
            "leaving out those rows, or that column",
        )  # fmt: skip
    found = np.stack([column.to_numpy() for column in kept.values()], axis=1)
    notes = (f"left out, not numeric: {', '.join(dropped)}",) if dropped else ()
    told = None if labels is None else frame[labels].to_numpy()
    return points(found, told, columns=tuple(kept), source=str(path), named=named, label_name=labels or "", notes=notes)


def _numbers(column: pl.Series) -> pl.Series | None:
    """The column as floats; None when it is text that is no number throughout."""
    found = column.cast(pl.Float64, strict=False) if column.dtype == pl.String or column.dtype.is_numeric() else None
    empty = column.is_null() if column.dtype != pl.String else column.is_null() | (column.str.strip_chars() == "")
    return None if found is None or bool((found.is_null() & ~empty).any()) else found

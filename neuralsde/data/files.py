"""Opening a table: CSV (also gzipped), Parquet, NPZ. Everything becomes one polars frame, text still text.

An NPZ file holds either series as arrays,

    times (n,)    values (n,) or (n, d)    [id (n,) or ends (S,)]    [context (n,) or (n, c)]
    [columns (d,)]    [context_columns (c,)]

where `ends` counts the rows up to the end of each series; or a table, in which every array (n,) is a column. Times are
numbers, datetime64 or ISO text. Nothing pickled is read.
"""

from __future__ import annotations

import difflib
import gzip
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from neuralsde.data.arrays import Table, arrays_to_table
from neuralsde.errors import InputError, closest

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".parquet", ".npz")
_NPZ_NAMES = ("times", "values", "id", "ends", "context", "columns", "context_columns")
# what the readers raise for a file that is not what its name says; polars panics at some broken Parquet files
_BROKEN = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OSError,
    ValueError,
)


def open_table(path: str | Path) -> Table:
    """The table in a file, by its suffix; `InputError` when there is none, it is empty, or it cannot be read."""
    path = Path(path)
    name = path.name.lower()
    if not path.is_file():
        raise _no_such_file(path)
    if not name.endswith(SUFFIXES):
        raise InputError(f"the file {str(path)!r}", "its kind is not known", "one of " + ", ".join(SUFFIXES))
    if path.stat().st_size == 0:
        raise _empty(path)
    kind = "Parquet" if name.endswith(".parquet") else "NPZ" if name.endswith(".npz") else "CSV"
    try:
        table = _READERS[kind](path)
    except InputError:
        raise
    except pl.exceptions.NoDataError:
        raise _empty(path) from None
    except _BROKEN as error:
        raise InputError(f"the file {str(path)!r}", f"it cannot be read as {kind}: {_why(error)}") from None
    if table.frame.height == 0 or table.frame.width == 0:
        raise _empty(path)
    return table


def _why(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    if isinstance(error, pl.exceptions.PanicException):
        return "it is cut off or garbled"
    if "more fields than defined" in text:
        return "a row has more cells than the heading"
    return text or "it is cut off or garbled"


def _no_such_file(path: Path) -> InputError:
    if path.is_dir():
        return InputError(f"the folder {str(path)!r}", "it is not a file", "a table: " + ", ".join(SUFFIXES))
    folder = path.parent
    beside = [p.name for p in folder.iterdir() if p.name.lower().endswith(SUFFIXES)] if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, beside)
    return InputError(f"the file {str(path)!r}", "there is no such file", hint=closest(path.name, near))


def _empty(path: Path) -> InputError:
    return InputError(f"the file {str(path)!r}", "it has no rows", "a heading and at least two rows")


# -- one reader a format ---------------------------------------------------------------------------------------------


def _parquet(path: Path) -> Table:
    return Table(pl.read_parquet(path))


def _csv(path: Path) -> Table:
    # every cell as text: `cells.py` then says which row holds a word among numbers
    frame = pl.read_csv(path, separator=_separator(path), infer_schema=False)
    frame = frame.rename({name: name.strip().lstrip("\ufeff") for name in frame.columns})
    twice = [name for name in frame.columns if f"{name}_duplicated_0" in frame.columns]
    if twice:
        raise InputError(f"the column {twice[0]!r} twice in {str(path)!r}", expected="each name once in the heading")
    return Table(frame)


def _separator(path: Path) -> str:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        heading = file.readline(1_000_000)
    if b"\x00" in heading:
        raise ValueError("it is not text")
    text = heading.decode("utf-8-sig")
    return max(",;\t", key=text.count)


def _npz(path: Path) -> Table:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not an archive of arrays, or is cut off")
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if "values" not in arrays:
        return _npz_table(arrays)
    unknown = [name for name in arrays if name not in _NPZ_NAMES]
    if unknown:
        meant = closest(unknown[0], _NPZ_NAMES)
        raise InputError(f"the array {unknown[0]!r}", "it has no meaning beside 'values'", hint=meant)
    columns = arrays.get("columns")
    context_columns = arrays.get("context_columns")
    table = arrays_to_table(
        arrays.get("times"),
        arrays["values"],
        context=arrays.get("context"),
        columns=None if columns is None else np.atleast_1d(columns).tolist(),
        context_columns=None if context_columns is None else np.atleast_1d(context_columns).tolist(),
    )
    ids = _npz_ids(arrays, table.frame.height)
    return table if ids is None else replace(table, frame=table.frame.with_columns(id=ids), id="id")


def _npz_ids(arrays: dict[str, np.ndarray], rows: int) -> pl.Series | None:
    if "ends" in arrays:
        lengths = np.diff(arrays["ends"], prepend=0)
        if arrays["ends"].ndim != 1 or lengths.min(initial=1) < 1 or lengths.sum() != rows:
            raise InputError("the array 'ends'", f"it does not cut {rows} rows into series", "row counts, rising")
        return pl.Series(np.repeat(np.arange(len(lengths)), lengths).astype(str))
    if "id" not in arrays:
        return None
    if arrays["id"].shape != (rows,):
        raise InputError(f"the array 'id' of shape {arrays['id'].shape}", expected=f"one id a row, ({rows},)")
    return pl.Series(arrays["id"].astype(str))


def _npz_table(arrays: dict[str, np.ndarray]) -> Table:
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"the arrays {listed}", "none is called 'values' and they are not columns of one table",
                         "times (n,) and values (n, d), with ends (S,) or id (n,) for several series")  # fmt: skip
    return Table(pl.DataFrame({name: _column(array) for name, array in arrays.items()}))


def _column(array: np.ndarray) -> np.ndarray:
    """The array in a type that polars takes."""
    if array.dtype.kind == "S":
        return array.astype(str)
    return array.astype("datetime64[us]") if array.dtype.kind == "M" else array


_READERS: dict[str, Callable[[Path], Table]] = {"Parquet": _parquet, "NPZ": _npz, "CSV": _csv}

"""What several commands share: the kinds of their options, tables in and out, notes.

Results go to standard output or to `--out`; everything that is said about them goes to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from neuralsde.cli.entry import function
from neuralsde.errors import InputError, closest

Many = Parameter(consume_multiple=True, negative=())  # --levels 80 95
Flag = Parameter(negative=())

Names = tuple[str, ...]
Ranges = tuple[tuple[str, float, float], ...]


def option(metavar: str, help: str) -> Parameter:
    """An option that is absent by default: --values temp dewp, or --bounded COL LO HI once for each column."""
    several = metavar.endswith("...")
    return Parameter(help=help, metavar=metavar, consume_multiple=several, negative=(), show_default=False)


def spaced(values: Iterable[Any]) -> str:
    """Values as one types them."""
    return " ".join(str(value) for value in values)


RunPath = Annotated[Path, Parameter(help="The run folder, as `fit` wrote it.")]
Table = Annotated[Path, Parameter(help="CSV, Parquet or NPZ with the columns that the run was fitted on.")]
Levels = Annotated[tuple[float, ...], Many, Parameter(help="Central intervals, in percent.", show_default=spaced)]
Draws = Annotated[int, Parameter(help="Number of sampled paths.")]
Seed = Annotated[int, Parameter(help="Seed of the random numbers.")]
Calibrate = Annotated[
    bool, Flag, Parameter(help="Make bands as wide as recent forecasts should have been.", show_default=False)
]
HeldOutTable = Annotated[Path | None, Parameter(help="A table to score; without it what `fit` held out.")]
Out = Annotated[Path | None, Parameter(help="A .csv or .parquet file; without it CSV on standard output.")]
Future = Annotated[Path | None, Parameter(help="Table of the known covariates after the end of DATA.")]
Horizon = Annotated[str | None, Parameter(help='Steps of the typical gap (24), or a length of time ("36h", "7d").')]
Times = Annotated[Names, option("TIME...", "Times to answer for, written as in the table.")]

WRITERS = {".csv": "write_csv", ".parquet": "write_parquet"}


def load(path: Path, points: bool = False) -> Any:
    """The run in a folder: one of sequences, or with `points` also one of independent points."""
    run = function("neuralsde.runs:load")(path)
    if not points and isinstance(run, function("neuralsde.runs:GenerativeRun")):
        raise InputError(
            f"the run {path}", "it is one of independent points or images", "a run of sequences",
            "neuralsde sample, or neuralsde score",
        )  # fmt: skip
    return run


def read_like(run: Any, path: Path) -> Any:
    """A table with the layout of the one that the run was fitted on, its notes told."""
    return told(function("neuralsde.data:read")(path, layout=run.layout))


def told(data: Any) -> Any:
    """The same trajectories, after saying what reading them changed."""
    note(data.notes)
    return data


def note(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"note: {line}", file=sys.stderr)


def check_out(out: Path | None) -> None:
    """Refuse a file that could not be written before any work is done."""
    if out is None:
        return
    if out.suffix.lower() not in WRITERS:
        raise InputError(
            f"--out {out}", "its ending names no kind of table", ".csv or .parquet", f"--out {out.stem}.csv"
        )
    if not out.parent.is_dir():
        raise InputError(f"--out {out}", f"there is no folder {out.parent}", hint=f"mkdir -p {out.parent}")


def write(table: Any, out: Path | None) -> None:
    """A polars table to a file, or as CSV to standard output."""
    if out is None:
        sys.stdout.write(table.write_csv())
        return
    getattr(table, WRITERS[out.suffix.lower()])(out)
    print(f"{table.height} rows in {out}", file=sys.stderr)


def ranges(given: Ranges, name: str) -> dict[str, tuple[float, float]]:
    """`--bounded COL LO HI`, as often as it was given, as {column: (lo, hi)}."""
    found: dict[str, tuple[float, float]] = {}
    for column, lo, hi in given:
        if column in found:
            raise InputError(f"{name} {column}", "it was given twice", "one range for each column")
        found[column] = (lo, hi)
    return found


def horizon_of(text: str | None) -> int | str | None:
    """A whole number of steps, or a length of time as it was typed."""
    return int(text) if text is not None and text.lstrip("+-").isdigit() else text


def choose(name: str, known: Iterable[str], what: str) -> str:
    """The name when it is known; an error with the nearest one when it is not."""
    known = tuple(known)
    if name not in known:
        raise InputError(f"the {what} '{name}'", "there is none of that name", hint=closest(name, known))
    return name


def tell_scores(scores: Any, out: Path | None) -> None:
    """Scores as text for a reader, or as a table in a file."""
    if out is None:
        print(scores)
    else:
        write(scores.table(), out)

"""What AutoARIMA of statsforecast forecasts on the same windows: computed by `benchmarks/autoarima.py`, read here.

That package belongs to the environment of the benchmarks. Its script writes `forecast_autoarima.json`: date, versions,
and for each table the fingerprint of the data, the series it was given (at most ten) and their mean scores by horizon.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuralsde.experiments.forecast.case import Case
from neuralsde.experiments.forecast.law import LEVELS, Marks
from neuralsde.experiments.results import RESULTS

FILE = "forecast_autoarima.json"
COMMAND = ".venv-bench/bin/python benchmarks/autoarima.py"
AUTOARIMA = "AutoARIMA"
MOST_SERIES = 10


@dataclass(frozen=True)
class Chosen:
    """A column of one series."""

    series: int
    column: int


def chosen(case: Case) -> tuple[Chosen, ...]:
    """The series that AutoARIMA is given: all of them, or ten spread evenly over series and columns."""
    d = case.truth.shape[2]
    every = [Chosen(s, k) for s in range(len(case.grids)) for k in range(d)]
    if len(every) <= MOST_SERIES:
        return tuple(every)
    picked = np.round(np.linspace(0, len(every) - 1, MOST_SERIES)).astype(int)
    return tuple(every[int(k)] for k in picked)


@dataclass(frozen=True)
class Peer:
    """Mean CRPS (q,) in units of the scale, and coverage[level] (q,), over the chosen series."""

    series: tuple[Chosen, ...]
    crps: np.ndarray
    coverage: Mapping[int, np.ndarray]
    about: str


def on_chosen(marks: Marks, case: Case, series: tuple[Chosen, ...]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """CRPS (q,) and coverage (q,) of a method on those series: the mean over series of the means over windows."""
    mine = [case.series == one.series for one in series]
    crps = [np.nanmean(marks.crps[at, :, one.column], axis=0) for at, one in zip(mine, series, strict=True)]
    coverage = {
        level: np.mean(
            [np.nanmean(share[at, :, one.column], axis=0) for at, one in zip(mine, series, strict=True)], axis=0
        )
        for level, share in marks.coverage.items()
    }
    return np.mean(crps, axis=0), coverage


def read_peer(case: Case, folder: Path = RESULTS) -> Peer | str:
    """What is on file for this table, or why it cannot be used."""
    path = folder / FILE
    if not path.is_file():
        return f"{AUTOARIMA}: no {path}; `{COMMAND}` makes it"
    saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    table = saved["tables"].get(case.spec.name)
    if table is None:
        return f"{AUTOARIMA}: {path} has no {case.spec.title}; `{COMMAND} {case.spec.name}` adds it"
    if table["fingerprint"] != case.fingerprint():
        return f"{AUTOARIMA}: {path} is of other data or windows; `{COMMAND} {case.spec.name}` makes it again"
    return Peer(
        tuple(Chosen(*pair) for pair in table["series"]),
        np.array(table["crps"]),
        {level: np.array(table["coverage"][str(level)]) for level in LEVELS},
        f"statsforecast {saved['versions']['statsforecast']}, {table['date']}",
    )

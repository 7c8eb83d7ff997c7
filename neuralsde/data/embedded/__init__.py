"""Real data inside the package (see PROVENANCE.md): hourly weather at three airports, and small images of digits.

A year of temperature and dew point (degrees Fahrenheit), wind speed (miles an hour) and pressure (hectopascal), as
recorded: with gaps of one to six hours, missing entries, and a wind of 1048 mph at EWR. And 1,797 images of 8 x 8
pixels, whole numbers from 0 to 16, of handwritten digits, with the digit as the label.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neuralsde.data.images import Points, points
from neuralsde.data.tables import read
from neuralsde.data.trajectories import Trajectories

WEATHER = Path(__file__).with_name("weather.csv.gz")
DIGITS = Path(__file__).with_name("digits.npz")

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


def digits(labels: bool = False) -> Points:
    """The UCI handwritten digits, 1,797 images (8, 8) of uint8 from 0 to 16; with labels their classes "0" to "9"."""
    with np.load(DIGITS, allow_pickle=False) as file:
        told = file["labels"] if labels else None
        return points(file["images"], told, source="digits", label_name="labels" if labels else "")

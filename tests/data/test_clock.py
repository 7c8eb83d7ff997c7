"""Times go in and come out unchanged, whatever their spelling; calendar features are points on the circle."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralsde.data.clock import CALENDAR, Clock
from neuralsde.errors import InputError

INSTANTS = st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1))


@pytest.mark.parametrize(
    ("text", "clock"),
    [
        (["2013-01-01T06:00:00Z", "2013-01-01T07:00:00Z"], Clock("timestamp", "UTC")),
        (["2013-01-01T06:00:00", "2013-07-01T07:00:00"], Clock("timestamp")),
        (["2013-01-01T06:00:00+02:00", "2013-01-01T07:00:00+02:00"], Clock("timestamp", "+02:00")),
        (["2013-01-01T06:00:00-09:30", "2013-01-01T07:00:00-09:30"], Clock("timestamp", "-09:30")),
        (["2013-01-01", "2016-02-29"], Clock("timestamp", dates=True)),
        (["2013-01-01T06:00:00.250", "2013-01-01T07:00:00.500"], Clock("timestamp")),
        (["2013-01-01T06:00:00.000001Z", "2013-01-01T07:00:00.000000Z"], Clock("timestamp", "UTC")),
    ],
)
def test_iso_text_comes_back_as_it_was(text: list[str], clock: Clock) -> None:
    times, found = Clock.infer(text)
    assert found == clock
    assert clock.format(times) == text


@given(st.lists(INSTANTS, min_size=1, max_size=5))
def test_every_spelling_of_an_instant_is_the_same_number(instants: list[datetime]) -> None:
    aware = [instant.replace(tzinfo=UTC) for instant in instants]
    expected = [(instant - datetime(1970, 1, 1)) / timedelta(seconds=1) for instant in instants]
    east = timezone(timedelta(hours=5, minutes=30))
    spellings = (
        instants,
        aware,
        [instant.isoformat() for instant in instants],
        [instant.isoformat(" ") + "Z" for instant in instants],
        [instant.astimezone(east) for instant in aware],
        np.array(instants, "datetime64[us]"),
        list(np.array(instants, "datetime64[us]")),
    )
    for spelling in spellings:
        times, clock = Clock.infer(spelling)
        assert times.tolist() == expected
        assert Clock.infer(clock.format(times))[0].tolist() == expected


def test_slashes_dates_and_mixed_offsets() -> None:
    assert (
        Clock.infer(["2013/1/5", "2013/01/06 12:00"])[0].tolist()
        == Clock.infer(["2013-01-05", "2013-01-06T12"])[0].tolist()
    )
    days = [date(2013, 1, 5), date(2013, 1, 6)]
    assert Clock.infer(days)[1].dates
    times, clock = Clock.infer(["2013-03-10T01:00:00-05:00", "2013-03-10T03:00:00-04:00"])
    assert (np.diff(times).item(), clock.zone) == (3600.0, "UTC")


def test_numbers_stay_numbers() -> None:
    for numbers in ([1, 2.5], np.array([1.0, 2.5]), ["1", " 2.5 "]):
        times, clock = Clock.infer(numbers)
        assert (times.tolist(), clock) == ([1.0, 2.5], Clock())
        assert clock.format(times) == [1.0, 2.5]


def test_missing_times_are_nan() -> None:
    for cells in (["1", "", "NA"], ["2013-01-01", None, "NaN"], [date(2013, 1, 1), None, float("nan")]):
        assert np.isnan(Clock.infer(cells)[0]).tolist() == [False, True, True]
    assert np.isnan(Clock.infer(np.array(["NaT"], "datetime64[s]"))[0]).all()


def test_unreadable_time_names_row_and_cell() -> None:
    with pytest.raises(InputError, match="'yesterday' in row 2"):
        Clock.infer(["2013-01-01", "yesterday"])
    with pytest.raises(InputError, match="with and without a zone"):
        Clock.infer(["2013-01-01T00:00Z", "2013-01-01T00:00"])
    with pytest.raises(InputError, match="time zone"):
        Clock("timestamp", "Mars/Olympus")


@given(st.lists(INSTANTS, min_size=1, max_size=5))
def test_wall_time_of_a_zone_is_that_of_the_standard_library(instants: list[datetime]) -> None:
    zone = "America/New_York"
    instants = [instant.replace(year=1901 + instant.year % 190) for instant in instants if instant.day < 29]
    times = Clock.infer(instants)[0]
    clock = Clock("timestamp", zone)
    local = [instant.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)) for instant in instants]
    hour, month = clock.hour_and_month(times)
    assert hour.tolist() == [instant.hour for instant in local]
    assert month.tolist() == [instant.month for instant in local]
    assert Clock.infer(clock.format(times))[0].tolist() == times.tolist()


def test_features_are_periodic_points_on_the_unit_circle() -> None:
    clock = Clock("timestamp", "UTC")
    times = Clock.infer(np.datetime64("2012-01-01T00:00:00") + np.arange(2500) * np.timedelta64(7, "h"))[0]
    points = clock.features(times, CALENDAR).reshape(-1, 4, 2)
    assert points.shape == (len(times), 4, 2)
    np.testing.assert_allclose((points**2).sum(-1), 1.0, atol=1e-12)
    week = clock.features(times + 7 * 86_400, CALENDAR).reshape(-1, 4, 2)
    np.testing.assert_allclose(week[:, :2], points[:, :2], atol=1e-9)


def test_known_phases() -> None:
    times = Clock.infer(["2013-01-07T06:00:00Z", "2012-07-01T00:00:00Z"])[0]  # a Monday; mid-year of a leap year
    clock = Clock("timestamp", "UTC")
    phase = np.arctan2(*np.moveaxis(clock.features(times, CALENDAR).reshape(2, 4, 2), -1, 0)) / (2 * np.pi) % 1
    np.testing.assert_allclose(phase[0], [0.25, 0.25 / 7, 6.25 / 365, 0.0], atol=1e-12)
    np.testing.assert_allclose(phase[1], [0.0, 6 / 7, 182 / 366, 0.5], atol=1e-12)


def test_numbers_have_no_calendar() -> None:
    with pytest.raises(InputError, match="no hour"):
        Clock().features(np.zeros(2), ["hour-of-day"])
    with pytest.raises(InputError, match="hour-of-day"):
        Clock("timestamp").features(np.zeros(2), ["hour-of-dya"])
    assert Clock("timestamp").features(np.zeros(3), []).shape == (3, 0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("36h", 129_600), ("7 d", 604_800), ("1d 12h", 129_600), ("90 min", 5400), ("2 weeks", 1_209_600), (".5s", 0.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert Clock("timestamp").duration(text) == seconds


@pytest.mark.parametrize("text", ["24", "h", "3 parsecs", "", "-3h", "0h", "1 month"])
def test_durations_that_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        Clock("timestamp").duration(text)


def test_durations_of_plain_numbers() -> None:
    assert Clock().duration("24") == Clock().duration(24) == 24.0
    for text in ("24h", "0", "nan", "x"):
        with pytest.raises(InputError):
            Clock().duration(text)


@given(st.floats(1e-2, 1e7))
def test_duration_text_is_read_back(seconds: float) -> None:
    clock = Clock("timestamp")
    assert clock.duration(clock.show_duration(seconds)) == pytest.approx(seconds, rel=1e-5)


def test_json() -> None:
    for clock in (Clock(), Clock("timestamp", "Europe/Berlin"), Clock("timestamp", None, True)):
        assert Clock.from_dict(clock.to_dict()) == clock


def test_the_other_kind_is_refused() -> None:
    with pytest.raises(InputError, match="plain numbers"):
        Clock("timestamp").parse([1.0, 2.0])
    assert Clock().parse(["1", "2"]).tolist() == [1.0, 2.0]

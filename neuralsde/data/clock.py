"""What the times of a table are: plain numbers in the user's unit, or time stamps.

A time stamp is held as float64 seconds since 1970-01-01 UTC (to the microsecond between the years 1700 and 2240) and
printed as ISO 8601 in the zone in which it came. A clock without a zone takes wall time as it stands, as if it were
UTC. Calendar features put a period on the unit circle, (sin 2*pi*p, cos 2*pi*p) with the phase p in [0, 1) of the
local time, so that 23:59 lies next to 00:00.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import polars as pl

from neuralsde.data.duration import duration_text, parse_duration
from neuralsde.data.stamps import read_times
from neuralsde.errors import InputError, closest

CALENDAR = ("hour-of-day", "day-of-week", "day-of-year", "month-of-year")

_DAY, _WEEK = 86_400.0, 604_800.0
_MONDAY = 4 * _DAY  # 1970-01-05 was the first Monday of the epoch
_FIXED_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")


@dataclass(frozen=True)
class Clock:
    """`kind` of the times; `zone` an IANA name, "UTC", an offset "+02:00", or None; `dates` if days without hours."""

    kind: Literal["number", "timestamp"] = "number"
    zone: str | None = None
    dates: bool = False

    def __post_init__(self) -> None:
        if self.zone is None or self.zone == "UTC" or _FIXED_OFFSET.fullmatch(self.zone):
            return
        try:
            pl.Series([0]).cast(pl.Datetime("us", self.zone))  # polars carries its own table of zones
        except pl.exceptions.PolarsError:
            raise InputError(
                f"the time zone {self.zone!r}", "it is not known", "a name such as Europe/Berlin, UTC, or +02:00"
            ) from None

    @property
    def is_calendar(self) -> bool:
        """Whether the times have hours, days and months."""
        return self.kind == "timestamp"

    # -- wall time ---------------------------------------------------------------------------------------------------

    def local(self, times: np.ndarray) -> np.ndarray:
        """Seconds since 1970-01-01 of the wall clock, (n,), for times (n,) of a timestamp clock."""
        self._need_calendar()
        times = np.asarray(times, np.float64)
        if self.zone is None or self.zone == "UTC":
            return times
        fixed = _FIXED_OFFSET.fullmatch(self.zone)
        if fixed:
            sign, hours, minutes = fixed.groups()
            return times + float(sign + "1") * timedelta(hours=int(hours), minutes=int(minutes)).total_seconds()
        stamps = pl.Series(_microseconds(times).ravel()).cast(pl.Datetime("us", "UTC"))
        wall = stamps.dt.convert_time_zone(self.zone).dt.replace_time_zone(None)
        return (wall.cast(pl.Int64).to_numpy() / 1e6).reshape(times.shape)

    def wall(self, times: np.ndarray, unit: Literal["s", "h", "D", "M", "Y"]) -> np.ndarray:
        """The wall time as numpy datetime64 of a unit, rounded down."""
        return _microseconds(self.local(times)).astype("datetime64[us]").astype(np.dtype(f"datetime64[{unit}]"))

    def hour_and_month(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hour of the day 0..23 and month of the year 1..12, integers of the shape of `times`."""
        hour = self.wall(times, "h").astype(np.int64) % 24
        month = self.wall(times, "M").astype(np.int64) % 12 + 1
        return hour, month

    # -- calendar features -------------------------------------------------------------------------------------------

    def features(self, times: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Calendar features, (n, 2 * len(names)): sine and cosine of each period of `names` (see `CALENDAR`).

        Hour, week and year run on continuously; the month is a step. Raises `InputError` for a clock of plain numbers
        and for an unknown name.
        """
        times = np.asarray(times, np.float64)
        if not names:
            return np.zeros((len(times), 0))
        angles = 2 * np.pi * np.stack([self._phase(times, name) for name in names], axis=-1)
        return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(times), 2 * len(names))

    def _phase(self, times: np.ndarray, name: str) -> np.ndarray:
        if name not in CALENDAR:
            raise InputError(f"the calendar feature {name!r}", "it is not known", hint=closest(name, CALENDAR))
        local = self.local(times)
        if name == "hour-of-day":
            return local % _DAY / _DAY
        if name == "day-of-week":
            return (local - _MONDAY) % _WEEK / _WEEK
        if name == "month-of-year":
            return (self.hour_and_month(times)[1] - 1) / 12
        year = self.wall(times, "Y")
        first, last = (y.astype("datetime64[s]").astype(np.float64) for y in (year, year + 1))
        return (local - first) / (last - first)

    def _need_calendar(self) -> None:
        if not self.is_calendar:
            raise InputError(
                "times that are plain numbers",
                "they have no hour, day or month",
                "time stamps such as 2013-01-31T06:00:00Z",
                "leaving the calendar features out, or writing the times as time stamps",
            )

    # -- text --------------------------------------------------------------------------------------------------------

    def format(self, times: np.ndarray) -> list[str] | list[float]:
        """Times as a table shows them: ISO 8601 text with its offset, or the numbers themselves."""
        times = np.asarray(times, np.float64)
        if not self.is_calendar:
            return times.tolist()
        local = self.local(times)
        stamps = _microseconds(local).astype("datetime64[us]")
        if self.dates and not np.any(local % _DAY):
            return np.datetime_as_string(stamps, unit="D").tolist()
        # as many decimals as the finest stamp needs
        unit = "s" if not np.any(local % 1) else "ms" if np.all(stamps == stamps.astype("datetime64[ms]")) else "us"
        text = np.datetime_as_string(stamps, unit=unit).tolist()
        if self.zone is None:
            return text
        return [stamp + _offset_text(o) for stamp, o in zip(text, (local - times).tolist(), strict=True)]

    def show(self, time: float) -> str:
        """One time as text, for messages."""
        shown = self.format(np.array([time]))[0]
        return shown if isinstance(shown, str) else f"{shown:.12g}"

    def duration(self, text: str | float | int) -> float:
        """A length of time in the unit of the times: "36h", "7 d", "90 min" for time stamps; a number otherwise."""
        return parse_duration(text, self.is_calendar)

    def show_duration(self, length: float) -> str:
        """A length of time as text: "6 h" for time stamps, a bare number otherwise."""
        return duration_text(length) if self.is_calendar else f"{length:.6g}"

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "zone": self.zone, "dates": self.dates}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Clock:
        return cls(saved["kind"], saved["zone"], saved["dates"])

    # -- reading -----------------------------------------------------------------------------------------------------

    @classmethod
    def infer(cls, values: Any) -> tuple[np.ndarray, Clock]:
        """Times (n,) float64 and the clock that they show; NaN where a time is missing.

        `values`: numbers, ISO 8601 text, `datetime`s, `date`s or numpy datetime64.
        """
        read = read_times(values)
        return read.times, cls("timestamp" if read.stamps else "number", read.zone, read.dates)

    def parse(self, values: Any) -> np.ndarray:
        """Times (n,) float64 of this clock; `InputError` when `values` are of the other kind."""
        times, clock = self.infer(values)
        self.require_kind(clock)
        return times

    def require_kind(self, other: Clock) -> None:
        """Refuse time stamps where plain numbers are meant, and the reverse."""
        if other.kind != self.kind:
            names = {"number": "plain numbers", "timestamp": "time stamps"}
            raise InputError(f"times that are {names[other.kind]}", "they mean another thing", names[self.kind])


def _microseconds(seconds: np.ndarray) -> np.ndarray:
    """The nearest whole microseconds; the fraction apart, since a product of the whole would round a second time."""
    seconds = np.asarray(seconds, np.float64)
    whole = np.floor(seconds)
    return whole.astype(np.int64) * 1_000_000 + np.round((seconds - whole) * 1e6).astype(np.int64)


def _offset_text(offset: float) -> str:
    if not offset:
        return "Z"
    minutes = round(abs(offset) / 60)
    return f"{'-' if offset < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}"

"""Lengths of time as people write them: "36h", "7 d", "90 min", "1d 12h"; and back, "1.5 h"."""

from __future__ import annotations

import math
import re

from neuralsde.errors import InputError

_SECONDS = {"week": 604_800.0, "day": 86_400.0, "hour": 3_600.0, "minute": 60.0, "second": 1.0, "millisecond": 1e-3}
_SPELLINGS = {
    "week": ("w", "wk", "wks"),
    "day": ("d",),
    "hour": ("h", "hr", "hrs"),
    "minute": ("m", "min", "mins"),
    "second": ("s", "sec", "secs"),
    "millisecond": ("ms",),
}
_UNITS = {text: _SECONDS[unit] for unit, short in _SPELLINGS.items() for text in (unit, unit + "s", *short)}
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_PART = re.compile(rf"\s*({_NUMBER})\s*([a-z]+)\s*")


def parse_duration(text: str | float | int, is_calendar: bool) -> float:
    """A positive length of time: in seconds for a calendar, else a bare number in the unit of the table.

    Raises `InputError` for a unit that is unknown, missing where times are stamps, or given where times are numbers.
    """
    try:
        number = float(text)
    except ValueError:
        return _parse_parts(str(text), is_calendar)
    if is_calendar:
        raise InputError(f"the length of time {text!r}", "it has no unit", "a number and a unit", f"{number:g}h")
    return _positive(number, text)


def _parse_parts(text: str, is_calendar: bool) -> float:
    parts = _PART.findall(text.lower())
    whole = re.fullmatch(rf"(?:{_PART.pattern})+", text.lower())
    if not whole or any(unit not in _UNITS for _, unit in parts):
        example = "36h, 7d or 90min" if is_calendar else "a number such as 24"
        raise InputError(f"the length of time {text!r}", "it cannot be read", example)
    if not is_calendar:
        raise InputError(
            f"the length of time {text!r}",
            "the times of this table are plain numbers, whose unit is not known",
            f"a number in the unit of the time column, such as {parts[0][0]}",
        )
    return _positive(sum(float(number) * _UNITS[unit] for number, unit in parts), text)


def _positive(length: float, text: str | float | int) -> float:
    if not (length > 0 and math.isfinite(length)):
        raise InputError(f"the length of time {text!r}", expected="a length above 0")
    return length


def duration_text(seconds: float) -> str:
    """Seconds in the largest unit of which there is at least one: 5400 -> "1.5 h"."""
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if abs(seconds) >= size or unit == "ms":
            return f"{seconds / size:.6g} {unit}"
    raise AssertionError

"""Rules that say which rows are held out for the test; each is a value that prints itself and goes into JSON.

A rule maps the series to one boolean mask each, true where a row is held out.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neuralsde.data.trajectories import Series, Trajectories
from neuralsde.errors import InputError

MANY_SERIES = 20
"""With more series than this, whole series are held out instead of the end of each."""


@dataclass(frozen=True)
class LastPart:
    """The last `share` of the time of each series."""

    share: float = 0.2

    def held_out(self, data: Trajectories) -> tuple[np.ndarray, ...]:
        _check_share(self.share)
        return tuple(self._late(s) for s in data)

    def _late(self, series: Series) -> np.ndarray:
        first, last = series.times[0], series.times[-1]
        return series.times > last - self.share * (last - first)

    def describe(self) -> str:
        return f"the last {100 * self.share:g} % of each series' time"

    def to_dict(self) -> dict[str, Any]:
        return {"rule": "last-part", **asdict(self)}


@dataclass(frozen=True)
class SomeSeries:
    """A `share` of the series, drawn by `seed`."""

    share: float = 0.2
    seed: int = 0

    def held_out(self, data: Trajectories) -> tuple[np.ndarray, ...]:
        _check_share(self.share)
        # at least one series on each side where there are two
        count = min(max(1, round(self.share * len(data))), max(len(data) - 1, 0))
        chosen = set(np.random.default_rng(self.seed).permutation(len(data))[:count].tolist())
        return tuple(np.full(len(s), k in chosen) for k, s in enumerate(data))

    def describe(self) -> str:
        return f"{100 * self.share:g} % of the series, drawn with seed {self.seed}"

    def to_dict(self) -> dict[str, Any]:
        return {"rule": "some-series", **asdict(self)}


@dataclass(frozen=True)
class LastDaysOfMonth:
    """The last `days` days of every calendar month, on the wall clock of the table."""

    days: int = 7

    def held_out(self, data: Trajectories) -> tuple[np.ndarray, ...]:
        if not 1 <= self.days <= 27:
            raise InputError(f"the last {self.days} days of every month", expected="1 to 27 days")
        return tuple(self._late(data, s) for s in data)

    def _late(self, data: Trajectories, series: Series) -> np.ndarray:
        day = data.clock.wall(series.times, "D")
        next_month = (day.astype("datetime64[M]") + 1).astype("datetime64[D]")
        return (next_month - day).astype(np.int64) <= self.days

    def describe(self) -> str:
        return f"the last {self.days} days of every month"

    def to_dict(self) -> dict[str, Any]:
        return {"rule": "last-days-of-month", **asdict(self)}


@dataclass(frozen=True)
class Nothing:
    """No row is held out."""

    def held_out(self, data: Trajectories) -> tuple[np.ndarray, ...]:
        return tuple(np.zeros(len(s), bool) for s in data)

    def describe(self) -> str:
        return "nothing"

    def to_dict(self) -> dict[str, Any]:
        return {"rule": "nothing"}


Rule = LastPart | SomeSeries | LastDaysOfMonth | Nothing
_RULES: dict[str, type[Rule]] = {
    "last-part": LastPart,
    "some-series": SomeSeries,
    "last-days-of-month": LastDaysOfMonth,
    "nothing": Nothing,
}


def auto(data: Trajectories) -> Rule:
    """The default: 20 % of the series when there are more than 20, else the last 20 % of each one's time."""
    return SomeSeries() if len(data) > MANY_SERIES else LastPart()


def rule_from_dict(saved: dict[str, Any]) -> Rule:
    """The rule that `to_dict` wrote."""
    return _RULES[saved["rule"]](**{name: value for name, value in saved.items() if name != "rule"})


def _check_share(share: float) -> None:
    if not (math.isfinite(share) and 0 < share < 1):
        raise InputError(f"a held-out share of {share:g}", expected="a number between 0 and 1")

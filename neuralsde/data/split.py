"""Which rows are fitted, which choose the checkpoint, and which are held out for the test.

A `Split` gives every row of a table one role. The test rows come from a rule (`rules.py`); of what is left, the last
tenth of each stretch is for validation, or a tenth of the series when more than 20 are left. `fit_data` cuts the
test rows out and returns the contiguous stretches between them as series of their own: no transition crosses a test
part, no value is carried over one, and no scale is learnt from one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from neuralsde.data.rules import (
    MANY_SERIES,
    LastDaysOfMonth,
    LastPart,
    Nothing,
    Rule,
    SomeSeries,
    auto,
    rule_from_dict,
)
from neuralsde.data.trajectories import Series, Trajectories
from neuralsde.errors import InputError

TRAIN, VALIDATION, TEST = 0, 1, 2
VALIDATION_SHARE = 0.1

__all__ = [
    "TEST", "TRAIN", "VALIDATION", "LastDaysOfMonth", "LastPart", "Nothing", "Rule", "Segment", "SomeSeries", "Split",
    "auto", "rule_from_dict",
]  # fmt: skip


@dataclass(frozen=True)
class Segment:
    """Rows `start:stop` of the series with number `series`, all on one side of the test."""

    series: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def rows(self) -> slice:
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Split:
    """The roles (n,) int8 of the rows of each series of `data`, and the rule by which the test rows were chosen."""

    data: Trajectories
    rule: Rule
    roles: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, data: Trajectories, rule: Rule | None = None) -> Split:
        """Roles for the rows of `data` by `rule`, or by `auto(data)`.

        Raises `InputError` when the rule holds nothing out or leaves nothing to train on.
        """
        rule = auto(data) if rule is None else rule
        roles = tuple(np.where(held, TEST, TRAIN).astype(np.int8) for held in rule.held_out(data))
        _mark_validation(roles)
        table = f"{data.n_rows} rows in {len(data)} series"
        if not isinstance(rule, Nothing) and not any(np.any(role == TEST) for role in roles):
            raise InputError(table, f"no row belongs to {rule.describe()}", "a table with something to hold out")
        if not any(np.any((role[1:] == TRAIN) & (role[:-1] == TRAIN)) for role in roles):
            meaning = f"without {rule.describe()} no two neighbouring rows are left to train on"
            raise InputError(table, meaning, "longer series, or more of them")
        return cls(data, rule, roles)

    @cached_property
    def fit_segments(self) -> tuple[Segment, ...]:
        """The stretches without test rows, of two rows or more."""
        return tuple(s for s in _segments([role != TEST for role in self.roles]) if len(s) > 1)

    @cached_property
    def test_segments(self) -> tuple[Segment, ...]:
        """The stretches of test rows."""
        return tuple(_segments([role == TEST for role in self.roles]))

    @cached_property
    def fit_data(self) -> Trajectories:
        """The fit stretches as series; `EWR` in one piece keeps its name, in several they are `EWR #1`, `EWR #2`."""
        return replace(self.data, series=tuple(self._named(self.fit_segments)))

    @property
    def fit_roles(self) -> tuple[np.ndarray, ...]:
        """TRAIN or VALIDATION for each row of each series of `fit_data`."""
        return tuple(self.roles[s.series][s.rows] for s in self.fit_segments)

    @cached_property
    def train_data(self) -> Trajectories:
        """The training rows alone, without validation: what scales and baselines are learnt from."""
        segments = [s for s in _segments([role == TRAIN for role in self.roles]) if len(s) > 1]
        return replace(self.data, series=tuple(self._named(tuple(segments))))

    def _named(self, segments: tuple[Segment, ...]) -> list[Series]:
        pieces = [s.series for s in segments]
        named = []
        for k, segment in enumerate(segments):
            series = self.data.series[segment.series]
            piece = f" #{pieces[:k].count(segment.series) + 1}" if pieces.count(segment.series) > 1 else ""
            named.append(replace(series.rows(segment.rows), id=series.id + piece))
        return named

    def describe(self) -> str:
        """The rule and what it comes to, in one line."""
        counts = np.bincount(np.concatenate(self.roles), minlength=3)
        rows = f"{counts[TRAIN]} rows to train, {counts[VALIDATION]} to validate, {counts[TEST]} to test"
        return f"held out: {self.rule.describe()} ({rows})"

    def to_dict(self) -> dict[str, Any]:
        """The rule; with the same data it gives the same roles."""
        return self.rule.to_dict()


def _mark_validation(roles: tuple[np.ndarray, ...]) -> None:
    """Mark the validation rows: the end of each stretch, or whole series when many are left."""
    segments = [s for s in _segments([role != TEST for role in roles]) if len(s) > 1]
    if len({s.series for s in segments}) > MANY_SERIES:
        left = sorted({s.series for s in segments})
        # spread evenly over the table, so that an order in it (by size, by date) is met on both sides
        count = max(1, round(VALIDATION_SHARE * len(left)))
        chosen = {left[int((k + 0.5) * len(left) / count)] for k in range(count)}
        for s in segments:
            if s.series in chosen:
                roles[s.series][s.rows] = VALIDATION
        return
    for s in segments:
        # a transition needs two rows, so a stretch of fewer than four has none to spare
        length = max(1, round(VALIDATION_SHARE * len(s))) if len(s) >= 4 else 0
        roles[s.series][s.stop - length : s.stop] = VALIDATION


def _segments(masks: list[np.ndarray]) -> list[Segment]:
    """The runs of true in each mask."""
    found = []
    for series, mask in enumerate(masks):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
        found += [Segment(series, int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return found

"""How a table is laid out: which column is the series, the time, a value, a covariate, and in what range.

A run keeps the layout of the table on which it was fitted, so that `forecast RUN other.csv` reads the next table the
same way and refuses one of another shape. The layout is plain JSON; an endless bound is written as null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuralsde.data.trajectories import Trajectories
from neuralsde.errors import InputError, closest

Range = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """Names and ranges of the columns of a table.

    `values` are all value columns in table order, those that never change (`constants`) among them; `context` the
    known covariates of the table and `calendar` those that the clock makes. `static` columns never change within a
    series, `discrete` ones hold labels that change and are not known ahead; `levels` are the labels of the discrete
    columns and of the static ones that are not numbers (`labels.py`). `support` is the range that no sample leaves,
    `plausible` the range outside which an entry counts as missing.
    """

    id: str | None
    time: str | None
    values: tuple[str, ...]
    context: tuple[str, ...] = ()
    calendar: tuple[str, ...] = ()
    constants: dict[str, float] = field(default_factory=dict)
    support: dict[str, Range] = field(default_factory=dict)
    plausible: dict[str, Range] = field(default_factory=dict)
    static: tuple[str, ...] = ()
    discrete: tuple[str, ...] = ()
    levels: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def covariates(self) -> tuple[str, ...]:
        """The columns of `Series.context`, in their order."""
        return (*self.context, *self.static, *self.discrete)

    @property
    def modelled(self) -> tuple[str, ...]:
        """The value columns that change."""
        return tuple(name for name in self.values if name not in self.constants)

    @classmethod
    def of(cls, data: Trajectories) -> Layout:
        """The layout of the table from which `data` was read (constants last)."""
        return cls(
            data.id_name,
            data.time_name,
            (*data.columns, *data.constants),
            data.context_columns,
            data.calendar,
            dict(data.constants),
            dict(data.support),
            dict(data.plausible),
            data.static,
            data.discrete,
            dict(data.levels),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; parts that a table does not have are left out, so that older runs keep their plan."""
        labelled = {
            "static": list(self.static),
            "discrete": list(self.discrete),
            "levels": {name: list(levels) for name, levels in self.levels.items()},
        }
        return {
            "id": self.id,
            "time": self.time,
            "values": list(self.values),
            "context": list(self.context),
            "calendar": list(self.calendar),
            "constants": dict(self.constants),
            "support": {name: [_finite(bound) for bound in bounds] for name, bounds in self.support.items()},
            "plausible": {name: [_finite(bound) for bound in bounds] for name, bounds in self.plausible.items()},
            **{name: part for name, part in labelled.items() if part},
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Layout:
        return cls(
            saved["id"],
            saved["time"],
            tuple(saved["values"]),
            tuple(saved["context"]),
            tuple(saved["calendar"]),
            dict(saved["constants"]),
            _ranges(saved["support"]),
            _ranges(saved["plausible"]),
            tuple(saved.get("static", ())),
            tuple(saved.get("discrete", ())),
            {name: tuple(levels) for name, levels in saved.get("levels", {}).items()},
        )


def _finite(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None


def _ranges(saved: dict[str, list[float | None]]) -> dict[str, Range]:
    return {n: (-math.inf if lo is None else lo, math.inf if hi is None else hi) for n, (lo, hi) in saved.items()}


def names(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """One name, several, or none, as a tuple."""
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else tuple(given)


def declared_support(
    positive: str | Iterable[str] | None, bounded: Mapping[str, Sequence[float | int]] | None, columns: Sequence[str]
) -> dict[str, Range]:
    """The support of each declared column: (0, inf) when positive, (lo, hi) when bounded."""
    support = dict.fromkeys(names(positive), (0.0, math.inf))
    both = [name for name in support if name in (bounded or {})]
    if both:
        raise InputError(f"{both[0]!r} as positive and as bounded", expected="one of the two")
    return _known(support, columns, "positive") | declared_ranges(bounded, columns, "bounded")


def declared_ranges(
    declared: Mapping[str, Sequence[float | int]] | None, columns: Sequence[str], option: str
) -> dict[str, Range]:
    """Ranges (lo, hi) with lo < hi by column; `InputError` for an unknown column or an empty range."""
    ranges: dict[str, Range] = {}
    for name, bounds in (declared or {}).items():
        lo, hi = (float(bound) for bound in bounds)
        if not lo < hi or (option == "bounded" and not math.isfinite(hi - lo)):
            raise InputError(f"{option} {name} {lo:g} {hi:g}", expected="two finite numbers LO < HI")
        ranges[name] = (lo, hi)
    return _known(ranges, columns, option)


def _known(ranges: dict[str, Range], columns: Sequence[str], option: str) -> dict[str, Range]:
    for name in ranges:
        if name not in columns:
            raise InputError(f"{option} {name!r}", "that is not a value column", hint=closest(name, columns))
    return ranges

"""The ragged container that the whole practical half of the package speaks.

A table of sequences is a list of `Series`: strictly increasing times t_1 < ... < t_n, of any length and with any
gaps, values with `NaN` where an entry is missing, and a complete known context. A `Clock` says what the times are:
plain numbers in the user's unit, or time stamps held as seconds since 1970-01-01 UTC. Nothing here is normalised;
`encode.py` turns it into what a model reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from neuralsde.data.clock import Clock


@dataclass(frozen=True)
class Series:
    """One sequence: `times (n,)`, `values (n, d)` with NaN for missing, `context (n, c)` without NaN; float64.

    The columns of `context` are `Trajectories.covariates`; labels stand there as their codes (`labels.py`).
    """

    id: str
    times: np.ndarray
    values: np.ndarray
    context: np.ndarray

    def __len__(self) -> int:
        return len(self.times)

    def rows(self, keep: np.ndarray | slice) -> Series:
        """The rows that a boolean mask, an index array or a slice keeps."""
        return replace(self, times=self.times[keep], values=self.values[keep], context=self.context[keep])


@dataclass(frozen=True)
class Trajectories:
    """Sequences with the names of their columns.

    `columns` are the d modelled values, `context_columns` the c known covariates that come from the table,
    `calendar` the features that the clock makes from a time ("hour-of-day", ...; see `clock.py`). `static` covariates
    never change within a series; `discrete` ones are labels that change and are not known ahead; `levels` holds the
    labels of each column that has them. `constants` are
    columns that never change: carried through to every output, kept out of the model. `support` holds the
    declared range of a column, (0, inf) for a positive one, (lo, hi) for a bounded one; `plausible` the range outside
    which an entry was taken as missing. `notes` says in plain words what reading changed;
    `source` is the file that was read, empty for data from memory.
    """

    series: tuple[Series, ...]
    columns: tuple[str, ...]
    context_columns: tuple[str, ...] = ()
    calendar: tuple[str, ...] = ()
    clock: Clock = field(default_factory=Clock)
    id_name: str | None = None
    time_name: str | None = "time"
    constants: dict[str, float] = field(default_factory=dict)
    support: dict[str, tuple[float, float]] = field(default_factory=dict)
    plausible: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source: str = ""
    static: tuple[str, ...] = ()
    discrete: tuple[str, ...] = ()
    levels: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.series)

    def __iter__(self) -> Iterator[Series]:
        return iter(self.series)

    @property
    def covariates(self) -> tuple[str, ...]:
        """The columns of `Series.context`: known covariates, static ones, discrete ones."""
        return (*self.context_columns, *self.static, *self.discrete)

    @property
    def n_rows(self) -> int:
        return sum(len(s) for s in self.series)

    def typical_gap(self) -> float:
        """Median gap between neighbouring rows, in clock units; the unit of the model's time."""
        gaps = [np.diff(s.times) for s in self.series if len(s) > 1]
        return float(np.median(np.concatenate(gaps))) if gaps else 1.0

    def fingerprint(self) -> str:
        """SHA-256 over names, times, values and context: says whether two tables are the same data."""
        digest = hashlib.sha256(repr((self.columns, self.context_columns, self.calendar)).encode())
        if self.static or self.discrete:
            digest.update(repr((self.static, self.discrete, sorted(self.levels.items()))).encode())
        for s in self.series:
            digest.update(s.id.encode())
            for array in (s.times, s.values, s.context):
                digest.update(np.ascontiguousarray(array, np.float64).tobytes())
        return digest.hexdigest()

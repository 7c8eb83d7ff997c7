"""All series of a table as flat arrays in model units: what windows are cut from.

Row r belongs to series `series[r]`; the rows of series s are `start[s]:start[s + 1]`, in order of time. A missing
value is represented three times, as a model needs it (THEORY 20): by the mask `observed`, by the last observed value
`filled`, and by the model time `age` that has passed since.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rows:
    """R rows of S series, d values, c covariates; float32 in model units except `time` and `origin`."""

    value: np.ndarray
    """(R, d); 0 where missing."""
    observed: np.ndarray
    """(R, d) bool."""
    filled: np.ndarray
    """(R, d); the last observed value of the series, 0 (the mean) before the first."""
    age: np.ndarray
    """(R, d); model time since that observation, inf before the first."""
    time: np.ndarray
    """(R,) float64; model time since the first row of the series."""
    gap: np.ndarray
    """(R,); model time since the previous row, 0 at the first."""
    context: np.ndarray
    """(R, c); covariates of the table and of the calendar, in the row itself."""
    series: np.ndarray
    """(R,) int32."""
    start: np.ndarray
    """(S + 1,) int64."""
    origin: np.ndarray
    """(S,) float64; the clock time at which each series starts."""
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.time)

    def of(self, series: int) -> slice:
        """The rows of one series."""
        return slice(int(self.start[series]), int(self.start[series + 1]))


def carry_forward(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Last observed value (n, d), 0 before the first, and its age (n, d), inf before the first; both float32.

    times: (n,) float64; values: (n, d) with NaN where missing.
    """
    row = np.where(np.isnan(values), -1, np.arange(len(times))[:, None])
    last = np.maximum.accumulate(row, axis=0)
    known = last >= 0
    source = np.maximum(last, 0)
    filled = np.where(known, np.take_along_axis(values, source, axis=0), 0.0)
    age = np.where(known, times[:, None] - times[source], np.inf)
    return filled.astype(np.float32), age.astype(np.float32)

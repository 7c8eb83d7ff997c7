"""Held-out windows: origins, their targets a few leads ahead, and the same pairs of training rows for the baselines.

A lead is a number of typical gaps. The target of an origin is the row nearest to origin + lead, if it lies within half
a gap of it; irregular series keep their actual leads. Origin and target must be marked in the same mask, so no window
reaches out of a held-out stretch, and no baseline learns from a held-out row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuralsde.data import Encoder, Rows
from neuralsde.evaluate.baselines import Pairs

_TOLERANCE = 0.5


@dataclass(frozen=True)
class Windows:
    """n origins with q leads: `origin (n,)` rows, `target (n, q)` rows or -1, `lead (n, q)` model time or NaN."""

    origin: np.ndarray
    target: np.ndarray
    lead: np.ndarray


def find_windows(rows: Rows, marked: np.ndarray, leads: tuple[int, ...], stride: float) -> Windows:
    """Windows from marked rows (R,), about one every `stride` of model time in each marked stretch; 0 for all."""
    target = np.full((len(rows), len(leads)), -1, np.int64)
    for s in range(len(rows.ids)):
        part = rows.of(s)
        for j, lead in enumerate(leads):
            target[part, j] = part.start + _nearest(rows.time[part], rows.time[part] + lead)
            off = np.abs(rows.time[target[part, j]] - rows.time[part] - lead) > _TOLERANCE
            empty = ~rows.observed[target[part, j]].any(1)
            same = target[part, j] <= np.arange(part.start, part.stop)
            target[part, j] = np.where(off | empty | same | ~marked[target[part, j]], -1, target[part, j])
    stretch = _stretches(rows, marked)
    broken = stretch[np.maximum(target, 0)] != stretch[:, None]
    target = np.where(broken, -1, target)
    origin = np.flatnonzero(marked & (target >= 0).any(1) & _every(rows, stretch, stride))
    reached = target[origin]
    lead = np.where(reached >= 0, rows.time[np.maximum(reached, 0)] - rows.time[origin][:, None], np.nan)
    return Windows(origin, reached, lead)


def _nearest(times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    right = np.clip(np.searchsorted(times, wanted), 1, max(len(times) - 1, 1))
    right = np.minimum(right, len(times) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(times[left] - wanted) <= np.abs(times[right] - wanted), left, right)


def _stretches(rows: Rows, marked: np.ndarray) -> np.ndarray:
    """A number for each run of equal marks in each series."""
    change = np.ones(len(rows), bool)
    change[1:] = (marked[1:] != marked[:-1]) | (rows.series[1:] != rows.series[:-1])
    return np.cumsum(change)


def _every(rows: Rows, stretch: np.ndarray, stride: float) -> np.ndarray:
    """The first row of every interval of length `stride`, counted from the start of each stretch."""
    first = np.flatnonzero(np.diff(stretch, prepend=-1))
    begin = rows.time[first][np.cumsum(np.diff(stretch, prepend=-1) > 0) - 1]
    if stride == 0:
        return np.ones(len(rows), bool)
    cell = np.floor((rows.time - begin) / stride + 1e-9).astype(np.int64)
    new = np.ones(len(rows), bool)
    new[1:] = (cell[1:] != cell[:-1]) | (stretch[1:] != stretch[:-1])
    return new


def carried(leads: np.ndarray) -> np.ndarray:
    """Increasing lead times without holes: a missing target is passed at the nearest whole step, and not scored."""
    filled = leads.copy()
    for j in range(leads.shape[1]):
        before = filled[:, j - 1] if j else np.zeros(len(leads))
        usual = np.nanmedian(leads[:, j]) if np.isfinite(leads[:, j]).any() else before + 1.0
        guess = np.maximum(usual, before + 0.5)
        filled[:, j] = np.where(np.isfinite(leads[:, j]) & (leads[:, j] > before), leads[:, j], guess)
    return filled


def pairs(encoder: Encoder, rows: Rows, windows: Windows, lead: int, history: int) -> Pairs:
    """The windows of one lead (a column of `windows`) in data units, for the baselines; those without a target too."""
    origin, target = windows.origin, np.maximum(windows.target[:, lead], 0)
    first = rows.start[:-1][rows.series[origin]]
    index = np.maximum(origin[:, None] - np.arange(history, -1, -1), first[:, None])
    past = encoder.decode(np.where(np.isfinite(rows.age[index]), rows.filled[index], np.nan))
    truth = np.where(rows.observed[target] & (windows.target[:, [lead]] >= 0), rows.value[target], np.nan)
    hour = month = None
    if encoder.clock.is_calendar:
        times = rows.origin[rows.series[target]] + rows.time[target] * encoder.tau
        hour, month = encoder.clock.hour_and_month(times)
    later = rows.context[target].astype(np.float64)
    later[:, encoder.held] = rows.context[origin][:, encoder.held]  # nobody knows the labels ahead
    return Pairs(
        history=past,
        target=encoder.decode(truth),
        lead=np.nan_to_num(windows.lead[:, lead]),
        context=rows.context[origin].astype(np.float64),
        target_context=later,
        hour=hour,
        month=month,
    )

"""Cutting a table with holes into stretches that can be filled in one by one.

A model with h rows of history is a Markov chain of windows. A row whose last h + 1 rows are complete therefore parts
what lies before it from what lies after: the law of a hole given everything is its law given the complete window before
it and the rows up to the next complete window. Only stretches with something to fill in are simulated; at the start
of a series, where no window is complete, the path begins with the prior before the first row.

Where windows are never complete, a stretch of more than `LONGEST` points is cut at its most complete rows. This is an
approximation: the path of a piece starts from the incomplete window `OVERLAP` points or more before the piece, as
a forecast from that row would, and runs on for `OVERLAP` points or until every channel has been seen again.

Points (see `models.conditional`): rows, divisions of gaps into round(gap) equal steps as in `ahead.grid`, asked times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from neuralsde.data import Rows
from neuralsde.data.model_time import TICK
from neuralsde.errors import InputError

LONGEST = 64
OVERLAP = 16
LOOK_AHEAD = 128
_MOST_POINTS = 20_000


@dataclass(frozen=True)
class Block:
    """One stretch: K points after the row `start`, or after nothing when `unseen` (then `start` is the first row).

    last: number of the last row, within its series, that gets its answer here.
    times, dt, gap, closes (K,): model time since the start of the series; see `models.conditional.Points`.
    row (K,):  the row of the table at that point, or -1.
    slot (K,): where the answer goes: a row of the table, len(rows) + the number of an asked time, or -1.
    """

    series: int
    last: int
    start: int
    unseen: bool
    times: np.ndarray
    dt: np.ndarray
    gap: np.ndarray
    closes: np.ndarray
    row: np.ndarray
    slot: np.ndarray

    def __len__(self) -> int:
        return len(self.times)


def find_blocks(rows: Rows, asked: Sequence[np.ndarray], history: int, substeps: int = 1) -> list[Block]:
    """All stretches with a missing entry or an asked time.

    asked: for each series, increasing model times between its first and last row, none of them a row's. They are
           numbered through the series, in this order.

    Raises InputError for a gap of tens of thousands of steps inside a stretch.
    """
    blocks: list[Block] = []
    offset = len(rows)
    for s, wanted in enumerate(asked):
        series = _Series.of(rows, s, wanted, history)
        for piece in series.pieces():
            _check_length(rows, s, series, piece)
            blocks.append(_block(series, piece, s, int(rows.start[s]), offset, substeps))
        offset += len(wanted)
    return blocks


def _check_length(rows: Rows, number: int, series: _Series, piece: _Piece) -> None:
    if series.between(piece.start, piece.stop) <= _MOST_POINTS:
        return
    gaps = np.diff(series.times[max(piece.start, 0) : piece.stop + 1])
    raise InputError(
        f"a gap of {gaps.max():.0f} steps in series '{rows.ids[number]}'",
        "something beside it is missing or was asked for, and a path would have to take every step of the typical gap",
        f"at most {_MOST_POINTS} steps between two complete rows",
        "two series, one before and one after the gap",
    )


@dataclass(frozen=True)
class _Piece:
    """The path runs from the window of row `start` (-1: from before the first) to row `stop`; the answers are those
    after row `first` up to row `last`.
    """

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class _Series:
    """One series: `position (R + 1,)` counts points, that of row r being `position[r + 1]`; `need (R,)` marks rows
    that miss something or have an asked time in the gap before them; `free (R,)` rows whose window is complete;
    `fullness (R,)` says how complete it is.
    """

    times: np.ndarray
    asked: np.ndarray
    observed: np.ndarray
    position: np.ndarray
    need: np.ndarray
    free: np.ndarray
    fullness: np.ndarray

    @classmethod
    def of(cls, rows: Rows, number: int, asked: np.ndarray, history: int) -> _Series:
        part = rows.of(number)
        times, observed = rows.time[part], rows.observed[part]
        inside = np.bincount(np.searchsorted(times, asked), minlength=len(times))
        steps = _divisions(np.diff(times, prepend=times[0])) + inside
        window = np.maximum(np.arange(len(times))[:, None] - np.arange(history + 1), 0)
        complete = np.all(observed, axis=1)
        return cls(
            times=times,
            asked=asked,
            observed=observed,
            position=np.concatenate([[0], np.cumsum(steps)]),
            need=~complete | (inside > 0),
            free=np.all(complete[window], axis=1),
            fullness=observed.mean(1) + observed[window].mean((1, 2)),
        )

    def pieces(self) -> Iterator[_Piece]:
        """Stretches between rows with a complete window, cut where they are long; those that need nothing left out."""
        needs = np.concatenate([[0], np.cumsum(self.need)])
        ends = np.unique(np.concatenate([[-1], np.flatnonzero(self.free), [len(self.times) - 1]]))
        for p, q in pairwise(ends.tolist()):
            if needs[q + 1] == needs[p + 1]:
                continue
            cuts = self._cuts(p, q)
            for first, last in pairwise(cuts):
                if needs[last + 1] > needs[first + 1]:
                    yield _Piece(self._warm_up(p, first), self._look_ahead(last, q), first, last)

    def between(self, a: int, b: int) -> int:
        return int(self.position[b + 1] - self.position[a + 1])

    def _rows(self, low: int, high: int) -> np.ndarray:
        """Rows whose position is in [low, high]."""
        return np.arange(*(np.searchsorted(self.position[1:], (low, high + 1)).tolist()))

    def _fullest(self, among: np.ndarray) -> int:
        return int(among[::-1][np.argmax(self.fullness[among[::-1]])])

    def _cuts(self, p: int, q: int) -> list[int]:
        cuts = [p]
        while self.between(cuts[-1], q) > LONGEST:
            here = int(self.position[cuts[-1] + 1])
            among = self._rows(here + LONGEST // 2, here + LONGEST)
            # where one gap is longer than a piece, the row at its end
            cut = self._fullest(among) if len(among) else int(np.searchsorted(self.position[1:], here + LONGEST))
            if cut >= q:
                break
            cuts.append(cut)
        return [*cuts, q]

    def _warm_up(self, p: int, first: int) -> int:
        if self.between(p, first) <= 2 * OVERLAP:
            return p
        here = int(self.position[first + 1])
        among = self._rows(here - 2 * OVERLAP, here - OVERLAP)
        among = among if len(among) else self._rows(0, here - OVERLAP)[-1:]
        return max(self._fullest(among), p) if len(among) else p

    def _look_ahead(self, last: int, q: int) -> int:
        if last == q:
            return q
        here = int(self.position[last + 1])
        enough, limit = np.searchsorted(self.position[1:], (here + OVERLAP, here + LOOK_AHEAD)).tolist()
        later = self.observed[last + 1 : q + 1]
        seen = np.where(later.any(0), later.argmax(0), len(later)).max() + last + 1
        return int(min(max(enough, min(seen, limit)), q))


def _divisions(gap: np.ndarray) -> np.ndarray:
    return np.maximum(1, np.rint(gap)).astype(np.int64)


def _block(series: _Series, piece: _Piece, number: int, offset: int, asked_offset: int, substeps: int) -> Block:
    """The points of a piece. `offset`: the series' first row in the table; `asked_offset`: slot of its first time."""
    base = max(piece.start, 0)
    T = series.times[base : piece.stop + 1]
    count = _divisions(np.diff(T))
    parts = count * substeps
    index = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    gap, parts_of, origin = (np.repeat(each, parts) for each in (np.diff(T), parts, T[:-1]))
    times = origin + gap * (index + 1) / parts_of
    length = np.repeat(np.diff(T) / count, parts)
    closes = (index + 1) % substeps == 0
    row = np.where(index + 1 == parts_of, np.repeat(np.arange(len(count)), parts) + base + 1, -1)
    if piece.start < 0:  # the first row is itself a step, of no length, from the prior
        times, length, closes, row = (np.r_[x, y] for x, y in ((T[0], times), (0.0, length), (True, closes), (0, row)))
    times, length, closes, row, ask = _with_asked(series.asked, T, times, length, closes, row)
    low = series.times[piece.first] if piece.first >= 0 else -np.inf
    mine = (times > low) & (times <= series.times[piece.last])
    slot = np.where(ask >= 0, asked_offset + ask, -1)
    slot = np.where((row >= 0) & ~series.observed[row].all(1), offset + row, slot)
    return Block(
        series=number,
        last=piece.last,
        start=offset + base,
        unseen=piece.start < 0,
        times=times,
        dt=np.diff(times, prepend=T[0]),
        gap=length,
        closes=closes,
        row=np.where(row >= 0, offset + row, -1),
        slot=np.where(mine, slot, -1),
    )


def _with_asked(
    asked: np.ndarray, T: np.ndarray, times: np.ndarray, length: np.ndarray, closes: np.ndarray, row: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The points with the asked times between T[0] and T[-1] among them, and the number of each, or -1."""
    ask = np.full(len(times), -1)
    numbers = np.flatnonzero((asked > T[0]) & (asked < T[-1]))
    if len(numbers) == 0:
        return times, length, closes, row, ask
    after = np.searchsorted(times, asked[numbers])
    nearest = np.where(
        np.abs(times[after - 1] - asked[numbers]) < np.abs(times[after] - asked[numbers]), after - 1, after
    )
    there = np.abs(times[nearest] - asked[numbers]) < TICK  # a division of a gap that was asked for
    ask[nearest[there]] = numbers[there]
    after, numbers = after[~there], numbers[~there]
    return (
        np.insert(times, after, asked[numbers]),
        np.insert(length, after, length[after]),
        np.insert(closes, after, False),
        np.insert(row, after, -1),
        np.insert(ask, after, numbers),
    )

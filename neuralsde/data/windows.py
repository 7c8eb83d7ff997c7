"""Windows and transitions cut from encoded rows.

All rows lie on the device once; a window is a gather. A row k of a series is a start when its next row belongs to the
same series and has something observed in it; its window is the rows k - h .. k. Before the first row of a series the
window repeats that row, so that short series and first rows serve too.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from neuralsde.data.rows import Rows
from neuralsde.models.sequence_sde import Transition
from neuralsde.models.sequence_sde.rollout import Steps
from neuralsde.models.sequence_sde.simulated import Stretch
from neuralsde.models.sequence_sde.window import Window


class Table(eqx.Module):
    """Encoded rows on the device. `clock (R,)` is model time since the start of the series, `first (R,)` the index of
    the series' first row, `reach (R,)` that of the last row of the unbroken marked stretch after it; the other fields
    are those of `Rows`.
    """

    value: Float[Array, "R d"]
    observed: Bool[Array, "R d"]
    filled: Float[Array, "R d"]
    age: Float[Array, "R d"]
    context: Float[Array, "R c"]
    gap: Float[Array, " R"]
    clock: Float[Array, " R"]
    first: Int[Array, " R"]
    reach: Int[Array, " R"]

    @staticmethod
    def of(rows: Rows, marked: np.ndarray | None = None) -> Table:
        """The rows on the device; a longer transition ends in and passes only `marked` (R,) ones, all by default."""
        first = rows.start[:-1][rows.series].astype(np.int32)
        # Not `jnp.asarray`, which compiles a program for every new shape of a numpy array.
        return Table(
            value=jax.device_put(rows.value),
            observed=jax.device_put(rows.observed),
            filled=jax.device_put(rows.filled),
            age=jax.device_put(rows.age),
            context=jax.device_put(rows.context),
            gap=jax.device_put(rows.gap),
            clock=jax.device_put(rows.time.astype(np.float32)),
            first=jax.device_put(first),
            reach=jax.device_put(_reach(rows, np.ones(len(rows), bool) if marked is None else marked)),
        )

    def window(self, row: Int[Array, ""], history: int) -> Window:
        """What is known at a row, with `history` rows before it."""
        back = jnp.arange(history, -1, -1)
        index = jnp.maximum(row - back, self.first[row])
        # Lags are sums of gaps and not differences of times, which lose their digits in a long series.
        gaps = jnp.where(row - back >= self.first[row], self.gap[index], 0.0)
        before = jnp.where((row - back > self.first[row])[1:], gaps[1:], 0.0) if history else gaps[:0]
        lag = jnp.concatenate([jnp.cumsum(before[::-1])[::-1], jnp.zeros(1, gaps.dtype)])
        return Window(self.filled[index], self.age[index], lag, self.clock[row], self.context[row])

    def transition(self, row: Int[Array, ""], history: int) -> Transition:
        """From a row to the next."""
        after = row + 1
        return Transition(self.window(row, history), self.gap[after], self.value[after], self.observed[after])

    def leap(self, row: Int[Array, ""], history: int, rows: Int[Array, ""], most: int) -> Transition:
        """From a row to the one `rows` later, at most `most`, or to the last one that `reach` allows.

        Gaps are summed, not times subtracted, as in `window`.
        """
        ahead = jnp.arange(1, most + 1)
        count = jnp.clip(rows, 1, jnp.maximum(self.reach[row] - row, 1))
        dt = jnp.where(ahead <= count, self.gap[jnp.minimum(row + ahead, len(self.gap) - 1)], 0.0).sum()
        return Transition(self.window(row, history), dt, self.value[row + count], self.observed[row + count])


def typical_move(rows: Rows, start: np.ndarray, most: int) -> np.ndarray:
    """Mean |x(k rows later) - x| (most, d) over the rows `start`, k = 1 ... most; that of the last one known beyond."""
    found = np.zeros((most, rows.value.shape[1]))
    for k in range(1, most + 1):
        here = start[start + k < len(rows)]
        here = here[rows.series[here] == rows.series[np.minimum(here + k, len(rows) - 1)]]
        seen = rows.observed[here] & rows.observed[here + k]
        moved = np.where(seen, np.abs(rows.value[here + k] - rows.value[here]), 0.0).sum(0)
        before = found[k - 2] if k > 1 else np.ones(found.shape[1])
        found[k - 1] = np.where((seen.sum(0) > 0) & (moved > 0), moved / np.maximum(seen.sum(0), 1), before)
    return found


def starts(rows: Rows, targets: np.ndarray) -> np.ndarray:
    """Rows (n,) int32 whose next row is of the same series, has an observed entry, and is marked in `targets` (R,)."""
    same = rows.series[1:] == rows.series[:-1]
    return np.flatnonzero(same & targets[1:] & rows.observed[1:].any(1)).astype(np.int32)


def stretch(table: Table, row: Int[Array, ""], past: int, rows: int) -> Stretch:
    """A window and the `rows` rows after it; beyond `reach` they are padding: gaps of zero, nothing seen."""
    after = row + jnp.arange(1, rows + 1)
    inside = after <= table.reach[row]
    after = jnp.minimum(after, len(table.gap) - 1)
    steps = Steps(jnp.where(inside, table.gap[after], 0.0), table.context[after])
    return Stretch(table.window(row, past), steps, table.value[after], table.observed[after] & inside[:, None])


def _reach(rows: Rows, marked: np.ndarray) -> np.ndarray:
    """For each row the last one (R,) int32 of the same series up to which all rows after it are marked."""
    goes_on = np.zeros(len(rows), bool)
    goes_on[:-1] = (rows.series[1:] == rows.series[:-1]) & marked[1:]
    ends = np.flatnonzero(~goes_on)
    return ends[np.searchsorted(ends, np.arange(len(rows)))].astype(np.int32)


def travel_time(rows: Rows, start: np.ndarray, size: np.ndarray) -> float:
    """Model time in which the data move by one `size` (d,): the root mean square over channels of move / size is 1.

    From the mean square displacement over 1, 2, 4, ... rows, interpolated on log scales. Within one gap it is taken to
    grow as it does from one gap to two, but no slower than a Brownian and no faster than a straight path; beyond the
    longest lag as it last did. Smooth paths of speed u give size / u, Brownian ones size² / σ², whatever the gaps and
    the unit of time are.
    """
    moves, times = _displacements(rows, start, size)
    if not len(moves) or moves[0] == 0:
        return 1.0
    above = np.flatnonzero(moves >= 1)
    k = int(above[0]) if len(above) else len(moves) - 1
    two = moves[max(k - 1, 0) : max(k, 1) + 1]
    two = np.maximum(two, np.finfo(np.float64).tiny)  # a period of just that many rows moves nowhere
    growth = 2.0 if len(two) < 2 else np.log(two[1] / two[0]) / np.log(times[max(k, 1)] / times[max(k - 1, 0)])
    if k == 0:
        growth = np.clip(growth, 1.0, 2.0)
    elif growth <= 0:
        return float(times[k])
    return float(times[k] * np.exp(-np.log(moves[k]) / growth))


def _displacements(rows: Rows, start: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean square of move / size over channels, and the mean time it took, for lags of 1, 2, 4, ... rows."""
    moves, times = [], []
    lag = 1
    while lag < len(rows):
        here = start[start + lag < len(rows)]
        here = here[rows.series[here] == rows.series[here + lag]]
        seen = rows.observed[here] & rows.observed[here + lag]
        if not seen.any():
            break
        move = (rows.value[here + lag] - rows.value[here]) / size
        moves.append(float(np.square(move[seen]).mean()))
        times.append(float((rows.time[here + lag] - rows.time[here]).mean()))
        lag *= 2
    return np.array(moves), np.array(times)


def random_walk(rows: Rows, start: np.ndarray) -> np.ndarray:
    """S.d. per √(model time) (d,) of a driftless walk fitted to the transitions from `start`; 1 where none is seen."""
    after = start + 1
    span = rows.gap[after][:, None] + rows.age[start]
    seen = rows.observed[after] & np.isfinite(span) & (span > 0)
    squared = np.where(seen, (rows.value[after] - rows.filled[start]) ** 2 / np.where(seen, span, 1.0), 0.0)
    variance = squared.sum(0) / np.maximum(seen.sum(0), 1)
    return np.where(variance > 0, np.sqrt(variance), np.where(seen.any(0), 1e-4, 1.0))

"""Windows and transitions cut from encoded rows.

All rows lie on the device once; a window is a gather. A row k of a series is a start when its next row belongs to the
same series and has something observed in it; its window is the rows k - h .. k. Before the first row of a series the
window repeats that row, so that short series and first rows serve too.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from neuralsde.data.rows import Rows
from neuralsde.models.sequence_sde import Transition
from neuralsde.models.sequence_sde.window import Window


class Table(eqx.Module):
    """Encoded rows on the device. `clock (R,)` is model time since the start of the series, `first (R,)` the index of
    the series' first row; the other fields are those of `Rows`.
    """

    value: Float[Array, "R d"]
    observed: Bool[Array, "R d"]
    filled: Float[Array, "R d"]
    age: Float[Array, "R d"]
    context: Float[Array, "R c"]
    gap: Float[Array, " R"]
    clock: Float[Array, " R"]
    first: Int[Array, " R"]

    @staticmethod
    def of(rows: Rows) -> Table:
        first = rows.start[:-1][rows.series].astype(np.int32)
        return Table(
            value=jnp.asarray(rows.value),
            observed=jnp.asarray(rows.observed),
            filled=jnp.asarray(rows.filled),
            age=jnp.asarray(rows.age),
            context=jnp.asarray(rows.context),
            gap=jnp.asarray(rows.gap),
            clock=jnp.asarray(rows.time.astype(np.float32)),
            first=jnp.asarray(first),
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


def starts(rows: Rows, targets: np.ndarray) -> np.ndarray:
    """Rows (n,) int32 whose next row is of the same series, has an observed entry, and is marked in `targets` (R,)."""
    same = rows.series[1:] == rows.series[:-1]
    return np.flatnonzero(same & targets[1:] & rows.observed[1:].any(1)).astype(np.int32)


def random_walk(rows: Rows, start: np.ndarray) -> np.ndarray:
    """S.d. per √(model time) (d,) of a driftless walk fitted to the transitions from `start`; 1 where none is seen."""
    after = start + 1
    span = rows.gap[after][:, None] + rows.age[start]
    seen = rows.observed[after] & np.isfinite(span) & (span > 0)
    squared = np.where(seen, (rows.value[after] - rows.filled[start]) ** 2 / np.where(seen, span, 1.0), 0.0)
    variance = squared.sum(0) / np.maximum(seen.sum(0), 1)
    return np.where(variance > 0, np.sqrt(variance), np.where(seen.any(0), 1e-4, 1.0))

"""A table as a panel: series side by side in the coordinates of a stated SDE, and which of their entries count."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from neuralsde.data import Trajectories
from neuralsde.errors import InputError
from neuralsde.models.physics import Panel

MANY_SERIES, BLOCKS = 40, 60
"""From so many series on each is a block of its own; fewer are cut into about so many blocks in all."""


def coordinates(values: np.ndarray, logs: tuple[bool, ...], columns: tuple[str, ...]) -> np.ndarray:
    """Columns (n, d) or their logarithms; NaN stays. Raises InputError for a value at or below 0 in a log column."""
    found = np.array(values, np.float64)
    for k in np.flatnonzero(logs):
        low = np.nanmin(found[:, k], initial=np.inf)
        if low <= 0:
            raise InputError(
                f"the value {low:g} in '{columns[k]}'", "it has no logarithm", "values above 0", "in_logs without it"
            )
        found[:, k] = np.log(found[:, k])
    return found


def make_panel(
    data: Trajectories, logs: tuple[bool, ...], unit: float, roles: Sequence[np.ndarray] | None = None
) -> Panel:
    """The panel of a table, float64.

    unit:  one unit of the user's time, in clock units. roles: for each series, which rows may count (all).
    Counted are observed entries of rows before which every column of the series has been seen.
    """
    n, d, S = max(map(len, data)), len(data.columns), len(data)
    ts, us = np.zeros((S, n)), np.zeros((S, n, d))
    seen, counted = np.zeros((S, n, d), bool), np.zeros((S, n, d), bool)
    for i, series in enumerate(data):
        m = len(series)
        u = coordinates(series.values, logs, data.columns)
        here = ~np.isnan(u)
        ts[i], us[i, :m], seen[i, :m] = series.times[-1] / unit, np.where(here, u, 0.0), here
        ts[i, :m] = series.times / unit
        before = np.cumsum(here, axis=0).min(axis=1) > 0
        counted[i, 1:m] = here[1:] & np.asarray(before)[:-1, None]
        if roles is not None:
            counted[i, :m] &= roles[i][:, None]
    return Panel(*map(jnp.asarray, (ts, us, seen, counted, blocks(np.any(counted, axis=-1)))))


def blocks(counted: np.ndarray) -> np.ndarray:
    """Numbers (S, n) of blocks: series, or stretches of neighbouring rows of one series with as many that count."""
    S, n = counted.shape
    if MANY_SERIES <= S:
        return np.repeat(np.arange(S, dtype=np.int32)[:, None], n, axis=1)
    length = max(1, -(-int(counted.sum()) // BLOCKS))
    number = np.maximum(np.cumsum(counted, axis=1) - 1, 0) // length
    first = np.concatenate([[0], np.cumsum(number[:, -1] + 1)[:-1]])
    return (number + first[:, None]).astype(np.int32)


def most_blocks(panel: Panel) -> int:
    """A bound on the number of blocks that depends on the shape of a panel alone, so that one program serves many."""
    return BLOCKS + panel.ts.shape[0]


def moments(data: Trajectories, logs: tuple[bool, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and s.d. of every column in coordinates."""
    u = coordinates(np.concatenate([s.values for s in data]), logs, data.columns)
    sd = np.nanstd(u, axis=0)
    return tuple(np.nanmean(u, axis=0).tolist()), tuple(np.where(sd > 0, sd, 1.0).tolist())

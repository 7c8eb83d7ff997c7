"""Paths from many origins at once, over the steps to each one's targets.

Between two targets a path takes round(ΔT) equal steps, at least one: steps of the typical gap, as the model was fitted
(THEORY 15). Origins with fewer steps are padded with steps of length zero, which stand still. Path j of origin i has
the key fold_in(fold_in(key, i), j), whatever the batches are, so results do not depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from neuralsde.data import Rows, Series
from neuralsde.data.windows import Table
from neuralsde.errors import RunFailed
from neuralsde.models.sequence_sde import SequenceSDE
from neuralsde.models.sequence_sde.rollout import Rollout, Steps, rollout
from neuralsde.models.sequence_sde.window import Window
from neuralsde.tasks.fitted import Fitted

_PATHS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Ahead:
    """Paths in model units: `states (n, paths, q, d)` at q targets, and the law of the last step, `mean` and `sd`."""

    states: np.ndarray
    mean: np.ndarray
    sd: np.ndarray

    def widened(self, factors: np.ndarray) -> Ahead:
        """With the spread around the median of each origin, target and column multiplied by factors (n, q, d)."""
        factors = factors[:, None]
        median = np.median(self.states, axis=1, keepdims=True)
        states, mean = (median + factors * (part - median) for part in (self.states, self.mean))
        return Ahead(states, mean, factors * self.sd)


@dataclass(frozen=True)
class Grid:
    """Steps of n origins, padded to K.

    dt (n, K): model time; end (n, K): model time since the origin at the end of each step; at (n, q): the step that
    ends at each target.
    """

    dt: np.ndarray
    end: np.ndarray
    at: np.ndarray


def grid(targets: np.ndarray) -> Grid:
    """Steps to `targets (n, q)`: increasing model times since the origin; NaN where there is none."""
    n, q = targets.shape
    reached = np.zeros(n)
    steps: list[list[float]] = [[] for _ in range(n)]
    at = np.zeros((n, q), np.int64)
    for j in range(q):
        gap = targets[:, j] - reached
        for i in np.flatnonzero(np.isfinite(gap)):
            count = max(1, round(float(gap[i])))
            steps[i] += [float(gap[i]) / count] * count
            reached[i] = targets[i, j]
        at[:, j] = [max(len(one) - 1, 0) for one in steps]
    longest = max(1, max(map(len, steps)))
    dt = np.array([one + [0.0] * (longest - len(one)) for one in steps])
    return Grid(dt, np.cumsum(dt, axis=1), at)


def paths_ahead(
    fitted: Fitted,
    rows: Rows,
    origins: np.ndarray,
    targets: np.ndarray,
    known: Sequence[Sequence[Series]],
    *,
    n: int,
    seed: int,
    substeps: int | None = None,
    told: bool = False,
) -> Ahead:
    """Draw n paths from each of the rows `origins (m,)` to `targets (m, q)`, increasing model times since the origin.

    known: for each series of `rows`, the series that give its covariates, a later one before an earlier one.
    told:  whether their discrete columns may be read after the origin (the user has given them), or keep the label
           that they have there.
    """
    if fitted.paths is not None:
        return fitted.paths(rows, origins, targets, n=n, seed=seed, substeps=substeps)
    steps = grid(targets)
    context = _context(fitted, rows, origins, steps, known)
    if not told:
        held = fitted.encoder.held
        context[..., held] = rows.context[origins][:, None, held]
    table, substeps = Table.of(rows), substeps or fitted.law.substeps
    key = jax.random.key(seed)
    batch = max(1, min(len(origins), _PATHS_AT_ONCE // n))
    parts = []
    for first in range(0, len(origins), batch):
        # the last batch is filled up with its own last origin, so that one compiled program serves all
        index = np.minimum(np.arange(first, first + batch), len(origins) - 1)
        numbers, origin, at, dt, covariates = jax.device_put(
            (index, origins[index], steps.at[index], steps.dt[index].astype(np.float32), context[index])
        )
        result = _simulate(fitted.model, table, key, numbers, origin, Steps(dt, covariates), at, n, substeps)
        parts.append([np.asarray(part)[: len(origins) - first] for part in result])
    found = Ahead(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    _check_finite(found.states)
    return found


@eqx.filter_jit
def _simulate(
    model: SequenceSDE, table: Table, key: Key[Array, ""], index: Array, origin: Array, steps: Steps, at: Array,
    n: int, substeps: int,
) -> tuple[Array, Array, Array]:  # fmt: skip
    def one(i: Array, row: Array, steps: Steps, at: Array) -> Rollout:
        window = table.window(row, model.config.past)
        keys = jax.vmap(lambda j: jax.random.fold_in(jax.random.fold_in(key, i), j))(jnp.arange(n))
        return jax.vmap(
            lambda k: jax.tree.map(lambda x: x[at], rollout(model, window, steps, key=k, substeps=substeps))
        )(keys)

    result = jax.vmap(one)(index, origin, steps, at)
    return result.states, result.mean, result.sd


@eqx.filter_jit
def paths_from(
    model: SequenceSDE, window: Window, steps: Steps, *, key: Key[Array, ""], n: int, substeps: int
) -> Array:
    """Draw n paths (n, K, d) from one window."""
    keys = jax.vmap(lambda j: jax.random.fold_in(key, j))(jnp.arange(n))
    return jax.vmap(lambda k: rollout(model, window, steps, key=k, substeps=substeps).states)(keys)


def _context(
    fitted: Fitted, rows: Rows, origins: np.ndarray, steps: Grid, known: Sequence[Sequence[Series]]
) -> np.ndarray:
    """Covariates (n, K, c) at the end of every step."""
    encoder = fitted.encoder
    found = np.zeros((*steps.end.shape, encoder.context_dim), np.float32)
    if encoder.context_dim == 0:
        return found
    for series in np.unique(rows.series[origins]):
        mine = np.flatnonzero(rows.series[origins] == series)
        times = encoder.clock_time(rows.time[origins[mine], None] + steps.end[mine], float(rows.origin[series]))
        found[mine] = encoder.context_at(times.ravel(), *known[series]).reshape(*times.shape, -1)
    return found


def _check_finite(states: np.ndarray) -> None:
    broken = ~np.isfinite(states).all(axis=(2, 3))
    if broken.any():
        raise RunFailed(
            f"{broken.sum()} of {broken.size} simulated paths are not finite",
            "the drift drives them away from the data, most likely because the model was trained too briefly or with "
            "too large a learning rate, or because the steps are longer than those it was fitted on",
            hint="more training steps, or a shorter horizon",
        )

"""Paths between observations, for every stretch of a table that misses something.

Stretches (`tasks.blocks`) do not depend on each other, so those of like length are simulated together, padded at the
end, and each draws from a key of its own: fold_in of its series, its last row and the number of the try. A try is an
unbiased weighting of its own; when its paths rest on few distinct ones, more tries are pooled by their weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from neuralsde.data import Rows, Trajectories
from neuralsde.data.windows import Table
from neuralsde.errors import RunFailed
from neuralsde.models.sequence_sde import SequenceSDE
from neuralsde.models.sequence_sde.conditional import Points, conditional, unseen
from neuralsde.models.sequence_sde.window import Window
from neuralsde.sde import ConditionalPaths
from neuralsde.tasks.blocks import Block, find_blocks
from neuralsde.tasks.fitted import Fitted

_PATHS_AT_ONCE = 8_192
_STATES_AT_ONCE = 1 << 22
_SHORTEST = 16
_ENOUGH, _MOST_TRIES = 0.25, 16
_CHEAPER_THAN_COMPILING = 4_000_000
"""Steps of paths that take less time than to compile a program for one more length."""
_filter_jit: Any = eqx.filter_jit
_quickly_compiled = _filter_jit(compiler_options={"xla_backend_optimization_level": 1})
"""Runs hardly slower than with all optimisations, and is compiled in half the time: most of it, for a small table."""


@dataclass(frozen=True)
class Drawn:
    """The answer to one stretch, in data units: samples (n, m, d) at m slots, log_weight (n,) and support (m,).

    A slot is a row of the table, or len(rows) + the number of an asked time. Observed entries have their value in
    every sample.
    """

    slot: np.ndarray
    samples: np.ndarray
    log_weight: np.ndarray
    support: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """Weights (n,) that sum to 1."""
        weights = np.exp(self.log_weight - self.log_weight.max())
        return weights / weights.sum()

    @staticmethod
    def pooled(parts: Sequence[Drawn]) -> Drawn:
        """Independent answers to one stretch as one. Their weights share a scale, so they are simply put together."""
        if len(parts) == 1:
            return parts[0]
        log_weight = np.concatenate([part.log_weight for part in parts])
        whole = Drawn(parts[0].slot, np.concatenate([p.samples for p in parts]), log_weight, parts[0].support)
        share = whole.weights.reshape(len(parts), -1).sum(1)
        support = 1 / sum(w**2 / part.support for w, part in zip(share, parts, strict=True))
        return replace(whole, support=support)


def fill(
    fitted: Fitted, data: Trajectories, rows: Rows, asked: Sequence[np.ndarray], *, n: int, seed: int
) -> Iterator[Drawn]:
    """Paths through every stretch of `data` that misses something; what is drawn for one does not depend on others.

    rows: the encoded data. asked: for each series, model times between its rows; see `blocks.find_blocks`.

    A stretch whose paths are worth less than `_ENOUGH` n of them is drawn again, twice as often each time.
    """
    solver = _Solver(fitted, data, rows, Table.of(rows), jax.random.key(seed), n)
    blocks = find_blocks(rows, asked, fitted.past, fitted.law.substeps)
    for group, length in _groups(blocks, n):
        size = _batch_size(len(group), length, n)
        parts: list[list[Drawn]] = [[] for _ in group]
        low = list(range(len(group)))
        while low:
            jobs = [(i, t) for i in low for t in range(len(parts[i]), max(1, 2 * len(parts[i])))]
            for (i, _), drawn in zip(jobs, solver.draw([(group[i], t) for i, t in jobs], length, size), strict=True):
                parts[i].append(drawn)
            low = [i for i in low if len(parts[i]) < _MOST_TRIES and Drawn.pooled(parts[i]).support.min() < _ENOUGH * n]
        yield from map(Drawn.pooled, parts)


def _groups(blocks: Sequence[Block], n: int) -> Iterator[tuple[list[Block], int]]:
    """Blocks of like length, and the length they are padded to: few, as each is a program to be compiled."""
    groups: dict[int, list[Block]] = {}
    for block in blocks:
        groups.setdefault(_padded(len(block)), []).append(block)
    for length, longer in pairwise(sorted(groups)):
        if len(groups[length]) * (longer - length) * n < _CHEAPER_THAN_COMPILING:
            groups[longer] = groups.pop(length) + groups[longer]
    for length, group in sorted(groups.items()):
        yield group, length


def _padded(length: int) -> int:
    """The next of 16, 64, 256, ..."""
    padded = _SHORTEST
    while padded < length:
        padded *= 4
    return padded


def _batch_size(count: int, length: int, n: int) -> int:
    most = max(1, min(_PATHS_AT_ONCE // n, _STATES_AT_ONCE // (n * length)))
    return most if 8 * count > most else -(-most // 8)


@dataclass(frozen=True)
class _Solver:
    """What all stretches share."""

    fitted: Fitted
    data: Trajectories
    rows: Rows
    table: Table
    key: Key[Array, ""]
    n: int

    def draw(self, jobs: Sequence[tuple[Block, int]], length: int, size: int) -> list[Drawn]:
        """Answers to jobs (stretch, number of the try), `size` at a time, padded to `length` points."""
        drawn: list[Drawn] = []
        for begin in range(0, len(jobs), size):
            part = list(jobs[begin : begin + size])
            # filled up with its own last job, so that one compiled program serves all batches of a length
            full = part + [part[-1]] * (size - len(part))
            batch = _Batch.of(self, full, length)
            paths = _solve(self.fitted.model, self.key, batch, self.n)
            states, log_weight, support = (np.asarray(x) for x in (paths.paths, paths.log_weight, paths.support))
            _check_finite(states, log_weight)
            for i, (block, _) in enumerate(part):
                wanted = np.flatnonzero(block.slot >= 0)
                samples = self.fitted.encoder.decode(states[i][:, wanted])
                worth = np.minimum(support[i][wanted].astype(np.float64), self.n)
                drawn.append(Drawn(block.slot[wanted], samples, log_weight[i].astype(np.float64), worth))
        return drawn


class _Batch(eqx.Module):
    """Blocks of one padded length K as arrays with a leading axis: see `Block` and `models.conditional.Points`."""

    series: Array
    last: Array
    attempt: Array
    window: Window
    dt: Array
    gap: Array
    closes: Array
    context: Array
    target: Array
    mask: Array

    @classmethod
    def of(cls, shared: _Solver, jobs: Sequence[tuple[Block, int]], K: int) -> _Batch:
        fitted, data, rows = shared.fitted, shared.data, shared.rows
        blocks = [block for block, _ in jobs]
        here = [b.row >= 0 for b in blocks]
        start, before = jnp.array([b.start for b in blocks]), jnp.array([b.unseen for b in blocks])
        return cls(
            series=jnp.array([b.series for b in blocks]),
            last=jnp.array([b.last for b in blocks]),
            attempt=jnp.array([t for _, t in jobs]),
            window=_windows(shared.table, start, before, fitted.past),
            dt=_stack([b.dt for b in blocks], K),
            gap=_stack([b.gap for b in blocks], K),
            closes=_stack([b.closes for b in blocks], K),
            context=_stack([_context(fitted, data, rows, b) for b in blocks], K),
            target=_stack([np.where(h[:, None], rows.value[b.row], 0) for h, b in zip(here, blocks, strict=True)], K),
            mask=_stack([h[:, None] & rows.observed[b.row] for h, b in zip(here, blocks, strict=True)], K),
        )


def _stack(arrays: Sequence[np.ndarray], K: int) -> Array:
    """Arrays (k, ...) padded with zeros to (K, ...) and stacked; float32 or bool."""
    kind = bool if arrays[0].dtype == bool else np.float32
    out = np.zeros((len(arrays), K, *arrays[0].shape[1:]), kind)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return jax.device_put(out)


def _context(fitted: Fitted, data: Trajectories, rows: Rows, block: Block) -> np.ndarray:
    """Covariates (K, c): a row's own, and elsewhere what holds at that time."""
    encoder, series = fitted.encoder, data.series[block.series]
    if encoder.context_dim == 0:
        return np.zeros((len(block), 0))
    between = encoder.context_at(encoder.clock_time(block.times, series.times[0]), series)
    return np.where(block.row[:, None] >= 0, rows.context[block.row], between)


@eqx.filter_jit
def _windows(table: Table, start: Array, before: Array, history: int) -> Window:
    """The windows of rows `start`, or of the time before. Not part of `_solve`, which is one program for any table."""

    def one(row: Array, nothing: Array) -> Window:
        window = table.window(row, history)
        return jax.tree.map(lambda none, some: jnp.where(nothing, none, some), unseen(window), window)

    return jax.vmap(one)(start, before)


@_quickly_compiled
def _solve(model: SequenceSDE, key: Key[Array, ""], batch: _Batch, n: int) -> ConditionalPaths:
    def one(b: _Batch) -> ConditionalPaths:
        points = Points(b.dt, b.gap, b.closes, b.context)
        own = reduce(jax.random.fold_in, (b.series, b.last, b.attempt), key)
        return conditional(model, b.window, points, b.target, b.mask, key=own, n=n)

    return jax.vmap(one)(batch)


def _check_finite(states: np.ndarray, log_weight: np.ndarray) -> None:
    broken = ~(np.isfinite(states).all(axis=(1, 2, 3)) & np.isfinite(log_weight).all(axis=1))
    if broken.any():
        raise RunFailed(
            f"{broken.sum()} of {broken.size} stretches have paths that are not finite",
            "the drift drives them away from the data, most likely because the model was trained too briefly or with "
            "too large a learning rate, or because its steps are longer than those it was fitted on",
            hint="more training steps",
        )

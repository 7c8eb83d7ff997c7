"""What lies between the observations: weighted paths conditioned on both sides, summed up in data units.

Every missing entry of every row, and every asked time, is a point of a path of the model that passes through all that
was observed before and after it (`models.conditional`; THEORY 22). The table is cut into stretches that do not depend
on each other (`tasks.blocks`); stretches of like length are simulated together. Each path is decoded before it is
summed up, so that means and intervals are those of the data's own units and stay within a column's support.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from jaxtyping import Array, Key

from neuralsde.data import Clock, Rows, Series, Trajectories
from neuralsde.data.windows import Table
from neuralsde.errors import InputError, RunFailed
from neuralsde.evaluate import weighted
from neuralsde.models.conditional import Points, conditional, unseen
from neuralsde.models.sequence_sde import SequenceSDE
from neuralsde.sde import ConditionalPaths
from neuralsde.tasks.blocks import Block, find_blocks
from neuralsde.tasks.fitted import Fitted
from neuralsde.tasks.forecast import Summary, checked_levels, long_table, require_paths

_PATHS_AT_ONCE = 8_192
_STATES_AT_ONCE = 1 << 22
_CHEAPER_THAN_COMPILING = 4_000_000
"""Steps of paths that take less time than to compile a program for one more length."""


def impute(
    fitted: Fitted,
    data: Trajectories,
    *,
    times: Sequence[Any] | None = None,
    levels: Sequence[float] = (80, 95),
    n: int = 200,
    seed: int = 0,
) -> pl.DataFrame:
    """A table with the columns id, time, variable, observed, mean, sd, lo-L, hi-L, ess, in data units.

    times: further times, written as in the table. Each series gets those that lie between its first and its last row.

    It holds every row and every asked time of every series. An observed entry stands as it is, with a spread of zero.
    A missing one has the weighted mean, s.d. and quantiles of n paths through everything observed around it, and in
    `ess` the number of distinct, equally weighted paths that these are worth: n at best; below some 30, ask for more.

    Between two rows paths take the steps under which the model was fitted, as a forecast does; an asked time inside a
    step divides it. Missing entries before the first observation of a column start from its climatology.

    Raises InputError for a time outside every series (after the end, that is a forecast), levels outside (0, 100) and
    fewer than two paths; RunFailed for paths that are not finite.
    """
    percents = checked_levels(levels)
    require_paths(n)
    rows = fitted.encoder.encode(data)
    asked = asked_times(fitted, data, rows, times)
    filled = _Filled.empty(data, asked, percents)
    for drawn in fill(fitted, data, rows, asked, n=n, seed=seed):
        filled.put(drawn)
    return pl.concat([filled.table(fitted, data.clock, rows, s, i, asked) for i, s in enumerate(data)])


@dataclass(frozen=True)
class Drawn:
    """The answer to one stretch, in data units: samples (n, m, d) at m slots with weights (n,) and support (m,).

    A slot is a row of the table, or len(rows) + the number of an asked time. Observed entries have their value in
    every sample.
    """

    slot: np.ndarray
    samples: np.ndarray
    weights: np.ndarray
    support: np.ndarray


@dataclass(frozen=True)
class Asked:
    """Asked times of one series: `clock (a,)` as they were given, `model (a,)` since its first row."""

    clock: np.ndarray
    model: np.ndarray


def asked_times(fitted: Fitted, data: Trajectories, rows: Rows, times: Sequence[Any] | None) -> tuple[Asked, ...]:
    """The asked times that lie strictly between the first and the last row of each series and are not rows."""
    wanted = np.unique(data.clock.parse(times)) if times is not None and len(times) else np.zeros(0)
    outside = np.ones(len(wanted), bool)
    found = []
    for i, s in enumerate(data):
        outside &= (wanted < s.times[0]) | (wanted > s.times[-1])
        here = rows.time[rows.of(i)]
        model, first = np.unique(fitted.encoder.model_time(wanted, s.times[0]), return_index=True)
        inside = (model > here[0]) & (model < here[-1]) & ~np.isin(model, here)
        found.append(Asked(wanted[first[inside]], model[inside]))
    if outside.any():
        raise _outside(data, float(wanted[outside][0]))
    return tuple(found)


def _outside(data: Trajectories, time: float) -> InputError:
    clock = data.clock
    first, last = min(s.times[0] for s in data), max(s.times[-1] for s in data)
    whose = f"series '{data.series[0].id}' runs" if len(data) == 1 else "the series run"
    return InputError(
        f"the time {clock.show(time)}",
        f"no observations lie around it: {whose} from {clock.show(first)} to {clock.show(last)}",
        "times between the rows of a series",
        "forecast for times after the end" if time > last else "times after the first row",
    )


def fill(
    fitted: Fitted, data: Trajectories, rows: Rows, asked: Sequence[Asked], *, n: int, seed: int
) -> Iterator[Drawn]:
    """Paths through every stretch of `data` that misses something. Path j of a stretch is the same in any batch."""
    blocks = find_blocks(rows, [each.model for each in asked], fitted.history, fitted.law.substeps)
    table, key = Table.of(rows), jax.random.key(seed)
    for group, size, length in _batches(blocks, n):
        # filled up with its own last stretch, so that one compiled program serves all batches of a length
        batch = _Batch.of(fitted, data, rows, group + [group[-1]] * (size - len(group)), length)
        paths = _solve(fitted.model, table, key, batch, n)
        states, weights, support = (np.asarray(x) for x in (paths.paths, paths.weights, paths.support))
        _check_finite(states, weights)
        for i, block in enumerate(group):
            wanted = np.flatnonzero(block.slot >= 0)
            samples = fitted.encoder.decode(states[i][:, wanted])
            yield Drawn(block.slot[wanted], samples, weights[i].astype(np.float64), support[i][wanted])


def _batches(blocks: Sequence[Block], n: int) -> Iterator[tuple[list[Block], int, int]]:
    """Blocks of like length, how many at once, and the length: few shapes, as each is a program to be compiled."""
    groups: dict[int, list[Block]] = {}
    for block in blocks:
        groups.setdefault(_padded(len(block)), []).append(block)
    for length, longer in pairwise(sorted(groups)):
        if len(groups[length]) * (longer - length) * n < _CHEAPER_THAN_COMPILING:
            groups[longer] = groups.pop(length) + groups[longer]
    for length, group in sorted(groups.items()):
        most = max(1, min(_PATHS_AT_ONCE // n, _STATES_AT_ONCE // (n * length)))
        size = most if 8 * len(group) > most else -(-most // 8)
        for first in range(0, len(group), size):
            yield group[first : first + size], size, length


def _padded(length: int) -> int:
    """The next of 16, 64, 256, ..."""
    return 16 << 2 * max(0, -(-(length - 1).bit_length() // 2) - 2)


class _Batch(eqx.Module):
    """Blocks of one padded length K as arrays with a leading axis: see `Block` and `models.conditional.Points`."""

    series: Array
    last: Array
    start: Array
    unseen: Array
    points: Points
    target: Array
    mask: Array

    @classmethod
    def of(cls, fitted: Fitted, data: Trajectories, rows: Rows, blocks: Sequence[Block], K: int) -> _Batch:
        here = [b.row >= 0 for b in blocks]
        return cls(
            series=jnp.array([b.series for b in blocks]),
            last=jnp.array([b.last for b in blocks]),
            start=jnp.array([b.start for b in blocks]),
            unseen=jnp.array([b.unseen for b in blocks]),
            points=Points(
                dt=_stack([b.dt for b in blocks], K),
                gap=_stack([b.gap for b in blocks], K),
                closes=_stack([b.closes for b in blocks], K),
                context=_stack([_context(fitted, data, rows, b) for b in blocks], K),
            ),
            target=_stack([np.where(h[:, None], rows.value[b.row], 0) for h, b in zip(here, blocks, strict=True)], K),
            mask=_stack([h[:, None] & rows.observed[b.row] for h, b in zip(here, blocks, strict=True)], K),
        )


def _stack(arrays: Sequence[np.ndarray], K: int) -> Array:
    """Arrays (k, ...) padded with zeros to (K, ...) and stacked; float32 or bool."""
    kind = bool if arrays[0].dtype == bool else np.float32
    out = np.zeros((len(arrays), K, *arrays[0].shape[1:]), kind)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return jnp.asarray(out)


def _context(fitted: Fitted, data: Trajectories, rows: Rows, block: Block) -> np.ndarray:
    """Covariates (K, c): a row's own, and elsewhere what holds at that time."""
    encoder, series = fitted.encoder, data.series[block.series]
    if encoder.context_dim == 0:
        return np.zeros((len(block), 0))
    between = encoder.context_at(encoder.clock_time(block.times, series.times[0]), series)
    return np.where(block.row[:, None] >= 0, rows.context[block.row], between)


@eqx.filter_jit
def _solve(model: SequenceSDE, table: Table, key: Key[Array, ""], batch: _Batch, n: int) -> ConditionalPaths:
    def one(b: _Batch) -> ConditionalPaths:
        window = table.window(b.start, model.config.history)
        window = jax.tree.map(lambda none, some: jnp.where(b.unseen, none, some), unseen(window), window)
        own = jax.random.fold_in(jax.random.fold_in(key, b.series), b.last)
        return conditional(model, window, b.points, b.target, b.mask, key=own, n=n)

    return jax.vmap(one)(batch)


def _check_finite(states: np.ndarray, weights: np.ndarray) -> None:
    broken = ~(np.isfinite(states).all(axis=(1, 2, 3)) & np.isfinite(weights).all(axis=1))
    if broken.any():
        raise RunFailed(
            f"{broken.sum()} of {broken.size} stretches have paths that are not finite",
            "the drift drives them away from the data, most likely because the model was trained too briefly or with "
            "too large a learning rate, or because its steps are longer than those it was fitted on",
            hint="more training steps",
        )


@dataclass(frozen=True)
class _Filled:
    """Summaries by slot: mean, sd, ess (slots, d), low and high ends by level; NaN where nothing is to be filled in."""

    mean: np.ndarray
    sd: np.ndarray
    ess: np.ndarray
    bands: dict[float, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def empty(cls, data: Trajectories, asked: Sequence[Asked], levels: Sequence[float]) -> _Filled:
        shape = (data.n_rows + sum(len(each.clock) for each in asked), len(data.columns))
        mean, sd, ess = (np.full(shape, np.nan) for _ in range(3))
        return cls(mean, sd, ess, {level: (np.full(shape, np.nan), np.full(shape, np.nan)) for level in levels})

    def put(self, drawn: Drawn) -> None:
        support = np.repeat(drawn.support[:, None], self.mean.shape[1], axis=1)
        self.mean[drawn.slot], self.sd[drawn.slot] = weighted.mean_and_sd(drawn.samples, drawn.weights, support)
        self.ess[drawn.slot] = support
        tails = [p for level in self.bands for p in (0.5 - level / 200, 0.5 + level / 200)]
        ends = weighted.quantiles(drawn.samples, drawn.weights, support, tails)
        for i, (low, high) in enumerate(self.bands.values()):
            low[drawn.slot], high[drawn.slot] = ends[2 * i], ends[2 * i + 1]

    def table(
        self, fitted: Fitted, clock: Clock, rows: Rows, series: Series, number: int, asked: Sequence[Asked]
    ) -> pl.DataFrame:
        """The rows of one series in order of time; observed entries as they were given."""
        here = asked[number]
        first = len(rows) + sum(len(each.clock) for each in asked[:number])
        slot = np.concatenate([np.arange(len(rows))[rows.of(number)], first + np.arange(len(here.clock))])
        given = np.concatenate([series.values, np.full((len(here.clock), len(fitted.encoder.columns)), np.nan)])
        times = np.concatenate([series.times, here.clock])
        order = np.argsort(times, kind="stable")
        slot, given = slot[order], given[order]
        observed = ~np.isnan(given)

        def settled(block: np.ndarray) -> np.ndarray:
            return np.where(observed, given, block[slot])

        bands = {level: (settled(low), settled(high)) for level, (low, high) in self.bands.items()}
        summary = Summary(settled(self.mean), np.where(observed, 0.0, self.sd[slot]), bands)
        table = long_table(fitted, clock, series.id, times[order], summary, observed=observed, ess=self.ess[slot])
        ess = pl.when("observed").then(None).otherwise("ess").alias("ess")
        return table.select(pl.exclude("ess"), ess)

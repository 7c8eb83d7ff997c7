"""Brownian motion on a grid, replayed from a key: no tree and no memory.

On fixed cells [t_i, t_{i+1}] the increments are independent, so increment i is a pure function of (key, i):

    W_i = sqrt(t_{i+1} - t_i) · N(0, I)  drawn with  fold_in(key, i).

It costs O(1) and has the same bits in the forward, the recomputed and the reversed pass, under jit, vmap and scan.
The price: another grid is another path. So a path is a value. `coarsen(r)` merges r cells exactly, `refine(r)` splits
every cell by a Brownian bridge with sub-keys and keeps the parent's increments: one path at several resolutions.
A later increment (space-time area H, areas A) is one more field of `Cell`, drawn with a sub-key of the cell.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from neuralsde.errors import InputError

# Cells use fold_in(key, i) with i < 2**31; a refinement draws from this index, which no cell can have.
_REFINEMENT = 2**32 - 1


class Cell(NamedTuple):
    """What a method sees of one step: its start, its length and the Brownian increment over it, in one dtype."""

    t0: Float[Array, ""]
    dt: Float[Array, ""]
    W: Float[Array, ...]


class BrownianPath(eqx.Module):
    """A path on a grid: `ts` (n+1,) increasing, and the increment over each of its n cells."""

    @property
    @abc.abstractmethod
    def ts(self) -> Float[Array, " n_plus_1"]:
        """The times between which the cells lie."""

    @property
    @abc.abstractmethod
    def stream(self) -> Key[Array, ""]:
        """The key from which refinements of this path are drawn."""

    @abc.abstractmethod
    def increment(self, i: Int[Array, ""] | int, shape: tuple[int, ...], dtype: Any) -> Float[Array, ...]:
        """W over cell i: `shape` independent motions, N(0, t_{i+1} - t_i), in `dtype`; the same bits at every call."""

    @property
    def cells(self) -> int:
        """Number of cells n."""
        return self.ts.shape[0] - 1

    def cell(self, i: Int[Array, ""] | int, shape: tuple[int, ...], dtype: Any) -> Cell:
        """Start, length and increment of cell i. The length is taken before rounding to `dtype`."""
        ends = lax.dynamic_slice_in_dim(self.ts, i, 2)
        return Cell(ends[0].astype(dtype), (ends[1] - ends[0]).astype(dtype), self.increment(i, shape, dtype))

    @eqx.filter_jit
    def increments(self, shape: tuple[int, ...] = (), dtype: Any = float) -> Float[Array, "n ..."]:
        """All increments, (n, *shape)."""
        return jax.vmap(lambda i: self.increment(i, shape, dtype))(jnp.arange(self.cells))

    def values(self, shape: tuple[int, ...] = (), dtype: Any = float) -> Float[Array, "n_plus_1 ..."]:
        """The path itself at `ts`, (n+1, *shape), starting from 0."""
        steps = self.increments(shape, dtype)
        return jnp.concatenate([jnp.zeros_like(steps[:1]), jnp.cumsum(steps, axis=0)])

    def coarsen(self, r: int) -> BrownianPath:
        """The same path seen at every r-th time: its increment is the sum of r of these."""
        _check_ratio(r)
        if self.cells % r:
            raise InputError(
                f"coarsen({r}) of a path of {self.cells} cells",
                "the cells do not divide into groups of that size",
                f"a divisor of {self.cells}",
            )
        return self if r == 1 else Coarsened(fine=self, r=r)

    def refine(self, r: int) -> BrownianPath:
        """The same path with r equal cells in each of these: `refine(r).coarsen(r)` has the increments of this one."""
        _check_ratio(r)
        return self if r == 1 else Refined(coarse=self, r=r)


def _check_ratio(r: int) -> None:
    if isinstance(r, bool) or not isinstance(r, int) or r < 1:
        raise InputError(f"a ratio of {r!r}", expected="an integer >= 1")


def _times(values: Any) -> Array:
    array = jnp.asarray(values)
    return array.astype(jnp.result_type(float, array.dtype))


class BrownianGrid(BrownianPath):
    """The path of one key on one grid.

    key:     a typed key, used for this path only.
    base_ts: (n+1,) increasing times.
    """

    key: Key[Array, ""]
    base_ts: Float[Array, " n_plus_1"] = eqx.field(converter=_times)

    @property
    def ts(self) -> Float[Array, " n_plus_1"]:
        """The times given."""
        return self.base_ts

    @property
    def stream(self) -> Key[Array, ""]:
        """The key itself."""
        return self.key

    def increment(self, i: Int[Array, ""] | int, shape: tuple[int, ...], dtype: Any) -> Float[Array, ...]:
        """sqrt(dt_i) times the raw normals of (key, i)."""
        ends = lax.dynamic_slice_in_dim(self.ts, i, 2)
        normals = jax.random.normal(jax.random.fold_in(self.key, i), shape, dtype)
        return jnp.sqrt(ends[1] - ends[0]).astype(dtype) * normals


class Coarsened(BrownianPath):
    """Every r-th time of a finer path; made by `coarsen`."""

    fine: BrownianPath
    r: int = eqx.field(static=True)

    @property
    def ts(self) -> Float[Array, " n_plus_1"]:
        """Every r-th time of the finer path."""
        return self.fine.ts[:: self.r]

    @property
    def stream(self) -> Key[Array, ""]:
        """That of the finer path."""
        return self.fine.stream

    def increment(self, i: Int[Array, ""] | int, shape: tuple[int, ...], dtype: Any) -> Float[Array, ...]:
        """W = W_1 + ... + W_r."""
        parts = jax.vmap(lambda j: self.fine.increment(i * self.r + j, shape, dtype))(jnp.arange(self.r))
        return parts.sum(0)


class Refined(BrownianPath):
    """r equal cells in every cell of a coarser path; made by `refine`.

    With free increments B_j of the children, W_j = B_j + (1/r)(W - Σ_k B_k): the law of Brownian motion given its
    increment W over the parent. One increment costs r normals and one increment of the parent.
    """

    coarse: BrownianPath
    r: int = eqx.field(static=True)

    @property
    def ts(self) -> Float[Array, " n_plus_1"]:
        """The coarser times with r equal cells in each gap."""
        return subdivide(self.coarse.ts, self.r)

    @property
    def stream(self) -> Key[Array, ""]:
        """A sub-key that no other level uses."""
        return jax.random.fold_in(self.coarse.stream, _REFINEMENT)

    def increment(self, i: Int[Array, ""] | int, shape: tuple[int, ...], dtype: Any) -> Float[Array, ...]:
        """Child i % r of cell i // r."""
        parent, child = i // self.r, i % self.r
        ends = lax.dynamic_slice_in_dim(self.coarse.ts, parent, 2)
        scale = jnp.sqrt((ends[1] - ends[0]) / self.r).astype(dtype)
        free = scale * jax.random.normal(jax.random.fold_in(self.stream, parent), (self.r, *shape), dtype)
        whole = self.coarse.increment(parent, shape, dtype)
        return free[child] + (whole - free.sum(0)) / self.r


def subdivide(ts: Float[Array, " k"], substeps: int) -> Float[Array, " n_plus_1"]:
    """`ts` with `substeps` equal cells in every gap, ((k-1)·substeps + 1,); the given times are kept to the bit."""
    if substeps == 1:
        return ts
    part = jnp.arange(substeps, dtype=ts.dtype) / substeps
    inner = ts[:-1, None] + (ts[1:] - ts[:-1])[:, None] * part
    return jnp.concatenate([inner.reshape(-1), ts[-1:]])

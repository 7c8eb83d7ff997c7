"""Brownian motion on a grid, replayed from a key: no tree and no memory.

On fixed cells [t_i, t_{i+1}] the increments are independent, so increment i is a pure function of (key, i):

    W_i = sqrt(t_{i+1} - t_i) · N(0, I)  drawn by the counter (key, i).

It costs O(1) and has the same bits in the forward, the recomputed and the reversed pass, under jit, vmap and scan.
The price: another grid is another path. So a path is a value. `coarsen(r)` merges r cells exactly, `refine(r)` splits
every cell by a Brownian bridge with sub-keys and keeps the parent's W and H: one path at several resolutions.
H and A follow W in the numbering of a cell's draws: asking for them leaves W as it is.
"""

from __future__ import annotations

import abc
from collections.abc import Collection
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from neuralsde.errors import InputError
from neuralsde.sde.brownian.area import Area, Foster
from neuralsde.sde.brownian.cell import Cell, Motion, merge
from neuralsde.sde.brownian.normals import normals, subkey
from neuralsde.sde.keys import checked_key

# A refinement draws with a key of its own, folded in at this index.
_REFINED = 2**32 - 1
_AREA, _AUXILIARY = 0, 1  # sub-keys of a cell


def _times(values: Any) -> Array:
    array = jnp.asarray(values)
    return array.astype(jnp.result_type(float, array.dtype))


def _check_ratio(r: int, name: str = "a ratio") -> None:
    if isinstance(r, bool) or not isinstance(r, int | np.integer) or r < 1:
        raise InputError(f"{name} of {r!r}", expected="an integer >= 1")


class BrownianPath(eqx.Module):
    """A path on a grid of n cells, the end of each the start of the next."""

    @property
    @abc.abstractmethod
    def cells(self) -> int:
        """Number of cells n."""

    @property
    @abc.abstractmethod
    def stream(self) -> Key[Array, ""]:
        """The key from which everything beyond W is drawn: refinements, areas, sub-keys."""

    @property
    @abc.abstractmethod
    def area_model(self) -> Area:
        """The model of the space-space area."""

    @abc.abstractmethod
    def ends(self, i: Int[Array, ""] | int) -> tuple[Array, Array, Array]:
        """Start, end and length of cell i, in the dtype of the times."""

    @abc.abstractmethod
    def motion(self, i: Int[Array, ""] | int, shape: tuple[int, ...], dtype: Any, needs: Collection[str]) -> Motion:
        """W of cell i, `shape` independent motions, with H if "H" or "A" is needed, and A if "A" is."""

    def cell(
        self, i: Int[Array, ""] | int, shape: tuple[int, ...], dtype: Any, needs: Collection[str] = frozenset()
    ) -> Cell:
        """Cell i with what is needed of "H", "A", "key"; the same bits at every call. Lengths are taken before rounding
        to `dtype`.
        """
        t0, t1, dt = (value.astype(dtype) for value in self.ends(i))
        W, H, A = self.motion(i, shape, dtype, needs)
        return Cell(t0, t1, dt, W, H, A, subkey(self.stream, i, _AUXILIARY) if "key" in needs else None)

    def increment(self, i: Int[Array, ""] | int, shape: tuple[int, ...], dtype: Any) -> Float[Array, ...]:
        """W over cell i alone: N(0, length), in `dtype`."""
        return self.motion(i, shape, dtype, frozenset()).W

    @property
    def ts(self) -> Float[Array, " n_plus_1"]:
        """The times between which the cells lie, (n+1,)."""
        starts, ends, _ = jax.vmap(self.ends)(jnp.arange(self.cells))
        return jnp.concatenate([starts, ends[-1:]])

    @eqx.filter_jit
    def increments(self, shape: tuple[int, ...] = (), dtype: Any = float) -> Float[Array, "n ..."]:
        """All increments, (n, *shape)."""
        return jax.vmap(lambda i: self.increment(i, shape, dtype))(jnp.arange(self.cells))

    def motions(
        self, shape: tuple[int, ...] = (), dtype: Any = float, needs: Collection[str] = frozenset({"H"})
    ) -> Motion:
        """W, and what is needed of H (n, *shape) and A (n, m, m), of all cells."""
        return _all_motions(self, shape, dtype, frozenset(needs))

    def values(self, shape: tuple[int, ...] = (), dtype: Any = float) -> Float[Array, "n_plus_1 ..."]:
        """The path itself at `ts`, (n+1, *shape), starting from 0."""
        steps = self.increments(shape, dtype)
        return jnp.concatenate([jnp.zeros_like(steps[:1]), jnp.cumsum(steps, axis=0)])

    def coarsen(self, r: int) -> BrownianPath:
        """The same path seen at every r-th time: W, H and A of r cells merged exactly."""
        _check_ratio(r)
        if self.cells % r:
            raise InputError(
                f"coarsen({r}) of a path of {self.cells} cells",
                "the cells do not divide into groups of that size",
                f"a divisor of {self.cells}",
            )
        return self if r == 1 else Coarsened(fine=self, r=r)

    def refine(self, r: int) -> BrownianPath:
        """The same path with r equal cells in each of these: `refine(r).coarsen(r)` has the W and H of this one.

        Not its A, which is a draw given W and H: a solve that uses A at several resolutions begins with the finest
        path and coarsens it (THEORY 5).
        """
        _check_ratio(r)
        return self if r == 1 else Refined(coarse=self, r=r, key=jax.random.fold_in(self.stream, _REFINED))

    def antithetic(self) -> BrownianPath:
        """The mirrored path -W: H negated too, A as it is. Averages over a path and its mirror have less variance."""
        return Antithetic(path=self)


class BrownianGrid(BrownianPath):
    """The path of one key on one grid.

    key:      a typed key, used for this path only.
    base_ts:  (k,) increasing times.
    substeps: equal cells in every gap of `base_ts`; their times are computed, not stored, so a million cost no memory.
    area:     the model of the space-space area: Foster() | Davie() | Fourier(terms).
    """

    key: Key[Array, ""]
    base_ts: Float[Array, " k"] = eqx.field(converter=_times)
    substeps: int = eqx.field(static=True, default=1)
    area: Area = eqx.field(static=True, default=Foster())

    def __check_init__(self) -> None:
        checked_key(self.key)
        _check_ratio(self.substeps, "substeps")
        if self.base_ts.ndim != 1 or self.base_ts.shape[0] < 2:
            raise InputError(
                f"base_ts of shape {self.base_ts.shape}", "no cell", "a vector of at least two times, shape (k,)"
            )
        if isinstance(self.base_ts, Tracer) or (np.diff(self.base_ts) > 0).all():
            return
        at = int(np.argmin(np.diff(self.base_ts) > 0))
        raise InputError(
            f"base_ts[{at}]={self.base_ts[at]:g} is followed by base_ts[{at + 1}]={self.base_ts[at + 1]:g}",
            "a path is told from its start to its end",
            "strictly increasing times",
            "the same path, and decreasing ts in simulate, for a solve that goes back",
        )

    @property
    def cells(self) -> int:
        """(k - 1) · substeps."""
        return (self.base_ts.shape[0] - 1) * self.substeps

    @property
    def stream(self) -> Key[Array, ""]:
        """The key itself."""
        return self.key

    @property
    def area_model(self) -> Area:
        """The one given."""
        return self.area

    def ends(self, i: Int[Array, ""] | int) -> tuple[Array, Array, Array]:
        """The given times are kept to the bit; the length is that of the gap over `substeps`, so none is lost to the
        rounding of large times.
        """
        if self.substeps == 1:
            pair = lax.dynamic_slice_in_dim(self.base_ts, i, 2)
            return pair[0], pair[1], pair[1] - pair[0]
        gap, j = i // self.substeps, i % self.substeps
        pair = lax.dynamic_slice_in_dim(self.base_ts, gap, 2)
        length = pair[1] - pair[0]
        part = jnp.asarray([j, j + 1]).astype(length.dtype) / self.substeps
        inner = pair[0] + length * part
        return inner[0], jnp.where(j + 1 == self.substeps, pair[1], inner[1]), length / self.substeps

    def motion(self, i: Int[Array, ""] | int, shape: tuple[int, ...], dtype: Any, needs: Collection[str]) -> Motion:
        """sqrt(dt_i) times the normals of (key, i)."""
        h = self.ends(i)[2]
        root = jnp.sqrt(h).astype(dtype)
        one = normals(self.key, i, shape, dtype)
        if not _areas(needs):
            return Motion(root * one)
        # Both are used several times from here on; the fence keeps XLA from drawing them as often.
        one, two = lax.optimization_barrier((one, normals(self.key, i, shape, dtype, first=one.size)))
        W, H = root * one, root * np.sqrt(1 / 12).astype(dtype) * two
        return Motion(W, H, _draw_area(self, i, W, H, h, needs))


class Coarsened(BrownianPath):
    """Every r-th time of a finer path; made by `coarsen`."""

    fine: BrownianPath
    r: int = eqx.field(static=True)

    @property
    def cells(self) -> int:
        """Those of the finer path over r."""
        return self.fine.cells // self.r

    @property
    def stream(self) -> Key[Array, ""]:
        """That of the finer path."""
        return self.fine.stream

    @property
    def area_model(self) -> Area:
        """That of the finer path."""
        return self.fine.area_model

    def ends(self, i: Int[Array, ""] | int) -> tuple[Array, Array, Array]:
        """From the start of the first to the end of the last of r cells."""
        starts, ends, lengths = jax.vmap(self.fine.ends)(i * self.r + jnp.arange(self.r))
        return starts[0], ends[-1], lengths.sum()

    def motion(self, i: Int[Array, ""] | int, shape: tuple[int, ...], dtype: Any, needs: Collection[str]) -> Motion:
        """R cells merged."""
        index = i * self.r + jnp.arange(self.r)
        parts = jax.vmap(lambda j: self.fine.motion(j, shape, dtype, needs))(index)
        return merge(parts, jax.vmap(self.fine.ends)(index)[2].astype(dtype))


class Refined(BrownianPath):
    """r equal cells in every cell of a coarser path; made by `refine`.

    The free draws (B_j, F_j) of the children's (W_j, H_j) merge to some (W', H') = (Σ B_j, Σ c_j B_j + Σ F_j/r) with
    c_j = (r - 1 - 2j)/(2r), j from 0; what these miss of the parent's (W, H) is shared out by the covariances:

        W_j = B_j + (W - W')/r + 12 (c_j/r) (H - H'),     H_j = F_j + (H - H')/r².

    One cell costs 2r normals and the parent's W and H.
    """

    coarse: BrownianPath
    r: int = eqx.field(static=True)
    key: Key[Array, ""]

    @property
    def cells(self) -> int:
        """Those of the coarser path, r times."""
        return self.coarse.cells * self.r

    @property
    def stream(self) -> Key[Array, ""]:
        """A sub-key that no other level uses."""
        return self.key

    @property
    def area_model(self) -> Area:
        """That of the coarser path."""
        return self.coarse.area_model

    def ends(self, i: Int[Array, ""] | int) -> tuple[Array, Array, Array]:
        """Part i % r of cell i // r."""
        start, end, length = self.coarse.ends(i // self.r)
        j = i % self.r
        part = jnp.asarray([j, j + 1]).astype(length.dtype) / self.r
        inner = start + length * part
        return inner[0], jnp.where(j + 1 == self.r, end, inner[1]), length / self.r

    def motion(self, i: Int[Array, ""] | int, shape: tuple[int, ...], dtype: Any, needs: Collection[str]) -> Motion:
        """Child i % r of cell i // r."""
        parent, j, r = i // self.r, i % self.r, self.r
        h = (self.coarse.ends(parent)[2] / r).astype(dtype)
        drawn = lax.optimization_barrier(normals(self.key, parent, (2, r, *shape), dtype))
        B, F = jnp.sqrt(h) * drawn[0], jnp.sqrt(h / 12) * drawn[1]
        whole = self.coarse.motion(parent, shape, dtype, frozenset({"H"}))
        place = ((r - 1 - 2 * np.arange(r)) / (2 * r)).astype(dtype)
        missing_W = whole.W - B.sum(0)
        missing_H = _given(whole.H) - (jnp.tensordot(place, B, 1) + F.sum(0) / r)
        W = B[j] + missing_W / r + 12 / r * jnp.asarray(place)[j] * missing_H
        if not _areas(needs):
            return Motion(W)
        H = F[j] + missing_H / r**2
        return Motion(W, H, _draw_area(self, i, W, H, h, needs))


class SameCells(BrownianPath):
    """A path with the cells of another one, seen in another way."""

    path: BrownianPath

    @property
    def cells(self) -> int:
        """Those of the path."""
        return self.path.cells

    @property
    def stream(self) -> Key[Array, ""]:
        """That of the path."""
        return self.path.stream

    @property
    def area_model(self) -> Area:
        """That of the path."""
        return self.path.area_model


class Antithetic(SameCells):
    """The mirror image of a path; made by `antithetic`."""

    def ends(self, i: Int[Array, ""] | int) -> tuple[Array, Array, Array]:
        """Those of the path."""
        return self.path.ends(i)

    def motion(self, i: Int[Array, ""] | int, shape: tuple[int, ...], dtype: Any, needs: Collection[str]) -> Motion:
        """(-W, -H, A)."""
        W, H, A = self.path.motion(i, shape, dtype, needs)
        return Motion(-W, None if H is None else -H, A)


class Backward(SameCells):
    """A path from its end to its start: what a solve over decreasing times sees (THEORY 6)."""

    def ends(self, i: Int[Array, ""] | int) -> tuple[Array, Array, Array]:
        """Cell n - 1 - i with start and end exchanged and a negative length."""
        start, end, length = self.path.ends(self.cells - 1 - i)
        return end, start, -length

    def motion(self, i: Int[Array, ""] | int, shape: tuple[int, ...], dtype: Any, needs: Collection[str]) -> Motion:
        """(-W, H, -A)."""
        W, H, A = self.path.motion(self.cells - 1 - i, shape, dtype, needs)
        return Motion(-W, H, None if A is None else -A)


def subdivide(ts: Float[Array, " k"], substeps: int) -> Float[Array, " n_plus_1"]:
    """`ts` with `substeps` equal cells in every gap, ((k-1)·substeps + 1,); the given times are kept to the bit."""
    if substeps == 1:
        return ts
    part = jnp.arange(substeps, dtype=ts.dtype) / substeps
    inner = ts[:-1, None] + (ts[1:] - ts[:-1])[:, None] * part
    return jnp.concatenate([inner.reshape(-1), ts[-1:]])


@eqx.filter_jit
def _all_motions(path: BrownianPath, shape: tuple[int, ...], dtype: Any, needs: frozenset[str]) -> Motion:
    return jax.vmap(lambda i: path.motion(i, shape, dtype, needs))(jnp.arange(path.cells))


def _areas(needs: Collection[str]) -> bool:
    return "H" in needs or "A" in needs


def _given(H: Array | None) -> Array:
    assert H is not None  # asked for above
    return H


def _draw_area(path: BrownianPath, i: Any, W: Array, H: Array, h: Array, needs: Collection[str]) -> Array | None:
    """A of a cell from its W and H, if it is needed."""
    if "A" not in needs:
        return None
    if W.ndim != 1:
        raise InputError(
            f"an area of Brownian motion of shape {W.shape}",
            "areas are between the motions of a vector",
            "shape (m,), as General(m) noise has",
        )
    return path.area_model.draw(subkey(path.stream, i, _AREA), W, H, h.astype(W.dtype))

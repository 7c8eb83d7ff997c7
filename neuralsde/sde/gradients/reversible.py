"""Exact gradients in constant memory: walk the path back by the inverse of its own steps, keeping only where it ended.

    x_n = undo(x_{n+1}, cell_n),     λ_n = λ_{n+1} ∂x_{n+1}/∂x_n + ∂L/∂y_n,     dL/dθ = Σ_n λ_{n+1} ∂x_{n+1}/∂θ,

with the cells of the path drawn again from (key, n). The evaluation that undoes a link is also the one that its
gradient is pulled through, so that a gradient costs 4 evaluations for every 3 of plain reverse mode (the forward pass,
and one linearisation of which the pullback counts as two).

It is exact as far as the way back is. Undoing a contraction amplifies rounding by its inverse (THEORY 7), so what is
reconstructed is compared with what is known, the start and every stored carry. Where they differ by more than a
tolerance the gradient is NaN: never a wrong number.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from neuralsde.errors import InputError
from neuralsde.sde.brownian import Cell
from neuralsde.sde.gradients.base import Gradient, Loop, Ran, count, scan_gaps
from neuralsde.sde.gradients.pullback import Arrays, HandWritten, Solved, instantiate, moves, solve
from neuralsde.sde.gradients.pure import PureLoop, take_out
from neuralsde.sde.methods.reversible import ReversibleMethod


@dataclasses.dataclass(frozen=True)
class Reversible(Gradient):
    """For `ReversibleHeun` and `ReversiblePair`: gradients with respect to everything, times included.

    segments:  the path is walked back in so many parts, each from a stored carry; None: as many as the method needs
               (reversible Heun one; a pair one for every 4/(1 - coupling) steps).
    tolerance: how far the reconstruction may end from the known carry, relative to 1 + its largest entry; beyond it the
               gradient is NaN. None: 1e-8 in float64, 1e-4 in float32; gradients are then right to about that.
    check:     reconstruct in the forward pass too, whenever a gradient is going to be taken, and report a failure as
               `Result.NOT_REVERSIBLE` in the solution. Costs one more forward pass; without it only the NaN tells.
    """

    segments: int | None = None
    tolerance: float | None = None
    check: bool = False

    def __post_init__(self) -> None:
        if self.segments is not None and (isinstance(self.segments, bool) or self.segments < 1):
            raise InputError(f"segments={self.segments!r}", expected="None, or a number >= 1")

    def run(self, loop: Loop, carry: Any) -> Ran:
        """The plain loop forward; the written pullback on the way back."""
        why = self.refusal(loop)
        if why:
            raise InputError(f"gradient=Reversible() with {type(loop.method).__name__}", why[0], why[1], why[2])
        y0 = loop.method.state(carry)
        pure, consts = take_out(loop, y0)
        tolerance = (1e-8 if jnp.finfo(y0.dtype).bits == 64 else 1e-4) if self.tolerance is None else self.tolerance
        problem = WalkBack((), (), pure, self.parts(loop), tolerance, self.check)
        states, _, (last, seen, lost) = solve(problem, consts, y0)
        return Ran(last, states, seen, lost)

    def parts(self, loop: Loop) -> int:
        """How many stored carries the path is walked back from."""
        steps = loop.gaps * loop.substeps
        reach = loop.method.reach if isinstance(loop.method, ReversibleMethod) else None
        wanted = self.segments or (1 if reach is None else math.ceil(steps / reach))
        length = math.ceil(steps / min(wanted, steps))
        return math.ceil(steps / length)

    @staticmethod
    def refusal(loop: Loop) -> tuple[str, str, str] | None:
        """Meaning, expected and hint, where the mode does not apply."""
        if not isinstance(loop.method, ReversibleMethod):
            return (
                "the method has no exact inverse",
                "method=ReversibleHeun(), or ReversiblePair(method)",
                "gradient=Checkpointed(segments=...) bounds the memory of every method",
            )
        if loop.changes is not None:
            return (
                "an event may move or stop the path, and its step has no inverse",
                "no events",
                "gradient=Checkpointed(), with events",
            )
        return None


@dataclasses.dataclass(frozen=True, eq=False)
class WalkBack(HandWritten):
    """The solve of a reversible method, and its pullback."""

    pure: PureLoop = None  # pyright: ignore[reportAssignmentType] (fields with defaults come first in the base)
    segments: int = 1
    tolerance: float = 0.0
    check: bool = False

    @property
    def method(self) -> ReversibleMethod:
        """The method."""
        method = self.pure.shell.method
        assert isinstance(method, ReversibleMethod)  # `Reversible.refusal`
        return method

    @property
    def length(self) -> int:
        """Steps of a segment; the last may be shorter."""
        return math.ceil(self.pure.steps / self.segments)

    def value(self, consts: Arrays, y0: Array) -> Solved:
        """The loop; kept are the carries at the ends of the segments, stacked."""
        loop = self.pure.loop(consts)
        carry = self.method.init(loop.process, loop.path.ends(0)[0].astype(y0.dtype), y0, None)
        if self.segments == 1:
            ran = scan_gaps(loop, carry, loop.step)
            kept = jax.tree.map(lambda leaf: leaf[None], ran.last)
        else:
            ran, kept = _scan_storing(loop, carry, self.segments, self.length)
        return Solved(ran.states, kept, (ran.last, ran.seen, jnp.zeros((), bool)))

    def prepare(self, consts: Arrays, y0: Array, solved: Solved) -> Solved:
        """With `check`, the reconstruction alone."""
        if not self.check:
            return solved
        last, seen, _ = solved.other
        lost = self._walk(consts, y0, solved.kept, None).lost
        return Solved(solved.states, solved.kept, (last, seen, lost))

    def pull(self, consts: Arrays, y0: Array, states: Array, kept: Any, ct: Array) -> tuple[list[Any], Array]:
        """The pullback. Its own derivative (reverse over reverse) is that of the plain one, which it equals."""

        @jax.custom_jvp
        def run(consts: Arrays, y0: Array, kept: Any, ct: Array) -> tuple[list[Any], Array]:
            return self._walked(consts, y0, kept, ct)

        def rule(primals: Any, tangents: Any) -> Any:
            # What is kept comes from consts and y0: its own tangent is accounted for by theirs.
            consts, y0, kept, ct = primals
            dconsts, dy0, _, dct = tangents
            moving = tuple(i for i, tangent in enumerate(dconsts) if moves(tangent))

            def plain(values: Any, y0: Array, ct: Array) -> tuple[list[Any], Array]:
                full = dataclasses.replace(self, wanted=moving).with_wanted(values, consts)
                return self._plain_pull(full, y0, ct)

            point = ([consts[i] for i in moving], y0, ct)
            direction = ([dconsts[i] for i in moving], instantiate(dy0), instantiate(dct))
            return run(consts, y0, kept, ct), jax.jvp(plain, point, direction)[1]

        run.defjvp(rule, symbolic_zeros=True)
        return run(consts, y0, kept, ct)

    def _plain_pull(self, consts: Arrays, y0: Array, ct: Array) -> tuple[list[Any], Array]:
        """The same cotangents by reverse mode through checkpointed steps, in the batch that the solve is in."""

        def states(consts: Arrays, n: Any, y0: Array) -> Array:
            loop = self.pure.loop(consts)._replace(watch=None)
            carry = self.method.init(loop.process, loop.path.ends(0)[0].astype(y0.dtype), y0, None)
            return scan_gaps(loop, carry, jax.checkpoint(loop.step, prevent_cse=False)).states

        run = self.lift(states)
        values = [consts[i] for i in self.wanted]
        return jax.vjp(lambda v, y0: run(self.with_wanted(v, consts), 0, y0), values, y0)[1](ct)

    def _walked(self, consts: Arrays, y0: Array, kept: Any, ct: Array) -> tuple[list[Any], Array]:
        """Walk back with the cotangents; NaN where the way was lost."""
        end = self._walk(consts, y0, kept, ct)
        dy0 = end.dx[0] + end.dx[1]  # x_0 = (y0, y0)
        values = {**dict(zip(self._plain, end.dvalues, strict=True)), **dict(zip(self._times, end.dtimes, strict=True))}
        return [self._poison(values[i], end.lost, i) for i in self.wanted], self._poison(dy0, end.lost, None)

    @property
    def _plain(self) -> tuple[int, ...]:
        return tuple(i for i in self.wanted if i not in self.pure.times)

    @property
    def _times(self) -> tuple[int, ...]:
        return tuple(i for i in self.wanted if i in self.pure.times)

    def _poison(self, cotangent: Array, lost: Array, const: int | None) -> Array:
        """Each path for itself; a shared const if any path that shares it was lost."""
        shared = () if const is None else tuple(self._axes_shared(const))
        lost = lost.any(axis=shared)
        return jnp.where(lost.reshape(lost.shape + (1,) * (cotangent.ndim - lost.ndim)), jnp.nan, cotangent)

    def _axes_shared(self, const: int) -> list[int]:
        """Batch axes, the outermost first, that the const has not."""
        return [k for k, level in enumerate(reversed(self.levels)) if level.axes[const] is None]

    def _walk(self, consts: Arrays, y0: Array, kept: Any, ct: Array | None) -> _Way:
        """From the end to the start; without cotangents only the reconstruction."""
        walk = _Walk(self, consts, y0, kept, ct)
        rest = self.pure.steps - (self.segments - 1) * self.length
        way = walk.segment(walk.begin(), self.segments - 1, rest)
        if self.segments > 1:
            whole = jnp.arange(self.segments - 1)[::-1]
            way, _ = lax.scan(lambda way, s: (walk.segment(way, s, self.length), None), way, whole)
        return way


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Way:
    """What is carried back: the position and its cotangent, the cell ahead and its cotangent, the sums, the verdict."""

    x: Any
    cell: Cell
    lost: Array
    dx: Any
    dcell: Any
    dvalues: list[Any]
    dtimes: list[Any]


class _Walk:
    """One walk back; all functions of one path are lifted over the batch that the solve is in."""

    def __init__(self, problem: WalkBack, consts: Arrays, y0: Array, kept: Any, ct: Array | None) -> None:
        self.problem, self.consts, self.y0, self.kept, self.ct = problem, consts, y0, kept, ct
        self.pure, self.method = problem.pure, problem.method
        self.axis = len(problem.levels)
        self.plain, self.times = (problem._plain, problem._times) if ct is not None else ((), ())
        self.values = [consts[i] for i in self.plain]
        lift, process = problem.lift, self.pure.process
        links = self.method.links
        self.draw = lift(lambda c, n: self.pure.cell(c, n, y0.dtype))
        self.position = lift(lambda c, n, carry, cell: self.method.position(process(c), carry, cell))
        self.arrive = lift(lambda c, n, x, cell: self.method.arrive(process(c), x, cell, None))
        self.steps = [lift(lambda c, n, x, b, a, k=k: k.step(process(c), x, b, a, None)) for k in links]
        self.undos = [lift(lambda c, n, x, b, a, k=k: k.undo(process(c), x, b, a, None)) for k in links]
        self.apart = lift(lambda c, n, x, known: _apart(x, known, problem.tolerance))

    def begin(self) -> _Way:
        """The end of the path: its last state is saved, so its cotangent enters through `arrive`."""
        n = self.pure.steps - 1
        cell = self.draw(self.consts, n)
        x = self.position(self.consts, n, self._kept(self.problem.segments - 1), cell)
        lost = jnp.zeros(self.y0.shape[: self.axis], bool)
        if self.ct is None:
            return _Way(x, cell, lost, None, None, [], [])
        pull = jax.vjp(lambda v, x, cell: self.arrive(self._with(v), n, x, cell), self.values, x, cell)[1]
        dvalues, dx, dcell = pull(lax.index_in_dim(self.ct, self.pure.shell.gaps - 1, self.axis, keepdims=False))
        return _Way(x, cell, lost, dx, dcell, dvalues, [jnp.zeros_like(self.consts[i]) for i in self.times])

    def segment(self, way: _Way, s: Any, length: int) -> _Way:
        """The steps of segment s from its stored end to its start, and the comparison there."""
        first = s * self.problem.length
        way = dataclasses.replace(way, x=self.position(self.consts, 0, self._kept(s), way.cell))
        way, _ = count(lambda way, n: (self.step(way, n), None), way, first + length - 1, length, step=-1)
        start = (self.y0, self.y0)
        if self.problem.segments > 1:
            before = self.position(self.consts, 0, self._kept(jnp.maximum(s - 1, 0)), way.cell)
            start = jax.tree.map(lambda a, b: jnp.where(s == 0, a, b), start, before)
        return dataclasses.replace(way, lost=way.lost | self.apart(self.consts, 0, way.x, start))

    def step(self, way: _Way, n: Any) -> _Way:
        """One step back over cell n; `way.cell` is that cell when it comes, the one before when it goes."""
        cell, x, dx, dvalues, dcell = way.cell, way.x, way.dx, way.dvalues, way.dcell
        before = jax.tree.map(lambda a: jnp.where(n > 0, a, jnp.zeros_like(a)), self.draw(self.consts, n - (n > 0)))
        dbefore = jax.tree.map(jnp.zeros_like, before) if self.ct is not None else None
        for k in reversed(range(len(self.steps))):
            x = self.undos[k](self.consts, n, x, before, cell)
            if self.ct is None:
                continue
            run = self.steps[k]
            _, pull = jax.vjp(lambda v, x, b, a, run=run: run(self._with(v), n, x, b, a), self.values, x, before, cell)
            more, dx, db, da = pull((dx, self._saved(n) if k == 0 else None))
            dvalues, dbefore, dcell = (_sum(a, b) for a, b in ((dvalues, more), (dbefore, db), (dcell, da)))
        dtimes = way.dtimes
        if self.times:
            pull = jax.vjp(lambda v: self.draw(self._with(v, self.times), n), [self.consts[i] for i in self.times])[1]
            dtimes = _sum(dtimes, pull(dcell)[0])
        return _Way(x, before, way.lost, dx, dbefore, dvalues, dtimes)

    def _with(self, values: Any, which: tuple[int, ...] | None = None) -> Arrays:
        full = list(self.consts)
        for i, value in zip(self.plain if which is None else which, values, strict=True):
            full[i] = value
        return tuple(full)

    def _kept(self, s: Any) -> Any:
        """The carry at the end of segment s."""
        return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, s, self.axis, keepdims=False), self.kept)

    def _saved(self, n: Any) -> Array:
        """The cotangent of y_n: that of the state saved there, if one is."""
        assert self.ct is not None  # only called on the way back with cotangents
        gap, inside = n // self.pure.shell.substeps, n % self.pure.shell.substeps
        ct = lax.dynamic_index_in_dim(self.ct, jnp.maximum(gap - 1, 0), self.axis, keepdims=False)
        return jnp.where((inside == 0) & (gap > 0), ct, jnp.zeros_like(ct))


def _sum(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


def _apart(x: Any, known: Any, tolerance: float) -> Array:
    """Whether two positions differ by more than the tolerance; a state that is not finite is lost."""
    far = [jnp.max(jnp.abs(a - b)) > tolerance * (1 + jnp.max(jnp.abs(b))) for a, b in zip(x, known, strict=True)]
    finite = [jnp.isfinite(a).all() for a in x]
    return lax.stop_gradient(jnp.stack(far).any() | ~jnp.stack(finite).all())


def _scan_storing(loop: Loop, carry: Any, segments: int, length: int) -> tuple[Ran, Any]:
    """The loop in one scan; the carry at the end of every segment is stored.

    Both stores are written at every step, in place: the last write to a place is the one that is wanted.
    """
    y = loop.state(carry)
    states = jnp.zeros((loop.gaps, *y.shape), y.dtype)
    stores = jax.tree.map(lambda leaf: jnp.zeros((segments, *leaf.shape), leaf.dtype), carry)

    def one(state: Any, i: Any) -> tuple[Any, None]:
        carry, seen, states, stores = state
        carry = loop.step(carry, i)
        seen = seen if loop.watch is None else loop.watch(seen, carry, i)
        states = lax.dynamic_update_index_in_dim(states, loop.state(carry), i // loop.substeps, 0)
        stores = jax.tree.map(lambda s, c: lax.dynamic_update_index_in_dim(s, c, i // length, 0), stores, carry)
        return (carry, seen, states, stores), None

    start = (carry, jnp.zeros((), jnp.int32), states, stores)
    (last, seen, states, stores), _ = count(one, start, 0, loop.gaps * loop.substeps)
    return Ran(last, states, seen), stores

"""A solve whose pullback is written by hand, as one linear map that JAX transposes.

    forward:   ys = solve(consts, y0);     tangent:  dys = J · (dconsts, dy0);     its transpose: `HandWritten.pull`.

Why not `jax.custom_vjp`: under `jax.vmap` it would run the written pullback once for every path, with one accumulator
of weight gradients for each path inside the loop. Here the pullback learns which inputs the batch shares (`Level`), so
that it can differentiate a *batch* of steps: weight gradients are then sums over the batch from the start, as in plain
reverse mode. The tangent map itself is the ordinary one, so forward mode works as well.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

Arrays = tuple[Any, ...]


class Level(NamedTuple):
    """One `jax.vmap` around the solve: its size, and the batch axis (0 or None) of every const."""

    size: int
    axes: tuple[int | None, ...]


class Solved(NamedTuple):
    """What a solve gives: states (gaps, *y.shape); what its pullback wants to keep; and what has no gradient."""

    states: Array
    kept: Any
    other: Any


@dataclasses.dataclass(frozen=True, eq=False)
class HandWritten(abc.ABC):
    """A solve as a pure function of arrays, with its pullback.

    levels: the batches around it, the innermost first.
    wanted: which consts need a gradient, set when the solve is differentiated.
    """

    levels: tuple[Level, ...] = ()
    wanted: tuple[int, ...] = ()

    @abc.abstractmethod
    def value(self, consts: Arrays, y0: Array) -> Solved:
        """The solve of one path."""

    @abc.abstractmethod
    def pull(self, consts: Arrays, y0: Array, states: Array, kept: Any, ct: Array) -> tuple[list[Any], Array]:
        """Cotangents of the wanted consts and of y0; every array has the axes of `levels` in front, unless shared."""

    def prepare(self, consts: Arrays, y0: Array, solved: Solved) -> Solved:
        """Called on the solve of one path when it is going to be differentiated."""
        return solved

    def lift(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function(consts, n, *x)` of one path for the whole batch: consts as they are shared, n always shared."""
        for size, axes in self.levels:
            function = _batched(function, size, axes)
        return function

    def with_wanted(self, values: Sequence[Any], consts: Arrays) -> Arrays:
        """The consts with `values` in place of the wanted ones."""
        full = list(consts)
        for i, value in zip(self.wanted, values, strict=True):
            full[i] = value
        return tuple(full)

    def push(self, consts: Arrays, y0: Array, tangents: Sequence[Any], dy0: Array) -> Array:
        """The tangent map of a batch, by forward mode."""

        def one(consts: Arrays, n: Any, y0: Array, dy0: Array, *tangents: Any) -> Array:
            def states(values: list[Any], y0: Array) -> Array:
                return self.value(self.with_wanted(values, consts), y0).states

            return jax.jvp(states, ([consts[i] for i in self.wanted], y0), (list(tangents), dy0))[1]

        # Tangents of shared consts are shared too; they get the axes of the consts that they belong to.
        for size, axes in self.levels:
            one = jax.vmap(one, in_axes=(axes, None, 0, 0, *(axes[i] for i in self.wanted)), axis_size=size)
        return one(consts, 0, y0, dy0, *tangents)


def _batched(function: Callable[..., Any], size: int, axes: tuple[int | None, ...]) -> Callable[..., Any]:
    def run(consts: Arrays, n: Any, *x: Any) -> Any:
        return jax.vmap(function, in_axes=(axes, None, *(0 for _ in x)), axis_size=size)(consts, n, *x)

    return run


def solve(problem: HandWritten, consts: Arrays, y0: Array) -> Solved:
    """The solve, with its own pullback."""

    @jax.custom_jvp
    def run(consts: Arrays, y0: Array) -> Solved:
        return problem.value(consts, y0)

    def rule(primals: Any, tangents: Any) -> Any:
        consts, y0 = primals
        wanted = tuple(i for i, tangent in enumerate(tangents[0]) if moves(tangent))
        mine = dataclasses.replace(problem, wanted=wanted)
        solved = mine.prepare(consts, y0, run(consts, y0))
        kept, tree = jax.tree.flatten(solved.kept)
        known = (*consts, y0, solved.states, *kept)
        directions = (*(tangents[0][i] for i in wanted), instantiate(tangents[1]))
        dstates = _tangent.bind(*known, *directions, problem=mine, consts=len(consts), known=len(known), tree=tree)
        still = jax.tree.map(_no_tangent, (solved.kept, solved.other))
        return solved, Solved(dstates, *still)

    run.defjvp(rule, symbolic_zeros=True)
    return run(consts, y0)


def moves(tangent: Any) -> bool:
    """Whether a tangent is more than a symbolic zero."""
    return not isinstance(tangent, SymbolicZero) and tangent.dtype != dtypes.float0


def instantiate(tangent: Any) -> Any:
    """The tangent as an array."""
    if not isinstance(tangent, SymbolicZero):
        return tangent
    like: Any = tangent.aval
    return jnp.zeros(like.shape, like.dtype)


def _no_tangent(x: Array) -> Any:
    if jnp.issubdtype(x.dtype, jnp.inexact):
        return jnp.zeros_like(x)
    return np.zeros(x.shape, dtypes.float0)


_tangent = Primitive("solve_tangent")


def _split(operands: Sequence[Any], consts: int, known: int, tree: Any) -> tuple[Any, ...]:
    """(consts, y0, states, kept, tangents of the wanted consts, tangent of y0)."""
    kept = jax.tree.unflatten(tree, operands[consts + 2 : known])
    return tuple(operands[:consts]), operands[consts], operands[consts + 1], kept, operands[known:-1], operands[-1]


def _push(*operands: Any, problem: HandWritten, consts: int, known: int, tree: Any) -> Array:
    values, y0, _, _, tangents, dy0 = _split(operands, consts, known, tree)
    return problem.push(values, y0, tangents, dy0)


def _transpose(ct: Any, *operands: Any, problem: HandWritten, consts: int, known: int, tree: Any) -> list[Any]:
    nothing: list[Any] = [None] * known
    if isinstance(ct, ad.Zero):
        return nothing + [ad.Zero(x.aval) for x in operands[known:]]
    values, y0, states, kept, _, _ = _split(operands, consts, known, tree)
    cotangents, dy0 = problem.pull(values, y0, states, kept, ct)
    return [*nothing, *cotangents, dy0]


def _batch(operands: Any, dims: Any, *, problem: HandWritten, consts: int, known: int, tree: Any) -> tuple[Any, int]:
    """One more level. Everything but the consts, and their tangents with them, has the batch axis in front."""
    size = next(x.shape[d] for x, d in zip(operands, dims, strict=True) if d is not None)
    own = {i: known + j for j, i in enumerate(problem.wanted)}
    mapped = [dims[i] is not None or (i in own and dims[own[i]] is not None) for i in range(consts)]
    free = {i for i in range(consts) if not mapped[i]} | {own[i] for i in own if not mapped[i]}
    moved = [
        x if i in free else batching.bdim_at_front(x, d, size)
        for i, (x, d) in enumerate(zip(operands, dims, strict=True))
    ]
    level = Level(size, tuple(0 if one else None for one in mapped))
    inside = dataclasses.replace(problem, levels=(*problem.levels, level))
    return _tangent.bind(*moved, problem=inside, consts=consts, known=known, tree=tree), 0


def _jvp(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
    """The tangent map is an ordinary function of the point as well: forward over forward, and mixed modes."""
    moving = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

    def of(*values: Any) -> Array:
        full = list(primals)
        for i, value in zip(moving, values, strict=True):
            full[i] = value
        return _push(*full, **params)

    out = _tangent.bind(*primals, **params)
    if all(i >= params["known"] for i in moving):
        whole = [ad.instantiate_zeros(t) if i >= params["known"] else primals[i] for i, t in enumerate(tangents)]
        return out, _tangent.bind(*whole, **params)
    return out, jax.jvp(of, tuple(primals[i] for i in moving), tuple(tangents[i] for i in moving))[1]


_tangent.def_impl(_push)
_tangent.def_abstract_eval(lambda *avals, consts, **_: avals[consts + 1])
mlir.register_lowering(_tangent, mlir.lower_fun(_push, multiple_results=False))
ad.primitive_transposes[_tangent] = _transpose
ad.primitive_jvps[_tangent] = _jvp
batching.primitive_batchers[_tangent] = _batch

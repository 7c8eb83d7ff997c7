"""A program whose normals are an input: for runtimes that have neither loops as JAX has them nor its random numbers.

Every standard normal, of `sde.brownian` and of `jax.random` alike, is √2 erf⁻¹(u) with u from the bits of a key. In a
program that is written out, loops and calls and all, each erf⁻¹ is replaced by the next numbers of an input over √2;
whatever led to u is then used by nothing and dropped. If the key is still used after that, something else than normals
was drawn with it, and the program cannot do without.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jaxtyping import Array, Float

_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr"}
"""Primitives that stand for the program in one of their parameters."""


class Undrivable(Exception):
    """The program draws more with its key than normals."""


def driven(program: Callable[..., Any], key: Any, *like: Any) -> tuple[Callable[..., Any], int]:
    """`program(key, *args)`, one array, as a flat function of (normals (n,), *args), and n; `like` are the arguments.

    Raises Undrivable where the key decides more than normals.
    """
    closed = jax.make_jaxpr(program)(key, *like)
    drawn: list[int] = []

    def written_out(key: Any, numbers: Float[Array, " n"] | None, *args: Any) -> Any:
        drawn.clear()
        return _written_out(closed.jaxpr, closed.consts, [key, *args], _Numbers(numbers, drawn))[0]

    jax.eval_shape(written_out, key, None, *like)
    n = sum(drawn)
    flat = jax.make_jaxpr(written_out)(key, jax.ShapeDtypeStruct((n,), jnp.float32), *like)
    used = _used(flat.jaxpr)
    if flat.jaxpr.invars[0] in used:
        raise Undrivable

    def run(numbers: Float[Array, " n"], *args: Any) -> Any:
        return _evaluated(flat, used, [None, numbers, *args])

    return run, n


class _Numbers:
    """Gives out the numbers in order; without any, zeros."""

    def __init__(self, numbers: Array | None, drawn: list[int]) -> None:
        self.numbers, self.drawn = numbers, drawn

    def next(self, shape: tuple[int, ...], dtype: Any) -> Array:
        first, size = sum(self.drawn), math.prod(shape)
        self.drawn.append(size)
        if self.numbers is None:
            return jnp.zeros(shape, dtype)
        return (self.numbers[first : first + size].reshape(shape) / np.sqrt(2).astype(np.float32)).astype(dtype)


def _written_out(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], numbers: _Numbers) -> list[Any]:
    """The outputs, with calls and loops of known length in line and normals out of `numbers`."""
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
    for eqn in jaxpr.eqns:
        given, name = [_value(known, atom) for atom in eqn.invars], eqn.primitive.name
        if name == "erf_inv":
            like: Any = eqn.outvars[0].aval
            out = [numbers.next(like.shape, like.dtype)]
        elif name in _CALLS:
            inner = eqn.params[_CALLS[name]]
            out = _written_out(inner.jaxpr, inner.consts, given, numbers)
        elif name == "scan":
            out = _loop(eqn, given, numbers)
        else:
            out = _bound(eqn, given)
        known.update(zip(eqn.outvars, out, strict=True))
    return [_value(known, atom) for atom in jaxpr.outvars]


def _loop(eqn: JaxprEqn, given: list[Any], numbers: _Numbers) -> list[Any]:
    """A scan, turn after turn."""
    inner, fixed, carried = eqn.params["jaxpr"], eqn.params["num_consts"], eqn.params["num_carry"]
    consts, carry, rows = given[:fixed], given[fixed : fixed + carried], given[fixed + carried :]
    turns, stacked = range(eqn.params["length"]), []
    for k in reversed(turns) if eqn.params["reverse"] else turns:
        out = _written_out(inner.jaxpr, inner.consts, [*consts, *carry, *(row[k] for row in rows)], numbers)
        carry = out[:carried]
        stacked.append(out[carried:])
    stacked = stacked[::-1] if eqn.params["reverse"] else stacked
    return [*carry, *(jnp.stack(column) for column in zip(*stacked, strict=True))]


def _used(jaxpr: Jaxpr) -> set[Any]:
    """The variables on which the outputs depend."""
    used = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    for eqn in reversed(jaxpr.eqns):
        if used.intersection(eqn.outvars):
            used.update(atom for atom in eqn.invars if not isinstance(atom, Literal))
    return used


def _evaluated(closed: ClosedJaxpr, used: set[Any], args: Sequence[Any]) -> Any:
    """The first output, out of the equations that it depends on."""
    jaxpr = closed.jaxpr
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *args), strict=True))
    for eqn in jaxpr.eqns:
        if used.intersection(eqn.outvars):
            out = _bound(eqn, [_value(known, atom) for atom in eqn.invars])
            known.update(zip(eqn.outvars, out, strict=True))
    return _value(known, jaxpr.outvars[0])


def _bound(eqn: JaxprEqn, given: list[Any]) -> list[Any]:
    out = eqn.primitive.bind(*given, **eqn.params)
    return list(out) if eqn.primitive.multiple_results else [out]


def _value(known: dict[Any, Any], atom: Any) -> Any:
    return atom.val if isinstance(atom, Literal) else known[atom]

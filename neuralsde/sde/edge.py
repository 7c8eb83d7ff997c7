"""The edge of a solve: whatever the user's state is, the solver sees one array of one dtype.

A pytree state is ravelled once into a vector (d,), an array keeps its shape; coefficients are
checked for shape and cast to the dtype of the state. All of it happens while tracing: a compiled solve pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from neuralsde.errors import InputError
from neuralsde.sde.process import SDE, Coefficient, General, Noise


class Inside(NamedTuple):
    """A process and its start as one array, and the way back to the user's structure."""

    process: SDE
    y0: Array
    restore: Callable[[Array], Any]


class AtEdge(eqx.Module):
    """A coefficient of the user on one array state; a pytree, as the coefficient is, so gradients find its leaves."""

    function: Coefficient
    name: str = eqx.field(static=True)
    noise: Noise = eqx.field(static=True)
    restore: Callable[[Array], Any] = eqx.field(static=True)
    single: bool = eqx.field(static=True)

    def __call__(self, t: Array, y: Array, args: Any) -> Array:
        state = self.restore(y)
        value = self.function(t, state, args)
        diffusion = self.name == "diffusion"
        if not self.single:
            value = _ravel(
                self.name, value, state, (self.noise.m,) if diffusion and isinstance(self.noise, General) else ()
            )
        return _checked(self.name, value, self.noise.diffusion_shape(y.shape) if diffusion else y.shape, y, self.noise)


def take_in(process: SDE, y0: Any) -> Inside:
    """The process on one array state; its coefficients take and return arrays of the shape and dtype of `y0`.

    `y0` comes from `as_floats`.
    """
    single = isinstance(y0, jax.Array)
    flat, restore = (y0, _same) if single else ravel_pytree(y0)
    drift, diffusion = (
        AtEdge(function, name, process.noise, restore, single)
        for name, function in (("drift", process.drift), ("diffusion", process.diffusion))
    )
    return Inside(SDE(drift, diffusion, process.noise, process.calculus), flat, restore)


def _same(y: Array) -> Array:
    return y


def as_floats(y0: Any) -> Any:
    """Every leaf as a float array of at least 32 bits; mixed widths take the widest; Python numbers are floats."""
    leaves, tree = jax.tree.flatten(y0)
    if not leaves:
        raise InputError(f"y0={y0!r}", "a state without any array", "an array, or a pytree of arrays")
    for leaf in leaves:
        kind = jnp.result_type(leaf)
        if jnp.issubdtype(kind, jnp.complexfloating):
            raise InputError(
                f"y0 of dtype {kind}",
                "noise on a complex state is a choice about its two parts",
                "a real state",
                "jnp.stack([y0.real, y0.imag]), with drift and diffusion on the stacked parts",
            )
        if not jnp.issubdtype(kind, jnp.floating) and not isinstance(leaf, int):
            raise InputError(
                f"y0 of dtype {kind}",
                "a path moves between the integers",
                "a state in float32 or float64",
                "jnp.asarray(y0, float)",
            )
        if jnp.issubdtype(kind, jnp.floating) and jnp.finfo(kind).bits < 32:
            raise InputError(
                f"y0 of dtype {kind}",
                "a state of 16 bits loses the small increments of every step",
                "a state in float32 or float64",
                "y0.astype(jnp.float32), and cast inside drift and diffusion if the networks are to stay small",
            )
    dtype = jnp.result_type(float, *leaves) if _any_integer(leaves) else jnp.result_type(*leaves)
    return jax.tree.unflatten(tree, [jnp.asarray(leaf, dtype) for leaf in leaves])


def _any_integer(leaves: list[Any]) -> bool:
    return not all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves)


def _ravel(name: str, value: Any, like: Any, extra: tuple[int, ...]) -> Array:
    """A pytree of leaves of shape leaf.shape + extra as one array (d, *extra)."""
    if jax.tree.structure(value) != jax.tree.structure(like):
        raise InputError(
            f"{name}(t, y, args) that returns {jax.tree.structure(value)}",
            "not the structure of the state",
            f"{jax.tree.structure(like)}, as y0",
        )
    parts = []
    for part, leaf in zip(jax.tree.leaves(value), jax.tree.leaves(like), strict=True):
        if jnp.shape(part) != leaf.shape + extra:
            raise InputError(
                f"{name}(t, y, args) with a leaf of shape {jnp.shape(part)}",
                f"the leaf of the state has shape {leaf.shape}",
                f"shape {leaf.shape + extra}",
            )
        parts.append(jnp.reshape(part, (leaf.size, *extra)))
    return jnp.concatenate(parts)


def _checked(name: str, value: Any, shape: tuple[int, ...], y: Array, noise: Any) -> Array:
    """The value in the dtype of the state, or a refusal that says which shape was wanted."""
    if value is None:
        raise InputError(
            f"{name}(t, y, args) that returns None", "no value", f"an array of shape {shape}", "return ..."
        )
    given = jnp.shape(value)
    if given == shape:
        return jnp.asarray(value, y.dtype)
    hint = f"jnp.broadcast_to(value, {shape}) if every entry is to have the same value" if given == () else ""
    if name == "diffusion" and len(given) == len(y.shape) + 1 and not isinstance(noise, General):
        hint = f"noise=sde.General({given[-1]}) if this is a matrix with one column for each Brownian motion"
    elif name == "diffusion" and given == y.shape:
        hint = "noise=sde.Diagonal() if every entry has its own Brownian motion"
    raise InputError(
        f"{name}(t, y, args) of shape {given}",
        f"the state has shape {y.shape}" + (f" and the noise is {noise}" if name == "diffusion" else ""),
        f"shape {shape}",
        hint or "one path a call: put jax.vmap around sde.simulate for many paths",
    )

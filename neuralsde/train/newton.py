"""The minimum of a smooth function of a few numbers: damped Newton steps.

With gradient g and curvature H at p, in units in which the curvature has a unit diagonal (D² = diag |H|):

    p' = p - D⁻¹ Q (|Λ| + μ)⁻¹ Qᵀ D⁻¹ g,      D⁻¹ H D⁻¹ = Q Λ Qᵀ

|Λ| leads away from saddles, the damping μ (Levenberg 1944, Marquardt 1963) rises fivefold after a step that does not
go down and falls after one that does. Invariant to the units of every number. It stops when a full Newton step would
gain less than `tolerance`: for a log-likelihood, in nats. Pure and of fixed shapes, so `jax.vmap` fits many data sets
at once. Not for networks: H is (p, p).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

Derivatives: TypeAlias = Callable[[Array], tuple[Array, Array, Array]]

TOLERANCE = 1e-7
"""Nats: far below what any standard error can tell."""
_LEAST, _FIRST, _MOST, _FLOOR, _FLAT = 1e-12, 1e-2, 1e10, 1e-9, 1e-20


class Minimum(eqx.Module):
    """Where it ended: point, value, gradient and curvature there, steps taken, and whether it settled."""

    at: Float[Array, " p"]
    value: Float[Array, ""]
    gradient: Float[Array, " p"]
    hessian: Float[Array, "p p"]
    steps: Int[Array, ""]
    settled: Bool[Array, ""]


class _State(NamedTuple):
    at: Array
    value: Array
    gradient: Array
    hessian: Array
    trial: Array
    damping: Array
    steps: Array
    settled: Array


def newton(f: Callable[[Array], Array]) -> Derivatives:
    """Value, gradient and Hessian of `f`, by automatic differentiation."""

    def slope(p: Array) -> tuple[Array, tuple[Array, Array]]:
        value, gradient = jax.value_and_grad(f)(p)
        return gradient, (value, gradient)

    def derivatives(p: Array) -> tuple[Array, Array, Array]:
        hessian, (value, gradient) = jax.jacfwd(slope, has_aux=True)(p)
        return value, gradient, hessian

    return derivatives


def minimise(
    derivatives: Derivatives, start: Float[Array, " p"], *, steps: int = 100, tolerance: float = TOLERANCE
) -> Minimum:
    """A local minimum near `start`; traced, in the dtype of `start` (float64 is meant).

    derivatives: value, gradient and curvature at a point: `newton(f)`, or Fisher scoring with the expected curvature.

    Points where the value or a derivative is not finite are refused like points uphill. `settled` is False when the
    steps ran out, when no step goes down any more although the gradient says so, or when `start` is not finite.
    """

    def step(state: _State) -> _State:
        value, gradient, hessian = derivatives(state.trial)
        finite = jnp.isfinite(value) & jnp.isfinite(gradient).all() & jnp.isfinite(hessian).all()
        better = finite & (value <= state.value)
        at = jnp.where(better, state.trial, state.at)
        gradient = jnp.where(better, gradient, state.gradient)
        hessian = jnp.where(better, hessian, state.hessian)
        damping = jnp.where(better, state.damping / 5, jnp.maximum(state.damping, _FIRST) * 5)
        damping = jnp.where(damping < _LEAST, 0.0, damping)
        move, gain = _newton_step(gradient, hessian, damping)
        value = jnp.where(better, value, state.value)
        settled = jnp.isfinite(value) & (gain < tolerance)
        return _State(at, value, gradient, hessian, at + move, damping, state.steps + 1, settled)

    def going(state: _State) -> Array:
        begun = (state.steps == 0) | jnp.isfinite(state.value)
        return begun & ~state.settled & (state.steps < steps) & (state.damping < _MOST)

    p = start.shape[0]
    damping = jnp.asarray(5 * _FIRST, start.dtype)  # the first point is better than none, so the first step has _FIRST
    nowhere, flat, unit = jnp.array(jnp.inf, start.dtype), jnp.zeros_like(start), jnp.eye(p, dtype=start.dtype)
    first = _State(start, nowhere, flat, unit, start, damping, jnp.array(0), jnp.array(False))
    last = lax.while_loop(going, step, first)
    return Minimum(last.at, last.value, last.gradient, last.hessian, last.steps, last.settled)


def _newton_step(gradient: Array, hessian: Array, damping: Array) -> tuple[Array, Array]:
    """The damped step, and half the squared length of the undamped one: what it would gain."""
    diagonal = jnp.sqrt(jnp.abs(jnp.diagonal(hessian)))
    unit = jnp.maximum(diagonal, _FLAT * jnp.maximum(diagonal.max(), jnp.finfo(diagonal.dtype).tiny))
    values, vectors = jnp.linalg.eigh(hessian / unit / unit[:, None])
    size = jnp.maximum(jnp.abs(values), _FLOOR)
    along = vectors.T @ (gradient / unit)
    return -(vectors @ (along / (size + damping))) / unit, 0.5 * (along**2 / size).sum()

"""Exponential Euler: a linear part A of the drift is solved exactly, the rest N(t, y) = f(t, y) - A y is frozen.

    y' = e^Z y + φ1(Z) N h + ∫_t0^t1 e^{A (t1 - s)} G dW_s,      Z = A h,   φ1(Z) = ∫_0^1 e^{Z v} dv

The integral is Gaussian given G, and correlated with the W and H of the cell. Its mean given these, and what is left:

    φ1(Z) G·W + ψ(Z) G·H + rest,    ψ = 6 φ1 - 12 φ2,    φ2 = (φ1 - 1)/Z,
    Var rest = h g² (φ1(2Z) - φ1(Z)² - ψ(Z)²/12)         entry by entry;   h g² z⁴/720 for small z = a h

so the scheme stays on the given path where the path decides, and draws the rest from the cell's own key.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jaxtyping import Array, Float

from neuralsde.errors import InputError
from neuralsde.sde.brownian import Cell
from neuralsde.sde.methods.base import Backwards, Method
from neuralsde.sde.process import SDE, Diagonal, General, Ito, Noise, Scalar

_TAYLOR = 18  # terms of φ2; enough for rounding where |z| < 1


@dataclasses.dataclass(frozen=True)
class ExponentialEuler(Method):
    """Exponential Euler with the linear part A. Ito, every noise; the drift of the process stays the whole drift f.

    linear: A, per time: a number, an array of the shape of the state (a rate for every entry), or a (d, d) matrix for a
            state (d,). Any A converges; a good one is the stiff part of the Jacobian of f. A value, not a parameter: no
            gradient passes through it. A matrix costs one exponential of a 3d x 3d matrix a step.

    Strong order ½, 1 for additive noise; weak order 1. Exact in law, for any step, for Ornstein-Uhlenbeck processes
    (N constant, additive noise) with entry-wise rates and Diagonal noise; on the given path it is then of order 2. With
    a matrix, or Scalar or General noise, the rest is left out: the mean of such a process stays exact, and its
    covariance is off by a fraction of order (A h)⁴/720.
    """

    linear: Any = 0.0

    calculus: ClassVar[tuple[type, ...]] = (Ito,)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar, General)
    paper: ClassVar[str] = "Lord & Tambue 2013, IMA J. Numer. Anal. 33; Jentzen & Kloeden 2009, Proc. R. Soc. A 465"
    evaluations: ClassVar[str] = "1 drift, 1 diffusion, two more normals; a matrix A: its exponential"
    needs: ClassVar[frozenset[str]] = frozenset({"H", "key"})
    backwards: ClassVar[Backwards] = "refused"

    def __post_init__(self) -> None:
        A = np.asarray(self.linear, float)
        if not np.isfinite(A).all():
            raise InputError("ExponentialEuler(linear) with entries that are not finite", expected="finite rates")
        object.__setattr__(self, "linear", _nested(A.tolist()))  # hashable: a method is a value

    def step(self, process: SDE, carry: Array, cell: Cell, args: Any) -> Array:
        """One step of the formula, with normals from the cell's key."""
        assert cell.key is not None  # in `needs`
        return self.advance(process, carry, cell, jax.random.normal(cell.key, cell.W.shape, cell.W.dtype), args)

    def advance(self, process: SDE, y: Array, cell: Cell, normals: Float[Array, ...], args: Any) -> Array:
        """One step with these normals, in the shape of W."""
        assert cell.H is not None  # in `needs`
        A, h = jnp.asarray(np.asarray(self.linear), y.dtype), cell.dt
        g = process.diffusion(cell.t0, y, args)
        drift = process.drift(cell.t0, y, args)
        kick, bend = process.noise.apply(g, cell.W), process.noise.apply(g, cell.H)
        if A.ndim == 0 or A.shape == y.shape:
            growth, one, two, rest = _entrywise(A * h)
            moved = growth * y + one * ((drift - A * y) * h + kick) + (6 * one - 12 * two) * bend
            return moved + g * normals * jnp.sqrt(h) * rest if isinstance(process.noise, Diagonal) else moved
        if y.ndim != 1 or A.shape != (y.size, y.size):
            raise InputError(
                f"ExponentialEuler(linear) with A of shape {A.shape}",
                f"the state has shape {y.shape}",
                f"a number, shape {y.shape}" + (f", or shape {(y.size, y.size)}" if y.ndim == 1 else ""),
            )
        growth, one, two = _matrix(A * h)
        return growth @ y + one @ ((drift - A @ y) * h + kick) + (6 * one - 12 * two) @ bend

    def strong_order(self, noise: Noise) -> float:
        """½, or 1 when the noise is additive."""
        return 1.0 if noise.depends == "additive" else 0.5

    def weak_order(self, noise: Noise) -> float:
        """1."""
        return 1.0


def _nested(values: Any) -> Any:
    return tuple(_nested(value) for value in values) if isinstance(values, list) else values


def _phi1(z: Array) -> Array:
    """(e^z - 1)/z, and 1 at 0."""
    safe = jnp.where(z == 0, 1.0, z)
    return jnp.where(z == 0, 1.0, jnp.expm1(safe) / safe)


def _entrywise(z: Array) -> tuple[Array, Array, Array, Array]:
    """e^z, φ1, φ2 and the standard deviation of the rest over √h g, without cancellation near 0."""
    near = jnp.abs(z) < 1
    inner, outer = jnp.where(near, z, 0.0), jnp.where(near, 1.0, z)
    series = jnp.zeros_like(z)
    for k in reversed(range(_TAYLOR)):  # Σ z^k/(k + 2)!
        series = (1 + inner * series) / (k + 2)
    one = _phi1(z)
    two = jnp.where(near, series, (one - 1) / outer)
    close = jnp.abs(z) < (0.1 if z.dtype == jnp.float64 else 0.5)  # where the difference below loses half its digits
    small, large = jnp.where(close, z, 0.0), jnp.where(close, 1.0, z)
    left = _phi1(2 * large) - _phi1(large) ** 2 - (6 * _phi1(large) - 12 * (_phi1(large) - 1) / large) ** 2 / 12
    tiny = jnp.exp(small / 2) * small**2 / float(np.sqrt(720)) * (1 + 3 * small**2 / 140)
    return jnp.exp(z), one, two, jnp.where(close, tiny, jnp.sqrt(left))


def _matrix(Z: Float[Array, "d d"]) -> tuple[Array, Array, Array]:
    """e^Z, φ1, φ2: the first row of blocks of exp [[Z, I, 0], [0, 0, I], [0, 0, 0]] (Sidje 1998)."""
    d = Z.shape[0]
    unit, zero = jnp.eye(d, dtype=Z.dtype), jnp.zeros_like(Z)
    row = jsl.expm(jnp.block([[Z, unit, zero], [zero, zero, unit], [zero, zero, zero]]))[:d]
    return row[:, :d], row[:, d : 2 * d], row[:, 2 * d :]

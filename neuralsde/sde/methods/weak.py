"""A Runge-Kutta method of weak order 2 for every noise: right in law, not along the path.

Rößler (2009), scheme RI6. With g_k the column k of G, a = f(t0, y), and two families of stages for every k,

    y_k± = y + a h ± g_k √h  (at t1),          z_k± = y ± Σ_{l≠k} g_l I_kl/√h  (at t0),
    y' = y + ½ (a + f(t1, y + a h + G·W)) h + ½ Σ_k [g_k(y_k+) - g_k(y_k-)] ½ (W_k² - h)/√h
           + ¼ Σ_k [g_k(y_k+) + g_k(y_k-) + g_k(z_k+) + g_k(z_k-)] W_k + ½ Σ_k [g_k(z_k+) - g_k(z_k-)] √h.

I_kl = ½ (W_k W_l - h s_k) for k < l and ½ (W_k W_l + h s_l) for k > l, with fair signs s, takes the place of the
iterated integral: it has its low moments and none of the cost of the area.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralsde.sde.brownian import Cell
from neuralsde.sde.methods.base import Backwards, Method, separable
from neuralsde.sde.process import SDE, Diagonal, General, Ito, Noise, Scalar


@dataclasses.dataclass(frozen=True)
class RI6(Method):
    """Rößler's RI6 with Gaussian increments and signs of the cell's own key. Ito, every noise.

    Weak order 2; no strong claim, and outside the laws of one path at two resolutions. Coupled Diagonal noise is taken
    as General(d) with a diagonal matrix.
    """

    calculus: ClassVar[tuple[type, ...]] = (Ito,)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar, General)
    paper: ClassVar[str] = "Rößler 2009, SIAM J. Numer. Anal. 47, RI6"
    evaluations: ClassVar[str] = "2 drift; 3 diffusion for Scalar and separable Diagonal, 1 + 4m for others (m = d)"
    needs: ClassVar[frozenset[str]] = frozenset({"key"})
    backwards: ClassVar[Backwards] = "refused"

    def step(self, process: SDE, carry: Array, cell: Cell, args: Any) -> Array:
        """One step of the formula, with signs from the cell's key."""
        assert cell.key is not None  # in `needs`
        return self.advance(process, carry, cell, jax.random.rademacher(cell.key, cell.W.shape, cell.W.dtype), args)

    def advance(self, process: SDE, y: Array, cell: Cell, signs: Float[Array, ...], args: Any) -> Array:
        """One step with these signs, in the shape of W: what exact expectations sum over."""
        noise, h = process.noise, cell.dt
        g = process.diffusion(cell.t0, y, args)
        a = process.drift(cell.t0, y, args) * h
        moved = noise.apply(g, cell.W)
        start = y + 0.5 * (a + process.drift(cell.t1, y + a + moved, args) * h)
        if noise.depends == "additive":
            return start + _additive(process, g, y, cell, args)
        if isinstance(noise, Scalar) or separable(noise):
            up, down = (process.diffusion(cell.t1, y + a + s * g * jnp.sqrt(h), args) for s in (1.0, -1.0))
            return start + 0.5 * moved + _pair(up, down, cell.W, h)
        return start + _columns(process, g, y, y + a, cell, signs, args)

    def strong_order(self, noise: Noise) -> None:
        """No claim."""
        return

    def weak_order(self, noise: Noise) -> float:
        """2."""
        return 2.0


def _pair(up: Array, down: Array, W: Array, h: Array) -> Array:
    """¼ (up + down) W + ½ (up - down) ½ (W² - h)/√h."""
    return 0.25 * (up + down) * W + 0.25 * (up - down) * (W**2 - h) / jnp.sqrt(h)


def _additive(process: SDE, g: Array, y: Array, cell: Cell, args: Any) -> Array:
    """½ (G(t0) + G(t1))·W: all that the stages leave when G does not see y."""
    late = process.diffusion(cell.t1, y, args)
    return 0.5 * process.noise.apply(g + late, cell.W)


def _columns(process: SDE, g: Array, y: Array, start: Array, cell: Cell, signs: Array, args: Any) -> Array:
    """The noise terms of the formula with a stage for every column; W of any shape, its motions numbered in order."""
    W, s, h = cell.W.reshape(-1), signs.reshape(-1), cell.dt
    root, count = jnp.sqrt(h), W.size
    general = isinstance(process.noise, General)

    def matrix(g: Array) -> Array:
        """G as (*y.shape, m)."""
        return g if general else jnp.diag(g.reshape(-1)).reshape(*y.shape, count)

    def column(t: Array, state: Array, k: Array) -> Array:
        return matrix(process.diffusion(t, state, args))[..., k]

    G = matrix(g)
    above = jnp.triu(jnp.ones((count, count), y.dtype), 1)
    pairs = 0.5 * (W[:, None] * W - h * s[:, None] * above + h * s * above.T) * (1 - jnp.eye(count, dtype=y.dtype))

    def one(k: Array) -> Array:
        step, other = G[..., k] * root, G @ (pairs[k] / root)
        up, down = column(cell.t1, start + step, k), column(cell.t1, start - step, k)
        left, right = column(cell.t0, y + other, k), column(cell.t0, y - other, k)
        return _pair(up, down, W[k], h) + 0.25 * (left + right) * W[k] + 0.5 * (left - right) * root

    return jax.vmap(one)(jnp.arange(count)).sum(0)

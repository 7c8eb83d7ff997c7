"""The drift-implicit Euler method, for stiff drift.

    y' = y + f(t1, y') h + G(t0, y)·W

No explicit method survives a rate λ with λh = 10; this one damps every such mode by 1/(1 + λh). The equation for y' is
solved by Newton's method, and derivatives of y' follow from the equation and not from the iterations: with
R(z, p) = z - y - f(t1, z) h - G·W, ∂y'/∂p = -(∂R/∂z)⁻¹ ∂R/∂p, so every gradient mode pays one linear solve a step.
Unknown and residual are measured in units of the state and of the terms of R: one tolerance fits every scale and both
precisions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import optimistix as optx
from jax import lax
from jaxtyping import Array

from neuralsde.sde.brownian import Cell
from neuralsde.sde.methods.base import Backwards, Method
from neuralsde.sde.process import SDE, Diagonal, General, Ito, Noise, Scalar


@dataclasses.dataclass(frozen=True)
class DriftImplicitEuler(Method):
    """Implicit in the drift, explicit in the noise. Ito, every noise.

    Strong order ½, 1 for additive noise; weak order 1. The Jacobian of the drift is dense: d JVPs and one solve of a
    d x d system an iteration, two for a drift that is nearly linear, and once more for the derivatives, which are exact
    up to the second (reverse over reverse included) and not beyond.

    iterations: of Newton's method at most. A step that has not converged by then is not a number, and so the solve
                fails with a result code instead of going on from a wrong state. There is one solution exactly where h
                times the one-sided Lipschitz constant of f is below 1.
    """

    iterations: int = 20

    calculus: ClassVar[tuple[type, ...]] = (Ito,)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar, General)
    paper: ClassVar[str] = "Kloeden & Platen 1992, §12.2; Higham, Mao & Stuart 2002, SIAM J. Numer. Anal. 40"
    evaluations: ClassVar[str] = "1 diffusion; 2 drift, d JVPs, one d x d solve, and as much an iteration"
    backwards: ClassVar[Backwards] = "corrected"

    def step(self, process: SDE, carry: Array, cell: Cell, args: Any) -> Array:
        """One step of the formula."""
        start = carry + process.noise.apply(process.diffusion(cell.t0, carry, args), cell.W)
        push = process.drift(cell.t1, start, args) * cell.dt
        small = jnp.sqrt(jnp.finfo(carry.dtype).tiny)
        unit = lax.stop_gradient(jnp.maximum(jnp.abs(start).max(), small))
        terms = lax.stop_gradient(jnp.maximum(unit, jnp.abs(push).max()))

        def residual(scaled: Array) -> Array:
            z = scaled * unit
            return (z - start - process.drift(cell.t1, z, args) * cell.dt) / terms

        return _with_derivatives(residual, self._newton(residual, start / unit)) * unit

    def _newton(self, residual: Callable[[Array], Array], guess: Array) -> Array:
        """The root as a constant, or not a number."""
        closed = eqx.filter_closure_convert(residual, guess)
        constant = jax.tree.map(lambda leaf: lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf, closed)
        tolerance = float(jnp.finfo(guess.dtype).eps) ** 0.6
        solved = optx.root_find(
            lambda z, _: constant(z),
            optx.Newton(rtol=tolerance, atol=tolerance),
            lax.stop_gradient(guess),
            max_steps=self.iterations,
            throw=False,
        )
        return lax.stop_gradient(jnp.where(solved.result == optx.RESULTS.successful, solved.value, jnp.nan))

    def strong_order(self, noise: Noise) -> float:
        """½, or 1 when the noise is additive."""
        return 1.0 if noise.depends == "additive" else 0.5

    def weak_order(self, noise: Noise) -> float:
        """1."""
        return 1.0


def _with_derivatives(residual: Callable[[Array], Array], root: Array) -> Array:
    """The same number with its derivatives, first and second: two chord steps of Newton's method from the root.

    From a root at the parameters p they are off by O(|dp|³) at p + dp. Plain operations, where a rule of its own for
    the root (as `lax.custom_root` has) is lost when a scan is differentiated in reverse twice.
    """
    size = root.size
    value, push = jax.linearize(residual, root)
    unit = jnp.eye(size, dtype=root.dtype).reshape(size, *root.shape)
    factors = jsl.lu_factor(jax.vmap(push)(unit).reshape(size, size).T)
    for late in (False, True):
        change = jsl.lu_solve(factors, (residual(root) if late else value).reshape(-1))
        root = root - change.reshape(root.shape)
    return root

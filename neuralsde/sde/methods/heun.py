"""Two-stage methods for Stratonovich's calculus: ordinary Runge-Kutta methods with f dt + g ∘ dW in place of f dt.

With k(t, y) = f(t, y) h + G(t, y)·W over one cell:

    Heun          y' = y + ½ (k(t0, y) + k(t1, y + k(t0, y)))
    Midpoint      y' = y + k(t0 + h/2, y + ½ k(t0, y))
    Euler-Heun    y' = y + f h + ½ (G(t0, y) + G(t1, y + G·W))·W

All three expand to y + G·W + ½ ∂(G·W)[G·W] + f h, which is right where the noise commutes (strong order 1) and lacks
the area A elsewhere (½). For additive noise Heun has weak order 2: the mean of its f'' term is ¼ h² f'' σ², as it
should be.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from jaxtyping import Array

from neuralsde.sde.brownian import Cell
from neuralsde.sde.methods.base import Method, commutes
from neuralsde.sde.process import SDE, Diagonal, General, Noise, Scalar, Stratonovich


def _move(process: SDE, t: Array, y: Array, cell: Cell, args: Any) -> Array:
    """k(t, y)."""
    drift, diffusion = process.drift(t, y, args), process.diffusion(t, y, args)
    return drift * cell.dt + process.noise.apply(diffusion, cell.W)


@dataclasses.dataclass(frozen=True)
class Heun(Method):
    """Trapezoidal predictor-corrector. Stratonovich, every noise.

    Strong order 1 where the noise commutes, else ½; weak order 1, 2 for additive noise.
    """

    calculus: ClassVar[tuple[type, ...]] = (Stratonovich,)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar, General)
    paper: ClassVar[str] = "Rümelin 1982, SIAM J. Numer. Anal. 19"
    evaluations: ClassVar[str] = "2 drift, 2 diffusion"

    def step(self, process: SDE, carry: Array, cell: Cell, args: Any) -> Array:
        """One step of the formula."""
        first = _move(process, cell.t0, carry, cell, args)
        return carry + 0.5 * (first + _move(process, cell.t1, carry + first, cell, args))

    def strong_order(self, noise: Noise) -> float:
        """1 where the noise commutes, else ½."""
        return 1.0 if commutes(noise) else 0.5

    def weak_order(self, noise: Noise) -> float:
        """1; 2 for additive noise."""
        return 2.0 if noise.depends == "additive" else 1.0


@dataclasses.dataclass(frozen=True)
class Midpoint(Method):
    """Explicit midpoint. Stratonovich, every noise. Strong order 1 where the noise commutes, else ½; weak order 1."""

    calculus: ClassVar[tuple[type, ...]] = (Stratonovich,)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar, General)
    paper: ClassVar[str] = "Rümelin 1982, SIAM J. Numer. Anal. 19"
    evaluations: ClassVar[str] = "2 drift, 2 diffusion"

    def step(self, process: SDE, carry: Array, cell: Cell, args: Any) -> Array:
        """One step of the formula."""
        half = carry + 0.5 * _move(process, cell.t0, carry, cell, args)
        return carry + _move(process, cell.t0 + 0.5 * cell.dt, half, cell, args)

    def strong_order(self, noise: Noise) -> float:
        """1 where the noise commutes, else ½."""
        return 1.0 if commutes(noise) else 0.5

    def weak_order(self, noise: Noise) -> float:
        """1."""
        return 1.0


@dataclasses.dataclass(frozen=True)
class EulerHeun(Method):
    """Euler in the drift, Heun in the noise: one drift only. Stratonovich, every noise.

    Strong order 1 where the noise commutes, else ½; weak order 1.
    """

    calculus: ClassVar[tuple[type, ...]] = (Stratonovich,)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar, General)
    paper: ClassVar[str] = "Gard 1988, Introduction to Stochastic Differential Equations, ch. 7"
    evaluations: ClassVar[str] = "1 drift, 2 diffusion"

    def step(self, process: SDE, carry: Array, cell: Cell, args: Any) -> Array:
        """One step of the formula."""
        g = process.diffusion(cell.t0, carry, args)
        moved = process.noise.apply(g, cell.W)
        drift = process.drift(cell.t0, carry, args) * cell.dt
        again = process.noise.apply(process.diffusion(cell.t1, carry + moved, args), cell.W)
        return carry + drift + 0.5 * (moved + again)

    def strong_order(self, noise: Noise) -> float:
        """1 where the noise commutes, else ½."""
        return 1.0 if commutes(noise) else 0.5

    def weak_order(self, noise: Noise) -> float:
        """1."""
        return 1.0

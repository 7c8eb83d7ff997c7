"""Runge-Kutta methods of strong order 1.5: they see the path's space-time area H besides W.

H says where in the cell the path went: ∫ (W_s - W_t0) ds = h (½ W + H), which is Ito's I_(1,0). The error of a method
that knows W alone contains f' g (I_(1,0) - ½ h W), of size h^(3/2) a step, and so order 1 at best.

    ShARK     additive noise (Foster, dos Reis & Strange 2023, eq. 6.1), with g0, g1 at both ends of the cell
              z1 = y + g0 H,    z2 = y + (5/6) (f(t0, z1) h + g0 W) + g0 H
              y' = y + (.4 f(t0, z1) + .6 f(t0 + (5/6) h, z2)) h + ½ (g0 + g1) W - (g1 - g0) H
    SRIW1     Ito, one Brownian motion or one for each separable entry (Rößler 2010, table of SRI1W1): four stages of g,
              two of f, and the integrals I_1 = W, I_11 = ½ (W² - h), I_111 = (W³ - 3hW)/6, I_10
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from neuralsde.sde.brownian import Cell
from neuralsde.sde.methods.base import Backwards, Method, separable
from neuralsde.sde.process import SDE, Calculus, Diagonal, General, Ito, Noise, Scalar, Stratonovich


@dataclasses.dataclass(frozen=True)
class ShARK(Method):
    """Shifted additive-noise Runge-Kutta: the method to take for additive noise of any shape, in either calculus.

    Strong order 1.5, weak order 2.
    """

    calculus: ClassVar[tuple[type, ...]] = (Stratonovich, Ito)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar, General)
    paper: ClassVar[str] = "Foster, dos Reis & Strange 2023, SIAM J. Numer. Anal. 62, eq. 6.1"
    evaluations: ClassVar[str] = "2 drift, 2 diffusion, one more normal"
    depends: ClassVar[tuple[str, ...]] = ("additive",)
    needs: ClassVar[frozenset[str]] = frozenset({"H"})

    def step(self, process: SDE, carry: Array, cell: Cell, args: Any) -> Array:
        """One step of the formula; the noise of a g that moves with time is right to order 2."""
        noise, h = process.noise, cell.dt
        assert cell.H is not None  # in `needs`
        early, late = process.diffusion(cell.t0, carry, args), process.diffusion(cell.t1, carry, args)
        shift = carry + noise.apply(early, cell.H)
        first = process.drift(cell.t0, shift, args) * h
        second = process.drift(cell.t0 + 5 / 6 * h, shift + 5 / 6 * (first + noise.apply(early, cell.W)), args) * h
        kick = noise.apply(early, 0.5 * cell.W + cell.H) + noise.apply(late, 0.5 * cell.W - cell.H)
        return carry + 0.4 * first + 0.6 * second + kick

    def strong_order(self, noise: Noise) -> float:
        """1.5."""
        return 1.5

    def weak_order(self, noise: Noise) -> float:
        """2."""
        return 2.0


@dataclasses.dataclass(frozen=True)
class SRIW1(Method):
    """Rößler's SRI1W1. Ito; Scalar noise, and Diagonal noise that is separable (or additive, where ShARK is cheaper).

    Strong order 1.5. Weak order 1.5, for additive noise 2: the stages at y ± g√h leave terms like W h^(3/2), whose mean
    is zero, but not that of their product with g W. (Some tables say 2; affine problems cannot tell, a circle does.)
    Coupled diagonal noise is refused: the steps of √h would mix entries that have nothing to do with each other, and
    the strong order would fall to ½ (THEORY 11). For the same roots it does not run backward.
    """

    calculus: ClassVar[tuple[type, ...]] = (Ito,)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar)
    limits: ClassVar[str] = 'Diagonal noise has to be separable: Diagonal(depends="separable")'
    paper: ClassVar[str] = "Rößler 2010, SIAM J. Numer. Anal. 48, SRI1W1"
    evaluations: ClassVar[str] = "2 drift, 4 diffusion, one more normal"
    needs: ClassVar[frozenset[str]] = frozenset({"H"})
    backwards: ClassVar[Backwards] = "refused"

    def step(self, process: SDE, carry: Array, cell: Cell, args: Any) -> Array:
        """One step of the formula."""
        y, h, root, t = carry, cell.dt, jnp.sqrt(cell.dt), cell.t0
        assert cell.H is not None  # in `needs`
        two = 0.5 * (cell.W**2 - h) / root  # I_11/√h
        mean = 0.5 * cell.W + cell.H  # I_10/h
        three = (cell.W**3 / h - 3 * cell.W) / 6  # I_111/h
        f1 = process.drift(t, y, args)
        g1 = process.diffusion(t, y, args)
        g2 = process.diffusion(t + h / 4, y + f1 * h / 4 + g1 * root / 2, args)
        g3 = process.diffusion(t + h, y + f1 * h - g1 * root, args)
        g4 = process.diffusion(t + h / 4, y + f1 * h / 4 + (-5 * g1 + 3 * g2 + 0.5 * g3) * root, args)
        f2 = process.drift(t + 0.75 * h, y + 0.75 * f1 * h + 1.5 * g1 * mean, args)
        kick = (
            g1 * (-cell.W - two + 2 * mean - 2 * three)
            + g2 * (4 * cell.W + 4 * two - 4 * mean + 5 * three) / 3
            + g3 * (2 * cell.W - two - 2 * mean - 2 * three) / 3
            + g4 * three
        )
        return y + (f1 + 2 * f2) * h / 3 + kick

    def strong_order(self, noise: Noise) -> float:
        """1.5."""
        return 1.5

    def weak_order(self, noise: Noise) -> float:
        """1.5; 2 for additive noise."""
        return 2.0 if noise.depends == "additive" else 1.5

    @classmethod
    def takes(cls, noise: Noise, calculus: Calculus) -> bool:
        """Diagonal noise only where no entry depends on another."""
        fits = isinstance(noise, Scalar) or noise.depends == "additive" or separable(noise)
        return fits and isinstance(noise, cls.noise) and isinstance(calculus, cls.calculus)

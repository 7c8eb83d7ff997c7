"""Euler-Maruyama, the simplest method.

y' = y + f(t, y) dt + g(t, y) · W
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from jaxtyping import Array

from neuralsde.sde.brownian import Cell
from neuralsde.sde.methods.base import Backwards, Method
from neuralsde.sde.process import SDE, Diagonal, General, Ito, Noise, Scalar


@dataclasses.dataclass(frozen=True)
class EulerMaruyama(Method):
    """y + drift dt + diffusion · W.

    Ito, every noise. Strong order ½, 1 for additive noise; weak order 1.
    """

    calculus: ClassVar[tuple[type, ...]] = (Ito,)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar, General)
    paper: ClassVar[str] = "Maruyama 1955, Rend. Circ. Mat. Palermo 4; orders: Kloeden & Platen 1992, §10.2 and §14.1"
    evaluations: ClassVar[str] = "1 drift, 1 diffusion"
    backwards: ClassVar[Backwards] = "corrected"

    def step(self, process: SDE, carry: Array, cell: Cell, args: Any) -> Array:
        """One step of the formula."""
        drift = process.drift(cell.t0, carry, args)
        diffusion = process.diffusion(cell.t0, carry, args)
        return carry + drift * cell.dt + process.noise.apply(diffusion, cell.W)

    def strong_order(self, noise: Noise) -> float:
        """½, or 1 when the noise is additive."""
        return 1.0 if noise.depends == "additive" else 0.5

    def weak_order(self, noise: Noise) -> float:
        """1."""
        return 1.0

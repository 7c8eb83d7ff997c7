"""Euler steps for coefficients that the usual theorems exclude.

    Tamed             y' = y + f h / (1 + h |f|) + G·W           drift that grows faster than linearly, f = -y³
    Full truncation   x' = x + f(x⁺) h + G(x⁺)·W,  y = x⁺        square roots of the state, dy = κ (θ - y) dt + σ √y dW

With f = -y³ Euler-Maruyama leaves every bound with a probability that is small and yet enough for its moments to go to
infinity as h -> 0 (Hutzenthaler, Jentzen & Kloeden 2011); tamed, no drift moves the state by more than 1 a step. With
√y a step may land below 0; the truncated scheme lets its hidden x go there, with drift and diffusion taken at 0.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from neuralsde.sde.brownian import Cell
from neuralsde.sde.methods.base import Backwards, Method
from neuralsde.sde.process import SDE, Diagonal, General, Ito, Noise, Scalar


@dataclasses.dataclass(frozen=True)
class TamedEuler(Method):
    """Euler-Maruyama with a tamed drift; |f| is the Euclidean norm over the whole state. Ito, every noise.

    Strong order ½ for a drift that is one-sided Lipschitz with polynomial growth and a Lipschitz diffusion, 1 for
    additive noise; weak order 1. For a drift of linear growth it is Euler-Maruyama with a larger error.
    """

    calculus: ClassVar[tuple[type, ...]] = (Ito,)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar, General)
    paper: ClassVar[str] = "Hutzenthaler, Jentzen & Kloeden 2012, Ann. Appl. Probab. 22"
    evaluations: ClassVar[str] = "1 drift, 1 diffusion"
    backwards: ClassVar[Backwards] = "corrected"

    def step(self, process: SDE, carry: Array, cell: Cell, args: Any) -> Array:
        """One step of the formula."""
        drift = process.drift(cell.t0, carry, args)
        square = jnp.sum(drift**2)
        norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)  # a derivative at f = 0 too
        tamed = drift * cell.dt / (1 + jnp.abs(cell.dt) * norm)
        return carry + tamed + process.noise.apply(process.diffusion(cell.t0, carry, args), cell.W)

    def strong_order(self, noise: Noise) -> float:
        """½, or 1 when the noise is additive."""
        return 1.0 if noise.depends == "additive" else 0.5

    def weak_order(self, noise: Noise) -> float:
        """1."""
        return 1.0


@dataclasses.dataclass(frozen=True)
class FullTruncationEuler(Method):
    """Euler-Maruyama that sees and returns the positive part of a hidden state. Ito, every noise that moves; y0 >= 0.

    Every entry of the state is truncated. Where the diffusion is Lipschitz it has Euler's orders. For the square-root
    process (CIR) they hold when 2κθ/σ² >= 1, where 0 is not reached; at .5 and .1 the strong order is about .45
    and .15 (THEORY 11), and there it is chosen because it converges and has the least bias of the Euler schemes. A
    solve that starts again from a saved state forgets how far below 0 the hidden one was.
    """

    calculus: ClassVar[tuple[type, ...]] = (Ito,)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar, General)
    paper: ClassVar[str] = "Lord, Koekkoek & van Dijk 2010, Quant. Finance 10"
    evaluations: ClassVar[str] = "1 drift, 1 diffusion"
    depends: ClassVar[tuple[str, ...]] = ("separable", "commutative", "any")  # constant noise does not stay positive
    backwards: ClassVar[Backwards] = "refused"

    def step(self, process: SDE, carry: Array, cell: Cell, args: Any) -> Array:
        """One step of the hidden state."""
        seen = self.state(carry)
        drift = process.drift(cell.t0, seen, args) * cell.dt
        return carry + drift + process.noise.apply(process.diffusion(cell.t0, seen, args), cell.W)

    def state(self, carry: Array) -> Array:
        """Its positive part."""
        return jnp.maximum(carry, 0)

    def strong_order(self, noise: Noise) -> float:
        """½ (for CIR only from 2κθ/σ² = 1 on)."""
        return 0.5

    def weak_order(self, noise: Noise) -> float:
        """1."""
        return 1.0

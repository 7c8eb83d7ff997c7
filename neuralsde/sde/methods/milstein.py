"""Milstein's method: the first term that Euler-Maruyama leaves out, with iterated integrals of the noise.

    y' = y + f h + G·W + Σ_kj (∂G_·j) G_·k I_kj,      I_kj = ∫∫ dW_k dW_j

In Stratonovich's calculus I_kj = ½ W_k W_j + A_kj with the antisymmetric area A; in Ito's, ½ h less for k = j. Where
the noise commutes the sum is symmetric and A drops out. Then, with W held fixed in the derivative and c the correction
½ Σ_j (∂G_·j) G_·j of the drift,

    y' = y + (f - c) h + G·W + ½ ∂(G·W)[G·W]     (Ito),      the same without c (Stratonovich):

one JVP for all pairs, and those of c. `Milstein` is this formula, `MilsteinArea` the full one.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from neuralsde.sde.brownian import Cell
from neuralsde.sde.methods.base import Method, commutes, separable
from neuralsde.sde.process import SDE, Calculus, Diagonal, General, Ito, Noise, Scalar, Stratonovich


@dataclasses.dataclass(frozen=True)
class Milstein(Method):
    """The formula without area: Ito and Stratonovich; Diagonal, Scalar, and General noise that commutes.

    Strong order 1 where the noise commutes. A diagonal g(y) of the whole state does not: there only the symmetric part
    of the sum is taken, and the strong order is ½ (`MilsteinArea` has 1). Weak order 1. Scalar and separable noise:
    ½ g g' (W² - h), or ½ g g' W² for Stratonovich.
    """

    calculus: ClassVar[tuple[type, ...]] = (Ito, Stratonovich)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar, General)
    limits: ClassVar[str] = 'General noise has to commute: General(m, depends="commutative"), or MilsteinArea()'
    paper: ClassVar[str] = "Milstein 1974, Theory Probab. Appl. 19; Kloeden & Platen 1992, §10.3"
    evaluations: ClassVar[str] = (
        "1 drift, 1 diffusion, 1 JVP of it; Ito: + d JVPs for coupled Diagonal, + m for General"
    )

    def step(self, process: SDE, carry: Array, cell: Cell, args: Any) -> Array:
        """One step of the formula."""
        noise, ito = process.noise, isinstance(process.calculus, Ito)
        drift = process.drift(cell.t0, carry, args)
        if noise.depends == "additive":
            return carry + drift * cell.dt + noise.apply(process.diffusion(cell.t0, carry, args), cell.W)
        g, push = jax.linearize(lambda y: process.diffusion(cell.t0, y, args), carry)
        moved = noise.apply(g, cell.W)
        euler = carry + drift * cell.dt + moved
        if isinstance(noise, Scalar) or separable(noise):
            return euler + 0.5 * push(g) * (cell.W**2 - cell.dt if ito else cell.W**2)
        pairs = 0.5 * noise.apply(push(moved), cell.W)
        return euler + pairs - process.correction(cell.t0, carry, args) * cell.dt if ito else euler + pairs

    def strong_order(self, noise: Noise) -> float:
        """1 where the noise commutes, ½ for diagonal noise that is coupled."""
        return 1.0 if commutes(noise) else 0.5

    def weak_order(self, noise: Noise) -> float:
        """1."""
        return 1.0

    @classmethod
    def takes(cls, noise: Noise, calculus: Calculus) -> bool:
        """General noise only where it commutes."""
        fits = not isinstance(noise, General) or commutes(noise)
        return fits and isinstance(noise, cls.noise) and isinstance(calculus, cls.calculus)


@dataclasses.dataclass(frozen=True)
class MilsteinArea(Method):
    """The full formula, with the space-space area A of the cell: Ito and Stratonovich; General and Diagonal noise.

    Strong order 1 for every noise, with the A of the path itself: a fine path merged by `coarsen`, or
    `BrownianGrid(..., area=Fourier(terms))` with terms growing as h^(-1/2). With Foster's or Davie's area it matches
    the law of the step and not this path (THEORY 5). Weak order 1. Diagonal noise: a state of shape (d,).
    """

    calculus: ClassVar[tuple[type, ...]] = (Ito, Stratonovich)
    noise: ClassVar[tuple[type, ...]] = (General, Diagonal)
    paper: ClassVar[str] = "Milstein 1974; areas: Wiktorsson 2001, Ann. Appl. Probab. 11"
    evaluations: ClassVar[str] = "1 drift, 1 diffusion, m JVPs of it (Diagonal: d), and the draw of A"
    needs: ClassVar[frozenset[str]] = frozenset({"A"})

    def step(self, process: SDE, carry: Array, cell: Cell, args: Any) -> Array:
        """One step of the formula."""
        noise = process.noise
        g, push = jax.linearize(lambda y: process.diffusion(cell.t0, y, args), carry)
        euler = carry + process.drift(cell.t0, carry, args) * cell.dt + noise.apply(g, cell.W)
        if noise.depends == "additive":
            return euler
        assert cell.A is not None  # in `needs`
        pairs = 0.5 * jnp.outer(cell.W, cell.W) + cell.A
        if isinstance(process.calculus, Ito):
            pairs = pairs - 0.5 * cell.dt * jnp.eye(cell.W.size, dtype=carry.dtype)
        if isinstance(noise, General):
            # Σ_j (∂G_·j) [Σ_k G_·k I_kj]: column j moved along its own tangent.
            tangents = jnp.moveaxis(g @ pairs, -1, 0)
            own = jax.vmap(lambda tangent, j: push(tangent)[..., j])(tangents, jnp.arange(noise.m))
            return euler + own.sum(0)
        own = jax.vmap(lambda column, i: push(g * column)[i])(pairs.T, jnp.arange(carry.size))
        return euler + own

    def strong_order(self, noise: Noise) -> float:
        """1, with the path's own area."""
        return 1.0

    def weak_order(self, noise: Noise) -> float:
        """1."""
        return 1.0

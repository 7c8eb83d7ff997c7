"""Reversible Heun: two copies of the state that lead each other, one evaluation a step, and an exact way back.

    ŷ' = 2y - ŷ + f h + g·W,     y' = y + ½ (f + f') h + ½ (g + g')·W,     f' = f(t', ŷ'), g' = g(t', ŷ').

Heun's method evaluates twice because it needs f' at the end of a step that it has not taken. Here a second copy ŷ is
reflected through y (2y - ŷ is where it came from, mirrored) and gives that point for free, and f', g' are the f, g of
the next step. The map has a closed inverse, f and g again being evaluated once, at ŷ:

    ŷ = 2y' - ŷ' - f' h - g'·W,     y = y' - ½ (f + f') h - ½ (g + g')·W.

With the half-way state u = y + ½ (f h + g·W) it reads ŷ' = 2u - ŷ: a leapfrog, whose links the gradient walks back.
What it costs: the copies drift apart wherever Heun would damp. For dX = -λX dt the parasitic factor is
λh + √(1 + λ²h²), above 1 for every λ > 0, so over a time T the parasite grows to about
⅓ √λ σ h e^(λT), of which (λh)²/4 is in y: no step is stable for a long decay (THEORY 7).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Array

from neuralsde.sde.brownian import Cell
from neuralsde.sde.methods.base import commutes
from neuralsde.sde.methods.reversible import Link, ReversibleMethod
from neuralsde.sde.process import SDE, Diagonal, General, Noise, Scalar, Stratonovich


class Pairs(NamedTuple):
    """What is carried: the state, its leading copy, and the coefficients there."""

    y: Array
    yhat: Array
    f: Array
    g: Array


@dataclasses.dataclass(frozen=True)
class ReversibleHeun(ReversibleMethod):
    """Heun's method in its reversible form; gradients in constant memory with `gradient=Reversible()`.

    Stratonovich, every noise. Strong order ½, 1 for additive noise and for commutative; weak order 1.

    Not for long decays. A solution that contracts (dX = -λX dt + σ dW) is lost once λ · time passes some 8 to 10: with
    λh = .1 a standard deviation of .35 comes out as 7 at λT = 12, and shorter steps buy little (λh = .025: 6 at 16).
    Such a solve ends in `Result.UNSTABLE`. Take `Heun()`, or an implicit method, with `Checkpointed()`.
    """

    calculus: ClassVar[tuple[type, ...]] = (Stratonovich,)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar, General)
    paper: ClassVar[str] = "Kidger, Foster, Li & Lyons 2021, Efficient and accurate gradients for neural SDEs, NeurIPS"
    far: ClassVar[float] = 30.0  # of which (λh)²/4 is in y: 7 % of the unit for λh = .1
    evaluations: ClassVar[str] = "1 drift, 1 diffusion (and one of each at the start)"

    def init(self, process: SDE, t0: Array, y0: Array, args: Any) -> Pairs:
        """Both copies at y0, and the coefficients there."""
        return Pairs(y0, y0, *_both(process, t0, y0, args))

    def step(self, process: SDE, carry: Pairs, cell: Cell, args: Any) -> Pairs:
        """One step of the formula."""
        y, yhat, f, g = carry
        yhat = 2 * y - yhat + 2 * _half(process, f, g, cell)
        f1, g1 = _both(process, cell.t1, yhat, args)
        return Pairs(y + _half(process, f + f1, g + g1, cell), yhat, f1, g1)

    def undo(self, process: SDE, carry: Pairs, cell: Cell, args: Any) -> Pairs:
        """Its inverse."""
        y, yhat, f1, g1 = carry
        yhat = 2 * y - yhat - 2 * _half(process, f1, g1, cell)
        f, g = _both(process, cell.t0, yhat, args)
        return Pairs(y - _half(process, f + f1, g + g1, cell), yhat, f, g)

    def state(self, carry: Pairs) -> Array:
        """Y, not the copy."""
        return carry.y

    def copy(self, carry: Pairs) -> Array:
        """Ŷ."""
        return carry.yhat

    def strong_order(self, noise: Noise) -> float:
        """½; 1 when the noise is additive or commutes (one Brownian motion always does)."""
        return 1.0 if commutes(noise) else 0.5

    def weak_order(self, noise: Noise) -> float:
        """1."""
        return 1.0

    @property
    def reach(self) -> None:
        """No length is safe or unsafe in itself: contraction · time decides."""
        return None

    @property
    def links(self) -> tuple[Link, ...]:
        """One link: x = (u, ŷ), the half-way state of the cell before and the copy at the start of the cell."""
        return (Link(_leap, _leap_back),)

    def position(self, process: SDE, carry: Pairs, cell: Cell) -> tuple[Array, Array]:
        """(u, ŷ) from the carry."""
        return carry.y - _half(process, carry.f, carry.g, cell), carry.yhat

    def arrive(self, process: SDE, x: tuple[Array, Array], cell: Cell, args: Any) -> Array:
        """Y = u + ½ (f h + g·W), f and g at ŷ."""
        return x[0] + _half(process, *_both(process, cell.t1, x[1], args), cell)


def _both(process: SDE, t: Array, y: Array, args: Any) -> tuple[Array, Array]:
    return process.drift(t, y, args), process.diffusion(t, y, args)


def _half(process: SDE, f: Array, g: Array, cell: Cell) -> Array:
    """½ (f h + g·W)."""
    return 0.5 * (f * cell.dt + process.noise.apply(g, cell.W))


def _leap(process: SDE, x: tuple[Array, Array], before: Cell, cell: Cell, args: Any) -> tuple[Any, Array]:
    """(u, ŷ) over one cell: y = u + ½ (f h₋ + g·W₋), u' = y + ½ (f h + g·W), ŷ' = 2u' - ŷ."""
    u, yhat = x
    f, g = _both(process, cell.t0, yhat, args)
    y = u + _half(process, f, g, before)
    u = y + _half(process, f, g, cell)
    return (u, 2 * u - yhat), y


def _leap_back(process: SDE, x: tuple[Array, Array], before: Cell, cell: Cell, args: Any) -> tuple[Array, Array]:
    """The inverse of `_leap`."""
    u, yhat = x
    yhat = 2 * u - yhat
    f, g = _both(process, cell.t0, yhat, args)
    return u - _half(process, f, g, cell) - _half(process, f, g, before), yhat

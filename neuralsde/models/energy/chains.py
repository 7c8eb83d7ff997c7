"""Langevin's walk on an energy: where the negative points of contrastive divergence come from.

    x' = x - h ∇E(x) + √(2h) ξ                      stationary law p + O(h)

with Metropolis' test exactly p (`mcmc.mala`). Without it the learned energy makes up for the bias of the step, so that
it is right for this h only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.models.mcmc import langevin, mala
from neuralsde.typing import Y

Energy = Callable[[Array], Array]


@dataclass(frozen=True)
class Langevin:
    """`steps` of size `h` (units of x squared); `adjusted`: with Metropolis' test."""

    steps: int = 20
    h: float = 3e-3
    adjusted: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise InputError(f"steps={self.steps!r}", expected="a whole number of at least 1")
        if not self.h > 0:
            raise InputError(f"h={self.h!r}", expected="a positive step, about the square of the narrowest s.d.")

    def __call__(self, energy: Energy, x: Y, *, key: Key[Array, ""]) -> tuple[Y, Float[Array, ""]]:
        """One chain from x: where it is after `steps`, and its mean chance of being accepted (1 without the test)."""
        walk = mala if self.adjusted else langevin
        # A step of Hamiltonian dynamics over ε moves by ½ ε² of the slope.
        chain = walk(lambda y: -energy(y), x, key=key, steps=self.steps, step_size=math.sqrt(2 * self.h))
        return chain.x, chain.accepted

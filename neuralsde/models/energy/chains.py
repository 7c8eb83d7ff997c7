"""Langevin's walk on an energy: where the negative points of contrastive divergence come from.

    x' = x - h ∇E(x) + √(2h) ξ                      stationary law p + O(h)
    accept x' with probability min(1, exp(E(x) - E(x') + log q(x|x') - log q(x'|x)))        exactly p (MALA)

q the Gaussian of the step. Roberts & Tweedie 1996. Without the test the learned energy makes up for the bias of the
step, so that it is right for this h only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
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
        """One chain from x: where it is after `steps`, and the share of steps accepted (1 without the test)."""
        both = jax.value_and_grad(energy)

        def step(carry: tuple[Array, Array, Array], key: Array) -> tuple[tuple[Array, Array, Array], Array]:
            x, e, g = carry
            move, test = jax.random.split(key)
            y = x - self.h * g + jnp.sqrt(2 * self.h) * jax.random.normal(move, x.shape, x.dtype)
            new_e, new_g = both(y)
            if not self.adjusted:
                return (y, new_e, new_g), jnp.ones((), x.dtype)
            there, back = (jnp.square(b - a + self.h * slope).sum() for a, b, slope in ((x, y, g), (y, x, new_g)))
            log_ratio = e - new_e + (there - back) / (4 * self.h)
            take = jnp.log(jax.random.uniform(test)) < log_ratio
            kept = jax.tree.map(lambda a, b: jnp.where(take, a, b), (y, new_e, new_g), (x, e, g))
            return kept, take.astype(x.dtype)

        (x, _, _), accepted = lax.scan(step, (x, *both(x)), jax.random.split(key, self.steps))
        return x, accepted.mean()

"""Test problems that are solved path by path: y_t as a function of the start and of the Brownian path.

    example 1    dy = alpha y dt + beta y dW                        y0 e^{(alpha - beta²/2) t + beta W}, as in `GBM`
    example 2    dy = -p² sin y cos³y dt + p cos²y dW               arctan(p W + tan y0)
    example 3    dy = (b/√(1+t) - y/(2(1+t))) dt + a b/√(1+t) dW    (y0 + b (t + a W))/√(1+t)
    Heisenberg   dx = dW₁, dz = x dW₂                               (x0 + W₁, z0 + x0 W₂ + ½ W₁W₂ + A₁₂)

Examples 1-3 are those of Li, Wong, Chen & Duvenaud (2020), all Ito, all entry by entry; a public note says that the
solution printed for example 1 exchanges the two letters: the one above is right, by Ito's rule and by a fine solve.
`solution` is a plain function of y0, t and W, so its `jax.grad` is the exact pathwise gradient in the start and in
every parameter: what a gradient through a solver on the same path is measured against.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from neuralsde.sde.exact.parts import floats, rates
from neuralsde.sde.process import SDE, Diagonal, General


class LiExample2(eqx.Module):
    """Example 2 of Li et al. (2020), |y0| < π/2: the state stays between -π/2 and π/2. Separable diagonal noise."""

    p: Array = eqx.field(converter=rates)

    def process(self) -> SDE:
        """The Ito SDE."""
        return SDE(self._drift, self._diffusion, Diagonal(depends="separable"))

    def _drift(self, t: Any, y: Any, args: Any) -> Array:
        return -(self.p**2) * jnp.sin(y) * jnp.cos(y) ** 3

    def _diffusion(self, t: Any, y: Any, args: Any) -> Array:
        return self.p * jnp.cos(y) ** 2

    def solution(self, y0: Any, t: Any, W: Any) -> Array:
        """y_t from the Brownian motion at t; t itself does not enter. By Ito's rule for arctan."""
        y0, W = floats(y0, W)
        return jnp.arctan(self.p * W + jnp.tan(y0))


class LiExample3(eqx.Module):
    """Example 3 of Li et al. (2020), started at time 0. Additive diagonal noise.

    d(√(1+t) y) = b dt + a b dW, so only W at the end matters, although drift and diffusion depend on t.
    """

    a: Array = eqx.field(converter=rates)
    b: Array = eqx.field(converter=rates)

    def process(self) -> SDE:
        """The Ito SDE, for t >= 0."""
        return SDE(self._drift, self._diffusion, Diagonal(depends="additive"))

    def _drift(self, t: Any, y: Any, args: Any) -> Array:
        return self.b / jnp.sqrt(1 + t) - y / (2 * (1 + t))

    def _diffusion(self, t: Any, y: Any, args: Any) -> Array:
        return jnp.broadcast_to(self.a * self.b / jnp.sqrt(1 + t), jnp.shape(y))

    def solution(self, y0: Any, t: Any, W: Any) -> Array:
        """y_t from the Brownian motion at t, for y0 at time 0."""
        y0, t, W = floats(y0, t, W)
        return (y0 + self.b * (t + self.a * W)) / jnp.sqrt(1 + t)


class Heisenberg(eqx.Module):
    """dx = dW₁, dz = x dW₂: the smallest process whose noise does not commute. State (2,), noise General(2).

    Ito and Stratonovich agree (the correction is zero). No method that sees W alone can have a strong order above ½:
    given W over a step h, the area A₁₂ = ½ ∫ (W₁ dW₂ - W₂ dW₁) still has the variance (h² + h|W|²)/12.
    """

    def process(self) -> SDE:
        """The Ito SDE."""
        return SDE(self._drift, self._diffusion, General(2))

    def _drift(self, t: Any, y: Any, args: Any) -> Array:
        return jnp.zeros_like(y)

    def _diffusion(self, t: Any, y: Any, args: Any) -> Array:
        return jnp.zeros((2, 2), y.dtype).at[0, 0].set(1.0).at[1, 1].set(y[0])

    def solution(self, y0: Any, W: Any, area: Any) -> Array:
        """y_t (2,) from W (2,) and area (2, 2), the antisymmetric Lévy area of the path from the start to t."""
        y0, W, area = floats(y0, W, area)
        return jnp.stack([y0[0] + W[0], y0[1] + y0[0] * W[1] + 0.5 * W[0] * W[1] + area[0, 1]])

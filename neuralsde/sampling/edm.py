"""EDM's second-order sampler: noise is added, and the flow is solved by Heun in σ̃ = σ/α over the longer way.

    σ̂ = σ̃_t (1 + γ),   γ = min(S_churn / n, √2 - 1) where S_min <= σ̃_t <= S_max, else 0
    ẑ = z + √(σ̂² - σ̃_t²) S_noise ξ,   z = x/α;        then dz/dσ̃ = ε̂ by Heun's method from σ̂ to σ̃_s

S_churn = 0 is deterministic. The second evaluation is left out where the step ends without noise. In z and σ̃ every
schedule looks like EDM's own (σ = t, α = 1). σ̂ is held at or below the noise of the first time, beyond which no network
was trained. Source: Karras et al. 2022, algorithm 2.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from neuralsde.errors import InputError
from neuralsde.noising import Spacing
from neuralsde.sampling.levels import Level, both, level
from neuralsde.sampling.loop import Cell, Counting, Sampler, normal


class EDMHeun(Sampler):
    """Heun's method in σ/α with churn. Order 2 without churn; two evaluations a step, one in a step to σ = 0.

    s_churn: how much noise is added over all steps; s_min, s_max: where, in σ/α; s_noise: its excess over 1.
    """

    s_churn: float = eqx.field(static=True, default=0.0)
    s_min: float = eqx.field(static=True, default=0.0)
    s_max: float = eqx.field(static=True, default=math.inf)
    s_noise: float = eqx.field(static=True, default=1.0)
    order = property(lambda self: 2 if not self.s_churn else 1)
    stochastic = property(lambda self: self.s_churn > 0)
    cost = property(lambda self: 2)
    clean = property(lambda self: True)

    def __check_init__(self) -> None:
        if not (0 <= self.s_churn < math.inf and 0 <= self.s_min <= self.s_max and self.s_noise > 0):
            given = f"s_churn={self.s_churn}, s_min={self.s_min}, s_max={self.s_max}, s_noise={self.s_noise}"
            raise InputError(given, expected="s_churn >= 0, 0 <= s_min <= s_max, s_noise > 0")

    @property
    def spacing(self) -> Spacing:
        return "edm"

    def start(self, predict: Counting, ts: Array, x: Array) -> Any:
        return level(predict.schedule, ts[0]).lam  # the most noise that a network knows

    def step(self, predict: Counting, cell: Cell, x: Array, memory: Any, *, key: Any) -> tuple[Array, Any]:
        a, b = level(predict.schedule, cell.t), level(predict.schedule, cell.s)
        if self.s_churn:
            x, a = self._churn(predict, cell, x, a, memory, normal(key, cell, x))
        x_0, eps = both(predict, x, a)
        first = b.alpha * x_0 + b.sigma * eps

        def second() -> tuple[Array, Array]:
            turn = predict.predictor.noise(first, b.t) - eps
            return first + 0.5 * (b.sigma - b.alpha * jnp.exp(-a.lam)) * turn, jnp.asarray(1)

        x, more = lax.cond(b.sigma > 0, second, lambda: (first, jnp.asarray(0)))
        predict.add(more)
        return x, memory

    def _churn(self, predict: Counting, cell: Cell, x: Array, a: Level, most: Array, xi: Array) -> tuple[Array, Level]:
        """State with noise added, and the level where that puts it."""
        ratio = jnp.exp(-a.lam)
        gamma = jnp.minimum(self.s_churn / cell.n, math.sqrt(2) - 1)
        acts = (ratio >= self.s_min) & (ratio <= self.s_max)
        lam = jnp.where(acts, jnp.maximum(a.lam - jnp.log1p(gamma), most), a.lam)
        up = level(predict.schedule, jnp.where(lam < a.lam, predict.schedule.time_at(2 * lam), a.t))
        room = jnp.exp(-2 * up.lam) - ratio**2
        added = jnp.where(room > 0, jnp.sqrt(jnp.where(room > 0, room, 1.0)), 0.0) * self.s_noise
        return up.alpha * (x / a.alpha + added * xi), up

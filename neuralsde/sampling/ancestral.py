"""Steps through the guess of the data: back to x̂_0, and out again to less noise.

    x_s = α_s x̂_0 + √(σ_s² - τ²) ε̂ + τ z,    τ = η σ_s √(1 - e^{-2h}),   h = λ_s - λ_t

η = 0 is DDIM, deterministic, the exponential Euler step of the probability flow; η = 1 is DDPM's ancestral step: the
mean and the variance of q(x_s | x_t, x_0 = x̂_0) (Ho et al. 2020), and also SDE-DPM-Solver++(1). In between it is the
first-order step of the family with η times the noise of the reverse SDE (`reverse.py`). Source: Song et al. 2021.
"""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from neuralsde.errors import InputError, closest
from neuralsde.noising import Spacing
from neuralsde.sampling.levels import both, level
from neuralsde.sampling.loop import Cell, Counting, Sampler, normal


def check_eta(eta: float) -> None:
    """Refuse a share of the reverse SDE's noise that is none."""
    if not 0 <= eta < float("inf"):
        raise InputError(f"eta={eta}", expected="a number of at least 0: 0 the flow, 1 the reverse SDE")


class DDIM(Sampler):
    """The step that is exact where x̂_0 does not change. Order 1. eta from 0 to 1: how much of it is drawn anew."""

    eta: float = eqx.field(static=True, default=0.0)
    order = property(lambda self: 1)
    stochastic = property(lambda self: self.eta > 0)
    clean = property(lambda self: True)

    def __check_init__(self) -> None:
        check_eta(self.eta)
        if self.eta > 1:
            raise InputError(f"eta={self.eta}", "more noise than there is at the end of a step", "0 to 1")

    def step(self, predict: Counting, cell: Cell, x: Array, memory: Any, *, key: Any) -> tuple[Array, Any]:
        a, b = level(predict.schedule, cell.t), level(predict.schedule, cell.s)
        x_0, eps = both(predict, x, a)
        if not self.eta:
            return b.alpha * x_0 + b.sigma * eps, memory
        fresh = -(self.eta**2) * jnp.expm1(-2 * (b.lam - a.lam))  # τ²/σ_s²
        kept = b.sigma * jnp.sqrt(1 - fresh)
        return b.alpha * x_0 + kept * eps + b.sigma * jnp.sqrt(fresh) * normal(key, cell, x), memory


class DDPM(Sampler):
    """Ancestral sampling. Order 1 in mean and covariance; its own grid has equal steps of t.

    variance: of what is drawn. "posterior": that of q(x_s | x_t, x_0), exact if the data are a point. "forward": that
              of q(x_t | x_s), exact if they are N(0, 1); none in a step to σ = 0. Source: Ho et al. 2020, §3.2.
    """

    variance: Literal["posterior", "forward"] = eqx.field(static=True, default="posterior")
    order = property(lambda self: 1)
    stochastic = property(lambda self: True)
    clean = property(lambda self: True)

    def __check_init__(self) -> None:
        if self.variance not in ("posterior", "forward"):
            known = ("posterior", "forward")
            raise InputError(f"variance={self.variance!r}", "none of that name", hint=closest(self.variance, known))

    @property
    def spacing(self) -> Spacing:
        return "uniform"

    def step(self, predict: Counting, cell: Cell, x: Array, memory: Any, *, key: Any) -> tuple[Array, Any]:
        a, b = level(predict.schedule, cell.t), level(predict.schedule, cell.s)
        x_0, eps = both(predict, x, a)
        h = b.lam - a.lam
        mean = b.alpha * x_0 + b.sigma * jnp.exp(-h) * eps
        sd = b.sigma if self.variance == "posterior" else jnp.where(b.sigma > 0, a.sigma, 0.0)
        return mean + sd * jnp.sqrt(-jnp.expm1(-2 * h)) * normal(key, cell, x), memory

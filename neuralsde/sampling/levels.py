"""A noise level and the way from one to the next, in the clock λ = log α/σ = ½ log SNR.

In λ both halves of x = α x_0 + σ ε have an exact exponential solution (Lu et al. 2022), for a step h = λ_s - λ_t:

    noise:  x_s = (α_s/α_t) x_t - α_s ∫ e^{-λ} ε̂ dλ          data:  x_s = (σ_s/σ_t) x_t + σ_s ∫ e^{λ} x̂_0 dλ

The second has no cancellation at either end: with σ_s = 0, h = ∞ and x_s = x̂_0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from neuralsde.noising import Schedule, convert
from neuralsde.sampling.loop import Counting


class Level(NamedTuple):
    """A time t with its α, σ and λ = log α/σ."""

    t: Any
    alpha: Array
    sigma: Array
    lam: Array


def level(schedule: Schedule, t: Any) -> Level:
    """The level at the time t."""
    return Level(t, schedule.alpha(t), schedule.sigma(t), 0.5 * schedule.log_snr(t))


def between(schedule: Schedule, a: Level, b: Level, part: float) -> Level:
    """The level at that part of the way from a to b, in λ."""
    return level(schedule, schedule.time_at(2 * (a.lam + part * (b.lam - a.lam))))


def clock_rate(schedule: Schedule, t: Any) -> Array:
    """dλ/dt = α'/α - σ'/σ, below 0."""
    return schedule.log_alpha_rate(t) - schedule.sigma_rate(t) / schedule.sigma(t)


def both(predict: Counting, x: Array, at: Level) -> tuple[Array, Array]:
    """x̂_0 and ε̂ at a level, by one evaluation."""
    x_0 = predict.x0(x, at.t)
    return x_0, convert(x_0, x, at.t, predict.schedule, "x0", "noise")


def along_noise(x: Array, eps: Array, a: Level, b: Level) -> Array:
    """State at b were ε̂ constant on the way: (α_b/α_a) x - σ_b (e^h - 1) ε̂."""
    return b.alpha / a.alpha * x - b.sigma * jnp.expm1(b.lam - a.lam) * eps


def along_data(x: Array, x_0: Array, a: Level, b: Level) -> Array:
    """State at b were x̂_0 constant on the way: (σ_b/σ_a) x - α_b (e^{-h} - 1) x̂_0."""
    return b.sigma / a.sigma * x - b.alpha * jnp.expm1(a.lam - b.lam) * x_0

"""Noise levels for a training batch, spread evenly over their law.

    u_i = (V + (i + U_i)/n) mod 1,   U_i, V ~ U(0, 1)         stratified: one draw in each of n equal parts of a circle

The mean of any function of u has the same expectation as with independent draws, and a variance that falls like n⁻³ in
place of n⁻¹ where the function is smooth. The levels are quantiles of the wanted law: uniform in t; uniform in log SNR,
where the likelihood weighting is flat (Kingma et al. 2021); log-normal in σ/α (Karras et al. 2022).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, Key

from neuralsde.noising import Schedule


def quantiles(n: int, *, stratified: bool, key: Key[Array, ""]) -> Float[Array, " n"]:
    """So many numbers in (0, 1), each uniform by itself."""
    u = jax.random.uniform(key, (n + 1,))
    u = (jnp.arange(n) / n + u[-1] + u[:-1] / n) % 1.0 if stratified else u[:-1]
    return jnp.clip(u, 1e-6, 1 - 1e-6)


def uniform_times(schedule: Schedule, u: Float[Array, " n"]) -> Float[Array, " n"]:
    """Quantiles of the uniform law on [t0, t1]."""
    return schedule.t0 + u * (schedule.t1 - schedule.t0)


def snr_range(schedule: Schedule) -> Float[Array, ""]:
    """Log SNR at t0 less that at t1."""
    return schedule.log_snr(schedule.t0) - schedule.log_snr(schedule.t1)


def snr_times(schedule: Schedule, u: Float[Array, " n"]) -> Float[Array, " n"]:
    """Quantiles of the law that is uniform in log SNR between t0 and t1."""
    return schedule.time_at(schedule.log_snr(schedule.t0) - u * snr_range(schedule))


def lognormal_times(schedule: Schedule, u: Float[Array, " n"], mean: float, sd: float) -> Float[Array, " n"]:
    """Times at which log(σ/α) is N(mean, sd²), cut off at t0 and t1."""
    t = schedule.time_at(-2 * (mean + sd * ndtri(u)))
    return jnp.clip(t, schedule.t0, schedule.t1)

"""What the closed forms share: parameters as float arrays, one density, exact chains of Gaussian transitions.

log N(y; m, v) = -½ ((y - m)²/v + log 2πv)                          `gaussian_log_density`
∫_0^t e^{-r s} ds = (1 - e^{-r t})/r                                 `decay`
y_{i+1} = F_i y_i + c_i + Q_i^{1/2} ξ_i                              `kernel_path`, its joint law `kernel_joint`
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key


def rates(value: Any) -> Array:
    """A parameter as a float array."""
    array = jnp.asarray(value)
    return array.astype(jnp.result_type(float, array.dtype))


def floats(*values: Any) -> list[Array]:
    """Several of them."""
    return [rates(value) for value in values]


def gaussian_log_density(y: Array, mean: Array, var: Array) -> Array:
    """Log N(y; mean, var), entry by entry."""
    return -0.5 * ((y - mean) ** 2 / var + jnp.log(2 * jnp.pi * var))


def decay(rate: Array, dt: Array) -> Array:
    """∫_0^dt e^{-rate s} ds = (1 - e^{-rate dt})/rate, and dt at rate 0, without cancellation."""
    safe = jnp.where(rate == 0, 1.0, rate)
    return jnp.where(rate == 0, dt, -jnp.expm1(-safe * dt) / safe)


def chain(transition: Any, y0: Any, ts: Any, key: Key[Array, ""]) -> Array:
    """An exact path of independent Gaussian transitions: one scan, normals from fold_in(key, i)."""
    y0, ts = floats(y0, ts)

    def step(y: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        i, dt = at
        mean, var = transition(y, dt)
        y = mean + jnp.sqrt(var) * jax.random.normal(jax.random.fold_in(key, i), y.shape, y.dtype)
        return y, y

    gaps = jnp.diff(ts)
    _, later = lax.scan(step, y0, (jnp.arange(gaps.size), gaps.astype(y0.dtype)))
    return jnp.concatenate([y0[None], later])


def kernel_path(kernel: Any, y0: Array, steps: Array, key: Key[Array, ""]) -> Float[Array, "k d"]:
    """A path (k+1, d) of y' ~ N(F y + c, Q) with (F, c, Q) = kernel(step), for steps of leading length k."""

    def step(y: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        i, gap = at
        F, c, Q = kernel(gap)
        y = F @ y + c + jnp.linalg.cholesky(Q) @ jax.random.normal(jax.random.fold_in(key, i), y.shape, y.dtype)
        return y, y

    _, later = lax.scan(step, y0, (jnp.arange(steps.shape[0]), steps))
    return jnp.concatenate([y0[None], later])


def kernel_joint(kernel: Any, y0: Array, steps: Array) -> tuple[Float[Array, "k d"], Float[Array, "k d k d"]]:
    """Mean and covariance of the whole path after y0, under the same law as `kernel_path`."""

    def step(carry: tuple[Array, Array], gap: Array) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        mean, cov = carry
        F, c, Q = kernel(gap)
        mean, cov = F @ mean + c, F @ cov @ F.T + Q
        return (mean, cov), (mean, cov, F)

    start = (y0, jnp.zeros((y0.size, y0.size), y0.dtype))
    _, (means, covs, F) = lax.scan(step, start, steps)
    return means, _joint_covariance(covs, F)


def _joint_covariance(covs: Float[Array, "k d d"], F: Float[Array, "k d d"]) -> Float[Array, "k d k d"]:
    """Cov(y_i, y_j) = F_i ··· F_{j+1} Cov(y_j), for i >= j."""

    def column(j: Array) -> Array:
        def step(block: Array, i: Array) -> tuple[Array, Array]:
            block = jnp.where(i == j, covs[j], jnp.where(i > j, F[i] @ block, 0.0))
            return block, block

        return lax.scan(step, jnp.zeros_like(covs[0]), jnp.arange(covs.shape[0]))[1]

    lower = jnp.moveaxis(jax.vmap(column)(jnp.arange(covs.shape[0])), 0, 2)  # (i, d, j, d), zero above the diagonal
    index = jnp.arange(covs.shape[0])
    upper = jnp.transpose(lower, (2, 3, 0, 1))
    return jnp.where((index[:, None] > index[None, :])[:, None, :, None], lower, upper)

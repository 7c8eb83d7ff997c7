"""log ∫ exp(-E) by annealed importance sampling (Neal 2001), and samples of exp(-E) on the way.

    π_β ∝ q^{1-β} exp(-β E),   x_0 ~ q = N(0, sd²),   x_k by HMC that leaves π_{β_k} as it is,   β_0 = 0 ... β_K = 1
    log w = Σ_k (β_{k+1} - β_k) (-E(x_k) - log q(x_k)),       E[w] = ∫ exp(-E)     for any number of steps

The mean of w is unbiased, its logarithm low by about ½ standard_error². Chains that are stuck between modes make w
spread, which the effective sample size shows, as long as some chain found each mode: it cannot see one that none found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.models.mcmc import hmc


class Normaliser(eqx.Module):
    """An estimate of log ∫ exp(-E).

    log_z:          () nats. standard_error: of it, by the spread of the weights (delta method).
    ess:            () effective number of chains, (Σw)²/Σw², between 1 and n; below some 10 % of n trust neither.
    log_weights:    (n,), and x (n, *shape): weighted samples of exp(-E)/Z.
    accepted:       () share of HMC proposals that were accepted.
    """

    log_z: Float[Array, ""]
    standard_error: Float[Array, ""]
    ess: Float[Array, ""]
    log_weights: Float[Array, " n"]
    x: Float[Array, "n ..."]
    accepted: Float[Array, ""]


def log_normaliser(
    energy: Callable[[Any], Any],
    shape: tuple[int, ...],
    *,
    key: Key[Array, ""],
    n: int = 1_024,
    steps: int = 128,
    sd: float = 1.2,
    step_size: float = 0.1,
    leaps: int = 5,
) -> Normaliser:
    """By n chains over `steps` temperatures, one HMC proposal of `leaps` leaps at each.

    energy:    one point of `shape` -> a scalar. sd: of the Gaussian to start from; wider than the law of interest.
    step_size: of the leapfrog, about the narrowest s.d. of the law.
    Cost: n · steps · (leaps + 2) evaluations. Compiled.
    """
    for name, value in (("n", n), ("steps", steps), ("leaps", leaps)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name}={value!r}", expected="a whole number of at least 1")
    if not (sd > 0 and step_size > 0):
        raise InputError(f"sd={sd!r}, step_size={step_size!r}", expected="positive numbers")
    return _run(energy, shape, key, n, steps, sd, step_size, leaps)


@eqx.filter_jit
def _run(
    energy: Any, shape: tuple[int, ...], key: Array, n: int, steps: int, sd: float, step_size: float, leaps: int
) -> Normaliser:
    # The temperatures are close where a narrow law begins to show in the wide one: near 0.
    betas = jnp.linspace(0.0, 1.0, steps + 1) ** 2

    def log_q(x: Array) -> Array:
        return -0.5 * jnp.square(x / sd).sum() - x.size * (jnp.log(sd) + 0.5 * jnp.log(2 * jnp.pi))

    def chain(key: Array) -> tuple[Array, Array, Array]:
        start, walk = jax.random.split(key)

        def step(carry: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], Array]:
            x, log_w = carry
            beta = betas[k + 1]
            log_w = log_w + (beta - betas[k]) * (-energy(x) - log_q(x))
            moved = hmc(
                lambda y: (1 - beta) * log_q(y) - beta * energy(y),
                x,
                key=jax.random.fold_in(walk, k),
                steps=1,
                step_size=step_size,
                leaps=leaps,
            )
            return (moved.x, log_w), moved.accepted

        x = sd * jax.random.normal(start, shape)
        (x, log_w), accepted = lax.scan(step, (x, jnp.zeros((), x.dtype)), jnp.arange(steps))
        return x, log_w, accepted.mean()

    x, log_w, accepted = jax.vmap(chain)(jax.random.split(key, n))
    total, squares = logsumexp(log_w), logsumexp(2 * log_w)
    ess = jnp.exp(2 * total - squares)
    error = jnp.sqrt(jnp.maximum(1 / ess - 1 / n, 0.0))
    return Normaliser(total - jnp.log(n), error, ess, log_w, x, accepted.mean())

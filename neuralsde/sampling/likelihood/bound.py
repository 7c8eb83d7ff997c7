"""A bound on the log density through the SDE, for models whose sampler is the reverse-time SDE.

    -log p(x_0) ≤ KL(N(α₁ x_0, σ₁²) | N(0, prior_sd²)) + ½ ∫ E|ε - ε̂(x_t, t)|² d(-log SNR) + ½ d log(2πe σ₀²/α₀²)
                  the prior's share        what the network pays on the way from t1 to t0       data given x_t0

(Song et al. 2021; Kingma et al. 2021). The last term is the cost of the decoder N(x_t0/α₀, σ₀²/α₀²) for data with a
density. Each point is an unbiased estimate: log SNR is drawn uniformly, in `draws` equal parts, ε and -ε as a pair.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.models.times import quantiles, snr_range, snr_times
from neuralsde.sampling.likelihood.flow import prior_sd
from neuralsde.typing import Y


class Bound(eqx.Module):
    """Of one point, or of many along a leading axis, in nats; the sum of the three is `nats`."""

    prior: Float[Array, "*b"]
    diffusion: Float[Array, "*b"]
    decoder: Float[Array, "*b"]

    @property
    def nats(self) -> Float[Array, "*b"]:
        """An unbiased estimate of the bound on -log p(x_0)."""
        return self.prior + self.diffusion + self.decoder


def likelihood_bound(
    predictor: Any, x: Float[Array, "n ..."], *, key: Key[Array, ""], draws: int = 64, batch: int | None = None
) -> Bound:
    """Of points (n, ...), by `draws` noise levels each; `batch` points at a time. Compiled."""
    return _many(predictor, x, key, draws, batch)


@eqx.filter_jit
def _many(predictor: Any, x: Array, key: Array, draws: int, batch: int | None) -> Bound:
    keys = jax.random.split(key, len(x))
    return lax.map(lambda point: _bound(predictor, point[0], point[1], draws), (x, keys), batch_size=batch or len(x))


def _bound(predictor: Any, x: Y, key: Array, draws: int) -> Bound:
    schedule, (level_key, eps_key) = predictor.schedule, jax.random.split(key)
    ts = snr_times(schedule, quantiles(draws, stratified=True, key=level_key)).astype(x.dtype)
    eps = jax.random.normal(eps_key, (draws, *x.shape), x.dtype)

    def error(t: Array, eps: Array) -> Array:
        both = [jnp.square(predictor.noise(schedule.noised(x, e, t), t) - e).sum() for e in (eps, -eps)]
        return 0.5 * (both[0] + both[1])

    diffusion = 0.5 * snr_range(schedule) * jax.vmap(error)(ts, eps).mean()
    width = prior_sd(schedule)
    mean, sd = schedule.alpha(schedule.t1) * x, schedule.sigma(schedule.t1) / width
    prior = (0.5 * (jnp.square(mean / width) + sd**2 - 1) - jnp.log(sd)).sum()
    decoder = 0.5 * x.size * (jnp.log(2 * jnp.pi) + 1 - schedule.log_snr(schedule.t0))
    return Bound(*(jnp.asarray(part, x.dtype) for part in (prior, diffusion, decoder)))

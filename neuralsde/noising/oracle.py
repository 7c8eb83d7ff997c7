"""Laws whose noised density and score are known: what samplers and likelihoods are measured against.

A Gaussian stays one, N(α m, α² C + σ²); a mixture stays one, each component by itself. Scores, densities, conditional
means and exact draws at every noise; the flow of a Gaussian is the affine map x ↦ α m + √(v_t/v_s) (x - α_s m).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.noising.predict import Predictor
from neuralsde.noising.schedule import Schedule


class Mixture(eqx.Module):
    """Σ_k w_k N(μ_k, s_k²) in d dimensions: weights (k,) that sum to 1, means (k, d), sds (k,)."""

    weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    sds: Float[Array, " k"]

    def __init__(self, weights: Any, means: Any, sds: Any) -> None:
        weights, means = jnp.asarray(weights, float), jnp.asarray(means, float)
        sds = jnp.broadcast_to(jnp.asarray(sds, float), weights.shape)
        if means.ndim != 2 or len(means) != len(weights) or not (weights >= 0).all() or not (sds >= 0).all():
            raise InputError(
                f"weights {weights.shape}, means {means.shape}, sds {sds.shape}",
                expected="weights (k,) and sds (k,) that are not negative, means (k, d)",
            )
        self.weights, self.means, self.sds = weights / weights.sum(), means, sds

    def at(self, schedule: Schedule, t: Any) -> Mixture:
        """The mixture after noising to the time t."""
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        noised = (self.weights, alpha * self.means, jnp.sqrt((alpha * self.sds) ** 2 + sigma**2))
        return eqx.tree_at(lambda m: (m.weights, m.means, m.sds), self, noised)

    def _terms(self, x: Float[Array, " d"]) -> Float[Array, " k"]:
        """Log of each component's share of the density at x."""
        d, far = self.means.shape[1], jnp.square(x - self.means).sum(1)
        return jnp.log(self.weights) - 0.5 * far / self.sds**2 - 0.5 * d * jnp.log(2 * jnp.pi * self.sds**2)

    def log_density(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The log density at x, in nats."""
        return logsumexp(self._terms(x))

    def score(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """∇log p(x)."""
        share = jax.nn.softmax(self._terms(x))
        return ((share / self.sds**2)[:, None] * (self.means - x)).sum(0)

    @eqx.filter_jit
    def sample(self, n: int, *, key: Key[Array, ""]) -> Float[Array, "n d"]:
        """Draws (n, d)."""
        which, noise = jax.random.split(key)
        k = jax.random.choice(which, len(self.weights), (n,), p=self.weights)
        return self.means[k] + self.sds[k, None] * jax.random.normal(noise, (n, self.means.shape[1]), self.means.dtype)

    def predictor(self, schedule: Schedule) -> Predictor:
        """The exact score at every time."""
        return Predictor(_NoisedScore(self, schedule), "score", schedule)

    def moments(self) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
        """Mean and covariance."""
        mean = self.weights @ self.means
        off, d = self.means - mean, self.means.shape[1]
        return mean, (self.weights[:, None] * off).T @ off + (self.weights @ self.sds**2) * jnp.eye(d)


class Gaussian(eqx.Module):
    """N(mean, cov): mean (d,), cov (d, d), symmetric and not negative."""

    mean: Float[Array, " d"]
    spread: Float[Array, " d"]
    basis: Float[Array, "d d"]

    def __init__(self, mean: Any, cov: Any) -> None:
        self.mean = jnp.asarray(mean, float)
        cov = jnp.asarray(cov, float)
        if cov.shape != (self.mean.size, self.mean.size):
            raise InputError(f"mean {self.mean.shape}, cov {cov.shape}", expected="mean (d,) and cov (d, d)")
        self.spread, self.basis = jnp.linalg.eigh(cov)

    def at(self, schedule: Schedule, t: Any) -> Gaussian:
        """The Gaussian after noising to the time t."""
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return eqx.tree_at(lambda g: (g.mean, g.spread), self, (alpha * self.mean, alpha**2 * self.spread + sigma**2))

    def log_density(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The log density at x, in nats."""
        z = self.basis.T @ (x - self.mean)
        return -0.5 * (z**2 / self.spread + jnp.log(2 * jnp.pi * self.spread)).sum()

    def score(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """∇log p(x), linear in x."""
        return -self.basis @ (self.basis.T @ (x - self.mean) / self.spread)

    @eqx.filter_jit
    def sample(self, n: int, *, key: Key[Array, ""]) -> Float[Array, "n d"]:
        """Draws (n, d)."""
        z = jax.random.normal(key, (n, self.mean.size), self.mean.dtype)
        return self.mean + (z * jnp.sqrt(self.spread)) @ self.basis.T

    def predictor(self, schedule: Schedule) -> Predictor:
        """The exact score at every time."""
        return Predictor(_NoisedScore(self, schedule), "score", schedule)

    def moments(self) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
        """Mean and covariance."""
        return self.mean, (self.basis * self.spread) @ self.basis.T

    def flow(self, x: Float[Array, " d"], schedule: Schedule, t: Any, s: Any) -> Float[Array, " d"]:
        """Where the probability flow takes x from the time t to the time s: affine, exactly."""
        old, new = self.at(schedule, t), self.at(schedule, s)
        return new.mean + new.basis @ (jnp.sqrt(new.spread / old.spread) * (old.basis.T @ (x - old.mean)))


class _NoisedScore(eqx.Module):
    law: Mixture | Gaussian
    schedule: Schedule

    def __call__(self, x: Any, t: Any) -> Array:
        return self.law.at(self.schedule, t).score(x)


def eight_gaussians(radius: float = 4.0, sd: float = 0.3) -> Mixture:
    """Eight components on a circle with weights proportional to 1, ..., 8: easy to see which are missed."""
    angle = 2 * jnp.pi * jnp.arange(8) / 8
    return Mixture(jnp.arange(1.0, 9.0), radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1), sd)

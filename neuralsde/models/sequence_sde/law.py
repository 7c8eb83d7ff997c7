"""The law of one step: a Gaussian with common factors, on a clock that may be random.

    x' = mean + √V (sd ⊙ Z + loading U),     Z ~ N(0, I_d), U ~ N(0, I_r)

so the covariance is V Σ with Σ = diag(sd²) + loading loadingᵀ. V = 1, or V ~ ν / χ²_ν: then the step has Student's law
with ν degrees of freedom: of each channel on a clock of its own, or of all on one where they share factors.
Densities of some of the channels are marginals of it: an unseen channel leaves (Woodbury 1950; for a dense factor a
Cholesky factorisation of Σ). Cost: O(d) diagonal, O(d r²) with r < d factors, O(d³) otherwise.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from neuralsde.sde.brownian import normals, subkey

_CLOCK = 1


class StepLaw(eqx.Module):
    """Where a step ends. All in model units; `dof (d,)` is None for a Gaussian step."""

    mean: Float[Array, " d"]
    sd: Float[Array, " d"]
    loading: Float[Array, "d r"]
    dof: Float[Array, " d"] | None = None

    @property
    def spread(self) -> Float[Array, " d"]:
        """Marginal scale √Σ_ii of each channel (d,): the s.d. of a Gaussian step, less than it under Student's law."""
        return spread(self.sd, self.loading)

    @property
    def correlated(self) -> bool:
        """Whether channels share noise."""
        return self.loading.shape[1] > 0

    def log_density(self, x: Float[Array, " d"], seen: Bool[Array, " d"]) -> Float[Array, " d"]:
        """Log density of the seen channels of x, in nats; 0 at the others, whatever x is there.

        With common factors there is one density of them all; it is dealt out evenly, so the sum is what counts.
        """
        r = jnp.where(seen, x - self.mean, 0.0)
        sd = jnp.where(seen, self.sd, 1.0)
        if not self.correlated:
            return jnp.where(seen, _log_kernel(jnp.square(r / sd), 1.0, self.dof) - jnp.log(sd), 0.0)
        loading = jnp.where(seen[:, None], self.loading, 0.0)
        quadratic, half_log_det = _factors(r, sd, loading) if self._thin else _dense(r, self.sd, loading, seen)
        count = seen.sum()
        dof = None if self.dof is None else self.dof[0]
        total = _log_kernel(quadratic, count, dof) - half_log_det
        return jnp.where(seen, total / jnp.maximum(count, 1), 0.0)

    @property
    def _thin(self) -> bool:
        return self.loading.shape[1] < len(self.mean)

    def sample(self, key: Key[Array, ""], index: Array | int) -> Float[Array, " d"]:
        """One draw, from the normals numbered `index` of the key."""
        noise = normals(key, index, (len(self.mean) + self.loading.shape[1],), self.mean.dtype)
        if not self.correlated and self.dof is None:
            return self.mean + self.sd * noise
        clock = self.clock(key, index)
        return self.mean + jnp.sqrt(clock) * shaped(self.sd, self.loading, noise)

    def on(self, clock: Float[Array, " d"]) -> StepLaw:
        """The same step when its clock V is known: Gaussian."""
        root = jnp.sqrt(clock)
        return StepLaw(self.mean, self.sd * root, self.loading * root[:, None])

    def clock(self, key: Key[Array, ""], index: Array | int) -> Float[Array, " d"]:
        """V (d,): 1, or a draw of ν / χ²_ν."""
        return random_clock(self.dof, self.correlated, key, index, self.mean)


def spread(sd: Float[Array, " d"], loading: Float[Array, "d r"]) -> Float[Array, " d"]:
    """√Σ_ii (d,)."""
    return jnp.sqrt(jnp.square(sd) + jnp.square(loading).sum(1)) if loading.shape[1] else sd


def shaped(sd: Float[Array, " d"], loading: Float[Array, "d r"], noise: Float[Array, " m"]) -> Float[Array, " d"]:
    """Sd ⊙ Z + loading U for noise = (Z, U)."""
    return sd * noise[: len(sd)] + loading @ noise[len(sd) :]


def random_clock(
    dof: Float[Array, " d"] | None, shared: bool, key: Key[Array, ""], index: Array | int, like: Float[Array, " d"]
) -> Float[Array, " d"]:
    """V (d,) ~ ν / χ²_ν, one for each channel or one for all; 1 without `dof`. Differentiable in ν."""
    if dof is None:
        return jnp.ones_like(like)
    half = 0.5 * (dof[:1] if shared else dof)
    return jnp.broadcast_to(half / jax.random.gamma(subkey(key, index, _CLOCK), half, dtype=like.dtype), like.shape)


def _log_kernel(quadratic: Array, count: Array | float, dof: Array | None) -> Array:
    """Log density of `count` channels at squared distance `quadratic`, for the unit scale."""
    if dof is None:
        return -0.5 * (quadratic + count * jnp.log(2 * jnp.pi))
    half = 0.5 * (dof + count)
    log_norm = jax.lax.lgamma(half) - jax.lax.lgamma(0.5 * dof) - 0.5 * count * jnp.log(jnp.pi * dof)
    return log_norm - half * jnp.log1p(quadratic / dof)


def _factors(r: Array, sd: Array, loading: Array) -> tuple[Array, Array]:
    """RᵀΣ⁻¹r and ½ log det Σ by Woodbury, through the r × r matrix I + UᵀD⁻¹U."""
    scaled, white = loading / sd[:, None], r / sd
    root = jnp.linalg.cholesky(jnp.eye(loading.shape[1], dtype=r.dtype) + scaled.T @ scaled)
    explained = jax.scipy.linalg.solve_triangular(root, scaled.T @ white, lower=True)
    quadratic = white @ white - explained @ explained
    return quadratic, jnp.log(sd).sum() + jnp.log(jnp.diagonal(root)).sum()


def _dense(r: Array, sd: Array, loading: Array, seen: Array) -> tuple[Array, Array]:
    """The same through a Cholesky factor of Σ, in which an unseen channel is alone with variance one."""
    root = jnp.linalg.cholesky(loading @ loading.T + jnp.diag(jnp.where(seen, jnp.square(sd), 1.0)))
    white = jax.scipy.linalg.solve_triangular(root, r, lower=True)
    return white @ white, jnp.log(jnp.diagonal(root)).sum()

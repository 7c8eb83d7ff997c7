"""The score of a process' own marginals, ∇log p_t(x), learned from simulated paths: what reversal and flow need.

Probability flow and time reversal of a learned SDE need the score of *this start's* law at *that* time. A denoiser
that pools all times learns the score of the pooled law, which is the right one for a stationary process only.

With an Euler step x_t = mean + S ξ, S = √δ G(x_{t-δ}), the gradient of log p(x_t | x_{t-δ}) has the score as its mean
given x_t (denoising score matching, Vincent 2011). In the metric of the noise, where G need not be inverted,

    loss = E[|Sᵀ s(t, x_t)|² + 2 ξᵀ Sᵀ s(t, x_t)],   least at s = ∇log p_t;    loss - least = E|Sᵀ (s - ∇log p_t)|²,

and summed over the steps that excess is twice the relative entropy that the reversed process pays for s (Girsanov;
Song et al. 2021). ξ and -ξ are used as a pair: the noise in the loss is then of the size of the loss, for any δ.
What the network sees is standardised by the marginal's own moments, s = L⁻ᵀ (-z + net(z, t)), z = L⁻¹ (x - m_t),
L Lᵀ = C_t: it starts as the score of the Gaussian with these moments and learns what is not Gaussian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.nets import MLP
from neuralsde.sde import SDE, Diagonal, Ito

_POINT = 1e-3
"""A start whose smallest variance is below this part of that after one step counts as a point in that direction."""


@dataclass(frozen=True)
class Config:
    """The network: `depth` hidden layers of `width`; depth=0 keeps the score of a Gaussian, linear in the state."""

    width: int = 64
    depth: int = 2

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("depth", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r}", expected=f"a whole number of at least {least}")


class MarginalScore(eqx.Module):
    """s(t, y, args) ≈ ∇log p_t(y), in the shape of y, for `sde.time_reversal` and `sde.probability_flow`.

    ts (k,), mean (k, d), cov (k, d, d): the marginal's moments on the grid of the simulation, linear in between.
    earliest: times before it are taken for it: the first step after a start that is a point, where no score exists.

    Serves the start that it was fitted from, between ts[0] and ts[-1]; `args` is not read.
    """

    net: MLP
    ts: Float[Array, " k"]
    mean: Float[Array, "k d"]
    cov: Float[Array, "k d d"]
    earliest: Float[Array, ""]

    def __init__(
        self, config: Config, ts: Float[Array, " k"], states: Float[Array, "n k d"], *, key: Key[Array, ""]
    ) -> None:
        """From simulated states at the times ts, whose moments it takes. n well above d, or the moments are poor."""
        off = states - states.mean(0)
        self.ts, self.mean = ts, states.mean(0)
        self.cov = jnp.einsum("nki,nkj->kij", off, off) / (states.shape[0] - 1)
        first, second = (jnp.linalg.eigvalsh(cov)[0] for cov in self.cov[:2])
        self.earliest = jnp.where(first > _POINT * second, ts[0], ts[1])
        d = states.shape[2]
        self.net = MLP(d + 2, d, width=config.width, depth=config.depth, key=key)

    def __call__(self, t: Any, y: Any, args: Any = None) -> Array:
        t = jnp.clip(jnp.asarray(t, self.ts.dtype), self.earliest, self.ts[-1])
        mean, cov = self.moments(t)
        root = jnp.linalg.cholesky(cov)
        z = solve_triangular(root, jnp.ravel(y) - mean, lower=True)
        unit = self.net(jnp.concatenate([z, self._clock(t)])) - z
        return solve_triangular(root, unit, lower=True, trans=1).reshape(jnp.shape(y)).astype(jnp.result_type(y))

    def moments(self, t: Array) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
        """Mean and covariance at t; from a point the covariance begins linearly, so that this is its right form."""
        k = jnp.clip(jnp.searchsorted(self.ts, t, side="right") - 1, 0, self.ts.shape[0] - 2)
        part = (t - self.ts[k]) / (self.ts[k + 1] - self.ts[k])
        mean, cov = ((1 - part) * m[k] + part * m[k + 1] for m in (self.mean, self.cov))
        return mean, cov

    def _clock(self, t: Array) -> Float[Array, " 2"]:
        """Time and its logarithm in first steps, both from -1 to 1: near a narrow start things go by the latter."""
        first, whole = self.ts[1] - self.ts[0], self.ts[-1] - self.ts[0]
        since = t - self.ts[0]
        slow, fast = since / whole, jnp.log1p(since / first) / jnp.log1p(whole / first)
        return 2 * jnp.stack([slow, fast]) - 1


class Steps(eqx.Module):
    """Euler steps to be noised afresh in the loss: x_t = mean + spread ξ, spread = √δ G (d, w), at the time t.

    Any leading axes, the same in all three.
    """

    t: Float[Array, "*b"]
    mean: Float[Array, "*b d"]
    spread: Float[Array, "*b d w"]

    @classmethod
    def of(cls, process: SDE, ts: Float[Array, " k"], states: Float[Array, "n k d"], args: Any, like: Any) -> Steps:
        """All steps of simulated paths, (n, k - 1): the Euler step from each state but the last. `like`: one state."""
        process, shape = process.to(Ito()), jnp.shape(like)

        def one(t: Array, x: Array, span: Array) -> Steps:
            f, g = (part(t, x.reshape(shape), args) for part in (process.drift, process.diffusion))
            g = jnp.asarray(g, x.dtype)
            G = jnp.diag(g.ravel()) if isinstance(process.noise, Diagonal) else g.reshape(x.size, -1)
            return cls(t + span, x + span * jnp.asarray(f, x.dtype).ravel(), jnp.sqrt(span) * G)

        along = jax.vmap(one, (0, 0, 0))
        return jax.vmap(lambda path: along(ts[:-1], path[:-1], jnp.diff(ts)))(states)


def step_losses(model: MarginalScore, steps: Steps, xi: Float[Array, "b w"]) -> Float[Array, " b"]:
    """|Sᵀs|² + 2 ξᵀSᵀs of each step (b,), the mean of ξ and -ξ; no network reaches less than -E|Sᵀ∇log p|²."""

    def one(step: Steps, xi: Array) -> Array:
        def signed(sign: float) -> Array:
            pulled = step.spread.T @ model(step.t, step.mean + sign * step.spread @ xi)
            return pulled @ pulled + 2 * sign * xi @ pulled

        return 0.5 * (signed(1.0) + signed(-1.0))

    return jax.vmap(one)(steps, xi)


def loss(
    model: MarginalScore, batch: Steps, aux: Any, *, key: Key[Array, ""]
) -> tuple[Array, tuple[dict[str, Array], Any]]:
    """The mean of `step_losses` over a batch (b,), with fresh normals. In the form that `neuralsde.train` asks for."""
    xi = jax.random.normal(key, batch.spread.shape[:1] + batch.spread.shape[2:], batch.spread.dtype)
    return step_losses(model, batch, xi).mean(), ({}, aux)

"""A mixture density network over plans (Bishop 1994), as in the LSTM-GMM of Mandlekar et al. 2021 without its LSTM.

    p(a | o) = Σ_k π_k(o) Π_i N(a_i; μ_ki(o), σ_ki(o)²)

with one π for the whole plan, so that a plan keeps to one of several ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.nets import ResidualMLP
from neuralsde.robot.plan_law import Execution, PlanLaw, Planned, Shape
from neuralsde.robot.plans import Batch

_FIRST_SD = 0.3
_LEAST_SD = 1e-3
"""Two actions of a hand that rests are equal: without a floor their density is infinite."""


@dataclass(frozen=True)
class Mixture:
    """components: Gaussians in the mixture; 5 in the policies it is taken from."""

    components: int = 5

    def __post_init__(self) -> None:
        if isinstance(self.components, bool) or not isinstance(self.components, int) or self.components < 1:
            raise InputError(f"components={self.components!r}", expected="a whole number of at least 1")

    def build(self, shape: Shape, width: int, blocks: int, facts: Any, *, key: Key[Array, ""]) -> MixturePlan:
        net_key, spread_key = jax.random.split(key)
        size = self.components * (1 + 2 * shape.plan)
        net = ResidualMLP(shape.context, size, width=width, blocks=blocks, key=net_key)
        # apart from the start: components that begin alike stay alike
        middle = 0.3 * jax.random.normal(spread_key, (self.components, shape.action))
        return MixturePlan(shape, net, jnp.repeat(middle[:, None], shape.horizon, 1), self.components)


class Parts(eqx.Module):
    """log π (K,), μ and σ (K, H, a)."""

    log_weight: Float[Array, " K"]
    mean: Float[Array, "K H a"]
    sd: Float[Array, "K H a"]


class MixturePlan(PlanLaw):
    """A plan from one of K Gaussians. first: their centres before training, trained as well."""

    shape: Shape = eqx.field(static=True)
    net: ResidualMLP
    first: Float[Array, "K H a"]
    components: int = eqx.field(static=True)

    def parts(self, history: Float[Array, "n_obs f"]) -> Parts:
        k, raw = self.components, self.net(history.ravel())
        mean, log_sd = raw[k:].reshape(2, *self.first.shape)
        return Parts(jax.nn.log_softmax(raw[:k]), self.first + mean, _LEAST_SD + _FIRST_SD * jnp.exp(log_sd))

    def log_density(self, history: Float[Array, "n_obs f"], plan: Float[Array, "H a"], seen: Array) -> Float[Array, ""]:
        """Of the actions that were seen."""
        parts = self.parts(history)
        each = jnp.where(seen[:, None], norm.logpdf(plan, parts.mean, parts.sd), 0.0)
        return jax.nn.logsumexp(parts.log_weight + each.sum((1, 2)))

    def loss(self, batch: Batch, aux: Any, *, key: Key[Array, ""]) -> tuple[Array, tuple[dict[str, Array], Any]]:
        nats = -jax.vmap(self.log_density)(batch.history, batch.plan, batch.seen)
        return nats.sum() / jnp.maximum(batch.seen.sum() * self.shape.action, 1), ({}, aux)

    def plan(
        self, history: Float[Array, "n_obs f"], action: Float[Array, " a"], how: Execution, *, key: Key[Array, ""]
    ) -> Planned:
        which_key, noise_key = jax.random.split(key)
        parts = self.parts(history)
        which = jax.random.categorical(which_key, parts.log_weight)
        mean, sd = parts.mean[which], parts.sd[which]
        drawn = mean + how.noise * sd * jax.random.normal(noise_key, mean.shape)
        return Planned(drawn[: how.execute], jnp.ones((), jnp.int32))

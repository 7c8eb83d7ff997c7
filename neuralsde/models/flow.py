"""A continuous normalising flow, trained by exact maximum likelihood.

    dx/dt = v(x, t) from data (t = 0) to noise (t = 1),    log p_0(x_0) = log N(x_1; 0, I) + ∫_0^1 ∇·v(x_t, t) dt

(Chen, Rubanova, Bettencourt & Duvenaud 2018; Grathwohl et al. 2019). With g = 0 a neural SDE is a neural ODE, so the
pair (x, ∫∇·v) is an `sde.SDE` whose diffusion is zero, solved by `sde.simulate` with any of its Stratonovich methods
and differentiated by any of its gradients: backprop, checkpoints, the continuous adjoint. A network that is zero at the
start begins as the identity, that is as N(0, I) on standardised data. No score: the flow's marginals in between are its
own, not those of data plus noise.

A solve with fixed steps is not a flow: what the network does between them, ∇·v does not see, and on one grid it learns
to be likely on that grid only. In training every batch has a grid of its own, shifted at random (compare Ghosh et al.
2020): only what is right for all of them pays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.models.divergence import Divergence, Exact
from neuralsde.noising import CondOT, Predictor
from neuralsde.typing import Y


@dataclass(frozen=True)
class Config:
    """steps: of the solve; in training one more, on a shifted grid. method: for Stratonovich processes, of order 2.
    gradient: how to differentiate it. divergence: exact, or by probes drawn anew for each point and batch.
    """

    steps: int = 12
    method: sde.Method = sde.Heun()  # noqa: RUF009 (frozen values)
    gradient: sde.Gradient = sde.Backprop()  # noqa: RUF009
    divergence: Divergence = Exact()  # noqa: RUF009

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise InputError(f"steps={self.steps!r}", expected="a whole number of at least 1")


class Flow(eqx.Module):
    """net: (x, t) -> like x, the velocity."""

    net: Callable[..., Any]
    config: Config = eqx.field(static=True)

    def __init__(self, config: Config, net: Callable[..., Any]) -> None:
        self.config, self.net = config, net

    def predictor(self) -> Predictor:
        """The velocity for samplers of the ODE, from t = 1 to 0; there is no score in it."""
        return Predictor(self.net, "velocity", CondOT(), independent=False)

    def process(self, probes: Float[Array, "m ..."]) -> sde.SDE:
        """The state (x, log det) as an SDE without noise."""
        return sde.SDE(_Augmented(self.net, self.config.divergence, probes), _silent, sde.Diagonal("additive"),
                       sde.Stratonovich())  # fmt: skip

    def log_density(
        self, x: Y, *, key: Key[Array, ""] | None = None, shift: Float[Array, ""] | None = None
    ) -> Float[Array, ""]:
        """The log density at x, in nats, by `steps` equal steps; with probes an unbiased estimate of it.

        shift: in (0, 1): the share of a step after which the first one ends.
        """
        config = self.config
        probes, n = config.divergence.draw(x, key), config.steps
        ts = jnp.linspace(0.0, 1.0, n + 1)
        if shift is not None:
            ts = jnp.concatenate([ts[:1], (jnp.arange(n) + shift) / n, ts[-1:]])
        start = (x, jnp.zeros((), x.dtype))
        # No noise enters: the key is asked for by every solve and not read by this one's law.
        found = sde.simulate(self.process(probes), start, ts, key=jax.random.key(0), method=config.method,
                             gradient=config.gradient)  # fmt: skip
        end, log_det = jax.tree.map(lambda leaf: leaf[-1], found.ys)
        return log_det - 0.5 * (jnp.square(end).sum() + x.size * jnp.log(2 * jnp.pi))


class _Augmented(eqx.Module):
    """(v, ∇·v) of the state (x, log det)."""

    net: Callable[..., Any]
    divergence: Divergence = eqx.field(static=True)
    probes: Array

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.divergence(lambda x: self.net(x, t), y[0], self.probes)


def _silent(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, y)


def loss(
    model: Flow, batch: Float[Array, "b ..."], aux: Any, *, key: Key[Array, ""]
) -> tuple[Array, tuple[dict[str, Array], Any]]:
    """Minus the mean log density, nats per dimension, in the form of `neuralsde.train`."""
    keys = jax.random.split(key, len(batch))
    shift = jax.random.uniform(jax.random.fold_in(key, 0), minval=1e-3)
    nats = -jax.vmap(lambda x, k: model.log_density(x, key=k, shift=shift))(batch, keys).mean()
    return nats / batch[0].size, ({}, aux)

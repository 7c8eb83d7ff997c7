"""Losses for energies.

The gradient of the likelihood is that of E at points of the model less that at data, E_p[∂E] - E_data[∂E]:

    cd    points of p by a few Langevin steps from the data (Hinton 2002): local, cheap, blind to far modes
    pcd   by a few steps from where the last batch's chains ended (Tieleman 2008), some of them fresh
    nce   logistic regression of data against ν draws of a known q each, with the logit -E(x) - c - log q(x) - log ν
          (Gutmann & Hyvärinen 2010): at the optimum c = log ∫ exp(-E), the normaliser
    matching   the score-matching losses of models/score.py on -∇E(·, t)
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.models.energy.module import Config, EnergyModel
from neuralsde.models.score import matching_loss

Losses = tuple[Array, tuple[dict[str, Array], Any]]


def first_aux(config: Config, shape: tuple[int, ...], *, key: Key[Array, ""]) -> Any:
    """The running state before training: the chains (chains, *shape) of "pcd", nothing for the others."""
    if config.objective != "pcd":
        return ()
    return config.spread * config.data_sd * jax.random.normal(key, (config.chains, *shape))


def loss(model: EnergyModel, batch: Float[Array, "b ..."], aux: Any, *, key: Key[Array, ""]) -> Losses:
    """The configured loss of a batch of standardised data, in the form of `neuralsde.train`."""
    config = model.config
    if config.objective == "matching":
        score = matching_loss(lambda _: model.predictor(), config.matching, batch, key=key)
        return score, ({}, aux)
    if config.objective == "nce":
        return noise_contrastive(model, batch, key=key), ({"log_z": model.log_z}, aux)
    return contrastive(model, batch, aux, key=key)


def contrastive(model: EnergyModel, batch: Float[Array, "b ..."], aux: Any, *, key: Key[Array, ""]) -> Losses:
    """E(data) - E(negatives) + decay (E² of both). Its value says little: near 0 all the way; its gradient counts."""
    config = model.config
    pick, fresh, start, walk = jax.random.split(key, 4)
    begin, rows = batch, None
    if config.objective == "pcd":
        n = min(len(batch), len(aux))
        rows = jax.random.choice(pick, len(aux), (n,), replace=False)
        anew = jax.random.bernoulli(fresh, config.fresh, (n,) + (1,) * (batch.ndim - 1))
        draws = config.spread * config.data_sd * jax.random.normal(start, (n, *batch.shape[1:]), batch.dtype)
        begin = jnp.where(anew, draws, aux[rows].astype(batch.dtype))
    frozen = jax.tree.map(lambda leaf: lax.stop_gradient(leaf) if isinstance(leaf, jax.Array) else leaf, model)
    keys = jax.random.split(walk, len(begin))
    ends, accepted = jax.vmap(lambda x, k: config.chain(frozen.energy, x, key=k))(begin, keys)
    ends = lax.stop_gradient(ends)
    real, made = jax.vmap(model.energy)(batch), jax.vmap(model.energy)(ends)
    value = real.mean() - made.mean()
    level = jnp.square(real).mean() + jnp.square(made).mean()
    if rows is not None:
        aux = aux.at[rows].set(ends.astype(aux.dtype))
    return value + config.decay * level, ({"difference": value, "accepted": accepted.mean()}, aux)


def noise_contrastive(model: EnergyModel, batch: Float[Array, "b ..."], *, key: Key[Array, ""]) -> Float[Array, ""]:
    """Mean logistic loss of data against `ratio` draws each of N(0, (spread data_sd)²), nats per data point."""
    config = model.config
    sd = config.spread * config.data_sd
    noise = sd * jax.random.normal(key, (config.ratio * len(batch), *batch.shape[1:]), batch.dtype)

    def logit(x: Array) -> Array:
        log_q = -0.5 * jnp.square(x / sd).sum() - x.size * (jnp.log(sd) + 0.5 * jnp.log(2 * jnp.pi))
        return -model.energy(x) - model.log_z - log_q - jnp.log(config.ratio)

    real, made = jax.vmap(logit)(batch), jax.vmap(logit)(noise)
    return jax.nn.softplus(-real).mean() + config.ratio * jax.nn.softplus(made).mean()

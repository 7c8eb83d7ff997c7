"""Scores of simulated paths against observed ones, as losses: what a likelihood of single steps cannot see.

A model fitted one step at a time is over-confident far ahead: its small errors add up along a path, and no step knows
of them. Here whole paths are simulated from a window and scored, with gradients through the simulation (the normals
are functions of the key, so every path is a smooth function of the weights):

    CRPS            E|X - y| - ½ E|X - X'|      of every entry                (Gneiting & Raftery 2007)
    energy score    E‖X - y‖ - ½ E‖X - X'‖     of every row, or of a path     ‖·‖ the root mean square over entries

Both are proper: the law of the data is best. Their second terms are taken over pairs of different paths, so they are
unbiased for any number of paths. Entries are measured in units of how far the data move in that time.
"""

from __future__ import annotations

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from neuralsde.models.sequence_sde.module import SequenceSDE
from neuralsde.models.sequence_sde.rollout import Steps, rollout
from neuralsde.models.sequence_sde.window import Window


class Stretch(eqx.Module):
    """What followed a window: the gaps, and the rows (K, d) at their ends with what of them was seen."""

    window: Window
    steps: Steps
    target: Float[Array, "K d"]
    seen: Bool[Array, "K d"]


def paths(model: SequenceSDE, stretch: Stretch, *, key: Key[Array, ""], n: int, substeps: int) -> Float[Array, "n K d"]:
    """Simulated paths (n, K, d) over a stretch."""
    keys = jax.random.split(key, n)
    return jax.vmap(lambda k: rollout(model, stretch.window, stretch.steps, key=k, substeps=substeps).states)(keys)


def crps(samples: Float[Array, "n ..."], truth: Float[Array, ...]) -> Float[Array, ...]:
    """Unbiased CRPS of every entry from n >= 2 samples."""
    n = samples.shape[0]
    near = jnp.abs(samples - truth).mean(0)
    apart = jnp.abs(samples[:, None] - samples[None, :]).sum((0, 1)) / (n * (n - 1))
    return near - 0.5 * apart


def energy(
    samples: Float[Array, "n ... d"], truth: Float[Array, "... d"], weight: Float[Array, "... d"]
) -> Float[Array, ...]:
    """Unbiased energy score over the last axis from n >= 2 samples.

    The norm is √Σ w x² with the weights `weight`, 0 where nothing is to be compared.
    """
    n = samples.shape[0]
    near = _norm(samples - truth, weight).mean(0)
    apart = _norm(samples[:, None] - samples[None, :], weight).sum((0, 1)) / (n * (n - 1))
    return near - 0.5 * apart


def path_energy(samples: Float[Array, "n K d"], stretch: Stretch, scale: Float[Array, " d"]) -> Float[Array, ""]:
    """Unbiased energy score of whole paths, ‖·‖ the root mean square over the seen entries in units of `scale`."""
    weight = jnp.where(stretch.seen, 1 / jnp.square(scale), 0.0) / jnp.maximum(stretch.seen.sum(), 1)
    flat = samples.reshape(samples.shape[0], -1)
    return energy(flat, jnp.where(stretch.seen, stretch.target, 0.0).ravel(), weight.ravel())


def simulated_loss(
    model: SequenceSDE,
    batch: Stretch,
    scale: Float[Array, "K d"],
    *,
    key: Key[Array, ""],
    n: int,
    score: Literal["crps", "energy"],
) -> Float[Array, ""]:
    """Mean score over a batch of stretches (leading axis b); `scale` is how far the data move up to each row."""

    def one(stretch: Stretch, k: Key[Array, ""]) -> tuple[Array, Array]:
        found = paths(model, stretch, key=k, n=n, substeps=model.config.substeps) / scale
        truth = jnp.where(stretch.seen, stretch.target, 0.0) / scale
        if score == "crps":
            return jnp.where(stretch.seen, crps(found, truth), 0.0).sum(), stretch.seen.sum()
        weight = stretch.seen / jnp.maximum(stretch.seen.sum(1, keepdims=True), 1)
        return jnp.where(stretch.seen.any(1), energy(found, truth, weight), 0.0).sum(), stretch.seen.any(1).sum()

    total, count = jax.vmap(one)(batch, jax.random.split(key, batch.target.shape[0]))
    return total.sum() / jnp.maximum(count.sum(), 1)


def _norm(x: Array, weight: Array) -> Array:
    """√Σ w x² over the last axis, with slope zero at zero."""
    squared = (weight * jnp.square(x)).sum(-1)
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)

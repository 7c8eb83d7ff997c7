"""Training of the recurrent forecaster: likelihood of windows, stopped early, within a number of seconds.

A window of L places gives L one-step laws; those after a burn-in count, entry by entry where something was seen:
loss = - mean log p(y_{t+1} | h_t), in standardised units. Adam, the rate falling as half a cosine over the budget,
which is of seconds or of steps, whichever ends first. The weights with the lowest validation loss are kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key

from neuralsde.experiments.forecast.gru import GRU, Track, Tracks


@dataclass(frozen=True)
class GRUSettings:
    """How the GRU is trained.

    season:   steps after which the columns repeat, 1 for none.
    length, burn: places of a window, and those of them that do not count.
    patience: validations without a better one before training stops.
    """

    season: int = 24
    length: int = 96
    burn: int = 24
    batch_size: int = 64
    learning_rate: float = 3e-3
    steps: int = 100_000
    validate_every: int = 50
    patience: int = 20


@dataclass(frozen=True)
class GRUFit:
    """The best model, its validation loss (nats an entry, standardised units), and how long it took."""

    model: GRU
    validation: float
    steps: int
    seconds: float


def window_loss(
    model: GRU, track: Track, start: Int[Array, ""], *, season: int, length: int, burn: int
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Sum of -log p over the observed entries of a window after its burn-in, and their number."""

    def step(state: Array, t: Array) -> tuple[Array, tuple[Array, Array]]:
        state, law = model(state, track.sight(t, season))
        seen = track.seen[t + 1]
        nats = -law.log_density(track.value[t + 1])
        return state, (jnp.where(seen, nats, 0.0).sum(), seen.sum())

    nats, count = lax.scan(step, model.start(), start + jnp.arange(length))[1]
    return nats[burn:].sum(), count[burn:].sum()


def fit_gru(tracks: Tracks, settings: GRUSettings, *, hidden: int, seconds: float = math.inf, seed: int) -> GRUFit:
    """Train for `settings.steps` steps or `seconds`, or until the validation loss has stopped falling."""
    model = GRU(tracks.walk, tracks.track.context.shape[1], hidden, key=jax.random.key(seed))
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
    advance, validate = _programs(tracks, settings, optimiser)
    params = eqx.filter(model, eqx.is_inexact_array)
    state, key = optimiser.init(params), jax.random.key(seed + 1)
    best, lowest, waited, step, began = model, math.inf, 0, 0, time.monotonic()
    while step < settings.steps and waited < settings.patience:
        spent = max((time.monotonic() - began) / seconds, step / settings.steps)
        if spent >= 1:
            break
        rate = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * spent))
        count = min(settings.validate_every, settings.steps - step)
        model, state = advance(model, state, key, jnp.asarray(step), jnp.asarray(count), jnp.asarray(rate))
        step += count
        found = float(validate(model))
        best, lowest, waited = (model, found, 0) if found < lowest else (best, lowest, waited + 1)
    return GRUFit(best, lowest, step, time.monotonic() - began)


def _programs(
    tracks: Tracks, settings: GRUSettings, optimiser: optax.GradientTransformation
) -> tuple[Callable[..., Any], Callable[[GRU], Array]]:
    """`advance`: a number of steps; `validate`: the loss of the validation windows."""
    shape = {"season": settings.season, "length": settings.length, "burn": settings.burn}
    starts, held = jnp.asarray(tracks.train), jnp.asarray(tracks.validation)

    def mean_loss(model: GRU, track: Track, places: Array) -> Array:
        nats, count = jax.vmap(lambda place: window_loss(model, track, place, **shape))(places)
        return nats.sum() / jnp.maximum(count.sum(), 1)

    @eqx.filter_jit
    def advance(
        model: GRU,
        state: Any,
        track: Track,
        starts: Array,
        key: Key[Array, ""],
        begin: Array,
        count: Array,
        rate: Array,
    ) -> tuple[GRU, Any]:
        params, static = eqx.partition(model, eqx.is_inexact_array)

        def one(k: Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            params, state = carry
            at = jax.random.randint(jax.random.fold_in(key, begin + k), (settings.batch_size,), 0, len(starts))
            gradient = jax.grad(lambda p: mean_loss(eqx.combine(p, static), track, starts[at]))(params)
            direction, state = optimiser.update(gradient, state, params)
            return jax.tree.map(lambda p, u: p - rate * u, params, direction), state

        params, state = lax.fori_loop(0, count, one, (params, state))
        return eqx.combine(params, static), state

    validate = eqx.filter_jit(mean_loss)
    return (
        lambda model, state, *rest: advance(model, state, tracks.track, starts, *rest),
        lambda model: validate(model, tracks.track, held),
    )

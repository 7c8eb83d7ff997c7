"""Many small sequence SDEs trained in one program: one for each seed, by `vmap` over data, weights and batches.

Experiments on known laws compare options over seeds; a full `fit` for each would spend most of its time compiling.
The losses are those of `fit`; the rest is its training in short: Adam, a warm-up and a cosine, the mean weights of the
last quarter. Data are pairs (x, x') one gap apart, in units in which states are about one and the gap is one.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Key

from neuralsde.models.sequence_sde import Config, Running, SequenceSDE, Transition, loss
from neuralsde.models.sequence_sde.rollout import Steps, rollout
from neuralsde.models.sequence_sde.window import Window

BATCH, RATE = 256, 1e-2


def window(x: Any) -> Window:
    """What a model without history sees at state x (d,)."""
    value = jnp.asarray(x, jnp.float32)[None]
    zero = jnp.zeros(())
    return Window(value, jnp.zeros_like(value), jnp.zeros(1), zero, jnp.zeros(0))


def pairs(x0: Any, x1: Any) -> Transition:
    """Transitions (n, ...) over one gap from states x0 (n, d) to x1 (n, d), nothing missing."""
    x0, x1 = (jnp.asarray(x, jnp.float32) for x in (x0, x1))
    return jax.vmap(Transition)(jax.vmap(window)(x0), jnp.ones(len(x0)), x1, jnp.ones(x1.shape, bool))


def train(config: Config, x0: np.ndarray, x1: np.ndarray, *, steps: int, seed: int, rate: float = RATE) -> SequenceSDE:
    """Models with a leading axis (seeds,) on every array, from pairs x0, x1 (seeds, n, d); use them by `filter_vmap`.

    config: without history. The walk and the bounds are those of all seeds together.
    """
    d = x0.shape[-1]
    walk = np.sqrt(np.square(x1 - x0).mean((0, 1))).astype(np.float32)
    bounds = np.stack([part((0, 1)) for part in (np.concatenate([x0, x1], 1).min, np.concatenate([x0, x1], 1).max)])
    keys = jax.random.split(jax.random.key(seed), len(x0))
    models = [SequenceSDE(config, d, 0, walk=walk, bounds=bounds, key=key) for key in keys]
    static = eqx.partition(models[0], eqx.is_inexact_array)[1]
    arrays = [eqx.filter(model, eqx.is_inexact_array) for model in models]
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *arrays)
    data = jax.vmap(pairs)(jnp.asarray(x0, jnp.float32), jnp.asarray(x1, jnp.float32))
    trained = _train(stacked, static, data, Running.first(jnp.asarray(walk)), keys, steps, rate)
    return eqx.combine(trained, static)


@eqx.filter_jit
def _train(
    stacked: Any, static: Any, data: Transition, first: Running, keys: Key[Array, " seeds"], steps: int, rate: float
) -> Any:
    optimiser = optax.adam(optax.warmup_cosine_decay_schedule(0.0, rate, max(steps // 20, 1), max(steps, 2)))
    averaged = max(steps // 4, 1)

    def one(params: Any, data: Transition, key: Key[Array, ""]) -> Any:
        def step(carry: Any, i: Array) -> tuple[Any, None]:
            params, state, running, mean = carry
            pick, noise = jax.random.split(jax.random.fold_in(key, i))
            rows = jax.random.randint(pick, (BATCH,), 0, len(data.dt))
            batch = jax.tree.map(lambda leaf: leaf[rows], data)

            def value(params: Any) -> Any:
                return loss(eqx.combine(params, static), batch, running, key=noise)

            slope, (_, running) = jax.grad(value, has_aux=True)(params)
            change, state = optimiser.update(slope, state)
            params = optax.apply_updates(params, change)
            share = jnp.where(i >= steps - averaged, 1.0 / averaged, 0.0)
            return (params, state, running, jax.tree.map(lambda m, p: m + share * p, mean, params)), None

        begin = (params, optimiser.init(params), first, jax.tree.map(jnp.zeros_like, params))
        return lax.scan(step, begin, jnp.arange(steps))[0][3]

    return jax.vmap(one)(stacked, data, keys)


def paths(models: SequenceSDE, x0: np.ndarray, gaps: np.ndarray, *, n: int, seed: int, substeps: int = 1) -> np.ndarray:
    """Paths (seeds, starts, n, len(gaps), d) of every model from starts x0 (seeds, starts, d) over gaps (k,)."""
    steps = Steps(jnp.asarray(gaps, jnp.float32), jnp.zeros((len(gaps), 0)))
    keys = jax.random.split(jax.random.key(seed), (*x0.shape[:2], n))
    return np.asarray(_paths(models, jnp.asarray(x0, jnp.float32), steps, keys, substeps))


@eqx.filter_jit
def _paths(models: SequenceSDE, x0: Array, steps: Steps, keys: Array, substeps: int) -> Array:
    def one(model: SequenceSDE, starts: Array, keys: Array) -> Array:
        def path(x: Array, key: Array) -> Array:
            return rollout(model, window(x), steps, key=key, substeps=substeps).states

        return jax.vmap(lambda x, some: jax.vmap(lambda key: path(x, key))(some))(starts, keys)

    return eqx.filter_vmap(one)(models, x0, keys)


def cell(values: Any, digits: int = 3) -> str:
    """Mean ± standard error of a figure over its seeds, for a table."""
    values = np.asarray(values, float)
    error = f" ± {values.std(ddof=1) / np.sqrt(len(values)):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{error}"

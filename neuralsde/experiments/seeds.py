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


def window(x: Any, context: Any = None) -> Window:
    """What a model without history sees at state x (d,), with covariates (c,) if there are any."""
    value = jnp.asarray(x, jnp.float32)[None]
    zero = jnp.zeros(())
    known = jnp.zeros(0) if context is None else jnp.asarray(context, jnp.float32)
    return Window(value, jnp.zeros_like(value), jnp.zeros(1), zero, known)


def pairs(x0: Any, x1: Any, context: Any = None) -> Transition:
    """Transitions (n, ...) over one gap from x0 (n, d) to x1 (n, d), nothing missing; with covariates (n, c)."""
    x0, x1 = (jnp.asarray(x, jnp.float32) for x in (x0, x1))
    known = jnp.zeros((len(x0), 0)) if context is None else jnp.asarray(context, jnp.float32)
    return jax.vmap(Transition)(jax.vmap(window)(x0, known), jnp.ones(len(x0)), x1, jnp.ones(x1.shape, bool))


def train(config: Config, x0: np.ndarray, x1: np.ndarray, *, steps: int, seed: int, rate: float = RATE) -> SequenceSDE:
    """Models with a leading axis (seeds,) on every array, from pairs x0, x1 (seeds, n, d); use them by `filter_vmap`.

    config: without history. The walk and the bounds are those of all seeds together.
    """
    data = jax.vmap(pairs)(jnp.asarray(x0, jnp.float32), jnp.asarray(x1, jnp.float32))
    return train_on(config, data, steps=steps, seed=seed, rate=rate)[0]


def train_on(
    config: Config,
    data: Transition,
    *,
    steps: int,
    seed: int,
    rate: float = RATE,
    held: Transition | None = None,
    points: int = 1,
    first_scale: float = 1.0,
    batch: int = BATCH,
) -> tuple[SequenceSDE, np.ndarray]:
    """As `train`, from transitions (seeds, n, ...), covariates too; and the curve of the training.

    held:        transitions (seeds, m, ...) whose mean nats per dimension are taken at 0, 1, ..., `points` equal parts
                 of the steps, with the weights of that moment: the curve (seeds, points + 1), empty without them.
    first_scale: the diffusion before training, in units of the walk's.
    """
    x0, x1 = (np.asarray(part) for part in (data.window.value[:, :, -1], data.target))
    seeds, d, c = len(x0), x0.shape[-1], data.window.context.shape[-1]
    walk = np.sqrt(np.square(x1 - x0).mean((0, 1))).astype(np.float32)
    bounds = np.stack([part((0, 1)) for part in (np.concatenate([x0, x1], 1).min, np.concatenate([x0, x1], 1).max)])
    keys = jax.random.split(jax.random.key(seed), seeds)
    models = [SequenceSDE(config, d, c, walk=first_scale * walk, bounds=bounds, key=key) for key in keys]
    static = eqx.partition(models[0], eqx.is_inexact_array)[1]
    arrays = [eqx.filter(model, eqx.is_inexact_array) for model in models]
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *arrays)
    begin = Running.first(jnp.asarray(walk))
    trained, curve = _train(stacked, static, data, begin, keys, steps, rate, held, points, batch)
    return eqx.combine(trained, static), np.asarray(curve, np.float64)


@eqx.filter_jit
def held_out_nats(models: SequenceSDE, held: Transition) -> Array:
    """Mean nats per dimension (seeds,) of transitions (seeds, m, ...)."""
    return eqx.filter_vmap(_mean_nats)(models, held)


def _mean_nats(model: SequenceSDE, held: Transition) -> Array:
    def nats(one: Transition) -> Array:
        return -model.transition(one.window, one.dt).log_density(one.target, one.seen).mean()

    return jax.vmap(nats)(held).mean()


@eqx.filter_jit
def _train(
    stacked: Any, static: Any, data: Transition, first: Running, keys: Key[Array, " seeds"], steps: int, rate: float,
    held: Transition | None, points: int, batch: int,
) -> tuple[Any, Array]:  # fmt: skip
    optimiser = optax.adam(optax.warmup_cosine_decay_schedule(0.0, rate, max(steps // 20, 1), max(steps, 2)))
    averaged = max(steps // 4, 1)

    def one(params: Any, data: Transition, key: Key[Array, ""], held: Transition | None) -> tuple[Any, Array]:
        def step(carry: Any, i: Array) -> tuple[Any, None]:
            params, state, running, mean = carry
            pick, noise = jax.random.split(jax.random.fold_in(key, i))
            rows = jax.random.randint(pick, (batch,), 0, len(data.dt))
            some = jax.tree.map(lambda leaf: leaf[rows], data)

            def value(params: Any) -> Any:
                return loss(eqx.combine(params, static), some, running, key=noise)

            slope, (_, running) = jax.grad(value, has_aux=True)(params)
            change, state = optimiser.update(slope, state)
            params = optax.apply_updates(params, change)
            share = jnp.where(i >= steps - averaged, 1.0 / averaged, 0.0)
            return (params, state, running, jax.tree.map(lambda m, p: m + share * p, mean, params)), None

        def part(carry: Any, numbers: Array) -> tuple[Any, Array]:
            carry = lax.scan(step, carry, numbers)[0]
            return carry, scored(carry[0])

        def scored(params: Any) -> Array:
            return jnp.zeros(0) if held is None else _mean_nats(eqx.combine(params, static), held)[None]

        begin = (params, optimiser.init(params), first, jax.tree.map(jnp.zeros_like, params))
        done, curve = lax.scan(part, begin, jnp.arange(steps).reshape(points, -1))
        return done[3], jnp.concatenate([scored(params), curve.ravel()])

    return jax.vmap(one)(stacked, data, keys, held)


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

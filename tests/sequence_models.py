"""Sequence SDEs with coefficients set by hand, for the tests of `models/`."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from neuralsde.models.sequence_sde import Config, Running, SequenceSDE, Transition
from neuralsde.models.sequence_sde.window import Window

KEY = jax.random.key(11)
D, C = 2, 1


def model(config: Config, d: int = D, c: int = C, size: float = 0.2) -> SequenceSDE:
    """A model with no weight at zero, as training leaves it, made without compiling; `size=0` has them all there."""
    walk = np.linspace(0.5, 0.8, d).astype(np.float32)
    shapes = eqx.filter_eval_shape(lambda: SequenceSDE(config, d, c, walk=walk, key=KEY))
    rng = np.random.default_rng(1)
    random = jax.tree.map(lambda leaf: jnp.asarray(size * rng.normal(size=leaf.shape), jnp.float32), shapes)
    return eqx.tree_at(lambda m: m.walk, random, walk)


def linear(slope: Any, config: Config = Config(history=0, depth=0)) -> SequenceSDE:  # noqa: B008 (a frozen value)
    """f = slope x and g = walk, with no past and no context."""
    d = len(slope)
    still = model(config, d=d, c=0, size=0.0)
    weight = jnp.zeros_like(still.flow_net.linear.weight).at[:, :d].set(jnp.asarray(slope))
    return eqx.tree_at(lambda m: m.flow_net.linear.weight, still, weight)


def f32(array: Any) -> jax.Array:
    return jnp.asarray(array, jnp.float32)


def running(variance: jax.Array) -> Running:
    return Running(jnp.asarray(variance, jnp.float32), jnp.zeros((), jnp.int32))


def still(n: int, x: np.ndarray, target: np.ndarray, dt: float = 1.0) -> Transition:
    """n transitions from x (n, d) to target (n, d) with nothing missing, no past and no context."""
    zeros = jnp.zeros((n, 1, x.shape[1]))
    window = jax.vmap(Window)(f32(x)[:, None], zeros, jnp.zeros((n, 1)), jnp.zeros(n), jnp.zeros((n, 0)))
    return jax.vmap(Transition)(window, jnp.full(n, dt), f32(target), jnp.ones(target.shape, bool))


def minimise(first: SequenceSDE, objective: Any, steps: int = 400, rate: float = 0.2) -> SequenceSDE:
    """Plain gradient descent on objective(model, key), all steps in one program."""
    params, static = eqx.partition(first, eqx.is_inexact_array)

    def step(i: Any, params: Any) -> Any:
        value = lambda p: objective(eqx.combine(p, static), jax.random.fold_in(KEY, i))  # noqa: E731
        return jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(value)(params))

    return eqx.combine(jax.jit(lambda p: jax.lax.fori_loop(0, steps, step, p))(params), static)

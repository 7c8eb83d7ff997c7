"""neuralsde, and the scan that one would write by hand. Each contestant is a loss (weights, key) -> number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.peers.problem import Problem, diffusion, drift
from neuralsde import sde


def by_hand(problem: Problem, checkpoint: bool) -> Callable[[Any, Any], Any]:
    """One scan over the whole batch, noise drawn in the loop from fold_in(key, i)."""
    y0, h = jnp.asarray(problem.start()), 1.0 / problem.steps

    def loss(weights: Any, key: Any) -> Any:
        def step(y: Any, i: Any) -> tuple[Any, None]:
            dW = jnp.sqrt(h) * jax.random.normal(jax.random.fold_in(key, i), y.shape, y.dtype)
            return y + drift(0.0, y, weights) * h + diffusion(0.0, y, weights) * dW, None

        step = jax.checkpoint(step, prevent_cse=False) if checkpoint else step
        return jnp.mean(lax.scan(step, y0, jnp.arange(problem.steps))[0] ** 2)

    return loss


def neuralsde(
    problem: Problem, method: sde.Method, gradient: sde.Gradient, calculus: sde.Ito | sde.Stratonovich
) -> Callable[[Any, Any], Any]:
    """The library: one path a call, a batch by `jax.vmap`, the end saved."""
    y0, ts = jnp.asarray(problem.start()), jnp.array([0.0, 1.0])
    process = sde.SDE(drift, diffusion, noise=sde.Diagonal(), calculus=calculus)

    def loss(weights: Any, key: Any) -> Any:
        def last(y: Any, k: Any) -> Any:
            options = {"key": k, "method": method, "gradient": gradient, "substeps": problem.steps, "args": weights}
            return sde.simulate(process, y, ts, **options).ys[-1]

        return jnp.mean(jax.vmap(last)(y0, jax.random.split(key, problem.batch)) ** 2)

    return loss


def calls(loss: Callable[[Any, Any], Any], problem: Problem) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A compiled loss and a compiled gradient as calls without arguments that wait for their result."""
    weights, key = tuple(jnp.asarray(w) for w in problem.weights()), jax.random.key(0)
    forward, gradient = jax.jit(loss), jax.jit(jax.grad(loss))
    return lambda: jax.block_until_ready(forward(weights, key)), lambda: jax.block_until_ready(gradient(weights, key))

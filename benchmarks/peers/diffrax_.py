"""diffrax: the same losses through `diffeqsolve`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import lineax

from benchmarks.peers.problem import Problem, diffusion, drift


def loss_of(problem: Problem, solver: Any, path: str, adjoint: Any) -> Callable[[Any, Any], Any]:
    """`path`: "tree" is VirtualBrownianTree, "unsafe" is UnsafeBrownianPath (which takes no reverse mode)."""
    y0, h = jnp.asarray(problem.start()), 1.0 / problem.steps

    def brownian(key: Any) -> Any:
        if path == "unsafe":
            return diffrax.UnsafeBrownianPath(shape=(problem.state,), key=key)
        return diffrax.VirtualBrownianTree(0.0, 1.0, tol=h / 2, shape=(problem.state,), key=key)

    def last(y: Any, key: Any, weights: Any) -> Any:
        noise = diffrax.ControlTerm(lambda t, y, a: lineax.DiagonalLinearOperator(diffusion(t, y, a)), brownian(key))
        terms = diffrax.MultiTerm(diffrax.ODETerm(drift), noise)
        options = {"args": weights, "adjoint": adjoint, "max_steps": problem.steps + 1}
        return diffrax.diffeqsolve(terms, solver, 0.0, 1.0, h, y, **options).ys[-1]  # type: ignore[index]

    def loss(weights: Any, key: Any) -> Any:
        keys = jax.random.split(key, problem.batch)
        return jnp.mean(jax.vmap(last, in_axes=(0, 0, None))(y0, keys, weights) ** 2)

    return loss

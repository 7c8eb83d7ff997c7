"""The law of a sampler's output, exactly, where the score is linear: no sampling and no noise in what is measured.

For Gaussian data the score is affine, so a step with normals ζ is v' = A v + B ζ + c on v = (x, memory), and

    mean' = step(mean, 0),     P' = A P Aᵀ + B Bᵀ,     A, B the derivatives of the step.

Orders of stochastic samplers are read from it (THEORY 27): the Monte-Carlo noise of samples would drown them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from neuralsde.errors import InputError
from neuralsde.noising import Predictor
from neuralsde.sampling.loop import Cell, Counting, Given, Sampler

_DRAWS = 4
"""The most normals, in the shape of x, that a step may draw."""


def gaussian_moments(
    predictor: Predictor,
    mean: Float[Array, " d"],
    cov: Float[Array, "d d"],
    ts: Float[Array, " k"],
    *,
    sampler: Sampler,
    steps: Any = None,
) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Mean and covariance at the last time of `sampler` started from N(mean, cov) at ts[0].

    predictor: with an affine score, such as `noising.Gaussian(...).predictor(schedule)`.
    steps:     how many gaps of ts to take, at most len(ts) - 1, may be traced: grids of several lengths, padded to one,
               are then one program.

    Exact for samplers whose step is affine in x and in at most four normals: not for adaptive ones, annealed Langevin,
    and predictor-corrector with norm="sample".
    """
    if sampler.adaptive:
        raise InputError(f"moments of {type(sampler).__name__}", "its steps depend on the state", "one on a grid")
    n = len(ts) - 1
    before = jnp.concatenate([ts[:1], ts[:-2]])

    def begin(x: Array) -> tuple[Array, Any]:
        return ravel_pytree((x, sampler.start(Counting(predictor), ts, x)))

    v, restore = begin(mean)
    spread = jax.jacfwd(lambda x: begin(x)[0])(mean)  # a memory may begin as the state
    d, count = mean.size, n if steps is None else steps

    def one(i: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        v, P = carry

        def step(v: Array, z: Array) -> Array:
            x, memory = restore(v)
            cell = Cell(ts[i], ts[i + 1], before[i], jnp.asarray(i), count)
            return ravel_pytree(sampler.step(Counting(predictor), cell, x, memory, key=Given(z)))[0]

        none = jnp.zeros((_DRAWS, *mean.shape), v.dtype)
        A, B = jax.jacfwd(step, (0, 1))(v, none)
        B = B.reshape(v.size, -1)
        return step(v, none), A @ P @ A.T + B @ B.T

    v, P = lax.fori_loop(0, count, one, (v, spread @ cov @ spread.T))
    return v[:d], P[:d, :d]

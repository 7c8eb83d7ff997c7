"""Adaptive solves where the noise depends on the state: pathwise error for commutative noise, moments for any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from neuralsde import sde
from neuralsde.sde.adaptive import brownian_tree, simulate_adaptive
from neuralsde.sde.exact import GBM
from neuralsde.sde.solution import Result

KEY = jax.random.key(9)
KEYS = jax.random.split(KEY, 16)


@pytest.mark.usefixtures("x64")
def test_the_global_error_falls_with_the_tolerance_on_one_path():
    gbm, ts = GBM(0.3, 0.6), np.array([0.0, 0.4, 1.0])

    @jax.jit  # path by path: under vmap the nested loops of the solve take twice as long to compile
    def solve(key, tolerance):
        found = simulate_adaptive(gbm.process(), 1.0, ts, key=key, rtol=tolerance, atol=tolerance)
        return found.ys[1:], found.steps

    motion = jax.jit(lambda key, t: brownian_tree(key, 0.0, 1.0, ()).evaluate(0.0, t))
    W = np.array([[motion(key, t) for t in ts[1:]] for key in KEYS])
    exact = np.exp((0.3 - 0.6**2 / 2) * ts[1:] + 0.6 * W)
    errors, steps = [], []
    for tolerance in (1e-2, 2e-4):
        ys, taken = map(np.array, zip(*(solve(key, tolerance) for key in KEYS), strict=True))
        errors.append(np.sqrt(((ys - exact) ** 2).mean()))
        steps.append(taken.mean())
    far, near = errors
    assert near < 0.3 * far < 1e-3
    assert steps[0] < steps[1]


@pytest.mark.usefixtures("x64")
def test_noise_that_does_not_commute_keeps_its_moments():
    """dX = A X dW1 + B X dW2 (Ito): E X is the start, and P = E X X' solves P' = A P A' + B P B'."""
    A, B = np.array([[0.0, 0.6], [0.2, 0.0]]), np.array([[0.3, 0.0], [0.5, -0.3]])
    process = sde.SDE(lambda t, y, args: 0 * y, lambda t, y, args: jnp.stack([A @ y, B @ y], axis=1), sde.General(2))
    y0 = np.array([1.0, -0.5])
    keys = jax.random.split(KEY, 600)
    solve = jax.jit(
        jax.vmap(lambda k: simulate_adaptive(process, y0, jnp.array([0.0, 1.0]), key=k, rtol=0.02, atol=0.02))
    )
    found = solve(keys)
    assert (found.result == Result.SUCCESSFUL).all()
    ends = np.asarray(found.ys[:, -1])
    assert (np.abs(ends.mean(0) - y0) < 4 * ends.std(0) / np.sqrt(600)).all()
    moved = scipy.linalg.expm(np.kron(A, A) + np.kron(B, B)) @ np.outer(y0, y0).ravel()
    squares = np.einsum("ni,nj->nij", ends, ends).reshape(-1, 4)
    assert (np.abs(squares.mean(0) - moved) < 4 * squares.std(0) / np.sqrt(600) + 0.01).all()

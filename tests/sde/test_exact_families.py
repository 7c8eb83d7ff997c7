"""Time-varying systems against what they contain, solved examples against fine solves."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.sde.exact import GBM, Heisenberg, LiExample2, LiExample3, LinearTimeVarying

KEY = jax.random.key(5)


def constant(steps=8):
    A, b, S = jnp.array([[-1.0, 2.0], [-1.5, -0.3]]), jnp.array([0.2, -0.1]), jnp.array([[0.5, 0.0], [0.2, 0.3]])
    return sde.LinearSDE(A, b, S), LinearTimeVarying(lambda t: A, lambda t: b, lambda t: S, steps)


@pytest.mark.usefixtures("x64")
def test_constant_coefficients_give_the_matrix_exponential():
    ts, y0 = np.array([0.0, 0.3, 0.5, 1.2]), np.array([1.0, 0.0])

    @jax.jit
    def pairs():
        linear, varying = constant()
        return {
            "kernel": (linear.kernel(0.8), varying.kernel(0.3, 1.1)),
            "joint": (linear.joint(y0, ts), varying.joint(y0, ts)),
            "sample": (linear.sample(y0, ts, key=KEY), varying.sample(y0, ts, key=KEY)),
            "density": (linear.log_density(y0, y0, 0.5), varying.log_density(y0, y0, 1.0, 1.5)),
        }

    for name, (exact, found) in pairs().items():
        for a, b in zip(jax.tree.leaves(exact), jax.tree.leaves(found), strict=True):
            np.testing.assert_allclose(b, a, atol=1e-9, rtol=0, err_msg=name)  # 8 steps of order 6


@pytest.mark.usefixtures("x64")
def test_time_varying_rates_give_their_integrals_and_the_error_is_measured():
    """dy = (cos t - 2 t y) dt + e^{-t} dW at d = 1: F = e^{-(t² - s²)}; c and Q by fine quadrature."""
    varying = LinearTimeVarying(
        lambda t: -2 * t * jnp.eye(1), lambda t: jnp.cos(t)[None], lambda t: jnp.exp(-t) * jnp.eye(1), 16
    )
    x, w = np.polynomial.legendre.leggauss(40)
    s, w = 0.2 + 0.5 * 1.3 * (x + 1), 0.5 * 1.3 * w
    F = np.exp(-(1.5**2 - s**2))
    exact = (np.exp(-(1.5**2 - 0.2**2)), (w * F * np.cos(s)).sum(), (w * F**2 * np.exp(-2 * s)).sum())
    coarse = LinearTimeVarying(varying.A, varying.b, varying.S, 8)
    parts = jax.jit(lambda: (varying.kernel(0.2, 1.5), varying.error(0.2, 1.5), coarse.error(0.2, 1.5)))
    found, error, of_coarse = jax.tree.map(np.asarray, parts())
    worst = max(abs(float(f.squeeze()) / e - 1) for f, e in zip(found, exact, strict=True))
    assert worst < 1e-8
    assert 0.2 * worst < error < 5 * worst
    assert 5.7 < np.log2(of_coarse / error) < 6.3  # order 6
    with pytest.raises(InputError, match="steps"):
        LinearTimeVarying(varying.A, varying.b, varying.S, 1)


@pytest.mark.usefixtures("x64")
def test_the_likelihood_of_noisy_observations_is_that_of_the_joint_gaussian():
    ts, mean, cov = np.array([0.0, 0.4, 1.0]), np.array([1.0, 0.2]), np.diag([0.3, 0.5])
    values = np.array([[0.8, np.nan], [0.1, 0.4], [np.nan, -0.2]])
    noise = np.array([[0.1, 0.02], [0.02, 0.2]])

    @jax.jit
    def parts():
        _, varying = constant()
        found = varying.log_likelihood(values, ts, mean=mean, cov=cov, observe=np.eye(2), noise=noise)
        return found, varying.kernel(0.0, 0.4), varying.kernel(0.4, 1.0)

    # The dense way: y = (y_0, y_1, y_2) is an affine map of y_0 and independent kicks.
    found, (F1, c1, Q1), (F2, c2, Q2) = jax.tree.map(np.asarray, parts())
    zero = np.zeros((2, 2))
    moved = np.block([[np.eye(2), zero, zero], [F1, np.eye(2), zero], [F2 @ F1, F2, np.eye(2)]])
    kicks, errors = (np.asarray(scipy.linalg.block_diag(*parts)) for parts in ((cov, Q1, Q2), (noise, noise, noise)))
    whole = moved @ kicks @ moved.T + errors
    middle = moved @ np.concatenate([mean, c1, c2])
    seen = np.flatnonzero(~np.isnan(values.ravel()))
    spread: Any = whole[np.ix_(seen, seen)]  # scipy's stubs know only a number here
    dense = scipy.stats.multivariate_normal(middle[seen], spread)
    assert np.isclose(found, dense.logpdf(values.ravel()[seen]), atol=1e-10)


EXAMPLES = [(GBM, (0.3, 0.5), 1.1), (LiExample2, (0.6,), 0.4), (LiExample3, (0.7, 0.5), -0.3)]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("kind", "parameters", "y0"), EXAMPLES)
def test_solutions_are_the_limits_of_fine_milstein_solves(kind, parameters, y0):
    """Milstein, written here, at 64 and 512 steps of the same 200 paths: the error falls like the step."""
    example = kind(*parameters)
    process = example.process()
    steps = np.random.default_rng(5).normal(size=(512, 200)) * np.sqrt(1 / 512)

    def solve(dW, h):
        def step(y, at):
            t, w = at
            g = process.diffusion(t, y, None)
            slope = jax.jvp(lambda x: process.diffusion(t, x, None), (y,), (g,))[1]
            return y + process.drift(t, y, None) * h + g * w + 0.5 * slope * (w**2 - h), None

        return jax.lax.scan(step, jnp.full(200, y0), (jnp.arange(dW.shape[0]) * h, dW))[0]

    @jax.jit
    def errors(steps):
        exact = example.solution(y0, 1.0, steps.sum(0))
        ends = solve(steps, 1 / 512), solve(steps.reshape(64, 8, 200).sum(1), 1 / 64)
        return [jnp.sqrt(((end - exact) ** 2).mean()) for end in ends]

    fine, coarse = map(float, errors(steps))
    assert fine < 2e-3
    assert 5.5 < coarse / fine < 11  # 8 at order one


@pytest.mark.usefixtures("x64")
def test_gradients_of_the_closed_forms_follow_from_the_solution():
    W = 0.37
    two = jax.jit(jax.grad(lambda pair: pair[0].solution(0.4, 1.0, W) + pair[1].solution(-0.3, 1.0, W)))
    first, second = two((LiExample2(0.6), LiExample3(0.7, 0.5)))
    assert np.allclose(first.p, W / (1 + (0.6 * W + np.tan(0.4)) ** 2))
    assert np.allclose([second.a, second.b], np.array([0.5 * W, 1 + 0.7 * W]) / np.sqrt(2))


@pytest.mark.usefixtures("x64")
def test_heisenberg_solution_is_the_fine_ito_sum_with_the_area_of_the_path():
    dW = np.random.default_rng(5).normal(size=(4096, 2)) / 64
    W = np.concatenate([np.zeros((1, 2)), np.cumsum(dW, axis=0)])[:-1]
    a12 = 0.5 * (W[:, 0] @ dW[:, 1] - W[:, 1] @ dW[:, 0])

    @jax.jit
    def parts(start, dW, area):
        process = Heisenberg().process()
        euler = jax.lax.scan(lambda y, w: (y + process.diffusion(0.0, y, None) @ w, None), start, dW)[0]
        return Heisenberg().solution(start, dW.sum(0), area), euler, process.correction(0.0, start)

    end, euler, correction = map(np.asarray, parts(np.array([0.3, -0.2]), dW, np.array([[0.0, a12], [-a12, 0.0]])))
    assert np.allclose(end, euler, atol=0.05)  # they differ by half the sum of dW1 dW2, of size 1/√4096 / 2
    assert np.isclose(end[1] - euler[1], 0.5 * dW[:, 0] @ dW[:, 1], atol=1e-12)
    assert np.allclose(correction, 0.0)

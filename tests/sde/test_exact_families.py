"""Time-varying systems against what they contain, solved examples against fine solves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.sde.exact import GBM, Heisenberg, LiExample2, LiExample3, LinearTimeVarying

KEY = jax.random.key(5)


def constant(steps=8):
    A, b, S = jnp.array([[-1.0, 2.0], [-1.5, -0.3]]), jnp.array([0.2, -0.1]), jnp.array([[0.5, 0.0], [0.2, 0.3]])
    return sde.LinearSDE(A, b, S), LinearTimeVarying(lambda t: A, lambda t: b, lambda t: S, steps)


@pytest.mark.usefixtures("x64")
def test_constant_coefficients_give_the_matrix_exponential():
    linear, varying = constant()
    for exact, found in zip(linear.kernel(0.8), varying.kernel(0.3, 1.1), strict=True):
        assert jnp.allclose(exact, found, atol=1e-11)
    ts, y0 = jnp.array([0.0, 0.3, 0.5, 1.2]), jnp.array([1.0, 0.0])
    for exact, found in zip(linear.joint(y0, ts), varying.joint(y0, ts), strict=True):
        assert jnp.allclose(exact, found, atol=1e-11)
    assert jnp.allclose(linear.sample(y0, ts, key=KEY), varying.sample(y0, ts, key=KEY), atol=1e-10)
    assert jnp.allclose(linear.log_density(y0, y0, 0.5), varying.log_density(y0, y0, 1.0, 1.5), atol=1e-10)


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
    found = [float(x.squeeze()) for x in varying.kernel(0.2, 1.5)]
    worst = max(abs(f / e - 1) for f, e in zip(found, exact, strict=True))
    assert worst < 1e-8
    assert 0.2 * worst < varying.error(0.2, 1.5) < 5 * worst
    coarse = LinearTimeVarying(varying.A, varying.b, varying.S, 8)
    assert 5.7 < np.log2(coarse.error(0.2, 1.5) / varying.error(0.2, 1.5)) < 6.3  # order 6
    with pytest.raises(InputError, match="steps"):
        LinearTimeVarying(varying.A, varying.b, varying.S, 1)


@pytest.mark.usefixtures("x64")
def test_the_likelihood_of_noisy_observations_is_that_of_the_joint_gaussian():
    _, varying = constant()
    ts, mean, cov = jnp.array([0.0, 0.4, 1.0]), jnp.array([1.0, 0.2]), jnp.diag(jnp.array([0.3, 0.5]))
    values = jnp.array([[0.8, jnp.nan], [0.1, 0.4], [jnp.nan, -0.2]])
    noise = jnp.array([[0.1, 0.02], [0.02, 0.2]])
    found = varying.log_likelihood(values, ts, mean=mean, cov=cov, observe=jnp.eye(2), noise=noise)
    # The dense way: y = (y_0, y_1, y_2) is an affine map of y_0 and independent kicks.
    F1, c1, Q1 = varying.kernel(0.0, 0.4)
    F2, c2, Q2 = varying.kernel(0.4, 1.0)
    zero = jnp.zeros((2, 2))
    moved = jnp.block([[jnp.eye(2), zero, zero], [F1, jnp.eye(2), zero], [F2 @ F1, F2, jnp.eye(2)]])
    spread = jax.scipy.linalg.block_diag(cov, Q1, Q2)
    whole = moved @ spread @ moved.T + jax.scipy.linalg.block_diag(noise, noise, noise)
    middle = moved @ jnp.concatenate([mean, c1, c2])
    mask = ~jnp.isnan(values.ravel())
    assert jnp.allclose(found, sde.condition(middle, whole, values.ravel(), mask)[2], atol=1e-10)


EXAMPLES = [(GBM, (0.3, 0.5), 1.1), (LiExample2, (0.6,), 0.4), (LiExample3, (0.7, 0.5), -0.3)]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("kind", "parameters", "y0"), EXAMPLES)
def test_solutions_are_the_limits_of_fine_milstein_solves(kind, parameters, y0):
    """Milstein, written here, at 64 and 512 steps of the same 200 paths: the error falls like the step."""
    example = kind(*parameters)
    process = example.process()
    steps = jax.random.normal(KEY, (512, 200), jnp.float64) * np.sqrt(1 / 512)
    exact = example.solution(y0, 1.0, steps.sum(0))

    def solve(dW, h):
        def step(y, at):
            t, w = at
            g = process.diffusion(t, y, None)
            slope = jax.jvp(lambda x: process.diffusion(t, x, None), (y,), (g,))[1]
            return y + process.drift(t, y, None) * h + g * w + 0.5 * slope * (w**2 - h), None

        return jax.lax.scan(step, jnp.full(200, y0), (jnp.arange(dW.shape[0]) * h, dW))[0]

    fine = jnp.sqrt(((solve(steps, 1 / 512) - exact) ** 2).mean())
    coarse = jnp.sqrt(((solve(steps.reshape(64, 8, 200).sum(1), 1 / 64) - exact) ** 2).mean())
    assert fine < 2e-3
    assert 5.5 < coarse / fine < 11  # 8 at order one


@pytest.mark.usefixtures("x64")
def test_gradients_of_the_closed_forms_follow_from_the_solution():
    W = 0.37
    slope = jax.grad(lambda e: e.solution(0.4, 1.0, W))(LiExample2(0.6)).p
    assert jnp.allclose(slope, W / (1 + (0.6 * W + np.tan(0.4)) ** 2))
    slopes = jax.grad(lambda e: e.solution(-0.3, 1.0, W))(LiExample3(0.7, 0.5))
    assert jnp.allclose(jnp.stack([slopes.a, slopes.b]), jnp.array([0.5 * W, 1 + 0.7 * W]) / np.sqrt(2))


@pytest.mark.usefixtures("x64")
def test_heisenberg_solution_is_the_fine_ito_sum_with_the_area_of_the_path():
    dW = jax.random.normal(KEY, (4096, 2), jnp.float64) / 64
    W = jnp.concatenate([jnp.zeros((1, 2)), jnp.cumsum(dW, axis=0)])[:-1]
    total = dW.sum(0)
    a12 = 0.5 * (W[:, 0] @ dW[:, 1] - W[:, 1] @ dW[:, 0])
    end = Heisenberg().solution(jnp.array([0.3, -0.2]), total, jnp.array([[0.0, a12], [-a12, 0.0]]))
    process = Heisenberg().process()
    euler = jax.lax.scan(lambda y, w: (y + process.diffusion(0.0, y, None) @ w, None), jnp.array([0.3, -0.2]), dW)[0]
    assert jnp.allclose(end, euler, atol=0.05)  # they differ by half the sum of dW1 dW2, of size 1/√4096 / 2
    assert jnp.allclose(end[1] - euler[1], 0.5 * dW[:, 0] @ dW[:, 1], atol=1e-12)
    assert jnp.allclose(process.correction(0.0, jnp.array([0.3, -0.2])), 0.0)

"""Reversed processes: the start law comes back from the end law, and reversible processes are their own reversal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.sde.exact import CIR, GBM, OU
from neuralsde.sde.reversal import covariance_divergence, time_reversal

KEY = jax.random.key(8)
Y = jnp.array([0.7, 1.3])


def run(reverse, starts, length, steps):
    ts = jnp.array([0.0, length])
    keys = jax.random.split(KEY, starts.shape[0])
    return jax.jit(jax.vmap(lambda y, k: sde.simulate(reverse, y, ts, key=k, substeps=steps).ys[-1]))(starts, keys)


def test_stationary_processes_of_one_entry_are_their_own_reversal():
    """Ornstein-Uhlenbeck, and the square-root process, whose diffusion depends on the state."""
    ou, cir = OU(1.7, 0.5, 0.8), CIR(1.0, 0.8, 0.7)
    mean, var = ou.stationary()
    back = time_reversal(ou.process(), lambda t, y, args: (mean - y) / var, 0.0, 2.0)
    assert jnp.allclose(back.drift(0.3, Y, None), ou.process().drift(1.7, Y, None), atol=1e-6)
    score = jax.grad(lambda y: cir.stationary_log_density(y).sum())
    back = time_reversal(cir.process(), lambda t, y, args: score(y), 0.0, 2.0)
    assert jnp.allclose(back.drift(0.3, Y, None), cir.process().drift(1.7, Y, None), atol=1e-5)
    assert jnp.allclose(back.diffusion(0.3, Y, None), cir.process().diffusion(1.7, Y, None))


def test_the_start_law_of_a_gaussian_comes_back():
    ou, m0, v0 = OU(1.2, 0.0, 0.7), 2.0, 0.09

    def marginal(t):
        mean, var = ou.transition(m0, t)
        return mean, var + v0 * jnp.exp(-2 * 1.2 * t)

    def score(t, y, args):
        mean, var = marginal(t)
        return (mean - y) / var

    mean, var = marginal(1.0)
    starts = mean + jnp.sqrt(var) * jax.random.normal(jax.random.key(1), (10_000,))
    ends = run(time_reversal(ou.process(), score, 0.0, 1.0), starts, 1.0, 100)
    assert abs(ends.mean() - m0) < 4 * np.sqrt(v0 / 10_000) + 0.02  # Monte Carlo, and a step of 0.01
    assert abs(ends.var() / v0 - 1) < 0.08


def test_the_start_law_of_a_linear_system_with_general_noise_comes_back():
    system = sde.LinearSDE([[-1.0, 1.0], [-0.5, -0.3]], [0.2, -0.1], [[0.5, 0.0], [0.3, 0.4]])
    m0, P0 = jnp.array([1.0, -1.0]), jnp.array([[0.2, 0.05], [0.05, 0.1]])

    def marginal(t):
        F, c, Q = system.kernel(t)
        return F @ m0 + c, F @ P0 @ F.T + Q

    def score(t, y, args):
        mean, cov = marginal(t)
        return jnp.linalg.solve(cov, mean - y)

    mean, cov = marginal(0.8)
    starts = jax.random.multivariate_normal(jax.random.key(1), mean, cov, (4000,), method="cholesky")
    ends = run(time_reversal(system.process(), score, 0.0, 0.8), starts, 0.8, 80)
    assert jnp.allclose(ends.mean(0), m0, atol=0.03)
    assert jnp.allclose(jnp.cov(ends.T), P0, atol=0.015)


@pytest.mark.parametrize("calculus", [sde.Ito(), sde.Stratonovich()])
def test_the_start_law_of_a_geometric_process_comes_back(calculus):
    """Log y_t ~ N(m0 + (mu - sigma²/2) t, v0 + sigma² t): without the divergence the law would be another one."""
    gbm, m0, v0 = GBM(0.3, 0.6), 0.2, 0.04
    process = gbm.process().to(calculus)

    def score(t, y, args):
        mean, var = m0 + (0.3 - 0.18) * t, v0 + 0.36 * t
        return -(1 + (jnp.log(y) - mean) / var) / y

    starts = jnp.exp(m0 + 0.12 + np.sqrt(v0 + 0.36) * jax.random.normal(jax.random.key(1), (10_000,)))
    ends = jnp.log(run(time_reversal(process, score, 0.0, 1.0), starts, 1.0, 200))
    assert abs(ends.mean() - m0) < 0.02
    assert abs(ends.var() / v0 - 1) < 0.1


MATRIX = jnp.array([[0.3, -0.5], [0.7, 0.2]])


def matrix(t, y, args):
    return jnp.stack([jnp.sin(MATRIX @ y), y**2, jnp.ones(2)], axis=1)


@pytest.mark.parametrize(
    ("noise", "g"),
    [
        (sde.Diagonal("separable"), lambda t, y, args: jnp.sin(y) + t),
        (sde.Diagonal(), lambda t, y, args: jnp.sin(y[::-1]) * y),
        (sde.Scalar(), lambda t, y, args: jnp.cos(MATRIX @ y)),
        (sde.General(3), matrix),
        (sde.General(3, depends="additive"), lambda t, y, args: matrix(t, jnp.ones(2), args)),
    ],
)
def test_the_divergence_of_the_covariance_is_the_sum_of_its_derivatives(noise, g):
    process = sde.SDE(lambda t, y, args: y, g, noise)

    def covariance(y):
        value = g(0.3, y, None)
        G = jnp.diag(value) if isinstance(noise, sde.Diagonal) else value.reshape(2, -1)
        return G @ G.T

    assert jnp.allclose(
        covariance_divergence(process, 0.3, Y), jnp.einsum("ijj->i", jax.jacfwd(covariance)(Y)), atol=1e-5
    )
    score = jnp.array([0.4, -1.1])
    back = time_reversal(process, lambda t, y, args: score, 0.0, 1.0)
    exact = -Y + covariance(Y) @ score + covariance_divergence(process, 0.3, Y)
    assert jnp.allclose(back.drift(0.7, Y, None), exact, atol=1e-5)


@pytest.mark.parametrize("noise", [sde.Diagonal(), sde.Scalar()])
def test_a_pytree_is_reversed_as_its_vector(noise):
    def split(y):
        return {"a": y[:1], "b": y[1]}

    def join(y):
        return jnp.append(y["a"], y["b"])

    def g(t, y, args):
        return jnp.sin(y[::-1]) * y

    vector = time_reversal(sde.SDE(lambda t, y, args: -y, g, noise), lambda t, y, args: 1 - y, 0.0, 1.0)
    process = sde.SDE(lambda t, y, args: split(-join(y)), lambda t, y, args: split(g(t, join(y), args)), noise)
    tree = time_reversal(process, lambda t, y, args: split(1 - join(y)), 0.0, 1.0)
    assert jnp.allclose(join(tree.drift(0.3, split(Y), None)), vector.drift(0.3, Y, None))
    found = sde.simulate(tree, split(Y), jnp.array([0.0, 0.1]), key=KEY)
    assert found.ys["a"].shape == (2, 1)
    wrong = time_reversal(process, lambda t, y, args: 1 - join(y), 0.0, 1.0)
    with pytest.raises(InputError, match="structure"):
        wrong.drift(0.3, split(Y), None)


def test_what_is_no_reversal_is_refused():
    with pytest.raises(InputError, match="t0 < t1"):
        time_reversal(GBM(0.3, 0.6).process(), lambda t, y, args: y, 1.0, 0.0)

"""Exponential Euler: exact where the drift is linear, at any step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.integrate import quad

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.sde.methods import ExponentialEuler
from neuralsde.sde.methods.exponential import _entrywise, _matrix

KEY = jax.random.key(5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("z", [-30.0, -2.0, -0.3, -1e-3, 0.0, 1e-3, 0.09, 0.11, 0.7, 3.0])
def test_functions_are_their_integrals(z):
    """φ1 = ∫ e^{zv}, φ2 = ∫ e^{zv} (1 - v), and the norm of what e^{zv} has beyond 1 and 2v - 1."""
    growth, one, two, rest = (float(x) for x in _entrywise(jnp.asarray(z)))
    assert np.isclose(growth, np.exp(z), rtol=1e-14)
    assert np.isclose(one, quad(lambda v: np.exp(z * v), 0, 1)[0], rtol=1e-12)
    assert np.isclose(two, quad(lambda v: np.exp(z * v) * (1 - v), 0, 1)[0], rtol=1e-12)
    slope = 6 * one - 12 * two
    beyond = quad(lambda v: (np.exp(z * v) - one - slope * (v - 0.5)) ** 2, 0, 1, epsabs=1e-20)[0]
    assert np.isclose(rest, np.sqrt(beyond), rtol=1e-3, atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_the_matrix_functions_agree_with_those_of_eigenvalues():
    Z = np.array([[-2.0, 0.5], [0.3, -7.0]])
    values, vectors = np.linalg.eig(Z)
    for found, of_eigenvalues in zip(_matrix(jnp.asarray(Z)), _entrywise(jnp.asarray(values)), strict=False):
        assert np.allclose(found, vectors @ np.diag(of_eigenvalues) @ np.linalg.inv(vectors), rtol=1e-12)


def test_ornstein_uhlenbeck_in_one_long_step():
    """Exact in law at λh = 10, where no explicit method lives: mean and variance of the transition."""
    law = sde.OU(theta=10.0, mu=0.4, sigma=0.7)
    keys = jax.random.split(KEY, 20_000)
    method = ExponentialEuler(-10.0)
    one = lambda key: sde.simulate(law.process(), 2.0, jnp.array([0.0, 1.0]), key=key, method=method).ys[-1]  # noqa: E731
    found = np.asarray(jax.jit(jax.vmap(one))(keys))
    mean, variance = (float(x) for x in law.transition(2.0, 1.0))
    assert abs(found.mean() - mean) < 5 * np.sqrt(variance / found.size)
    assert abs(found.var() / variance - 1) < 5 * np.sqrt(2 / found.size)


@pytest.mark.usefixtures("x64")
def test_the_mean_of_a_linear_system_is_exact():
    A = np.array([[-3.0, 1.0], [0.5, -8.0]])
    process = sde.SDE(lambda t, y, a: jnp.asarray(A) @ y, lambda t, y, a: jnp.zeros((2, 1)), sde.General(1, "additive"))
    method = ExponentialEuler(A)
    ys = sde.simulate(process, jnp.array([1.0, 2.0]), jnp.array([0.0, 0.4, 1.0]), key=KEY, method=method).ys
    assert np.allclose(ys[-1], scipy.linalg.expm(A) @ [1.0, 2.0], rtol=1e-12)


def test_a_linear_part_that_does_not_fit_is_refused():
    process = sde.OU(1.0).process()
    with pytest.raises(InputError, match=r"shape \(2, 2\)") as error:
        sde.simulate(process, jnp.ones(3), jnp.array([0.0, 1.0]), key=KEY, method=ExponentialEuler(np.eye(2)))
    assert "(3, 3)" in str(error.value)
    with pytest.raises(InputError, match="finite"):
        ExponentialEuler(np.inf)


def test_a_method_is_a_value():
    assert ExponentialEuler(np.eye(2)) == ExponentialEuler(((1.0, 0.0), (0.0, 1.0)))
    assert hash(ExponentialEuler(-1)) == hash(ExponentialEuler(-1.0))

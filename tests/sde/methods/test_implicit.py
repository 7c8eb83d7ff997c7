"""The drift-implicit step: stiff drift, derivatives from the equation, and no silent failure."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.sde.methods import DriftImplicitEuler, EulerMaruyama

KEY = jax.random.key(4)
TS = np.linspace(0.0, 1.0, 6)


def quiet(t, y, args):
    return 0 * y


@pytest.mark.usefixtures("x64")
def test_a_linear_drift_is_damped_as_by_the_formula():
    """The case λh = 10 and 2,000: the factor is 1/(1 + λh); Euler's is 1 - λh."""
    rates = jnp.array([[50.0, 10_000.0]])
    process = sde.SDE(lambda t, y, a: -rates * y, quiet)
    y0 = jnp.array([[3.0, -2e6]])
    ys = sde.simulate(process, y0, TS, key=KEY, method=DriftImplicitEuler()).ys
    assert np.allclose(ys, y0 / (1 + 0.2 * rates) ** np.arange(6)[:, None, None], rtol=1e-10, atol=1e-10)
    explicit = sde.simulate(process, y0, TS, key=KEY, method=EulerMaruyama()).ys
    assert jnp.abs(explicit[-1, 0, 0]) > 1e5


def test_stiff_noise_keeps_its_law():
    """OU with λh = 10: the scheme's own stationary variance is σ² h / ((1 + λh)² - 1)."""
    law = sde.OU(theta=50.0, mu=0.0, sigma=1.0)
    keys = jax.random.split(KEY, 5_000)
    one = lambda key: sde.simulate(law.process(), 0.0, TS, key=key, method=DriftImplicitEuler()).ys[-1]  # noqa: E731
    found = np.asarray(jax.jit(jax.vmap(one))(keys))
    assert abs(found.var() / (0.2 / 120) - 1) < 0.1


@pytest.mark.usefixtures("x64")
def test_derivatives_first_and_second_in_exact_modes():
    """A cubic drift: reverse, and reverse over reverse, against differences; both exact modes give the same."""

    def end(rate, gradient):
        process = sde.SDE(lambda t, y, a: -rate * y**3, lambda t, y, a: 0.3 * y)
        method = DriftImplicitEuler()
        return sde.simulate(process, 1.5, TS[:3], key=KEY, method=method, gradient=gradient).ys[-1]

    @jax.jit
    @jax.vmap
    def derivatives(rate):
        """The end and its first and second derivative by plain reverse; the two derivatives by checkpoints."""

        def slope(rate):
            value, first = jax.value_and_grad(end)(rate, sde.Backprop())
            return first, value

        (first, value), second = jax.value_and_grad(slope, has_aux=True)(rate)
        return value, first, second, jax.value_and_grad(jax.grad(end))(rate, sde.Checkpointed())

    step = 1e-4
    value, first, second, checkpointed = map(np.asarray, derivatives(4.0 + step * np.array([-1.0, 0.0, 1.0])))
    assert np.isclose(first[1], (value[2] - value[0]) / (2 * step), rtol=1e-6)
    assert np.isclose(second[1], (first[2] - first[0]) / (2 * step), rtol=1e-6)
    assert np.allclose(checkpointed, [first, second], rtol=1e-12)


def test_one_tolerance_for_every_scale():
    process = sde.SDE(lambda t, y, a: -300 * y, lambda t, y, a: 0.1 * y)
    scales = np.array([1e-6, 1.0, 1e6], np.float32)
    one = lambda scale: sde.simulate(process, scale * jnp.ones(3), TS, key=KEY, method=DriftImplicitEuler())  # noqa: E731
    sol = jax.jit(jax.vmap(one))(scales)
    assert (sol.result == sde.Result.SUCCESSFUL).all()
    first = np.asarray(sol.ys[:, 1]) / scales[:, None]
    np.testing.assert_allclose(first, np.broadcast_to(first[1], first.shape), rtol=1e-5, atol=1e-8)


def test_a_step_without_a_solution_is_a_result_code():
    """y' = y + h (1 + y'²) has no real root for h > 1/2 from y = 1: no number, and no wrong one."""
    process = sde.SDE(lambda t, y, a: 1 + y**2, quiet)
    sol = sde.simulate(process, 1.0, jnp.array([0.0, 0.6]), key=KEY, method=DriftImplicitEuler())
    assert sol.result == sde.Result.NOT_FINITE

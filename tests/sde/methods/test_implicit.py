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

    step = 1e-4
    found = []
    for gradient in (sde.Backprop(), sde.Checkpointed()):
        slope = jax.grad(lambda rate, g=gradient: end(rate, g))
        both = jax.jit(jax.vmap(jax.value_and_grad(slope)))(jnp.array([4.0 - step, 4.0, 4.0 + step]))
        assert np.isclose(both[1][1], (both[0][2] - both[0][0]) / (2 * step), rtol=1e-6)
        found.append(both)
    assert np.allclose(found[0], found[1], rtol=1e-12)
    difference = (end(4.0 + step, sde.Backprop()) - end(4.0 - step, sde.Backprop())) / (2 * step)
    assert np.isclose(found[0][0][1], difference, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_one_tolerance_for_every_scale(scale):
    process = sde.SDE(lambda t, y, a: -300 * y, lambda t, y, a: 0.1 * y)
    sol = sde.simulate(process, scale * jnp.ones(3), TS, key=KEY, method=DriftImplicitEuler())
    assert sol.result == sde.Result.SUCCESSFUL
    assert jnp.allclose(
        sol.ys[1] / scale, sde.simulate(process, jnp.ones(3), TS, key=KEY, method=DriftImplicitEuler()).ys[1]
    )


def test_a_step_without_a_solution_is_a_result_code():
    """y' = y + h (1 + y'²) has no real root for h > 1/2 from y = 1: no number, and no wrong one."""
    process = sde.SDE(lambda t, y, a: 1 + y**2, quiet)
    sol = sde.simulate(process, 1.0, jnp.array([0.0, 0.6]), key=KEY, method=DriftImplicitEuler())
    assert sol.result == sde.Result.NOT_FINITE

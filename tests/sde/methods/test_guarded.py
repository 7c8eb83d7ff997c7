"""Coefficients that the usual theorems exclude: drift that grows fast, and the square root of the state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.sde.exact import CIR
from neuralsde.sde.methods import EulerMaruyama, FullTruncationEuler, TamedEuler

KEYS = jax.random.split(jax.random.key(2), 20_000)


def ends(process, y0, steps, method, t1=1.0, keys=KEYS):
    ts = jnp.array([0.0, t1])
    one = lambda key: sde.simulate(process, y0, ts, key=key, method=method, substeps=steps).ys[-1]  # noqa: E731
    return np.asarray(jax.jit(jax.vmap(one))(keys))


def test_tamed_euler_stays_where_euler_explodes():
    """dy = -y³ dt + dW from 6: at h = 1/8 a step of Euler goes from y to y - y³/8, which grows; the law has |y| ~ 1."""
    cubic = sde.SDE(lambda t, y, a: -(y**3), lambda t, y, a: jnp.ones_like(y), sde.Diagonal("additive"))
    assert not np.isfinite(ends(cubic, 6.0, 32, EulerMaruyama(), 4.0, KEYS[:8])).any()
    tamed = ends(cubic, 6.0, 128, TamedEuler(), 4.0)
    assert np.isfinite(tamed).all()
    # The stationary density is proportional to exp(-y⁴/2), whose variance is √2 Γ(3/4)/Γ(1/4).
    assert abs(tamed.var() / 0.477989 - 1) < 0.08
    assert abs(tamed.mean()) < 0.03


@pytest.mark.usefixtures("x64")
def test_taming_is_of_second_order_in_a_step_and_has_a_derivative_at_zero():
    process = sde.SDE(lambda t, y, a: -y, lambda t, y, a: 0 * y)
    end = lambda y, h: sde.simulate(process, y, jnp.array([0.0, 1.0]) * h, key=KEYS[0], method=TamedEuler()).ys[-1]  # noqa: E731
    for h in (0.1, 0.01):
        assert np.isclose(end(2.0, h), 2.0 - 2.0 * h / (1 + 2.0 * h), rtol=1e-12)
    assert np.isclose(jax.grad(end)(0.0, 0.1), 0.9)


@pytest.mark.parametrize("theta", [2.0, 0.125])
def test_full_truncation_has_the_moments_of_the_square_root_process(theta):
    """2κθ/σ² = 8 and .5: positive either way, mean and variance of CIR up to O(h) and sampling noise."""
    law = CIR(kappa=1.0, theta=theta, sigma=np.sqrt(0.5))
    found = ends(law.process(), theta, 128, FullTruncationEuler())
    mean, variance = (float(x) for x in law.transition(theta, 1.0))
    assert (found >= 0).all()
    assert abs(found.mean() - mean) < 5 * np.sqrt(variance / found.size) + 0.01 * theta
    assert abs(found.var() / variance - 1) < 0.08


def test_the_saved_state_is_the_positive_part():
    law = CIR(kappa=0.1, theta=0.05, sigma=1.0)
    ts = jnp.linspace(0.0, 1.0, 33)
    solve = lambda key: sde.simulate(law.process(), 0.1, ts, key=key, method=FullTruncationEuler()).ys  # noqa: E731
    found = jax.vmap(solve)(KEYS[:100])
    assert (found >= 0).all()
    assert (found == 0).any()

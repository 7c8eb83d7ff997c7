"""Damped Newton steps: minima that are known, invariance to units, saddles, walls, many at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.train.newton import minimise, newton

pytestmark = pytest.mark.usefixtures("x64")


def rosenbrock(p):
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def test_the_valley_of_rosenbrock() -> None:
    found = minimise(newton(rosenbrock), jnp.array([-1.2, 1.0]))
    np.testing.assert_allclose(found.at, 1.0, rtol=1e-4)
    assert bool(found.settled)
    np.testing.assert_allclose(found.hessian, [[802, -400], [-400, 200]], rtol=1e-2)


def test_the_units_of_a_number_do_not_matter() -> None:
    """The same steps with one number in millionths."""
    unit = jnp.array([1e-6, 1e3])
    plain = minimise(newton(rosenbrock), jnp.array([-1.2, 1.0]), steps=7)
    scaled = minimise(newton(lambda p: rosenbrock(p / unit)), jnp.array([-1.2, 1.0]) * unit, steps=7)
    np.testing.assert_allclose(scaled.at / unit, plain.at, rtol=1e-8)


def test_a_saddle_is_left() -> None:
    """x² - y² + y⁴ from beside (0, 0): plain Newton would settle there."""
    found = minimise(newton(lambda p: p[0] ** 2 - p[1] ** 2 + p[1] ** 4), jnp.array([0.3, 0.01]))
    np.testing.assert_allclose(jnp.abs(found.at), [0, np.sqrt(0.5)], atol=1e-3)
    assert bool(found.settled)


def test_points_without_a_value_are_refused() -> None:
    """-log x + x from far away: undamped the first step lands at x < 0."""
    found = minimise(newton(lambda p: (p - jnp.log(p)).sum()), jnp.array([8.0]))
    np.testing.assert_allclose(found.at, 1.0, rtol=1e-3)


def test_what_does_not_settle_says_so() -> None:
    assert not bool(minimise(newton(lambda p: (p * jnp.nan).sum()), jnp.ones(2)).settled)
    assert not bool(minimise(newton(lambda p: jnp.exp(-p).sum()), jnp.zeros(1), steps=5).settled)


def test_many_at_once_are_each_as_alone() -> None:
    targets = jnp.array([[1.0, 2.0], [-3.0, 0.5]])

    def one(target):
        return minimise(newton(lambda p: jnp.cosh(p - target).sum()), jnp.zeros(2))

    together = jax.jit(jax.vmap(one))(targets)
    for i, target in enumerate(targets):
        np.testing.assert_allclose(together.at[i], one(target).at, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(together.at, targets, atol=1e-3)

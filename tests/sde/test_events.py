"""Events against first-passage laws and reflected motion, and what happens between steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.errors import InputError

KEY = jax.random.key(11)
WIENER = sde.SDE(lambda t, y, a: jnp.zeros_like(y), lambda t, y, a: jnp.ones_like(y), sde.Diagonal(depends="additive"))
TS = jnp.linspace(0.0, 1.0, 5)


def test_a_stopped_path_stays_where_it_stopped():
    """Deterministic clock: dy = dt, stopped at y >= .6, with steps of 1/16."""
    clock = sde.SDE(lambda t, y, a: jnp.ones_like(y), lambda t, y, a: jnp.zeros_like(y))
    stop = sde.Stop(lambda t, y, args: y >= 0.6)
    for method in (sde.EulerMaruyama(),):
        sol: Any = sde.simulate(clock, 0.0, TS, key=KEY, substeps=4, events=stop, method=method)
        assert jnp.allclose(sol.ys, jnp.array([0.0, 0.25, 0.5, 0.625, 0.625]))
        assert jnp.isclose(sol.stop_time, 0.625)
    never: Any = sde.simulate(clock, 0.0, TS, key=KEY, substeps=4, events=sde.Stop(lambda t, y, args: y > 5))
    assert jnp.isinf(never.stop_time)
    at_once: Any = sde.simulate(clock, 0.0, TS, key=KEY, substeps=4, events=sde.Stop(lambda t, y, args: y >= 0))
    assert at_once.stop_time == 0
    assert jnp.all(at_once.ys == 0)


def test_first_passage_of_brownian_motion():
    """P(max W over [0, 1] >= a) = 2 P(W_1 >= a); on a grid of step h the wall stands as if at a + .5826 √h
    (Broadie, Glasserman & Kou 1997).
    """
    n, steps, a = 20_000, 64, 0.7
    wall = sde.Stop(lambda t, y, args: y >= a)
    solve = jax.jit(
        jax.vmap(lambda k: sde.simulate(WIENER, 0.0, TS, key=k, substeps=steps // 4, events=wall).stop_time)
    )
    hit = np.isfinite(np.asarray(solve(jax.random.split(KEY, n)))).mean()
    expected = 2 * jax.scipy.stats.norm.sf(a + 0.5826 / np.sqrt(steps))
    assert abs(hit - expected) < 4 * np.sqrt(expected * (1 - expected) / n)


def test_a_reflecting_wall_gives_the_law_of_the_absolute_value():
    mirror = sde.Change(lambda t, y, args: y < 0, lambda t, y, args: -y)
    solve = jax.jit(jax.vmap(lambda k: sde.simulate(WIENER, 0.0, TS, key=k, substeps=64, events=mirror).ys[-1]))
    ys = np.asarray(solve(jax.random.split(KEY, 20_000)))
    assert ys.min() >= 0
    assert abs(ys.mean() - np.sqrt(2 / np.pi)) < 4 * np.sqrt(1 - 2 / np.pi) / np.sqrt(20_000)
    assert abs((ys**2).mean() - 1) < 0.05


def test_events_work_on_trees_gradients_and_any_carry():
    """A refill of `stock` that falls below .2, in a state of two leaves; the gradient is that of the branch taken."""
    process = sde.SDE(
        lambda t, y, a: {"stock": -a * jnp.ones(()), "sold": a * jnp.ones(())},
        lambda t, y, a: jax.tree.map(jnp.zeros_like, y),
    )
    refill = sde.Change(lambda t, y, a: y["stock"] < 0.2, lambda t, y, a: {"stock": y["stock"] + 1, "sold": y["sold"]})

    def end(rate):
        return sde.simulate(
            process, {"stock": 1.0, "sold": 0.0}, TS, key=KEY, substeps=5, events=[refill], args=rate
        ).ys["stock"][-1]

    assert jnp.isclose(end(1.0), 1.0, atol=1e-6)
    assert jnp.isclose(jax.grad(end)(1.0), -1.0, atol=1e-6)


def test_events_that_cannot_be_meant_are_refused():
    with pytest.raises(InputError, match=r"jnp\.any"):
        sde.simulate(WIENER, jnp.zeros(2), TS, key=KEY, events=sde.Stop(lambda t, y, a: y > 1))
    to_two = sde.Change(lambda t, y, a: y > 1, lambda t, y, a: jnp.zeros(2))
    with pytest.raises(InputError, match="the state has"):
        sde.simulate(WIENER, 0.0, TS, key=KEY, events=to_two)


def test_the_gradient_of_a_stopped_path_does_not_see_what_lies_beyond():
    """dy = -dt + a √y dW, stopped at y <= 0, where the root has no derivative. The last step ends below 0; its
    derivative with respect to `a` is finite, and that of the steps up to there.
    """
    process = sde.SDE(lambda t, y, a: -jnp.ones_like(y), lambda t, y, a: a * jnp.sqrt(y), sde.Diagonal("separable"))
    ruin = sde.Stop(lambda t, y, a: y <= 0)

    def end(a, gradient=sde.Checkpointed()):  # noqa: B008 (a frozen value)
        ts = jnp.array([0.0, 2.0])
        return sde.simulate(process, 1.0, ts, key=KEY, args=a, substeps=50, events=ruin, gradient=gradient).ys[-1]

    for gradient in (sde.Checkpointed(), sde.Backprop()):
        slope = jax.grad(end)(0.5, gradient)
        assert jnp.isclose(slope, (end(0.501) - end(0.499)) / 0.002, rtol=0.02)


def test_a_change_to_another_structure_is_refused():
    process = sde.SDE(lambda t, y, a: y, lambda t, y, a: y)
    swapped = sde.Change(lambda t, y, a: y["a"] > 1, lambda t, y, a: (y["b"], y["a"]))
    with pytest.raises(InputError, match="structure"):
        sde.simulate(process, {"a": 1.0, "b": 2.0}, TS, key=KEY, events=swapped)

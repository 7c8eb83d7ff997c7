"""Rollouts against `sde.simulate`, `transition` and the law of a linear model."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sequence_models import KEY, D, f32, linear, model

from neuralsde import sde
from neuralsde.models.sequence_sde import Config, InGap
from neuralsde.models.sequence_sde.rollout import Steps, rollout
from neuralsde.models.sequence_sde.window import Window
from neuralsde.sde.brownian import normals


def start(h: int = 0, c: int = 0, age: float = 0.0) -> Window:
    value = jnp.tile(jnp.array([0.4, -0.3]), (h + 1, 1))
    return Window(
        value, jnp.zeros_like(value).at[-1, 1].set(age), jnp.arange(h, -1.0, -1.0), jnp.zeros(()), jnp.zeros(c)
    )


rolled_out = eqx.filter_jit(lambda m, window, steps: rollout(m, window, steps, key=KEY))


def test_rollout_is_the_simulation_of_the_process() -> None:
    """One Euler-Maruyama step a gap on the same normals: the raw normals of (key, i) are those of the Brownian grid."""
    m = model(Config(history=0, width=8), c=0)
    dt = jnp.array([0.5, 1.0, 0.25, 2.0])
    rolled = rolled_out(m, start(), Steps(dt, jnp.zeros((4, 0))))
    ts = jnp.concatenate([jnp.zeros(1), jnp.cumsum(dt)])
    path = sde.simulate(m.process(), start().present, ts, key=KEY, args=InGap(start(), jnp.ones(D), jnp.ones(D)))
    np.testing.assert_allclose(rolled.states, path.ys[1:], rtol=2e-5, atol=1e-6)


def test_a_stale_channel_catches_up_in_its_first_gap() -> None:
    m, window = model(Config(history=0, width=8), c=0), start(age=1.5)
    rolled = rolled_out(m, window, Steps(jnp.array([0.5]), jnp.zeros((1, 0))))
    stretch = jnp.array([1.0, (0.5 + 1.5) / 0.5])
    path = sde.simulate(
        m.process(), window.present, jnp.array([0.0, 0.5]), key=KEY, args=InGap(window, stretch, jnp.ones(D))
    )
    np.testing.assert_allclose(rolled.states, path.ys[1:], rtol=2e-5, atol=1e-6)


def test_rollout_steps_by_the_transition_and_pushes_the_window() -> None:
    """With a past and covariates: every mean and s.d. is that of `transition` at the window of the states so far."""
    m = model(Config(history=2, width=8, time_dependent=True))
    dt, context = jnp.array([0.5, 1.0, 0.0, 0.25]), jnp.arange(4.0)[:, None]
    window = start(h=2, c=1, age=0.5)
    rolled, transition = rolled_out(m, window, Steps(dt, context)), eqx.filter_jit(lambda w, dt: m.transition(w, dt))
    for k in (0, 1, 3):
        law = transition(window, dt[k])
        mean, sd = law.mean, law.sd
        np.testing.assert_allclose(rolled.mean[k], mean, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(rolled.sd[k], sd, rtol=2e-5)
        noise = normals(KEY, k, (D,), jnp.float32)
        np.testing.assert_allclose(rolled.states[k], mean + sd * noise, rtol=2e-5, atol=1e-6)
        window = window.pushed(rolled.states[k], dt[k], context[k])
    np.testing.assert_array_equal(rolled.states[2], rolled.states[1])  # a step of length zero stands still
    assert not np.asarray(rolled.sd[2]).any()


@pytest.mark.parametrize("substeps", [1, 4])
def test_the_law_of_substeps(substeps: int) -> None:
    """A linear flow with constant noise has Gaussian paths: mean <- (I + A h) mean + b h; the covariance likewise."""
    a, n, dt = np.array([[-0.9, 0.5], [-0.4, -0.6]]), 20_000, np.array([0.5, 1.0])
    b = np.array([0.3, -0.2])
    m = eqx.tree_at(lambda m: m.flow_net.linear.bias, linear(a), f32(b))
    mean, covariance = np.array([0.4, -0.3]), np.zeros((2, 2))
    for gap in dt:
        for _ in range(substeps):
            h = gap / substeps
            move = np.eye(2) + a * h
            mean, covariance = move @ mean + b * h, move @ covariance @ move.T + np.diag(m.walk**2) * h
    steps = Steps(f32(dt), jnp.zeros((2, 0)))
    run = jax.jit(jax.vmap(lambda k: rollout(m, start(), steps, key=k, substeps=substeps).states[-1]))
    ends = np.asarray(run(jax.random.split(KEY, n)), np.float64)
    error = np.sqrt(np.diag(covariance) / n)
    np.testing.assert_allclose(ends.mean(0), mean, atol=4 * error.max())
    spread = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    np.testing.assert_allclose(np.cov(ends.T) / spread, covariance / spread, atol=4 * np.sqrt(2 / n))

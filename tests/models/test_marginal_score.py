"""Learned scores of marginals against closed forms, and what is made of them: probability flow and time reversal."""

from dataclasses import replace
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.models.marginal_score import Config, MarginalScore, Steps, step_losses
from neuralsde.tasks.marginal import fit_marginal_score
from neuralsde.train.problem import TrainConfig

TINY = TrainConfig(steps=300, batch_size=256, learning_rate=5e-3, ema=0.99, log_every=300, validate_every=100)
SMALL = Config(width=32, depth=2)
OU = sde.OU(1.0, 0.0, 0.8)
END, COUNT = 1.5, 40
TS = jnp.linspace(0.0, END, COUNT + 1)


def moments(t, m0, v0):
    """Of OU from N(m0, v0)."""
    return m0 * jnp.exp(-t), v0 * jnp.exp(-2 * t) + OU.transition(0.0, t)[1]


@cache
def from_a_point():
    return fit_marginal_score(OU.process(), jnp.array([2.0]), TS, key=jax.random.key(0), config=SMALL, training=TINY)


@cache
def from_a_gaussian():
    def start(key):
        return 1.0 + 0.5 * jax.random.normal(key, (1,))

    return fit_marginal_score(OU.process(), start, TS, key=jax.random.key(1), config=SMALL, training=TINY)


def relative_error(score, exact, draws, times):
    """√(Σ_t E|s - s*|² / Σ_t E|s*|²) over the exact marginals."""

    def squares(score, t):
        y = draws(t)
        s = exact(t, y)
        return ((jax.vmap(lambda y: score(t, y, None))(y) - s) ** 2).mean(), (s**2).mean()

    found, wanted = eqx.filter_jit(eqx.filter_vmap(squares, in_axes=(None, 0)))(score, jnp.asarray(times))
    return float(np.sqrt(np.sum(found) / np.sum(wanted)))


def solved(process, starts, ts, method, substeps=120):
    keys = jax.random.split(jax.random.key(3), starts.shape[0])
    options = {"method": method, "substeps": substeps}
    return jax.jit(jax.vmap(lambda y, k: sde.simulate(process, y, ts, key=k, **options).ys[-1]))(starts, keys)


@pytest.mark.parametrize(("fit", "m0", "v0"), [(from_a_point, 2.0, 0.0), (from_a_gaussian, 1.0, 0.25)])
def test_the_score_of_a_gaussian_marginal(fit, m0, v0):
    """Moments of 4,096 paths (√(2/4096) = 2 % of the variance) and an Euler bias of θδ/2 = 2 % of it: at most 8 %."""

    def exact(t, y):
        mean, var = moments(t, m0, v0)
        return (mean - y) / var

    def draws(t):
        mean, var = moments(t, m0, v0)
        return mean + jnp.sqrt(var) * jax.random.normal(jax.random.key(9), (2_000, 1))

    assert relative_error(fit().score, exact, draws, [0.1, 0.4, 0.9, 1.5]) < 0.08


def test_a_marginal_with_two_modes_is_learned_beyond_its_moments():
    """OU from ±1.2 ± 0.4: a mixture at every time, whose exact score is known; the Gaussian misses most of it."""
    centre, spread = 1.2, 0.4

    def start(key):
        side, noise = jax.random.split(key)
        return jnp.where(jax.random.bernoulli(side), centre, -centre) + spread * jax.random.normal(noise, (1,))

    def log_density(t, y):
        mean, var = moments(t, centre, spread**2)
        return jnp.logaddexp(-((y - mean) ** 2) / (2 * var), -((y + mean) ** 2) / (2 * var)).sum()

    def exact(t, y):
        return jax.vmap(jax.grad(lambda y: log_density(t, y)))(y)

    def draws(t):
        mean, var = moments(t, centre, spread**2)
        side = jnp.where(jax.random.bernoulli(jax.random.key(2), shape=(2_000, 1)), mean, -mean)
        return side + jnp.sqrt(var) * jax.random.normal(jax.random.key(9), (2_000, 1))

    longer = replace(TINY, steps=500, batch_size=512)
    fit = fit_marginal_score(OU.process(), start, TS, key=jax.random.key(0), training=longer)
    gaussian = eqx.tree_at(lambda score: score.net, fit.score, jax.tree.map(jnp.zeros_like, fit.score.net))
    times = [0.1, 0.2, 0.4, 0.7]
    error, plain = (relative_error(score, exact, draws, times) for score in (fit.score, gaussian))
    assert plain > 0.8
    assert error < 0.4
    floor = -float(jax.jit(jax.vmap(lambda t: (OU.sigma**2 * exact(t, draws(t)) ** 2).mean()))(TS[1:]).mean())
    assert (fit.loss - floor) < 0.25 * (fit.gaussian_loss - floor)
    ends = solved(
        sde.time_reversal(OU.process(), fit.score, 0.0, END), draws(END), jnp.array([0.0, END]), sde.EulerMaruyama()
    )
    assert abs(float((ends > 0).mean()) - 0.5) < 0.06
    assert abs(float(jnp.abs(ends).mean()) - centre) < 0.1  # E|y| of N(1.2, .16) is 1.2 to three digits
    assert float((jnp.abs(ends) < 0.4).mean()) < 0.12  # exactly .023; of a Gaussian of the same moments .25


def test_the_probability_flow_of_a_learned_score_is_the_affine_map():
    """From N(m0, v0) it takes x to m_t + √(v_t/v_0) (x - m0) (THEORY 25), within the error of the score."""
    starts = 1.0 + 0.5 * jnp.linspace(-2.0, 2.0, 9)[:, None]
    flow = sde.probability_flow(OU.process(), from_a_gaussian().score)
    ends = solved(flow, starts, jnp.array([0.0, END]), sde.Heun())
    mean, var = moments(END, 1.0, 0.25)
    assert jnp.allclose(ends, mean + jnp.sqrt(var / 0.25) * (starts - 1.0), atol=0.06)


@pytest.mark.parametrize(("fit", "m0", "v0", "last"), [(from_a_point, 2.0, 0.0, 4), (from_a_gaussian, 1.0, 0.25, 0)])
def test_the_time_reversal_of_a_learned_score_ends_in_the_start_law(fit, m0, v0, last):
    """From the exact law at the end, to the start, or to the fourth time after a point.

    There the reversal is stiff, at a rate σ²/v = 8, so that a step of .01 inflates the variance by 4 %.
    """
    score, t0 = fit().score, float(TS[last])
    assert jnp.isclose(score.earliest, TS[1] if v0 == 0 else 0.0)
    mean, var = moments(END, m0, v0)
    starts = mean + jnp.sqrt(var) * jax.random.normal(jax.random.key(4), (4_000, 1))
    ends = solved(
        sde.time_reversal(OU.process(), score, t0, END), starts, jnp.array([0.0, END - t0]), sde.EulerMaruyama()
    )
    mean, var = moments(t0, m0, v0)
    assert abs(ends.mean() - mean) < 4 * jnp.sqrt(var / 4_000) + 0.02
    assert abs(ends.var() / var - 1) < 0.12


def test_the_excess_of_the_loss_is_the_squared_error_of_the_score():
    """A linear system with noise through a matrix (2, 3): the loss of s + c exceeds that of s by E|Sᵀc|², for any c."""
    system = sde.LinearSDE([[-1.0, 1.0], [-0.5, -0.3]], [0.2, -0.1], [[0.5, 0.0, 0.2], [0.3, 0.4, 0.0]])
    ts, h = jnp.array([0.0, 0.1, 0.2]), 0.1
    rng = np.random.default_rng(3)
    A, b, S = (np.asarray(part) for part in (system.A, system.b, system.S))
    path = [rng.normal(size=(5_000, 2))]
    for _ in range(2):
        path.append(path[-1] + h * (path[-1] @ A.T + b) + np.sqrt(h) * rng.normal(size=(5_000, 3)) @ S.T)
    states, xi = (np.asarray(part, np.float32) for part in (np.stack(path, axis=1), rng.normal(size=(5_000, 3))))

    @jax.jit
    def parts(states, xi):
        model = MarginalScore(Config(depth=0), ts, states, key=jax.random.key(1))
        steps = Steps.of(system.process(), ts, states, None, states[0, 0])
        last = jax.tree.map(lambda leaf: leaf[:, -1], steps)
        shifted = eqx.tree_at(lambda m: m.net.linear.bias, model, jnp.array([0.3, -0.2]))
        losses = [step_losses(m, last, xi) for m in (model, shifted)]
        return *losses, jax.vmap(lambda y: model(ts[-1], y))(states[:, -1]), model.mean[-1], model.cov[-1]

    plain, more, score, mean, cov = map(np.asarray, parts(states, xi))
    c = np.linalg.solve(np.linalg.cholesky(cov).T, [0.3, -0.2])
    S = S * np.sqrt(h)
    gap, wanted = more - plain, ((S.T @ c) ** 2).sum()
    assert abs(gap.mean() - wanted) < 4 * gap.std() / np.sqrt(5_000)
    least = -((score @ S) ** 2).sum(1).mean()
    assert abs(plain.mean() - least) < 4 * plain.std() / np.sqrt(5_000)
    np.testing.assert_allclose(np.linalg.solve(-cov, (states[:9, -1] - mean).T).T, score[:9], rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("calculus", [sde.Ito(), sde.Stratonovich()])
def test_the_probability_flow_of_noise_that_depends_on_the_state(calculus):
    """Log y_t ~ N(m0 + (mu - sigma²/2) t, v0 + sigma² t): the flow is affine in log y, by its exact score."""
    m0, v0 = 0.2, 0.04

    def score(t, y, args):
        mean, var = m0 + (0.3 - 0.18) * t, v0 + 0.36 * t
        return -(1 + (jnp.log(y) - mean) / var) / y

    flow = sde.probability_flow(sde.GBM(0.3, 0.6).process().to(calculus), score)
    starts = jnp.exp(m0 + 0.2 * jnp.linspace(-2.0, 2.0, 5)[:, None])
    ends = solved(flow, starts, jnp.array([0.0, 0.25, 1.0]), sde.Heun())
    assert jnp.allclose(jnp.log(ends), m0 + 0.12 + jnp.sqrt((v0 + 0.36) / v0) * (jnp.log(starts) - m0), atol=1e-3)


def test_stationary_flow_stands_still():
    """THEORY 25: the probability flow of a stationary OU is dx/dt = 0."""
    mean, var = OU.stationary()
    flow = sde.probability_flow(OU.process(), lambda t, y, args: (mean - y) / var)
    y = jnp.linspace(-2.0, 2.0, 5)
    assert jnp.allclose(flow.drift(0.3, y, None), 0.0, atol=1e-6)


@pytest.mark.parametrize(("change", "says"), [({"ts": jnp.array([0.0, 1.0])}, "at least three"), ({"n": 2}, "n=2")])
def test_input_without_a_meaning_is_refused(change, says):
    with pytest.raises(InputError, match=says):
        fit_marginal_score(**{"process": OU.process(), "y0": jnp.ones(1), "ts": TS, "key": jax.random.key(0), **change})

"""Orders against theory: paths against the exact flow of a mixture, means and covariances by the Gaussian recursion."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy.stats import norm

from neuralsde import sde
from neuralsde.noising import VP, CondOT, Predictor, Schedule
from neuralsde.sampling import (
    DDPM,
    DPMSolver,
    DPMSolverPP,
    EDMHeun,
    ReverseSDE,
    Sampler,
    UniPC,
    draw,
    gaussian_moments,
)
from neuralsde.sampling.loop import Cell, Counting

pytestmark = pytest.mark.usefixtures("x64")

STEPS = np.array([64, 128, 256, 512])
PATHWISE = (DPMSolver(3), DPMSolverPP(), UniPC(2), EDMHeun())
IN_LAW = (DDPM(), ReverseSDE(sde.ShARK()), DPMSolverPP(eta=1.0))
SCHEDULE = VP()


def grids(sampler: Sampler, schedule: Schedule) -> jax.Array:
    """One grid for each number of steps, padded to one length, so that one program serves all."""
    every = [sampler.times(schedule, int(n)) for n in STEPS]
    return jnp.stack([jnp.pad(ts, (0, STEPS[-1] + 1 - len(ts)), mode="edge") for ts in every])


def end_of(sampler: Sampler, predictor, x, ts, n):
    """The loop of `sample` over the first n steps of a padded grid."""
    before = jnp.concatenate([ts[:1], ts[:-2]])

    def one(i, carry):
        cell = Cell(ts[i], ts[i + 1], before[i], i, n)
        return sampler.step(Counting(predictor), cell, *carry, key=None)

    return lax.fori_loop(0, n, one, (x, sampler.start(Counting(predictor), ts, x)))[0]


def slope(error: jax.Array) -> float:
    return -np.polyfit(np.log(STEPS), np.log(np.asarray(error)), 1)[0]


def test_deterministic_samplers_follow_the_flow_at_their_order() -> None:
    """Data ½ N(-1.5, .4²) + ½ N(1.5, .4²). In one dimension the flow keeps the distribution function, so that
    F_s(x_s) = F_t(x_t): a closed form for what is not Gaussian.
    """
    m, sd, x = 1.5, 0.4, jnp.array([-0.9, 0.3, 0.6, 1.2])

    def spread(t):
        return SCHEDULE.alpha(t), jnp.hypot(SCHEDULE.alpha(t) * sd, SCHEDULE.sigma(t))

    def x_0(x, t):
        alpha, width = spread(t)
        pull = m * jnp.tanh(alpha * m * x / width**2)
        return ((sd / width) ** 2 * alpha * x) + (SCHEDULE.sigma(t) / width) ** 2 * pull

    def law(function, x, t):
        alpha, width = spread(t)
        return 0.5 * (function(x, alpha * m, width) + function(x, -alpha * m, width))

    def error(end):
        off = law(norm.cdf, end, SCHEDULE.t0) - law(norm.cdf, x, SCHEDULE.t1)
        return jnp.sqrt(jnp.square(off / law(norm.pdf, end, SCHEDULE.t0)).mean())

    predictor = Predictor(x_0, "x0", SCHEDULE)

    @jax.jit
    def errors(every):
        def row(sampler, a):
            return error(jax.vmap(lambda x: end_of(sampler, predictor, x, *a))(x))

        return [lax.map(lambda a, s=s: row(s, a), (ts, STEPS)) for s, ts in zip(PATHWISE, every, strict=True)]

    for sampler, found in zip(PATHWISE, errors([grids(s, SCHEDULE) for s in PATHWISE]), strict=True):
        assert abs(slope(found) - sampler.order) < 0.15, (sampler, found)


def gaussian(schedule: Schedule, m: float = 0.7, v: float = 0.5):
    """N(m, v) in one dimension: its predictor, and its mean and variance at a time."""

    def exact(t):
        return schedule.alpha(t) * m, schedule.alpha(t) ** 2 * v + schedule.sigma(t) ** 2

    return Predictor(lambda x, t: (exact(t)[0] - x) / exact(t)[1], "score", schedule), exact


def test_stochastic_samplers_have_their_order_in_mean_and_covariance() -> None:
    predictor, exact = gaussian(SCHEDULE)
    (mean, variance), (true_mean, true_variance) = exact(SCHEDULE.t1), exact(SCHEDULE.t0)

    @jax.jit
    def errors(every):
        def row(sampler, ts, n):
            start = (mean[None], variance[None, None])
            found, P = gaussian_moments(predictor, *start, ts, sampler=sampler, steps=n)
            return jnp.abs(found - true_mean)[0], jnp.abs(P - true_variance)[0, 0]

        return [lax.map(lambda a, s=s: row(s, *a), (ts, STEPS)) for s, ts in zip(IN_LAW, every, strict=True)]

    for sampler, (of_mean, of_cov) in zip(IN_LAW, errors([grids(s, SCHEDULE) for s in IN_LAW]), strict=True):
        assert abs(slope(of_cov) - sampler.order) < 0.15, (sampler, of_cov)
        # Steps through x̂_0 have the mean of a Gaussian exactly: E ε̂ = 0 at every time.
        exactly = not isinstance(sampler, ReverseSDE)
        assert of_mean.max() < 1e-12 if exactly else abs(slope(of_mean) - sampler.order) < 0.15, (sampler, of_mean)


def test_the_recursion_is_the_law_of_what_is_drawn() -> None:
    """Few steps, so that the law is far from that of the data; within four standard errors of 20,000 draws."""
    schedule, n = CondOT(), 20_000
    predictor, exact = gaussian(schedule)
    sampler, (mean, variance) = DPMSolverPP(eta=0.7), exact(schedule.t1)
    ts = sampler.times(schedule, 4, "log-snr")
    moments = jax.jit(lambda m, P: gaussian_moments(predictor, m, P, ts, sampler=sampler))
    found, P = moments(mean[None], variance[None, None])
    x = mean + jnp.sqrt(variance) * jax.random.normal(jax.random.key(0), (n, 1))
    drawn = draw(predictor, (1,), n, sampler=sampler, key=jax.random.key(1), ts=ts, x=x)
    assert drawn.nfe == 4
    assert abs(drawn.x.mean() - found[0]) < 4 * (P[0, 0] / n) ** 0.5
    assert abs(drawn.x.var() - P[0, 0]) < 4 * P[0, 0] * (2 / n) ** 0.5
    assert abs(P[0, 0] - exact(schedule.t0)[1]) > 4 * P[0, 0] * (2 / n) ** 0.5  # far enough off to be told apart

"""Steps by their error: the flow to its tolerance, the SDE along one Brownian path, and steps that run out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from neuralsde.noising import VE, VP, Predictor, Schedule
from neuralsde.sampling import AdaptiveODE, AdaptiveSDE, sample

pytestmark = pytest.mark.usefixtures("x64")

M, V = 0.7, 0.5


def spread(schedule: Schedule, t):
    return jnp.sqrt(schedule.alpha(t) ** 2 * V + schedule.sigma(t) ** 2)


def gaussian(schedule: Schedule) -> Predictor:
    """Data N(M, V) in one dimension."""
    return Predictor(lambda x, t: (schedule.alpha(t) * M - x) / spread(schedule, t) ** 2, "score", schedule)


def test_the_flow_is_followed_to_the_tolerance() -> None:
    """It is affine: (x - α m) / s.d. stays. Over two gaps, the second of which begins with the step of the first."""
    schedule = VE()
    ts, x = jnp.array([schedule.t1, 0.3, schedule.t0]), 50 * jnp.array([-1.5, 0.2, 0.9])
    exact = M + spread(schedule, ts[-1]) * (x - M) / spread(schedule, ts[0])

    @jax.jit
    def ends(tolerance):
        sampler = AdaptiveODE(rtol=tolerance, atol=tolerance)
        return jax.vmap(lambda x: sample(gaussian(schedule), x, ts, sampler=sampler))(x)

    (coarse, fine), costs = zip(*[(jnp.abs(e.x - exact).max(), e.nfe) for e in (ends(1e-4), ends(1e-7))], strict=True)
    assert 1e-7 < coarse < 1e-3
    assert 1e-10 < fine < 1e-6
    assert ((costs[1] - 2) % 6 == 0).all()  # one at the start of either gap, six in every tried step
    assert (costs[0] < costs[1]).all()
    assert (costs[1] < 400).all()
    never = ends(1e-300)
    assert (never.failed == 0).all()  # out of reach: no state that could pass for an answer
    assert jnp.isnan(never.x).all()


def test_the_sde_has_its_law_and_one_path_for_every_tolerance() -> None:
    schedule, n = VP(), 600
    ts, keys = jnp.array([schedule.t1, schedule.t0]), jax.random.split(jax.random.key(1), n)
    x = schedule.alpha(1.0) * M + spread(schedule, 1.0) * jax.random.normal(jax.random.key(0), (n,))

    def end(tolerance):
        sampler = AdaptiveSDE(rtol=tolerance, atol=tolerance / 2)
        found = jax.vmap(lambda x, key: sample(gaussian(schedule), x, ts, sampler=sampler, key=key))(x, keys)
        return found.x, found.nfe.mean()

    (coarse, fine), nfe = jax.jit(lambda: lax.map(end, jnp.array([0.2, 0.04])))()
    sd = spread(schedule, schedule.t0)
    assert abs(fine.mean() - schedule.alpha(schedule.t0) * M) < 4 * sd / n**0.5
    assert abs(fine.var() - sd**2) < 4 * sd**2 * (2 / n) ** 0.5
    assert nfe[1] > 1.5 * nfe[0]
    assert jnp.sqrt(jnp.square(coarse - fine).mean()) < 0.4 * sd  # fresh noise: √2
    assert abs(jnp.corrcoef(fine, x)[0, 1]) < 0.1  # and the start is forgotten

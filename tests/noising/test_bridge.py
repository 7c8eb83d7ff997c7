"""The bridge to the calculus: schedules and predictors against `sde.probability_flow` and `sde.time_reversal`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.noising import SCHEDULES, Schedule, eight_gaussians

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("schedule", [kind() for kind in SCHEDULES.values()], ids=SCHEDULES)
def test_a_velocity_is_the_probability_flow_of_the_forward_sde(schedule: Schedule) -> None:
    """And the reversed drift is -f x + g² score: one score, two spellings, at every time."""
    predictor, process, x = eight_gaussians().predictor(schedule), schedule.forward(), jnp.array([1.5, -0.4])

    def score(t, y, args):
        return predictor.score(y, t)

    flow, reverse = sde.probability_flow(process, score), sde.time_reversal(process, score, 0.0, schedule.t1)
    for t in np.geomspace(schedule.t0, 0.99 * schedule.t1, 4):
        np.testing.assert_allclose(flow.drift(t, x, None), predictor.velocity(x, t), rtol=1e-8)
        back = -schedule.log_alpha_rate(t) * x + schedule.squared_diffusion(t) * predictor.score(x, t)
        np.testing.assert_allclose(reverse.drift(schedule.t1 - t, x, None), back, rtol=1e-8)


def test_the_flow_of_an_ou_process_is_affine_and_has_other_joint_laws() -> None:
    """THEORY 25. From N(m₀, v₀) the flow is m_t + √(v_t/v₀) (x - m₀) to 1e-8; Cov(X_s, X_t) of SDE and flow differ."""
    theta, sigma, m0, v0 = 1.0, 1.0, 2.0, 0.1
    ou = sde.OU(theta=theta, mu=0.0, sigma=sigma)

    def moments(t):
        rest = sigma**2 / (2 * theta)
        return m0 * jnp.exp(-theta * t), rest + (v0 - rest) * jnp.exp(-2 * theta * t)

    def score(t, y, args):
        mean, variance = moments(t)
        return (mean - y) / variance

    starts, ts = m0 + jnp.sqrt(v0) * jnp.linspace(-2.0, 2.0, 5), jnp.array([0.0, 1.0, 2.0])
    flow = sde.probability_flow(ou.process(), score)
    led = sde.simulate(flow, starts, ts, key=jax.random.key(0), method=sde.Heun(), substeps=20_000).ys
    means, variances = moments(ts)
    exact = means[:, None] + jnp.sqrt(variances / v0)[:, None] * (starts - m0)
    np.testing.assert_allclose(led, exact, atol=1e-8)
    slope = (led[1:, -1] - led[1:, 0]) / (starts[-1] - starts[0])  # the map is affine: its slopes give the covariance
    np.testing.assert_allclose(v0 * slope[0] * slope[1], jnp.sqrt(variances[1] * variances[2]), rtol=1e-7)
    starts = m0 + jnp.sqrt(v0) * jax.random.normal(jax.random.key(1), (40_000,))
    ys = jax.vmap(lambda y, key: ou.sample(y, ts, key=key)[1:])(starts, jax.random.split(jax.random.key(2), 40_000))
    covariance = jnp.cov(ys.T)[0, 1]
    expected = variances[1] * jnp.exp(-theta)
    assert abs(covariance - expected) < 4 * jnp.sqrt(2 * variances[1] * variances[2] / 40_000)
    assert v0 * slope[0] * slope[1] > 2 * covariance

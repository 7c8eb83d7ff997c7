"""Chains against the laws that they leave as they are, or change in a known way."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.noising import EDM, Predictor
from neuralsde.sampling import AnnealedLangevin, draw, hmc, langevin

pytestmark = pytest.mark.usefixtures("x64")


def test_chains_keep_the_law_and_langevin_is_off_by_what_theory_says() -> None:
    """From exact draws; four standard errors. Without the test a variance v becomes v / (1 - ε²/4v)."""
    n, size = 3_000, 0.8
    mean, cov = np.array([1.0, -1.0]), np.array([[2.0, 0.8], [0.8, 0.6]])
    precision, x = np.linalg.inv(cov), np.random.default_rng(0).multivariate_normal(mean, cov, n)

    def error(law):
        """Standard error of a covariance from n draws."""
        return np.sqrt((np.outer(np.diag(law), np.diag(law)) + law**2) / n)

    def log_density(x):
        return -0.5 * (x - mean) @ precision @ (x - mean)

    @jax.jit
    def ends(x):
        keys = jax.random.split(jax.random.key(1), n)
        return [
            jax.vmap(lambda x, k: hmc(log_density, x, key=k, steps=15, step_size=0.5, leaps=4))(x, keys),
            jax.vmap(lambda x, k: langevin(log_density, x, key=k, steps=60, step_size=size))(x, keys),
        ]

    chains = ends(jnp.asarray(x))
    longer = cov @ np.linalg.inv(np.eye(2) - size**2 / 4 * precision)
    for chain, law, low, high in zip(chains, (cov, longer), (0.8, 1), (0.99, 1), strict=True):
        found, sd = np.asarray(chain.x), np.sqrt(np.diag(law))
        assert (np.abs(found.mean(0) - mean) < 4 * sd / n**0.5).all()
        assert (np.abs(np.cov(found.T) - law) < 4 * error(law)).all()
        assert low <= np.mean(chain.accepted) <= high
        np.testing.assert_allclose(chain.log_density, [log_density(x) for x in found], rtol=1e-10)
    assert (np.abs(longer - cov) > 4 * error(longer)).any()  # so that the test is seen to do something
    assert abs(np.corrcoef(x[:, 0], chains[0].x[:, 0])[0, 1]) < 0.15  # the chains have left their starts


def test_annealed_langevin_ends_with_the_variance_of_its_step() -> None:
    """At the last level v becomes v / (1 - ε/2v), ε = size σ²; the levels before are forgotten in 60 steps."""
    schedule, v, n = EDM(sigma0=0.5, sigma1=2.0), 0.3, 3_000
    sampler = AnnealedLangevin(steps=60, size=0.8)
    predictor = Predictor(lambda x, t: -x / (v + t**2), "score", schedule)
    found = draw(predictor, (), n, sampler=sampler, key=jax.random.key(0), steps=2)
    at = v + schedule.sigma0**2
    expected = at / (1 - 0.8 * schedule.sigma0**2 / (2 * at))
    assert found.nfe == 120
    assert abs(found.x.var() - expected) < 4 * expected * (2 / n) ** 0.5
    assert abs(at - expected) > 4 * expected * (2 / n) ** 0.5  # so that the bias is seen

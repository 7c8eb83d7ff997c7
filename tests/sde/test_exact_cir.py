"""The square-root process against scipy's non-central chi-square; covariances on the half line."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from neuralsde.sde.exact import CIR, GBM

KEY = jax.random.key(5)
CASES = [
    (1.0, 1.0, 0.5, 0.7, 0.3),
    (0.5, 0.1, 0.4, 0.02, 0.05),
    (2.0, 0.05, 1.0, 0.3, 1.0),
    (0.3, 40.0, 0.5, 30.0, 1e-3),
]


def scipy_cir(kappa, theta, sigma, y0, dt) -> Any:
    left = np.exp(-kappa * dt)
    scale = sigma**2 * (1 - left) / (4 * kappa)
    return stats.ncx2(4 * kappa * theta / sigma**2, y0 * left / scale, scale=scale)


@jax.jit
def density_and_moments(cir, y, y0, dt):
    return cir.log_density(y, y0, dt), cir.transition(y0, dt), cir.covariance(y0, dt, dt)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("kappa", "theta", "sigma", "y0", "dt"), CASES)
def test_cir_density_and_moments_are_the_non_central_chi_square(kappa, theta, sigma, y0, dt):
    cir, law = CIR(kappa, theta, sigma), scipy_cir(kappa, theta, sigma, y0, dt)
    y = np.maximum(law.ppf([0.01, 0.2, 0.5, 0.8, 0.99]), 1e-12)
    density, (mean, variance), covariance = density_and_moments(cir, y, y0, dt)
    assert np.allclose(density, law.logpdf(y), rtol=1e-10, atol=1e-10)
    assert np.allclose([mean, variance], law.stats("mv"), rtol=1e-12)
    assert np.allclose(covariance, variance, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_cir_density_from_the_boundary_far_away_and_in_the_limit():
    cir = CIR(1.0, 0.8, 0.7)
    from_zero: Any = stats.gamma(cir.feller_index, scale=0.7**2 * (1 - np.exp(-0.4)) / 2)
    y = np.array([0.05, 0.4, 2.0])
    many = jax.jit(lambda cir, y, y0, dt: cir.log_density(y, y0, dt))
    assert np.allclose(many(cir, y, 0.0, 0.4), from_zero.logpdf(y), rtol=1e-12)
    assert np.allclose(many(cir, y, 3.0, 80.0), jax.jit(lambda y: cir.stationary_log_density(y))(y), rtol=1e-10)
    assert (np.asarray(many(cir, -y, 1.0, 0.1)) == -np.inf).all()
    assert np.isfinite(many(CIR(1.0, 1.0, 1e-3), np.ones(3), 1.0, 1e-3)).all()  # u, v of 1e9
    slopes = jax.jit(jax.grad(lambda x: cir.log_density(x[0], x[1], x[2])))(np.array([0.4, 0.0, 0.4]))
    assert np.isfinite(slopes).all()  # at y0 = 0 too


@pytest.mark.usefixtures("x64")
def test_cir_density_is_smooth_where_series_and_expansion_meet():
    """Both branches on both sides of s = 30, by a second difference that a jump of 1e-13 would show."""
    cir = CIR(1.0, 1.0, 0.5)
    c, q = 2 / (0.25 * (1 - np.exp(-0.05))), 7.0
    y0 = np.linspace(0.999, 1.001, 41) * np.sqrt(900 - q**2) / (2 * c * np.exp(-0.025))  # s = 30 in the middle
    score = np.asarray(jax.jit(jax.vmap(jax.grad(lambda a: cir.log_density(a, a, 0.05))))(y0))
    assert np.abs(np.diff(score, n=2)).max() < 1e-6 * np.abs(score).max()
    u, v = c * np.exp(-0.05) * y0, c * y0
    assert (q**2 + 4 * u * v).min() < 900 < (q**2 + 4 * u * v).max()


def test_cir_samples_have_its_moments_and_its_correlation_below_the_feller_condition():
    cir = CIR(1.2, 0.4, 1.1)
    assert cir.feller_index < 1
    ts = jnp.array([0.0, 0.3, 1.1])

    @jax.jit
    def parts(keys):
        drawn = jax.vmap(lambda k: cir.sample(0.5, ts, key=k))(keys)
        return drawn, *cir.transition(0.5, ts[1:]), cir.covariance(0.5, 0.3, 1.1)

    ys, mean, variance, covariance = map(np.asarray, parts(jax.random.split(KEY, 20_000)))
    assert (ys >= 0).all()
    assert np.all(np.abs(ys[:, 1:].mean(0) - mean) < 5 * np.sqrt(variance / 20_000))
    assert np.all(np.abs(ys[:, 1:].var(0) / variance - 1) < 0.08)
    assert np.abs(np.cov(ys[:, 1:].T)[0, 1] / covariance - 1) < 0.1


def test_cir_drift_and_diffusion_belong_to_its_moments():
    """Mean and variance over a short time are drift and squared diffusion, to first order; none below zero."""
    cir = CIR(1.2, 0.4, 1.1)
    process, dt = cir.process(), 1e-3
    mean, variance = cir.transition(0.7, dt)
    assert jnp.allclose((mean - 0.7) / dt, process.drift(0.0, jnp.array(0.7), None), rtol=2e-3)
    assert jnp.allclose(variance / dt, process.diffusion(0.0, jnp.array(0.7), None) ** 2, rtol=3e-3)
    assert jax.grad(lambda y: process.diffusion(0.0, y, None))(-0.1) == 0


@pytest.mark.usefixtures("x64")
def test_gbm_covariance_is_that_of_its_transitions():
    gbm = GBM(0.2, 0.4)
    assert jnp.allclose(gbm.covariance(1.3, 0.7, 0.7), gbm.transition(1.3, 0.7)[1])
    assert jnp.allclose(gbm.covariance(1.3, 0.3, 0.9), gbm.transition(1.3, 0.3)[1] * jnp.exp(0.2 * 0.6))

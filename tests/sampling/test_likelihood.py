"""Likelihoods against laws that are known (THEORY 24): the flow, its probes, the bound, bits, and normalisers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from neuralsde.errors import InputError, RunFailed
from neuralsde.noising import VP, CondOT, Gaussian, Mixture, Predictor, eight_gaussians
from neuralsde.sampling.likelihood import (
    Adaptive,
    Exact,
    Fixed,
    Hutchinson,
    HutchPlusPlus,
    bits_per_dimension,
    dequantised,
    flow_likelihoods,
    likelihood_bound,
    log_normaliser,
    mean_nats,
)

NORMAL: Any = multivariate_normal  # scipy's stubs want the covariance to be a number
pytestmark = pytest.mark.usefixtures("x64")
SCHEDULE, N = VP(), 64


@jax.jit
def known(law, key):
    """The exact score, the law at t1, points at t0 (N, 2) and their log densities."""
    first, last = law.at(SCHEDULE, SCHEDULE.t0), law.at(SCHEDULE, SCHEDULE.t1)
    x = first.sample(N, key=key)
    return law.predictor(SCHEDULE), last, x, jax.vmap(first.log_density)(x)


def test_the_flow_gives_the_density_of_the_eight_gaussians_at_384_evaluations() -> None:
    """Mean absolute error below 1e-4 with the exact density at t1; the samplers' prior costs 6e-3 (THEORY 24)."""
    predictor, last, x, exact = known(eight_gaussians(), jax.random.key(0))
    found = flow_likelihoods(predictor, x, solver=Fixed(96), terminal=last.log_density)
    assert int(found.nfe[0]) == 384
    assert float(np.abs(found.log_density - np.asarray(exact)).mean()) < 1e-4
    assert float(np.abs(found.prior_gap).mean()) == pytest.approx(6e-3, rel=0.3)


def test_the_likelihood_by_probes_is_unbiased() -> None:
    predictor, last, x, exact = known(eight_gaussians(), jax.random.key(1))
    found = flow_likelihoods(
        predictor, jnp.repeat(x, 8, 0), solver=Fixed(40), terminal=last.log_density, divergence=Hutchinson(),
        key=jax.random.key(2), batch=256,
    )  # fmt: skip
    off = np.asarray(found.log_density) - np.repeat(exact, 8)
    assert abs(off.mean()) < 3 * off.std(ddof=1) / np.sqrt(len(off))
    assert off.std() > 0.1  # the probes do differ


def test_step_control_gives_the_density_of_a_gaussian_under_straight_lines() -> None:
    """α → 0 at t1 does no harm in the frame z over log SNR; x of another shape than a vector; the gap as printed."""
    mean, cov, schedule = np.array([1.0, 0.0]), np.array([[0.6, 0.3], [0.3, 0.4]]), CondOT()
    law, point = Gaussian(mean, cov), np.array([0.2, -0.4])
    last, score = law.at(schedule, schedule.t1), law.predictor(schedule)
    predictor = Predictor(lambda x, t: score.score(x.ravel(), t).reshape(x.shape), "score", schedule)
    found = flow_likelihoods(
        predictor, jnp.asarray(point).reshape(1, 1, 2), solver=Adaptive(1e-8, 1e-8),
        terminal=lambda x: last.log_density(x.ravel()),
    )  # fmt: skip
    alpha, sigma = float(schedule.alpha(schedule.t0)), float(schedule.sigma(schedule.t0))
    exact = NORMAL.logpdf(point, alpha * mean, alpha**2 * cov + sigma**2 * np.eye(2))
    assert float(found.log_density[0]) == pytest.approx(exact, abs=1e-5)
    end = np.asarray(found.end).ravel()
    prior = NORMAL.logpdf(end, np.zeros(2), schedule.prior_sd**2 * np.eye(2))
    assert float(found.prior_gap[0]) == pytest.approx(prior - float(last.log_density(jnp.asarray(end))), abs=1e-9)


def test_a_velocity_without_a_score_is_followed_in_time() -> None:
    """dx/dt = a x over [0, 1] has the density N(e^a x; 0, prior) e^{a d}; Heun's order is 2."""
    a, x = 0.7, np.array([[0.5, -1.5]])
    predictor = Predictor(lambda x, t: a * x, "velocity", CondOT(), independent=False)
    prior = NORMAL(np.zeros(2), CondOT().prior_sd ** 2 * np.eye(2))
    exact, errors = prior.logpdf(np.exp(a) * x[0]) + 2 * a, []
    for steps in (16, 32):
        found = flow_likelihoods(predictor, jnp.asarray(x), solver=Fixed(steps, "heun"))
        errors.append(abs(float(found.log_density[0]) - exact))
        assert np.isnan(found.prior_gap).all()
        assert int(found.nfe[0]) == 2 * steps
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.15)


def test_divergences_of_a_matrix() -> None:
    """Exact is the trace; Hutch++ is, once its rank is that of the matrix; the others are it on average."""
    d, rng = 6, np.random.default_rng(0)
    low = rng.standard_normal((d, 2)) @ rng.standard_normal((2, d))
    full, x = low + rng.standard_normal((d, d)), jnp.ones((2, 3))
    random = (Hutchinson(), Hutchinson(1, "gaussian"), HutchPlusPlus(2, 1))

    @jax.jit
    def measured(keys):
        def of(matrix, how, key):
            return how(lambda y: (matrix @ y.ravel()).reshape(y.shape), x, how.draw(x, key))

        exact = [of(full, how, None) for how in (Exact(), Exact(chunk=4))]
        low_rank = jax.vmap(lambda k: of(low, HutchPlusPlus(2, 1), k)[1])(keys[:20])
        return exact, low_rank, [jax.vmap(lambda k, how=how: of(full, how, k)[1])(keys) for how in random]

    exact, low_rank, off = measured(jax.random.split(jax.random.key(3), 2_000))
    for value, trace in exact:
        np.testing.assert_allclose(value.ravel(), full.sum(1))
        assert float(trace) == pytest.approx(np.trace(full), rel=1e-12)
    np.testing.assert_allclose(low_rank, np.trace(low), rtol=1e-9)
    for how, values in zip(random, off, strict=True):
        error = np.std(values) / np.sqrt(2_000)
        assert abs(np.mean(values) - np.trace(full)) < 3 * error, how
    symmetric = (full + full.T) / 2  # Var of one sign vector: 2 Σ_{i≠j} J²; a diagonal costs nothing
    spread = 2 * (np.square(symmetric).sum() - np.square(np.diag(symmetric)).sum())
    assert np.var(off[0]) == pytest.approx(spread, rel=0.1)


def test_the_bound_is_above_the_nats_by_what_gaussians_lose() -> None:
    """For N(0, s²) and the exact score: the bound, each term in closed form, and above -log p on average."""
    s, d = 0.5, 2
    law = Gaussian(np.zeros(d), s**2 * np.eye(d))
    x = s * jax.random.normal(jax.random.key(0), (2_000, d))
    bound = likelihood_bound(law.predictor(SCHEDULE), x, key=jax.random.key(1), draws=16)
    # E|ε - ε̂|² = d α²s²/(α²s² + σ²), whose integral over log SNR is d log(1 + s² SNR) between the ends
    ends = [float(d * jnp.log1p(s**2 * jnp.exp(SCHEDULE.log_snr(t)))) for t in (SCHEDULE.t0, SCHEDULE.t1)]
    error = np.asarray(bound.diffusion).std() / np.sqrt(len(x))
    assert abs(float(bound.diffusion.mean()) - 0.5 * (ends[0] - ends[1])) < 4 * error
    nats = 0.5 * d * np.log(2 * np.pi * np.e * s**2)
    gap = float(bound.nats.mean()) - nats
    assert -3 * error < gap < 3 * error + 2e-3
    assert np.asarray(bound.prior).max() < 1e-3


def test_bits_of_pixels_that_are_known() -> None:
    """Uniform pixels of 8 bits have 8 bits; standardising cancels; a fair coin has one."""
    d, levels = 3, np.random.default_rng(0).integers(0, 256, (50, 3))
    x = dequantised(levels, key=jax.random.key(0))
    np.testing.assert_array_equal(np.floor(x), levels)
    s = 70.0
    found = bits_per_dimension(np.full(50, d * np.log(s / 256)), d, log_scale=d * np.log(s))
    assert found.mean == pytest.approx(8.0)
    assert found.standard_error == pytest.approx(0.0, abs=1e-12)
    nats = mean_nats([1.0, 3.0])
    assert (nats.mean, nats.standard_error, nats.n) == (-2.0, pytest.approx(1.0), 2)
    with pytest.raises(InputError, match="whole"):
        dequantised(levels / 255, key=jax.random.key(0))


def test_the_normaliser_of_two_wells_by_annealing() -> None:
    """Unnormalised by e^5: log Z = 5 within 3 standard errors, and the weighted samples have the right masses."""
    law = Mixture([0.25, 0.75], [[-1.0, 0.0], [1.0, 0.5]], 0.25)
    found = log_normaliser(lambda x: -5.0 - law.log_density(x), (2,), key=jax.random.key(0), n=512, steps=48)
    assert float(found.standard_error) < 0.1
    assert abs(float(found.log_z) - 5.0) < 3 * float(found.standard_error)
    assert 0.1 * 512 < float(found.ess) < 512
    weights = np.exp(found.log_weights - found.log_weights.max())
    right = np.average(np.asarray(found.x)[:, 0] > 0, weights=weights)
    assert right == pytest.approx(0.75, abs=3 * np.sqrt(0.19 / float(found.ess)))


def test_bad_input_says_what_to_do() -> None:
    predictor, x = Predictor(lambda x, t: x * jnp.nan, "noise", SCHEDULE), jnp.zeros((1, 2))
    with pytest.raises(InputError, match="without a key"):
        flow_likelihoods(predictor, x, divergence=Hutchinson())
    with pytest.raises(InputError, match="no points"):
        flow_likelihoods(predictor, x[:0])
    with pytest.raises(RunFailed, match="not finite"):
        flow_likelihoods(predictor, x, solver=Fixed(1))
    for make in (lambda: Fixed(0), lambda: Adaptive(0.0, 0.0), lambda: Hutchinson(0),
                 lambda: HutchPlusPlus(0), lambda: Exact(0)):  # fmt: skip
        with pytest.raises(InputError):
            make()

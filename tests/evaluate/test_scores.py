"""Scores against scoringrules, closed forms, and the laws of calibration."""

from __future__ import annotations

import numpy as np
import pytest
import scoringrules
from scipy import integrate, stats

from neuralsde.errors import InputError
from neuralsde.evaluate import scores

RNG = np.random.default_rng(0)


def test_fair_crps_equals_scoringrules():
    x, y = RNG.normal(size=(17, 5, 3)), RNG.normal(size=(5, 3))
    expected = np.asarray(scoringrules.crps_ensemble(y, np.moveaxis(x, 0, -1), estimator="fair"), np.float64)
    np.testing.assert_allclose(scores.crps_samples(x, y), expected, rtol=1e-12)


def test_fair_crps_is_unbiased_for_two_samples():
    x = RNG.normal(size=(2, 200_000))
    exact = scores.crps_gaussian(0.0, 1.0, 0.3)
    draws = scores.crps_samples(x, np.full(200_000, 0.3))
    assert abs(draws.mean() - exact) < 4 * draws.std() / np.sqrt(draws.size)


def test_gaussian_crps_equals_scoringrules():
    m, s, y = RNG.normal(size=50), RNG.uniform(0.1, 3, 50), RNG.normal(size=50)
    np.testing.assert_allclose(scores.crps_gaussian(m, s, y), scoringrules.crps_normal(y, m, s), rtol=1e-10)


def test_energy_score_equals_scoringrules_and_crps_in_one_dimension():
    x, y = RNG.normal(size=(13, 6, 3)), RNG.normal(size=(6, 3))
    v_statistic = scoringrules.es_ensemble(y, np.moveaxis(x, 0, 1))
    n = len(x)
    pairs = np.linalg.norm(x[:, None] - x[None], axis=-1).sum((0, 1))
    np.testing.assert_allclose(
        scores.energy_score(x, y), v_statistic + pairs / 2 / n**2 - pairs / 2 / (n * (n - 1)), rtol=1e-12
    )
    np.testing.assert_allclose(
        scores.energy_score(x[..., :1], y[..., :1]), scores.crps_samples(x[..., 0], y[..., 0]), rtol=1e-12
    )


def test_energy_score_scale_divides_each_column():
    x, y, scale = RNG.normal(size=(9, 4, 2)), RNG.normal(size=(4, 2)), np.array([2.0, 5.0])
    np.testing.assert_allclose(scores.energy_score(x, y, scale), scores.energy_score(x / scale, y / scale))


def test_missing_truth_has_no_score():
    x, y = RNG.normal(size=(9, 2, 2)), np.array([[np.nan, 1.0], [0.0, 1.0]])
    assert np.isnan(scores.crps_samples(x, y)).tolist() == [[True, False], [False, False]]
    assert np.isnan(scores.energy_score(x, y)).tolist() == [True, False]
    for values in (scores.pit(x, y), scores.pit(x, y, 0.5), scores.covered(x, y, 80), scores.inside(-9, 9, y)):
        assert np.isnan(values).tolist() == [[True, False], [False, False]]
    assert np.isnan(scores.log_interval(y, 0.0, 1.0, [0.1, 0.0])).tolist() == [[True, False], [False, False]]


def test_interval_likelihood_equals_the_integral():
    for z, q in [(0.0, 1.0), (0.7, 0.01), (-3.0, 0.3), (2.0, 4.0)]:
        mass, _ = integrate.quad(lambda x: stats.norm.pdf(x, 1.0, 2.0), 1 + 2 * z - q / 2, 1 + 2 * z + q / 2)
        assert scores.log_interval(1 + 2 * z, 1.0, 2.0, q) == pytest.approx(np.log(mass), abs=1e-10)


@pytest.mark.parametrize("z", [0.0, 1.0, -8.0, 30.0, -300.0])
def test_interval_likelihood_is_stable_far_out_and_for_narrow_cells(z: float):
    q = np.geomspace(1e-14, 1e-1, 400) / max(1.0, abs(z))
    with np.errstate(divide="raise", invalid="raise"):
        value = scores.log_interval(z, 0.0, 1.0, q) - np.log(q)
    # log phi(z) + log of the average of exp(-z u - u^2/2) over the cell, here by 40-point quadrature
    nodes, weights = np.polynomial.legendre.leggauss(40)
    u = 0.5 * q[:, None] * nodes
    expected = stats.norm.logpdf(z) + np.log((0.5 * weights * np.exp(-z * u - u**2 / 2)).sum(1))
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)


def test_cells_of_a_line_sum_to_one_with_infinite_ends():
    edges = np.concatenate([[-np.inf], np.linspace(-40, 30, 57), [np.inf]])
    logs = scores.log_probability(edges[:-1], edges[1:], -2.0, 3.0)
    assert np.exp(logs).sum() == pytest.approx(1.0, abs=1e-12)
    assert scores.log_probability(-np.inf, np.inf, 0.0, 1.0) == 0.0


def test_zero_rounding_is_the_density_column_by_column():
    y, m, s = RNG.normal(size=(7, 2)), RNG.normal(size=(7, 2)), RNG.uniform(0.5, 2, (7, 2))
    got = scores.log_interval(y, m, s, [0.0, 0.1])
    np.testing.assert_allclose(got[:, 0], stats.norm.logpdf(y[:, 0], m[:, 0], s[:, 0]), rtol=1e-12)
    np.testing.assert_allclose(got[:, 1], scores.log_interval(y[:, 1], m[:, 1], s[:, 1], 0.1), rtol=1e-12)


def test_densities_and_cells_of_students_law_are_scipys():
    truth, sd, dof = np.array([-30.0, 0.2, 1.0, 4e3]), np.array([0.5, 1.0, 2.0, 1.0]), np.array([2.5, 4.0, 9.0, 3.0])
    wanted = stats.t.logpdf(truth, dof, 0.3, sd)
    np.testing.assert_allclose(scores.log_density(truth, 0.3, sd, dof), wanted, rtol=1e-12)
    for width in (3.0, 1e-3):
        got = scores.log_probability(truth - width / 2, truth + width / 2, 0.3, sd, dof)
        for k in range(4):
            ends = truth[k] - width / 2, truth[k] + width / 2
            inside = integrate.quad(stats.t.pdf, *ends, args=(dof[k], 0.3, sd[k]), epsabs=0, epsrel=1e-11)[0]
            assert got[k] == pytest.approx(np.log(inside), rel=1e-7)
    ends = np.array([-np.inf, -2.0, 0.3, 5.0, np.inf])
    assert np.exp(scores.log_probability(ends[:-1], ends[1:], 0.3, 0.7, 3.0)).sum() == pytest.approx(1.0, abs=1e-14)


def test_mixture_likelihood():
    m, s, y = RNG.normal(size=(5, 4)), RNG.uniform(0.5, 2, (5, 4)), RNG.normal(size=4)
    np.testing.assert_allclose(
        scores.log_interval_mixture(y, m, s), np.log(stats.norm.pdf(y, m, s).mean(0)), rtol=1e-12
    )
    one = scores.log_interval_mixture(y, m[:1], s[:1], 0.2)
    np.testing.assert_allclose(one, scores.log_interval(y, m[0], s[0], 0.2), rtol=1e-12)


@pytest.mark.parametrize("q", [0.0, 1.5])
def test_pit_of_a_calibrated_forecast_is_uniform_even_for_coarsely_rounded_data(q: float):
    n, rows = 9, 4000
    centre = RNG.normal(size=rows)
    samples, truth = centre + RNG.normal(size=(n, rows)), centre + RNG.normal(size=rows)
    truth = q * np.round(truth / q) if q else truth
    for values in (scores.pit(samples, truth, q, seed=1), scores.pit_gaussian(centre, np.ones(rows), truth, q, seed=1)):
        assert stats.kstest(values, "uniform").pvalue > 1e-3
    for level in (80, 0.5):
        p = level / 100 if level > 1 else level
        for share in (
            scores.covered(samples, truth, level, q),
            scores.covered_gaussian(centre, np.ones(rows), truth, level, q),
        ):
            assert share.mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / rows))


def test_pit_handles_ties_at_a_floor():
    samples, truth = np.maximum(RNG.normal(size=(9, 4000)), 0), np.maximum(RNG.normal(size=4000), 0)
    assert stats.kstest(scores.pit(samples, truth, seed=2), "uniform").pvalue > 1e-3


def test_band_of_a_small_ensemble_covers_at_its_nominal_level():
    samples, truth = RNG.normal(size=(19, 20_000)), RNG.normal(size=20_000)
    lower, upper = scores.band(samples, 80)
    assert scores.inside(lower, upper, truth).mean() == pytest.approx(0.8, abs=0.012)
    np.testing.assert_allclose(scores.band_gaussian(1.0, 2.0, 95), stats.norm.interval(0.95, 1.0, 2.0))


def test_misuse_is_answered_in_words():
    with pytest.raises(InputError, match="at least 2 samples"):
        scores.crps_samples(np.zeros((1, 3)), np.zeros(3))
    with pytest.raises(InputError, match="behind the first axis"):
        scores.crps_samples(np.zeros((5, 3)), np.zeros(4))
    with pytest.raises(InputError, match="standard deviation"):
        scores.crps_gaussian(0.0, 0.0, 1.0)
    with pytest.raises(InputError, match="level"):
        scores.band(np.zeros((5, 3)), 120)

"""The pushed series and what theory has for them: laws against simulation, ways of training against each other."""

from __future__ import annotations

import numpy as np
import pytest

from neuralsde.evaluate import scores as sc
from neuralsde.experiments import long_horizon, pushed
from neuralsde.experiments.forecast.law import LEVELS

LEADS = (1, 8, 32)


def test_series_are_stationary_with_the_stated_covariances() -> None:
    """20,000 series: each autocovariance within 5 % of γ_0, and the moves from row 0 within 5 %."""
    x = pushed.draw(np.random.default_rng(0), 20_000, 33)
    gamma = pushed.covariances(33)
    for k in (0, 1, 8, 32):
        np.testing.assert_allclose(np.mean(x[:, 0] * x[:, k]), gamma[k], atol=0.05 * gamma[0])
        np.testing.assert_allclose(np.mean(np.square(x[:, k])), gamma[0], rtol=0.05)
        np.testing.assert_allclose(
            np.mean(np.square(x[:, k] - x[:, 0])), 2 * (gamma[0] - gamma[k]), rtol=0.05, atol=1e-12
        )


def test_the_exact_law_is_right_and_the_best() -> None:
    """Errors of its mean have its s.d.; no model of any past has a smaller one; with a long past one comes near it."""
    x = pushed.draw(np.random.default_rng(1), 4_000, 150)
    mean, sd = pushed.exact(x, LEADS)
    for j, lead in enumerate(LEADS):
        z = (x[:, 100 + lead] - mean[:, 100, j]) / sd[100, j]
        np.testing.assert_allclose(z.std(), 1.0, rtol=0.04)  # 3.6 standard errors
    long = pushed.one_step(100).far(32)[1]
    np.testing.assert_allclose(sd[100], long[[0, 7, 31]], rtol=1e-3)
    for n in (1, 4):
        assert np.all(pushed.one_step(n).far(32)[1][[0, 7, 31]] > sd[100])


def test_the_far_law_of_a_model_of_one_row_is_that_of_an_autoregression() -> None:
    model = pushed.one_step(1)
    c, h, gamma = model.weights[0], np.arange(1, 33), pushed.covariances(33)
    own, error = model.far(32)
    np.testing.assert_allclose(own**2, model.variance * (1 - c ** (2 * h)) / (1 - c**2))
    np.testing.assert_allclose(error**2, gamma[0] * (1 + c ** (2 * h)) - 2 * c**h * gamma[h])


def test_the_far_law_of_a_model_is_that_of_its_paths() -> None:
    """Paths of four rows' weights from drawn pasts: their s.d., and the mean error against what came."""
    model, rng = pushed.over_gaps(4, 16), np.random.default_rng(2)
    x = pushed.draw(rng, 20_000, 12)
    past = x[:, 3::-1]
    mean, path = past.copy(), past.copy()
    for _ in range(8):
        mean = np.column_stack([mean @ model.weights, mean[:, :-1]])
        noise = np.sqrt(model.variance) * rng.standard_normal(len(x))
        path = np.column_stack([path @ model.weights + noise, path[:, :-1]])
    own, error = model.far(8)
    np.testing.assert_allclose((path - mean)[:, 0].std(), own[-1], rtol=0.03)
    np.testing.assert_allclose((mean[:, 0] - x[:, 11]).std(), error[-1], rtol=0.03)


def test_mean_crps_and_coverage_are_those_of_draws() -> None:
    rng = np.random.default_rng(3)
    own, error = 0.7, 1.3
    truth = error * rng.standard_normal(200_000)
    drawn = sc.crps_gaussian(np.zeros_like(truth), np.full_like(truth, own), truth).mean()
    np.testing.assert_allclose(pushed.crps(np.array([own]), np.array([error])), [drawn], rtol=0.01)
    model = pushed.one_step(1)
    s, tau = model.far(8)
    share = sc.covered_gaussian(np.zeros_like(truth), np.full_like(truth, s[-1]), tau[-1] / error * truth, 80).mean()
    np.testing.assert_allclose(model.coverage(8, 80)[-1], share, atol=0.005)


@pytest.mark.parametrize("n", [1, 4])
def test_every_way_ends_at_the_best_step_when_there_is_only_one(n: int) -> None:
    """Likelihood and CRPS are proper: on single rows they have the same best law."""
    best = pushed.one_step(n)
    for other in (pushed.over_gaps(n, 1), pushed.through_simulation(n, 1)):
        np.testing.assert_allclose(other.weights, best.weights, atol=1e-3)
        np.testing.assert_allclose(other.variance, best.variance, rtol=1e-3)
    for level in LEVELS:
        np.testing.assert_allclose(best.coverage(1, level), level / 100, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 4])
def test_single_steps_are_over_confident_far_ahead_and_tuning_is_less_so(n: int) -> None:
    told = long_horizon.predicted(n)
    one, gaps, tuned = (told[way]["coverage 80"] for way in (long_horizon.ONE, long_horizon.GAPS, long_horizon.CRPS))
    assert np.all(np.diff(one[2:]) < 0)
    assert one[-1] < gaps[-1] < tuned[-1] < 0.8
    far = [told[way]["crps"][-1] for way in (long_horizon.ONE, long_horizon.GAPS, long_horizon.CRPS)]
    assert far[0] > far[1] > far[2]
    assert told[long_horizon.ONE]["crps"][0] < told[long_horizon.CRPS]["crps"][0]  # what it costs


def test_the_floor_of_the_case_is_the_law_at_its_windows() -> None:
    """CRPS s / √π in units of the scale and nominal coverage, over 1,000 windows of 100 series."""
    case, known = long_horizon.pushed_case(0, long_horizon.Size(paths=2))
    sd = pushed.exact(np.zeros((1, 100)), long_horizon.LEADS)[1][-1]
    floor = known[long_horizon.FLOOR]
    np.testing.assert_allclose(floor["crps"], sd / np.sqrt(np.pi) / case.scale, rtol=0.08)
    np.testing.assert_allclose(floor["coverage 80"], 0.8, atol=0.06)
    assert np.all(np.array(known[long_horizon.TRIVIAL]["crps"]) > floor["crps"])

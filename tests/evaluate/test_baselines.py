"""Baselines on data whose best forecast is known."""

from __future__ import annotations

import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.evaluate.baselines import BASELINES, Climatology, LinearAR, Pairs, Persistence, gaussian_samples

A = np.array([[0.8, 0.3], [-0.2, 0.7]])


def linear_pairs(n: int, seed: int = 0, missing: float = 0.0, hours: bool = False) -> Pairs:
    """x' = A x + 2 c + (1 + [hour >= 12]) noise with s.d. (1, 2): the linear model holds exactly."""
    rng = np.random.default_rng(seed)
    history, context = rng.normal(size=(n, 3, 2)), rng.normal(size=(n, 1))
    hour = rng.integers(0, 24, n) if hours else None
    month = rng.integers(1, 13, n) if hours else None
    sd = np.array([1.0, 2.0]) * (1.0 if hour is None else 1.0 + (hour >= 12)[:, None])
    target = history[:, -1] @ A.T + 2.0 * context + sd * rng.normal(size=(n, 2))
    target[rng.uniform(size=target.shape) < missing] = np.nan
    return Pairs(history, target, np.full(n, 6.0), np.zeros((n, 1)), context, hour, month)


def test_linear_ar_recovers_a_known_linear_law_with_missing_targets():
    fitted = LinearAR().fit(linear_pairs(20_000, missing=0.3))
    test = linear_pairs(500, seed=1)
    mean, sd = fitted.predict(test)
    truth = test.history[:, -1] @ A.T + 2.0 * test.target_context
    assert np.sqrt(np.mean((mean - truth) ** 2, axis=0)).max() < 0.08
    np.testing.assert_allclose(sd[0], [1.0, 2.0], rtol=0.03)
    assert mean.shape == sd.shape == (500, 2)


def test_spread_follows_the_hour_of_the_target():
    fitted = LinearAR().fit(linear_pairs(40_000, hours=True))
    test = linear_pairs(500, seed=1, hours=True)
    assert test.hour is not None
    _, sd = fitted.predict(test)
    np.testing.assert_allclose(sd, np.array([1.0, 2.0]) * (1 + (test.hour >= 12)[:, None]), rtol=0.08)


def test_persistence_is_a_random_walk_with_the_spread_of_its_lead():
    rng = np.random.default_rng(0)
    for lead in (1, 9):
        last = rng.normal(size=(20_000, 1, 1))
        target = last[:, -1] + np.sqrt(lead) * rng.normal(size=(20_000, 1))
        pairs = Pairs(last, target, np.full(20_000, float(lead)), np.zeros((20_000, 0)), np.zeros((20_000, 0)))
        mean, sd = Persistence().fit(pairs).predict(pairs)
        np.testing.assert_array_equal(mean, last[:, -1])
        np.testing.assert_allclose(sd, np.sqrt(lead), rtol=0.03)


def test_climatology_knows_hour_and_month_and_falls_back():
    rng = np.random.default_rng(0)
    n = 60_000
    hour, month = rng.integers(0, 24, n), rng.integers(1, 12, n)  # never December
    target = (10.0 * hour + month)[:, None] + rng.normal(size=(n, 1))
    empty = np.zeros((n, 0))
    train = Pairs(np.zeros((n, 1, 1)), target, np.ones(n), empty, empty, hour, month)
    fitted = Climatology().fit(train)
    mean, sd = fitted.predict(train)
    assert np.abs(mean[:, 0] - (10.0 * hour + month)).max() < 0.4
    np.testing.assert_allclose(sd, 1.0, rtol=0.05)
    few = np.zeros((2, 0))
    december = Pairs(np.zeros((2, 1, 1)), np.zeros((2, 1)), np.ones(2), few, few, np.array([0, 23]), np.array([12, 12]))
    np.testing.assert_allclose(fitted.predict(december)[0][:, 0], [6.0, 236.0], atol=0.2)


def test_climatology_without_a_calendar_is_mean_and_spread():
    train = linear_pairs(5000)
    mean, sd = Climatology().fit(train).predict(linear_pairs(3))
    np.testing.assert_allclose(mean, np.broadcast_to(train.target.mean(0), (3, 2)))
    np.testing.assert_allclose(sd, np.broadcast_to(train.target.std(0), (3, 2)), rtol=1e-3)


def test_missing_history_and_constant_inputs_give_finite_forecasts():
    train = linear_pairs(300, missing=0.2)
    train.history[::7] = np.nan
    train.context[:] = 4.0
    for baseline in BASELINES:
        mean, sd = baseline.fit(train).predict(train)
        assert np.isfinite(mean).all()
        assert (sd > 0).all()


def test_samples_have_the_gaussians_moments():
    mean, sd = np.array([[1.0, -2.0]]), np.array([[0.5, 3.0]])
    draws = gaussian_samples(mean, sd, 20_000, seed=5)
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.1)
    np.testing.assert_allclose(draws.std(0), sd, rtol=0.03)


def test_pairs_must_fit_together_and_exist():
    with pytest.raises(InputError, match="history"):
        Pairs(np.zeros((3, 2, 1)), np.zeros((4, 1)), np.zeros(4), np.zeros((4, 0)), np.zeros((4, 0)))
    with pytest.raises(InputError, match="no training pairs"):
        Persistence().fit(linear_pairs(0))

"""Widths that follow what earlier forecasts missed: closed forms of the factor, and forecasts with it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import tiny
from scipy.special import ndtri

from neuralsde.data import from_arrays
from neuralsde.errors import InputError
from neuralsde.runs import Run
from neuralsde.tasks import widths
from neuralsde.tasks.score import MODEL

NORMAL = ndtri(np.array(widths.TAILS))


def ends(mean: np.ndarray, sd: float) -> np.ndarray:
    return mean + sd * NORMAL[:, None, None]


def drawn(n: int, sd: float, seed: int = 0) -> np.ndarray:
    return sd * np.random.default_rng(seed).standard_normal((n, 1))


def test_the_factor_is_how_many_times_too_narrow_the_forecasts_were() -> None:
    """Truth N(0, 1.6²) under a law N(0, 1): wider, as it is, and narrower."""
    age = np.zeros(20_000)
    for sd in (1.6, 1.0, 0.5):
        y = drawn(20_000, sd)
        z = widths.misses(ends(np.zeros_like(y), 1.0), y, y)
        np.testing.assert_allclose(widths.factor(z, age, 1.0), sd, rtol=0.03)
        covered = (z / sd <= 1).mean((1, 2))
        np.testing.assert_allclose(covered, np.array(widths.LEVELS) / 100, atol=0.01)


def test_each_side_counts_with_its_own_width() -> None:
    """A law twice as wide above the median as below, and a truth of its kind."""
    z0 = drawn(20_000, 1.0)
    y = np.where(z0 > 0, 2 * z0, z0)
    skew = np.where(NORMAL > 0, 2, 1)[:, None, None] * ends(np.zeros_like(y), 1.0)
    np.testing.assert_allclose(widths.factor(widths.misses(skew, y, y), np.zeros(len(y)), 1.0), 1.0, rtol=0.03)


def test_a_change_is_followed_within_a_few_half_lives() -> None:
    """Twice as rough since a time s: after four half-lives the factor is near two, at once still one."""
    age = np.arange(1_000.0)
    for since, expected in ((4 * widths.HALF_LIFE, 2.0), (0.0, 1.0)):
        y = np.random.default_rng(0).standard_normal((1_000, 40)) * np.where(age < since, 2.0, 1.0)[:, None]
        found = widths.factor(widths.misses(ends(np.zeros_like(y), 1.0), y, y), age, 1.0)
        np.testing.assert_allclose(found.mean(), expected, rtol=0.08)


def test_what_is_missing_does_not_count_and_too_few_are_no_reason() -> None:
    y = drawn(500, 2.0)
    y[::2] = np.nan
    z = widths.misses(ends(np.zeros_like(y), 1.0), y, y)
    assert np.isnan(z[:, ::2]).all()
    np.testing.assert_array_equal(widths.factor(z, np.zeros(500), 1.0), widths.factor(z[:, 1::2], np.zeros(250), 1.0))
    few = widths.FEWEST - 1
    np.testing.assert_array_equal(widths.factor(z[:, 1::2][:, :few], np.zeros(few), 1.0), 1.0)


def test_a_rounded_truth_stands_for_its_interval() -> None:
    """Whole s.d., spread out again: variance 1 + 2/12. Below the end of a support there is an interval without one."""
    y = np.round(drawn(40_000, 1.0))
    z = widths.misses(ends(np.zeros_like(y), 1.0), y - 0.5, y + 0.5)
    np.testing.assert_allclose(widths.factor(z, np.zeros(len(y)), 1.0), np.sqrt(7 / 6), rtol=0.03)
    calm = widths.misses(ends(np.full((50, 1), 0.2), 1.0), np.full((50, 1), -np.inf), np.full((50, 1), 0.05))
    assert np.isfinite(calm).all()
    assert (calm[1] <= 1).all()


def test_paths_keep_their_median_and_order() -> None:
    states = np.random.default_rng(0).standard_normal((101, 3, 4, 2))
    factors = np.random.default_rng(1).uniform(0.5, 2, (3, 4, 2))
    wide = widths.widened(states, factors)
    np.testing.assert_allclose(np.median(wide, 0), np.median(states, 0), atol=1e-12)
    np.testing.assert_allclose(wide.std(0), factors * states.std(0))
    np.testing.assert_array_equal(np.argsort(wide, 0), np.argsort(states, 0))


def test_between_two_leads_the_factor_is_their_geometric_mean() -> None:
    found = widths.between(np.array([1.0, 4.0]), np.array([[1.0], [2.25]]), np.array([[0.5, 1.0, 2.0, 4.0, 9.0]]))
    np.testing.assert_allclose(found[0, :, 0], [1.0, 1.0, 1.5, 2.25, 2.25])


def test_a_series_grown_rougher_gets_wider_bands_and_one_as_before_does_not(run: Run) -> None:
    """The OU table of the run goes on, as it was and three times as large: bands one step ahead."""
    table = tiny.ou_table(rows=900, seed=5)
    wider = {}
    for size in (1.0, 3.0):
        other = from_arrays([s.times for s in table], [size * s.values for s in table], columns=table.columns)
        plain, calibrated = (run.forecast(other, horizon=1, n=400, calibrate=calibrate) for calibrate in (False, True))
        width = [(frame["hi-80"] - frame["lo-80"]).to_numpy() for frame in (plain, calibrated)]
        wider[size] = width[1] / width[0]
        np.testing.assert_allclose(plain["mean"], calibrated["mean"], atol=0.3 * width[1].max())
    assert 0.8 < np.median(wider[1.0]) < 1.25
    assert np.median(wider[3.0]) > 2.0


def test_the_fitted_table_is_calibrated_on_what_was_held_out(run: Run) -> None:
    """60 rows of each of three series were not fitted on; the law is right, so bands stay near."""
    plain, calibrated = (run.forecast(horizon=4, n=400, calibrate=each) for each in (False, True))
    assert plain.select("id", "time", "variable").equals(calibrated.select("id", "time", "variable"))
    ratio = calibrated.select(pl.col("sd") / plain["sd"]).to_series().to_numpy()
    assert 0.7 < ratio.mean() < 1.4


def test_only_what_had_come_by_then_counts() -> None:
    """Misses twice as far from time 500 on: forecasts before know nothing of it."""
    known = np.arange(1_000.0)
    y = np.random.default_rng(0).standard_normal((1_000, 60)) * np.where(known < 500, 1.0, 2.0)[:, None]
    z = widths.misses(ends(np.zeros_like(y), 1.0), y, y)
    earlier = widths.Earlier(np.array([1]), z[:, :, None], known[:, None])
    found = earlier.factors(np.array([10.0, 499.0, 900.0]))[:, 0].mean(1)
    np.testing.assert_allclose(found, [1.0, 1.0, 2.0], rtol=0.06)
    np.testing.assert_array_equal(earlier.factors(np.array([10.0])), np.ones((1, 1, 60)))  # eleven are too few


def test_a_backtest_is_calibrated_origin_by_origin(run: Run) -> None:
    """A table three times as large as the fitted one: bands cover what they say, CRPS and likelihood get better."""
    table = tiny.ou_table(rows=900, seed=5)
    other = from_arrays([s.times for s in table], [3 * s.values for s in table], columns=table.columns)
    plain, wide = (run.score(other, leads=[1], n=60, stride=8, calibrate=each) for each in (False, True))
    covered = [np.mean([float(row.value) for row in scores.coverage if row.level == 80]) for scores in (plain, wide)]
    assert covered[0] < 0.5
    assert 0.72 < covered[1] < 0.9
    for metric in ("crps", "nll"):
        before, after = (
            np.mean([float(s.value) for s in scores.scores if (s.metric, s.method) == (metric, MODEL)])
            for scores in (plain, wide)
        )
        assert after < before, metric
    assert "widths that follow" in wide.about
    assert "widths" not in plain.about


def test_too_few_earlier_forecasts_are_said(run: Run) -> None:
    table = tiny.ou_table(rows=6)
    with pytest.raises(InputError, match="too few"):
        run.forecast(table, horizon=1, calibrate=True)

"""Known physics: what is simulated, what is done by hand, and a small run of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from neuralsde.experiments import physics
from neuralsde.experiments.physics import RATES, Fits, LotkaVolterra, Sets, by_regression, draw

TRUTH = np.array(list(RATES.values()))


def test_regression_by_hand_is_right_for_short_gaps_without_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bias is that of one Euler step and of left-out rows: with gaps of 1/100 and every entry it is gone."""
    monkeypatch.setattr(physics, "GAPS", (0.01, 0.02))
    monkeypatch.setattr(physics, "_SUBSTEPS", 2)
    sets = draw(LotkaVolterra(**RATES), 2, 20, 1_000, 0)
    fits = by_regression(Sets(sets.times, sets.states, np.ones_like(sets.keep)))
    half = (fits.high - fits.low) / 2
    assert (np.abs(fits.value - TRUTH) < 2 * half).all()
    assert (half[:, :4] / TRUTH[:4] < 0.15).all()


def test_the_same_seed_draws_the_same_sets_and_three_in_ten_are_missing() -> None:
    one, two = (draw(LotkaVolterra(**RATES), 2, 3, 20, 7) for _ in range(2))
    np.testing.assert_array_equal(one.states, two.states)
    assert (one.states > 0).all()
    assert 0.6 < one.keep.mean() < 0.8


def test_a_summary_is_relative_to_the_truth() -> None:
    value = TRUTH * np.array([[1.1], [0.9]])
    fits = Fits(value, value - 0.05 * TRUTH, value + np.array([[0.05], [0.2]]) * TRUTH)
    found = fits.summary()["b"]
    assert found["bias"] == pytest.approx(0.0, abs=1e-12)
    assert found["rmse"] == pytest.approx(0.1)
    assert found["coverage"] == 0.5

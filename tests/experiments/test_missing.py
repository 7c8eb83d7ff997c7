"""Missing entries: the mask, the last value and its age are worth more than the complete rows alone (THEORY 20).

A two-dimensional process that turns, 40,000 transitions, 30 % of the entries missing at random. One-step Euler biases a
drift by E[F(Δ) - I] / E[Δ], .069 on complete data. Dropping the 51 % of rows that miss something joins gaps to
geometric sums and makes it .17, which no amount of data cures; masked data keep the gaps of the complete rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neuralsde.experiments.known import gaps
from neuralsde.experiments.linear import rotating
from neuralsde.experiments.recovery import Case, Drawn, Size, recover_missing

QUICK = Size(sets=1, series=100, steps=400, test_steps=150, width=16, depth=1, fit_steps=300, batch=512, rate=1e-2)


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return Drawn.of(rotating(), 0, QUICK)


@pytest.fixture(scope="module")
def row(drawn: Drawn) -> dict[str, Any]:
    return recover_missing(Case(drawn.process), drawn, QUICK)


def test_masked_data_are_worth_nearly_as_much_as_complete_data_and_more_than_complete_rows(
    drawn: Drawn, row: dict[str, Any]
) -> None:
    process = rotating()
    # the exact estimator's chance error on complete data, √(2 κ p / |λ|² T) for p = 3 numbers a channel
    chance = np.sqrt(2 * 0.8 * 3 / (0.11 * drawn.sample.transitions))
    complete = drawn.drift_error(process.one_step(drawn.states)[0])
    assert complete == pytest.approx(0.069, abs=2e-3)
    assert row["drift_masked"] <= 1.5 * (complete + chance)
    # joined gaps S: E[F(S)] = p F (1 - q F)^-1 for the mean F of one gap, a row being whole with probability p
    p, F, eye = 0.7**2, process.kernels.F.mean(0), np.eye(2)
    joined = (p * F @ np.linalg.inv(eye - (1 - p) * F) - eye) * p / gaps(process).mean()
    dropped = drawn.drift_error((drawn.states - process.mean) @ joined.T)
    assert dropped == pytest.approx(0.17, abs=0.01)
    assert row["drift_masked"] < dropped - chance


def test_the_likelihood_is_near_that_of_the_kalman_filter(drawn: Drawn, row: dict[str, Any]) -> None:
    """Never above it; and before its first step a model is a random walk from the last values, over each one's time."""
    assert row["entries_masked"] == pytest.approx(0.7 * drawn.test.transitions * 2, rel=0.02)
    assert 0 < row["gap_masked"] <= 0.1 * row["gain_masked"]

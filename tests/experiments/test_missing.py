"""Missing entries: the mask, the last value and its age are worth more than the complete rows alone (THEORY 20).

A two-dimensional OU process that turns, 60,000 transitions, 30 % of the entries missing at random. One-step Euler
biases a drift by E[F(Δ) - I] / E[Δ], .068 on complete data. Dropping the 51 % of rows that miss something joins gaps to
geometric sums and makes it .17, which no amount of data cures; masked data keep the gaps of the complete rows.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from neuralsde.experiments.linear import kalman, rotating
from neuralsde.experiments.recovery import Case, Size, learnt, one_step
from neuralsde.runs import Run

SMALL = Size(series=100, steps=600, test_steps=200, fit_steps=500)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.of(rotating(), 0, SMALL)


@pytest.fixture(scope="module")
def masked(case: Case) -> Run:
    return case.fit(case.sample.table(case.keep), SMALL)


def error(case: Case, run: Run) -> float:
    return case.drift_error(learnt(run, case.states)[0])


def test_masked_data_are_worth_nearly_as_much_as_complete_data_and_more_than_complete_rows(
    case: Case, masked: Run
) -> None:
    complete = case.fit(case.sample.table(), SMALL)
    dropped = case.fit(case.sample.table(case.keep, complete_rows=True), SMALL)
    assert error(case, masked) <= 1.5 * error(case, complete)
    assert error(case, masked) < error(case, dropped)
    # joined gaps S: E[F(S)] = p F (1 - q F)^-1 for the mean F of one gap, a row being whole with probability p
    process, p = case.process, 0.7**2
    F, eye = process.kernels.F.mean(0), np.eye(2)
    joined = (p * F @ np.linalg.inv(eye - (1 - p) * F) - eye) * p / process.gaps.mean()
    bias = case.drift_error((case.states - process.mean) @ joined.T)
    # twice the exact estimator's chance error on complete data, √(2 κ p / |λ|² T) for p = 3 numbers a channel
    chance = 2 * np.sqrt(2 * 0.8 * 3 / (0.11 * case.sample.transitions))
    assert error(case, dropped) == pytest.approx(bias, abs=chance)


def test_the_likelihood_is_near_that_of_the_kalman_filter(case: Case, masked: Run) -> None:
    best, entries = kalman(case.test, case.keep_test)
    total, count, _ = one_step(masked, case.test.table(case.keep_test))
    # before its first step a model is a random walk from the last values, over each one's own time
    walk, _, _ = one_step(dataclasses.replace(masked, model=masked.plan.model()), case.test.table(case.keep_test))
    assert count == entries
    assert 0 < best - total <= 0.1 * (best - walk)

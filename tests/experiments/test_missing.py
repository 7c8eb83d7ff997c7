"""Missing entries: the mask, the last value and its age are worth more than the complete rows alone (THEORY 20).

A two-dimensional OU process that turns, 60,000 transitions, 30 % of the entries missing at random. One-step Euler biases
a drift by about the mean of |λ|Δ² over twice that of Δ: .068 on complete data. Dropping the 51 % of rows that miss
something joins gaps to geometric sums, .18, which no amount of data cures; masked data keep the complete rows' own gaps.
"""

from __future__ import annotations

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
    # the longer gaps of what is left after dropping: 1 - E[F(S)] / E[S] is .15 to .2, whatever the noise
    assert 0.12 < error(case, dropped) < 0.25


def test_the_likelihood_is_near_that_of_the_kalman_filter(case: Case, masked: Run) -> None:
    best, entries = kalman(case.test, case.keep_test)
    total, count, _ = one_step(masked, case.test.table(case.keep_test))
    assert count == entries
    # Above the gap of complete data (.003, THEORY 19) lies what the last value and its age do not tell of the other
    # channel. A model that took a stale value for a fresh one would lose the variance of the missed gaps, see below.
    assert 0 < (best - total) / entries < 0.006
    blind = case.test.values.copy()
    for row in range(1, blind.shape[1]):
        blind[:, row] = np.where(case.keep_test[:, row], blind[:, row], blind[:, row - 1])

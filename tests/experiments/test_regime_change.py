"""Regime change: the exact laws over a change, and what the best law that does not read the time must lack."""

from __future__ import annotations

import numpy as np
import pytest

from neuralsde.experiments import regime_change as rc
from neuralsde.experiments.held_out import Origins, of_law

NAMES = list(rc.processes())


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_series_have_the_marginals_that_are_stated(name: str) -> None:
    process = rc.processes()[name]
    x = process.draw(np.random.default_rng(0), 4_000)
    mean, variance = process.marginal
    assert np.abs((x.mean(0) - mean) / np.sqrt(variance / len(x))).max() < 5
    assert np.abs(x.var(0) / variance - 1).max() < 0.15


def test_the_exact_law_is_calibrated_across_the_change(name: str) -> None:
    """Standardised truths have variance one at every lead, from origins before, at and after the change."""
    process = rc.processes()[name]
    x = process.draw(np.random.default_rng(1), 400)
    mean, sd = process.ahead(x, rc.LEADS)
    for j, lead in enumerate(rc.LEADS):
        z = (x[:, lead:] - mean[:, :-lead, j]) / sd[:-lead, j]
        assert np.mean(z**2) == pytest.approx(1.0, abs=0.03)
        assert np.isnan(mean[:, x.shape[1] - lead + 1 :, j]).all()  # the rules after the last row are not known


def test_nats_of_the_exact_law_are_those_expected(name: str) -> None:
    process = rc.processes()[name]
    x = process.draw(np.random.default_rng(2), 400)
    for first, last in rc.SEGMENTS.values():
        at = Origins.of(len(x), first, last, rc.LEADS, 100)
        assert of_law(*process.ahead(x, rc.LEADS), x, at)["nats"] == pytest.approx(
            process.nats()[first:last].mean(), abs=0.04
        )


def test_the_time_is_worth_nothing_to_a_stationary_process_and_something_to_others(name: str) -> None:
    process = rc.processes()[name]
    lacks = (rc.Invariant(process).nats() - process.nats())[: rc.ROWS - 1].mean()
    assert lacks == pytest.approx(0.0, abs=1e-4) if name == "stationary" else lacks > 0.015


def test_no_other_law_without_the_time_does_better(name: str) -> None:
    """Its mean and variance are the minimum of the nats over the training rows: moved, they lose."""
    process, best = rc.processes()[name], rc.Invariant(rc.processes()[name])
    rows = slice(0, rc.ROWS - 1)
    least = best.nats()[rows].mean()
    x, centre, variance = best._law
    for moved in ((centre + 0.05, variance), (centre, 1.1 * variance), (0.95 * centre, 0.95 * variance)):
        other = rc.Invariant(process)
        other.__dict__["_law"] = (x, *moved)
        assert other.nats()[rows].mean() > least


def test_forecasts_before_the_change_do_not_cross_it() -> None:
    segments = rc.SEGMENTS
    assert segments["before"][1] - 1 + max(rc.LEADS) < rc.CHANGE
    assert segments["after"][1] - 1 + max(rc.LEADS) < rc.ROWS
    assert segments["beyond"][1] - 1 + max(rc.LEADS) < rc.ROWS + rc.LATER

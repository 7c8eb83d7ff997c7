"""The nonlinear oracles of the recovery experiment: a square-root process, and a double well on a grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neuralsde.experiments import nonlinear
from neuralsde.experiments.known import COUNTS, Euler, Process, draw, gaps
from neuralsde.experiments.linear import Linear
from neuralsde.experiments.nonlinear import CIR, DoubleWell

PROCESSES: list[Process] = [CIR(), DoubleWell()]
each = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: p.name)


def test_the_grid_is_the_ornstein_uhlenbeck_process_where_the_well_is_one() -> None:
    """Against the exact law, for 10,000 stationary transitions: nats, moments and the stationary law."""
    well = DoubleWell(a=-1.0, b=0.0, c=0.2, sigma=0.6, clock=1.0)
    exact = Linear.of("OU", [[-1.0]], [0.2], [[0.6]])
    sample = draw(exact, 100, 100, np.random.default_rng(0))
    off = well.log_density(*sample.pairs) - exact.log_density(*sample.pairs)
    assert np.abs(off).mean() < 2e-3
    assert abs(off.mean()) < 1e-4
    y = exact.states(100, np.random.default_rng(1))
    for found, wanted in zip(well.one_step(y), exact.one_step(y), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=5e-3, atol=2e-3)
    x, p = well.law.x, well.law.stationary
    assert p @ x == pytest.approx(0.2, abs=1e-6)
    assert p @ x**2 - (p @ x) ** 2 == pytest.approx(0.18, rel=1e-4)


def test_the_grid_is_fine_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the points move the mean log-likelihood by no more than a hundredth of what a drift is worth."""
    well = DoubleWell()
    sample = draw(well, 100, 50, np.random.default_rng(2))
    monkeypatch.setattr(nonlinear, "_POINTS", 2 * nonlinear._POINTS - 1)
    gain = sample.nats(well) - sample.nats(Euler.of(sample, walk=True))
    assert gain > 0.005
    assert abs(sample.nats(replace(well)) - sample.nats(well)) < 0.01 * gain


@each
def test_draws_have_the_moments_of_the_law(process: Process) -> None:
    """One step from one state, over the longest gap: mean and variance; and every draw is where the law allows it."""
    n, k = 20_000, len(COUNTS) - 1
    start = process.states(1, np.random.default_rng(3))
    y = process.step(np.repeat(start, n, axis=0), np.full(n, k), np.random.default_rng(4))
    grid = np.linspace(y.min() - 0.5 * y.std(), y.max() + 0.5 * y.std(), 4_001)[:, None]
    grid = grid[(grid[:, 0] > 0) | (process.name != "CIR")]
    density = np.exp(process.log_density(grid, np.repeat(start, len(grid), axis=0), np.full(len(grid), k)))
    width = grid[1, 0] - grid[0, 0]
    assert density.sum() * width == pytest.approx(1.0, abs=2e-3)
    mean = (density * grid[:, 0]).sum() * width
    variance = (density * (grid[:, 0] - mean) ** 2).sum() * width
    assert y.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / n) + 1e-3)
    assert y.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / n) + 4e-3)


@each
def test_one_step_is_what_a_regression_finds(process: Process) -> None:
    """At one state, over all gaps: E[Δy] / E[Δ] and √E[r² / Δ]."""
    n = 100_000
    rng = np.random.default_rng(5)
    start, k = process.states(1, rng), rng.integers(0, len(COUNTS), n)
    dt = gaps(process)[k]
    move = process.step(np.repeat(start, n, axis=0), k, rng)[:, 0] - start[0, 0]
    drift, spread = (part[0, 0] for part in process.one_step(start))
    assert move.sum() / dt.sum() == pytest.approx(drift, abs=4 * spread / np.sqrt(n * dt.mean()))
    assert np.sqrt(np.mean((move - drift * dt) ** 2 / dt)) == pytest.approx(spread, rel=4 / np.sqrt(2 * n) + 2e-3)


@each
def test_the_exact_estimate_is_the_top_of_the_likelihood(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wilks: 2 N (best - truth) is chi-squared with as many degrees of freedom as there are parameters."""
    monkeypatch.setattr(nonlinear, "_POINTS", 121)
    process = replace(process)  # type: ignore[type-var]
    sample = draw(process, 100, 100, np.random.default_rng(6))
    best, p = process.exact(sample), len(process.features(sample.values[0])[0]) + 1
    assert 0 < 2 * sample.transitions * (sample.nats(best) - sample.nats(process)) < p + 4 * np.sqrt(2 * p)


def test_the_square_root_process_stays_positive() -> None:
    process = CIR()
    assert 2 * process.kappa * process.theta > process.sigma**2
    sample = draw(process, 200, 100, np.random.default_rng(7))
    assert sample.values.min() > 0
    y = process.states(100_000, np.random.default_rng(8))
    assert y.mean() == pytest.approx(4.0, rel=0.01)
    assert y.var() == pytest.approx(process.theta * process.sigma**2 / (2 * process.kappa), rel=0.03)

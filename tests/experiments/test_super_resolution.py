"""Super-resolution: the exact laws of the points of a gap, theory's figures for wrong steps, the sampling itself."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr

from neuralsde.experiments.one_dimension import double_well, ornstein_uhlenbeck
from neuralsde.experiments.super_resolution import experiment as ex
from neuralsde.experiments.super_resolution.laws import POINTS, Grid, Law, exact_chain, free_errors
from neuralsde.models.sequence_sde import Config, SequenceSDE

GAP = 0.5
STARTS, ENDS = np.array([-1.0, 0.5]), np.array([0.2, -0.4])
SHARE = np.arange(1, POINTS + 1) / POINTS


def test_one_step_in_five_is_off_as_theory_15_says() -> None:
    chain = ex.expected("one step, 5 sampled", GAP)
    assert chain.slope[-1] == pytest.approx(0.664, abs=1e-3)
    assert np.sqrt(chain.covariance[-1, -1] / -np.expm1(-2 * GAP)) - 1 == pytest.approx(-0.14, abs=5e-3)


def test_the_laws_that_should_be_exact_are() -> None:
    """Five steps in the likelihood find the chain of the OU process itself; one step held is right at its end."""
    exact = exact_chain(GAP)
    five, held = ex.expected("five steps, 5 sampled", GAP), ex.expected(ex.HELD, GAP)
    np.testing.assert_allclose(five.slope, exact.slope, rtol=1e-9)
    np.testing.assert_allclose(five.covariance, exact.covariance, rtol=1e-9)
    assert held.slope[-1] == pytest.approx(exact.slope[-1])
    assert held.covariance[-1, -1] == pytest.approx(exact.covariance[-1, -1])


@pytest.mark.parametrize("way", ["one step, 5 sampled", "five steps, 40 sampled", "local linear, 40 sampled"])
def test_errors_shrink_with_the_gap(way: str) -> None:
    """To first order at least: THEORY 15."""
    wide, narrow = (
        free_errors(ex.expected(way, gap).free(STARTS), exact_chain(gap).free(STARTS))["s.d."] for gap in (0.4, 0.1)
    )
    assert narrow < wide / 3


def test_between_two_ends_is_the_bridge_of_the_ou_process() -> None:
    law, t = exact_chain(GAP).between(STARTS, ENDS), GAP * SHARE[:-1]
    mean = (np.sinh(GAP - t) * STARTS[:, None] + np.sinh(t) * ENDS[:, None]) / np.sinh(GAP)
    variance = 2 * np.sinh(t) * np.sinh(GAP - t) / np.sinh(GAP)
    np.testing.assert_allclose(law.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(law.sd**2, np.broadcast_to(variance, law.sd.shape), rtol=1e-9)


@pytest.fixture(scope="module")
def grid() -> Grid:
    return Grid.of(ornstein_uhlenbeck(GAP), half_width=5.0, points=501)


def test_sums_over_a_grid_are_the_closed_form(grid: Grid) -> None:
    """But for the fine Euler steps of the kernel, .25 % long."""
    free, between = grid.law(STARTS), grid.law(STARTS, ENDS)
    assert max(map(abs, free_errors(free, exact_chain(GAP).free(STARTS)).values())) < 0.005
    assert max(map(abs, between.errors(exact_chain(GAP).between(STARTS, ENDS)).values())) < 0.005


def test_draws_of_a_grid_have_its_law() -> None:
    grid = Grid.of(double_well(0.25), points=301)
    ends = np.array([-0.7, 0.9])  # the second across the barrier
    errors = Law.of(grid.draws(STARTS, ends, 4_000, np.random.default_rng(0))).errors(grid.law(STARTS, ends))
    assert max(map(abs, errors.values())) < 0.06


def test_distances_of_two_gaussians() -> None:
    """W1 of a shift is the shift, KS 2 Φ(shift / 2) - 1; a scale factor is the error of the s.d."""
    one, shifted = (Law.gaussian(np.full((1, 2), m), np.eye(2)) for m in (0.0, 0.3))
    errors = shifted.errors(one)
    assert errors["W1"] == pytest.approx(0.3)
    assert errors["KS"] == pytest.approx(2 * ndtr(0.15) - 1, abs=2e-3)
    assert Law.gaussian(one.mean, 1.21 * np.eye(2)).errors(one)["bias of s.d."] == pytest.approx(0.1)


def test_sampling_with_known_coefficients_has_the_expected_law() -> None:
    """A linear model with one step's coefficients in it: in five steps the expected wrong chain, held the right end."""
    models = _known(-np.expm1(-GAP), np.sqrt(-np.expm1(-2 * GAP)))
    for way, finer in (("one step, 5 sampled", 1), (ex.HELD, 0)):
        free = Law.of(ex.free_draws(models, finer, STARTS, 4_000, 0)[0])
        assert max(map(abs, free_errors(free, ex.expected(way, GAP).free(STARTS)).values())) < 0.06


@pytest.mark.slow
def test_guided_paths_with_known_coefficients_have_the_expected_law() -> None:
    models = _known(-np.expm1(-GAP), np.sqrt(-np.expm1(-2 * GAP)))
    between = Law.of(ex.draws_between(models, 1, STARTS, ENDS, 4_000, 0)[0])
    wrong = ex.expected("one step, 5 sampled", GAP).between(STARTS, ENDS)
    assert max(map(abs, between.errors(wrong).values())) < 0.06
    assert between.errors(exact_chain(GAP).between(STARTS, ENDS))["bias of s.d."] < -0.12


def _known(slope: float, noise: float) -> SequenceSDE:
    """One linear model with drift -slope x and this noise, with a leading axis as `seeds.train` gives it."""
    model = SequenceSDE(Config(history=0, depth=0), 1, 0, walk=np.array([noise]), key=jax.random.key(0))
    weight = jnp.zeros_like(model.flow_net.linear.weight).at[0, 0].set(-slope)
    model = eqx.tree_at(lambda m: m.flow_net.linear.weight, model, weight)
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    stacked: Any = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], arrays)
    return eqx.combine(stacked, static)

"""Outliers: limits of the losses against closed forms, their waste against theory, and the scores of the tables."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.experiments.outliers import known, tables
from neuralsde.experiments.outliers.ways import PLAIN, Limit, efficiency, limit, reweighted, spoiled
from neuralsde.experiments.seeds import pairs
from neuralsde.models.sequence_sde import Config, Running, SequenceSDE, loss

SHARE = 0.05


def test_a_log_loss_far_below_the_variance_wastes_as_theory_16_says() -> None:
    """4.5 times the s.d. of least squares; Student's with four degrees of freedom wastes hardly anything."""
    assert efficiency("log", 1e-3) == pytest.approx(4.5, abs=0.2)
    assert efficiency("gaussian") == pytest.approx(1.0)
    assert 1.0 < efficiency("student") < 1.1
    assert 1.0 < efficiency("log", 1.0) < efficiency("log", 0.1) < efficiency("log", 1e-3)


def test_least_squares_on_spoiled_rows_is_the_closed_form() -> None:
    law = limit(PLAIN, known.endless(SHARE))
    assert -law.c / (1 - known.PHI) == pytest.approx(known.least_squares_pull(SHARE), rel=1e-6)
    total = known.SIZE**2 * SHARE
    residual = 1 + total - known.PHI**2 / (1 + total)
    assert law.s**2 == pytest.approx(residual, rel=1e-6)
    assert law.a == pytest.approx(0.0, abs=1e-9)


def test_weighted_points_have_the_law_of_spoiled_rows() -> None:
    rng = np.random.default_rng(0)
    y = spoiled(known.series(400, 1_000, rng)[..., None], SHARE, known.SIZE, rng)[..., 0]
    rows = known.endless(SHARE)
    for power in (1, 2):
        drawn = np.mean(np.abs(np.diff(y)) ** power * np.abs(y[:, :-1]))
        assert rows.mean(np.abs(rows.y) ** power * np.abs(rows.x)) == pytest.approx(drawn, rel=0.05)


def test_a_robust_loss_keeps_the_slope_that_least_squares_loses() -> None:
    rows = known.endless(SHARE)
    pull = {kind: -reweighted(kind, rows)[1] / (1 - known.PHI) for kind in ("gaussian", "student", "log")}
    assert pull["gaussian"] > 3.9
    assert pull["log"] < 1.2 < pull["student"] < pull["gaussian"]  # √v itself grows with the outliers


def test_every_loss_is_right_without_outliers_and_symmetric() -> None:
    rows = known.endless(0.0)
    for kind in ("gaussian", "student", "log"):
        np.testing.assert_allclose(reweighted(kind, rows), (0.0, known.PHI - 1), atol=1e-6)


def test_skewed_noise_moves_robust_losses_only() -> None:
    """The log loss is drawn to the mode of E - 1, which is at -1; least squares stays at the mean."""
    rows = known.endless_skewed()
    value = {kind: reweighted(kind, rows)[0] / known.NOISE for kind in ("gaussian", "student", "log")}
    assert value["gaussian"] == pytest.approx(0.0, abs=2e-3)
    assert value["log"] < -0.5 < value["student"] < -0.1
    r = (rows.y - value["log"] * known.NOISE - (known.PHI - 1) * rows.x) / known.NOISE
    v = rows.mean(r**2)
    assert rows.mean(r / (r**2 / v + 1e-3)) == pytest.approx(0.0, abs=5e-3)  # its own equation


def test_coverage_of_the_right_law_is_its_level() -> None:
    law = Limit(0.0, known.PHI - 1, known.NOISE)
    assert law.covers(0.8, known.NOISE) == pytest.approx(0.8)
    assert Limit(0.0, 0.0, 1.0, dof=4.0).half_width(0.95) == pytest.approx(2.776, abs=1e-3)


def test_on_equal_gaps_mse_is_the_gaussian_loss() -> None:
    """Same value: rows one gap apart have span one."""
    rng = np.random.default_rng(0)
    batch = pairs(rng.standard_normal((32, 2)), rng.standard_normal((32, 2)))

    def value(kind: Literal["gaussian", "mse"]) -> jax.Array:
        model = SequenceSDE(Config(history=0, depth=0, flow_loss=kind), 2, 0, walk=np.ones(2), key=jax.random.key(0))
        return loss(model, batch, Running.first(jnp.ones(2)), key=jax.random.key(1))[0]

    plain, mse = jax.jit(lambda: (value("gaussian"), value("mse")))()
    assert float(plain) == pytest.approx(float(mse), rel=1e-6)


def test_outliers_hit_their_share() -> None:
    values = np.zeros((50, 200, 2))
    one, whole = (spoiled(values, 0.1, 3.0, np.random.default_rng(0), rows=rows) for rows in (False, True))
    assert (one != 0).mean() == pytest.approx(0.1, abs=0.01)
    assert one[one != 0].std() == pytest.approx(3.0, rel=0.05)
    assert ((whole[..., 0] != 0) == (whole[..., 1] != 0)).all()


def test_demonstrations_themselves_have_the_best_scores() -> None:
    both = tables.demonstrations()[:, 1:]
    found = tables.path_measures(both[None])
    assert found["near"] == [1.0]
    assert found["up"] == [0.5]
    assert found["distance"][0] == pytest.approx(0.0, abs=1e-9)


def test_weather_pairs_are_an_hour_apart_and_held_out_weeks_are_not_trained_on() -> None:
    data = tables.hours()
    used = np.union1d(data.first, data.first + 1)
    ahead = data.origin[:, None] + np.arange(max(tables.LEADS) + 1)
    assert not np.isin(ahead, used).any()
    assert len(data.origin) > 300
    np.testing.assert_allclose(data.rows[used].mean(0), 0.0, atol=0.05)
    np.testing.assert_allclose(data.rows[used].std(0), 1.0, atol=0.05)

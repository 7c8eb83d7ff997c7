"""A stated SDE from a table to a run and back: against exact estimates, exact laws and its own folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.data import Nothing, Trajectories, from_arrays
from neuralsde.errors import InputError
from neuralsde.experiments.known import COUNTS, Sample, draw, gaps
from neuralsde.experiments.linear import kalman, kernels, ornstein_uhlenbeck
from neuralsde.models.physics import Between, Parameters, Physics, Positive, Residual
from neuralsde.runs import fit, load
from neuralsde.runs.physics import PhysicsRun
from neuralsde.runs.physics.estimate import Estimate, intervals
from neuralsde.runs.physics.panel import blocks, make_panel


class Relaxation(eqx.Module):
    """dx = theta (mu - x) dt + sigma dW."""

    theta: Any
    mu: Any
    sigma: Any

    def drift(self, t, y, args):
        return self.theta * (self.mu - y)

    def diffusion(self, t, y, args):
        return self.sigma + 0 * y


def stated(**options: Any) -> Physics:
    m = Relaxation(Positive(1.0), jnp.array(15.0), Positive(1.0))
    given: dict[str, Any] = {"starts": 1} | options
    return Physics(m.drift, m.diffusion, **given)


@pytest.fixture(scope="module")
def sample() -> Sample:
    """An OU process, theta .5, mu 20, sigma 3."""
    return draw(ornstein_uhlenbeck(), 6, 100, np.random.default_rng(5))


@pytest.fixture(scope="module")
def fitted(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> PhysicsRun:
    folder = tmp_path_factory.mktemp("physics") / "ou"
    run = fit(sample.table(), model=stated(substeps=8), split=Nothing(), out=folder)
    assert isinstance(run, PhysicsRun)
    return run


# -- estimates -----------------------------------------------------------------------------------------------------


def test_the_exact_maximum_likelihood_estimate(sample: Sample, fitted: PhysicsRun) -> None:
    """Complete data of a linear SDE: the estimate of the exact kernels, to a small part of a standard error."""
    exact = ornstein_uhlenbeck().exact(sample)
    theta = -exact.A[0, 0]
    table = {row["parameter"]: row for row in fitted.parameters(kind="information").to_dicts()}
    for name, value in (("theta", theta), ("mu", exact.mean[0]), ("sigma", exact.root[0, 0])):
        assert abs(table[name]["estimate"] - value) < 0.01 * table[name]["se"]


def test_information_is_that_of_the_exact_likelihood(sample: Sample, fitted: PhysicsRun) -> None:
    """Of mu alone it is known: Σ (1 - e^{-theta Δ})² / Q(Δ), at the estimates."""
    table = {row["parameter"]: row["estimate"] for row in fitted.parameters().to_dicts()}
    process = ornstein_uhlenbeck()
    A, sigma = np.array([[-table["theta"]]]), np.array([table["sigma"]])
    law = kernels(A, np.zeros(1), sigma[:, None], gaps(process)[0] / COUNTS[0])
    expected = ((1 - law.F[sample.gap, 0, 0]) ** 2 / law.Q[sample.gap, 0, 0]).sum()
    place = fitted.model.parameters.names.index("mu")
    assert float(fitted.found.information[place, place]) == pytest.approx(expected, rel=2e-3)


def test_both_intervals_agree_where_the_model_is_right(fitted: PhysicsRun) -> None:
    rows = zip(*(fitted.parameters(kind=kind)["se"] for kind in ("sandwich", "information")), strict=True)
    assert all(0.6 < robust / plain < 1.6 for robust, plain in rows)


def test_intervals_are_mapped_end_by_end() -> None:
    """Wald on z: symmetric in the logarithm, inside its range for a share."""
    parameters = Parameters.of(drift=(Positive(2.0), Between(0.5, 0.0, 1.0)))
    parts = (parameters.start, np.diag([4.0, 0.25]), np.diag([16.0, 1.0]), 10_001, 0.0, 9, 1, True)
    with jax.enable_x64(True):
        found = Estimate(*map(jnp.asarray, parts))
    value, se, low, high = intervals(parameters, found, kind="information")
    np.testing.assert_allclose(value, [2.0, 0.5])
    np.testing.assert_allclose(se, [2.0 * 0.5, 0.25 * 2.0])
    np.testing.assert_allclose([low[0], high[0]], 2.0 * np.exp([-1.96 * 0.5, 1.96 * 0.5]), rtol=1e-3)
    np.testing.assert_allclose(low[1] + high[1], 1.0)
    assert 0 < low[1] < 0.03
    _, wide, _, _ = intervals(parameters, found, kind="sandwich")
    np.testing.assert_allclose(wide / se, [np.sqrt(16 / 4), np.sqrt(1 / 0.25)])


def test_entries_count_once_every_column_has_been_seen() -> None:
    nan = np.nan
    y = np.array([[1.0, nan], [2.0, nan], [3.0, 4.0], [nan, 5.0], [6.0, 7.0]])
    panel = make_panel(from_arrays(np.arange(5.0), y), (False, False), 1.0)
    assert np.asarray(panel.counted[0]).tolist() == [[False, False]] * 3 + [[False, True], [True, True]]
    numbers = blocks(np.ones((2, 150), bool))
    assert len(np.unique(numbers)) == 60
    assert not set(numbers[0]) & set(numbers[1])


# -- what a run does -----------------------------------------------------------------------------------------------


def test_held_out_likelihood_is_kalmans(sample: Sample, fitted: PhysicsRun) -> None:
    """At the true parameters, with three entries in ten missing; all but a start's law apart."""
    fresh = draw(ornstein_uhlenbeck(), 4, 80, np.random.default_rng(9))
    keep = np.random.default_rng(1).random(fresh.values.shape) >= 0.3
    place = {"theta": np.log(0.5), "mu": 20.0, "sigma": np.log(3.0)}
    with jax.enable_x64(True):
        z = jnp.array([place[name] for name in fitted.model.parameters.names])
        true = replace(fitted, model=eqx.tree_at(lambda m: m.z, fitted.model, z))
    nats, entries = true.likelihood(fresh.table(keep))
    best, count = kalman(ornstein_uhlenbeck(), fresh, keep)
    assert entries == count
    assert nats == pytest.approx(best, abs=1e-3 * count)


def test_forecasts_have_the_law_of_the_process(fitted: PhysicsRun) -> None:
    """Mean and s.d. at two horizons, from a last row that is known and from one that has long been missing."""
    values = {row["parameter"]: row["estimate"] for row in fitted.parameters().to_dicts()}
    theta, mu, sigma = values["theta"], values["mu"], values["sigma"]
    ends, y = np.array([0.0, 0.2, 0.4]), np.array([[20.0], [26.0], [26.0]])
    known = from_arrays(ends, y)
    hidden = from_arrays(np.append(ends, [5.0]), np.append(y, [[np.nan]], axis=0))
    for data, last in ((known, 0.4), (hidden, 5.0)):
        table = fitted.forecast(data, times=[last + 1.0, last + 3.0], n=4_000, levels=(80,))
        for row, ahead in zip(table.to_dicts(), (1.0, 3.0), strict=True):
            away = last + ahead - 0.4
            sd = sigma * np.sqrt((1 - np.exp(-2 * theta * away)) / (2 * theta))
            assert row["mean"] == pytest.approx(mu + (26 - mu) * np.exp(-theta * away), abs=4 * sd / np.sqrt(4_000))
            assert row["sd"] == pytest.approx(sd, rel=0.05)


def test_samples_start_where_they_are_told(fitted: PhysicsRun) -> None:
    paths = fitted.sample([10.0], [3.0, 3.5, 5.0], n=50)
    assert paths.shape == (50, 3, 1)
    np.testing.assert_array_equal(paths[:, 0], 10.0)
    assert len(np.unique(paths[:, 1])) == 50


def test_scores_beat_persistence_and_climatology(fitted: PhysicsRun) -> None:
    fresh = draw(ornstein_uhlenbeck(), 5, 120, np.random.default_rng(4)).table()
    with pytest.raises(InputError, match="held nothing out"):
        fitted.score(leads=[1])
    rows = fitted.score(fresh, leads=[1, 12], n=100).table().to_dicts()
    for metric, lead in (("nll", "1 step"), ("crps", "12 steps")):
        found = {row["method"]: row["value"] for row in rows if (row["metric"], row["lead"]) == (metric, lead)}
        assert found["neural SDE"] < found["persistence"] + 0.02
    cover = [row["value"] for row in rows if row["metric"] == "coverage-95"]
    assert all(0.88 < value <= 1 for value in cover)


# -- folders -------------------------------------------------------------------------------------------------------


def test_a_folder_gives_the_run_back_with_its_modules(sample: Sample, fitted: PhysicsRun) -> None:
    assert fitted.folder is not None
    again = load(fitted.folder.path, model=stated(substeps=8), data=sample.table())
    assert again.parameters().equals(fitted.parameters())
    assert again.forecast(horizon=2, n=20).equals(fitted.forecast(horizon=2, n=20))
    assert fitted.folder.summary()["parameters"][0]["parameter"] in fitted.model.parameters.names


def test_a_folder_alone_is_not_enough_and_says_so(fitted: PhysicsRun) -> None:
    assert fitted.folder is not None
    with pytest.raises(InputError, match=r"load\(.*model=Physics"):
        load(fitted.folder.path)
    other = Relaxation(Positive(1.0), 20.0, Positive(1.0))
    with pytest.raises(InputError, match="other modules"):
        load(fitted.folder.path, model=Physics(other.drift, other.diffusion))


# -- what cannot be meant ------------------------------------------------------------------------------------------


def test_misuse_is_told(sample: Sample) -> None:
    data = sample.table()
    nothing = Relaxation(1.0, 20.0, 3.0)
    with pytest.raises(InputError, match="without parameters"):
        fit(data, model=Physics(nothing.drift, nothing.diffusion))
    with pytest.raises(InputError, match="no logarithm"):
        fit(from_arrays(np.arange(9.0), np.linspace(-1, 1, 9)), model=stated(in_logs=True))
    with pytest.raises(InputError, match="a drift of shape"):
        fit(data, model=Physics(lambda t, y, args: jnp.zeros(3), stated().diffusion))


# -- a residual ----------------------------------------------------------------------------------------------------


def with_pull(seed: int) -> Trajectories:
    """dx = (2 - x) dt + .5 dW: what `Missing` leaves out is a constant pull."""
    rng = np.random.default_rng(seed)
    h, x = 0.02, 2 + 0.35 * rng.standard_normal((8, 1))
    rows = [x]
    for k in range(1, 15 * 150 + 1):
        x = x + (2 - x) * h + 0.5 * np.sqrt(h) * rng.standard_normal(x.shape)
        if k % 15 == 0:
            rows.append(x)
    return from_arrays(0.3 * np.arange(len(rows)), np.stack(rows, axis=1))


class Missing(eqx.Module):
    """dx = -x dt + sigma dW."""

    sigma: Any

    def drift(self, t, y, args):
        return -y

    def diffusion(self, t, y, args):
        return self.sigma + 0 * y


@pytest.mark.slow
def test_a_penalised_residual_is_what_the_data_ask_for_over_one_plus_w(tmp_path: Path) -> None:
    """h* = 2 / .5 at every state; with w = 1 half of it is left."""
    data = with_pull(0)
    m = Missing(Positive(0.5))
    net = Residual(width=4, depth=0, penalty=1.0, rows=20, batch=16)
    run = fit(data, model=Physics(m.drift, m.diffusion, residual=net), steps=400, out=tmp_path / "run", split=Nothing())
    with jax.enable_x64(True):
        h = float(run.model.residual(jnp.array([2.0]))[0])
    sigma = run.parameters()["estimate"][0]
    assert h * sigma == pytest.approx(1.0, abs=0.2)
    again = load(tmp_path / "run", model=Physics(m.drift, m.diffusion, residual=net), data=data)
    np.testing.assert_array_equal(again.model.z, run.model.z)

"""Filling in: against exact bridges and smoothers, in any unit of time, and as a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from neuralsde.data import Trajectories, from_arrays
from neuralsde.errors import InputError
from neuralsde.evaluate.scores import crps_samples
from neuralsde.evaluate.scores import quantiles as plain_quantiles
from neuralsde.evaluate.weighted import crps_weighted, equally_weighted, mean_and_sd, quantiles
from neuralsde.sde import OU
from neuralsde.tasks import blocks
from neuralsde.tasks.between import Drawn
from neuralsde.tasks.fitted import Fitted
from neuralsde.tasks.impute import impute
from tests.models.linear import chain, fitted_linear, linear_model, smoother

A = np.array([[-0.4, 0.3], [-0.2, -0.3]])
SIGMA = np.array([0.8, 0.5])
N = 4000


@pytest.fixture(autouse=True)
def one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """All stretches padded to one length: with one number of channels and covariates, a single program to compile."""
    monkeypatch.setattr("neuralsde.tasks.between._SHORTEST", 64)


def arrays(times: Any, values: Any, context: Any = None, **options: Any) -> Trajectories:
    """A table with one covariate, zero unless given."""
    context = [np.zeros((len(t), 1)) for t in times] if context is None and np.ndim(times[0]) else context
    context = np.zeros((len(times), 1)) if context is None else context
    return from_arrays(times, values, context=context, context_columns=["on"], **options)


def linear(data: Trajectories, A: np.ndarray = A, sigma: np.ndarray = SIGMA, tau: float = 1.0) -> Fitted:
    """The covariate is added to the drift of both channels."""
    return fitted_linear(linear_model(A, sigma, np.zeros((2, 2)), np.ones((2, 1))), data, tau)


def column(table: pl.DataFrame, name: str) -> np.ndarray:
    return table[name].to_numpy().reshape(-1, 2)


def draw(dt: np.ndarray, seed: int) -> np.ndarray:
    mean, cov = chain(A, SIGMA, dt)
    return np.random.default_rng(seed).multivariate_normal(mean.ravel(), cov.reshape(mean.size, -1)).reshape(mean.shape)


def check(table: pl.DataFrame, mean: np.ndarray, sd: np.ndarray) -> None:
    """Mean within .05 s.d., s.d. within 5 %, where missing."""
    missing = ~column(table, "observed")
    assert np.abs((column(table, "mean") - mean)[missing] / sd[missing]).max() < 0.05
    np.testing.assert_allclose(column(table, "sd")[missing], sd[missing], rtol=0.05)


# -- oracles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relaxations", [0.5, 1.0, 3.0])
def test_a_gap_of_an_ou_process_is_its_bridge(relaxations: float):
    # rows every h relaxation times, and nothing for a while: two independent channels, the second twice as wide
    h = relaxations / 60 if relaxations < 3 else 0.05
    steps = round(relaxations / h)
    row = np.r_[-2, -1, 0, steps + np.arange(3)]
    ends = np.array([[-0.5, 2.0], [1.2, -0.4]])
    data = arrays(row * h, ends[(row > 0).astype(int)] + 1e-4 * row[:, None] ** 2)
    sigma = np.sqrt(2) * np.array([1.0, 2.0])
    asked = relaxations * np.array([0.25, 0.5, 0.75])
    table = impute(linear(data, -np.eye(2) * h, sigma * np.sqrt(h), tau=h), data, times=asked.tolist(), n=N)
    filled = table.filter(~pl.col("observed"))
    y0, y1 = data.series[0].values[2:4]
    ou = OU(theta=1.0, mu=0.0, sigma=sigma)
    law = [ou.bridge(y0, y1, t, relaxations) for t in asked]
    mean, sd = (np.stack([np.asarray(part, float) for part in parts]) for parts in zip(*law, strict=True))
    sd = np.sqrt(sd)
    assert np.abs((column(filled, "mean") - mean) / sd).max() < 0.05
    np.testing.assert_allclose(column(filled, "sd"), sd, rtol=0.05)
    np.testing.assert_allclose(column(filled, "hi-80") - column(filled, "mean"), 1.2816 * sd, rtol=0.1)
    assert column(filled, "ess").min() > 0.99 * N


@pytest.mark.parametrize("relaxations", [0.5, 1.0])
def test_coarse_steps_give_the_bridge_of_the_euler_chain(relaxations: float):
    data = arrays(np.arange(4.0), np.array([[0.3, 1.0], [-0.5, 0.1], [0.8, -1.0], [0.2, 0.4]]))
    table = impute(linear(data, -relaxations * np.eye(2)), data, times=[1.25, 1.5], n=N).filter(~pl.col("observed"))
    values = np.full((3, 2), np.nan)
    values[2] = data.series[0].values[2]
    law = chain(-relaxations * np.eye(2), SIGMA, np.array([0.25, 0.25, 0.5]), start=data.series[0].values[:2])
    mean, sd = smoother(*law, values)
    check(table, mean[:2], sd[:2])


def holes(seed: int, rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Times and a draw of the chain with 30 % missing, the very first and last entries among them."""
    rng = np.random.default_rng(seed)
    dt = np.r_[0.0, rng.uniform(0.6, 1.4, rows - 1)]
    values = draw(dt, seed)
    values[rng.uniform(size=values.shape) < 0.3] = np.nan
    values[0, 0] = values[-1, 1] = np.nan
    values[:3, 1] = np.nan
    return np.cumsum(dt), values


def test_scattered_holes_are_what_the_smoother_says():
    times, values = holes(1)
    data = arrays(times, values)
    mean, sd = smoother(*chain(A, SIGMA, np.diff(times, prepend=0.0)), values)
    table = impute(linear(data), data, n=N)
    check(table, mean, sd)
    seen = ~np.isnan(values)
    np.testing.assert_array_equal(column(table, "mean")[seen], values[seen])
    np.testing.assert_array_equal(column(table, "observed"), seen)
    assert (column(table, "sd")[seen] == 0).all()
    assert (column(table, "lo-95")[seen] == values[seen]).all()
    assert table.filter("observed")["ess"].is_null().all()


def test_a_long_stretch_is_cut_with_little_loss(monkeypatch: pytest.MonkeyPatch):
    times, values = holes(2, rows=48)
    alone = np.arange(48) % 2 == 0  # no row is ever complete
    values[alone, 0] = np.nan
    values[~alone, 1] = np.nan
    data = arrays(times, values)
    monkeypatch.setattr(blocks, "LONGEST", 16)
    monkeypatch.setattr(blocks, "OVERLAP", 8)
    rows = linear(data).encoder.encode(data)
    found = blocks.find_blocks(rows, [np.zeros(0)], 1)
    assert len(found) > 2
    answered = np.concatenate([b.slot[b.slot >= 0] for b in found])
    assert sorted(answered.tolist()) == list(range(48))  # each row once
    mean, sd = smoother(*chain(A, SIGMA, np.diff(times, prepend=0.0)), values)
    table = impute(linear(data), data, n=N)
    missing = ~column(table, "observed")
    assert np.abs((column(table, "mean") - mean)[missing] / sd[missing]).max() < 0.2
    np.testing.assert_allclose(column(table, "sd")[missing], sd[missing], rtol=0.1)


def test_seconds_and_hours_are_the_same():
    times, values = holes(3, rows=20)
    tables = []
    for unit in (1.0, 3600.0):
        data = arrays(times * unit, values)
        tables.append(impute(linear(data, tau=unit), data, times=[times[4] * unit + 0.3 * unit], n=N))
    for name in ("mean", "sd", "lo-95", "hi-80"):
        np.testing.assert_allclose(tables[0][name], tables[1][name], atol=1e-5)
    np.testing.assert_allclose(tables[1]["time"], tables[0]["time"] * 3600.0)


# -- the table ------------------------------------------------------------------------------------------------------


def complete() -> Trajectories:
    times = [np.arange(6.0), np.arange(3.0, 9.0)]
    return arrays(times, [draw(np.ones(6), seed) for seed in (5, 6)], ids=["a", "b"])


def test_asked_times_between_complete_rows():
    data = complete()
    table = impute(linear(data), data, times=[4.5, 2.0, 3.5], n=N)
    assert table.columns == [
        "id",
        "time",
        "variable",
        "observed",
        "mean",
        "sd",
        "lo-80",
        "hi-80",
        "lo-95",
        "hi-95",
        "ess",
    ]
    for name, asked in (("a", [3.5, 4.5]), ("b", [3.5, 4.5])):
        mine = table.filter(pl.col("id") == name)
        assert mine["time"].is_sorted()
        assert mine.filter(~pl.col("observed"))["time"].unique().sort().to_list() == asked
        assert mine["time"].n_unique() == 8
    assert not table.select(pl.exclude("ess")).null_count().sum_horizontal().item()


def test_asking_for_a_time_leaves_the_others_alone():
    data = complete()
    alone = impute(linear(data), data, times=[3.5], n=N)
    both = impute(linear(data), data, times=[1.5, 3.5], n=N)
    pair = [t.filter((pl.col("time") == 3.5) & (pl.col("id") == "a")).drop("id", "variable") for t in (alone, both)]
    np.testing.assert_allclose(pair[0].cast(pl.Float64).to_numpy(), pair[1].cast(pl.Float64).to_numpy(), atol=1e-5)


@pytest.mark.parametrize(("time", "hint"), [(9.5, "forecast"), (-1.0, "after the first row")])
def test_times_outside_are_refused(time: float, hint: str):
    data = complete()
    with pytest.raises(InputError, match="no observations lie around it") as caught:
        impute(linear(data), data, times=[3.5, time], n=N)
    assert hint in caught.value.line


def test_constants_and_supports_are_kept():
    rng = np.random.default_rng(0)
    values = np.abs(rng.normal(size=(30, 3)))
    values[:, 2] = 7.0
    values[rng.uniform(size=30) < 0.3, 1] = np.nan
    data = arrays(np.arange(30.0), values, columns=["x", "rain", "fixed"], positive=["rain"])
    fitted = linear(data)
    table = impute(fitted, data, n=N)
    assert set(table["variable"]) == {"x", "rain", "fixed"}
    assert table.filter(pl.col("variable") == "fixed")["mean"].unique().to_list() == [7.0]
    rain = table.filter((pl.col("variable") == "rain") & ~pl.col("observed"))
    assert rain.height > 3
    assert (rain["lo-95"].to_numpy() >= 0).all()


def test_nothing_missing_and_nothing_asked():
    data = complete()
    table = impute(linear(data), data, n=N)
    assert table["observed"].all()
    np.testing.assert_array_equal(column(table, "mean"), np.concatenate([s.values for s in data]))


def test_covariates_are_known_at_every_point():
    # x' = x + c dt with hardly any noise: the middle of a gap tells when the covariate was switched on
    context = np.array([0.0, 0.0, 1.0, 0.0, 0.0])[:, None]
    values = np.array([0.0, 0.0, 0.0, 4.0, 4.0])[:, None] * [1.0, 1.0] + [0.0, 0.5]
    data = arrays(np.r_[0.0, 1, 2, 6, 7], values, context)
    table = impute(linear(data, np.zeros((2, 2)), np.full(2, 0.01)), data, times=[3.0, 5.0], n=N)
    filled = table.filter(~pl.col("observed"))
    np.testing.assert_allclose(column(filled, "mean"), [[1.0, 1.5], [3.0, 3.5]], atol=0.02)


def test_stretches_of_little_worth_are_drawn_again(monkeypatch: pytest.MonkeyPatch):
    data = complete()
    monkeypatch.setattr("neuralsde.tasks.between._ENOUGH", 1.5)
    monkeypatch.setattr("neuralsde.tasks.between._MOST_TRIES", 4)
    table = impute(linear(data), data, times=[3.5], n=N)
    np.testing.assert_allclose(table["ess"].drop_nulls(), 2 * N, rtol=0.01)


# -- weighted summaries -----------------------------------------------------------------------------------------------


def test_equal_weights_are_plain_samples():
    rng = np.random.default_rng(0)
    x, truth = rng.normal(size=(50, 3)), rng.normal(size=3)
    w, support = np.full(50, 1 / 50), np.full(3, 50.0)
    mean, sd = mean_and_sd(x, w, support)
    np.testing.assert_allclose(mean, x.mean(0))
    np.testing.assert_allclose(sd, x.std(0, ddof=1))
    p = [0.001, 0.1, 0.37, 0.5, 0.9, 0.999]
    np.testing.assert_allclose(quantiles(x, w, support, p), plain_quantiles(x, p))
    np.testing.assert_allclose(crps_weighted(x, w, support, truth), crps_samples(x, truth))


def test_a_weight_counts_like_so_many_copies():
    rng = np.random.default_rng(1)
    x, copies, truth = rng.normal(size=(30, 2)), rng.integers(1, 5, 30), rng.normal(size=2)
    w = copies / copies.sum()
    many = np.repeat(x, copies, axis=0)
    support = np.full(2, 1 / (w**2).sum())
    equal = np.full(len(many), 1 / len(many))
    for ours, theirs in zip(mean_and_sd(x, w, support), mean_and_sd(many, equal, support), strict=True):
        np.testing.assert_allclose(ours, theirs)
    np.testing.assert_allclose(crps_weighted(x, w, support, truth), crps_weighted(many, equal, support, truth))
    assert np.abs(quantiles(x, w, support, [0.5]) - quantiles(many, equal, support, [0.5])).max() < 0.3
    counts = (equally_weighted(np.arange(30.0)[:, None], w) == np.arange(30.0)).sum(0)
    assert np.abs(counts - 30 * w).max() <= 1


def test_independent_answers_are_put_together_by_their_weights():
    rng = np.random.default_rng(2)
    parts = [
        Drawn(np.zeros(1, int), rng.normal(size=(40, 1, 1)), rng.normal(size=40) + shift, np.array([20.0]))
        for shift in (0, -50)
    ]
    both = Drawn.pooled(parts)
    assert both.samples.shape == (80, 1, 1)
    np.testing.assert_allclose(both.weights[:40], parts[0].weights)
    np.testing.assert_allclose(both.support, 20.0)
    equal = Drawn.pooled([parts[0], parts[0]])
    np.testing.assert_allclose(equal.support, 40.0)

"""Forecast tables: their shape and units, their times, and the answers to bad input."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import tiny

from neuralsde.data import from_arrays, from_frame
from neuralsde.errors import InputError
from neuralsde.models.sequence_sde import Config
from neuralsde.runs import Run, fit
from neuralsde.train.problem import TrainConfig

QUICK = TrainConfig(steps=20, batch_size=64, log_every=10, validate_every=10)


def test_a_long_table_with_every_series_time_and_variable(run: Run):
    table = run.forecast(horizon=3, levels=(80, 95), n=50)
    assert table.columns == ["id", "time", "variable", "mean", "sd", "lo-80", "hi-80", "lo-95", "hi-95"]
    assert table.height == 3 * 3 * 2
    inside = (pl.col("lo-95") <= pl.col("lo-80")) & (pl.col("lo-80") <= pl.col("hi-80"))
    assert table.select((inside & (pl.col("hi-80") <= pl.col("hi-95"))).all()).item()
    ends = tiny.data_of(run).series[0].times[-1]
    assert table["time"].to_list()[:6] == [ends + k for k in (1, 1, 2, 2, 3, 3)]


def test_far_ahead_the_law_is_the_stationary_one(run: Run):
    """OU of unit variance: after eight relaxation times mean 0 and s.d. 1, whatever the present is."""
    table = run.forecast(horizon=40, n=400).filter(pl.col("time") == pl.col("time").max())
    mean, sd = table["mean"].to_numpy(), table["sd"].to_numpy()
    assert np.abs(mean).max() < 0.5
    assert sd.min() > 0.6
    assert sd.max() < 1.6


def test_explicit_times_equal_the_horizon_that_holds_them(run: Run):
    ends = [s.times[-1] for s in tiny.data_of(run)]
    assert len(set(ends)) == 1
    by_time = run.forecast(times=[ends[0] + 1, ends[0] + 2], n=20, seed=4)
    by_step = run.forecast(horizon=2, n=20, seed=4)
    assert by_time.equals(by_step)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"horizon": 0}, "at least 1"),
        ({"horizon": "3h"}, "plain numbers"),
        ({"levels": (80, 120)}, "between 0 and 100"),
        ({"times": [3.0]}, "impute"),
        ({"n": 1}, "at least 2"),
        ({"horizon": 2, "times": [900.0]}, "one of the two"),
    ],
)
def test_what_cannot_be_meant_is_refused(run: Run, options: dict, says: str):
    with pytest.raises(InputError, match=says):
        run.forecast(**options)


def test_data_of_another_shape_are_refused(run: Run):
    with pytest.raises(InputError, match="another shape"):
        run.forecast(from_arrays(np.arange(9.0), np.random.default_rng(0).standard_normal((9, 3))))


def test_ranges_constants_and_covariates_go_through():
    rng = np.random.default_rng(0)
    t = np.arange(120)
    frame = pl.DataFrame({
        "t": t, "share": 1 / (1 + np.exp(-rng.standard_normal(120).cumsum() / 3)), "count": rng.poisson(1.0, 120),
        "height": 7.0, "tide": np.sin(t / 5),
    })  # fmt: skip
    data = from_frame(
        frame,
        time="t",
        values=("share", "count", "height"),
        context="tide",
        bounded={"share": (0, 1)},
        positive="count",
    )
    fitted = fit(data, model=Config(history=0, width=8, depth=1), training=QUICK)
    future = pl.DataFrame({"t": np.arange(120, 130), "tide": np.sin(np.arange(120, 130) / 5)})
    table = fitted.forecast(horizon=10, n=100, future=future)
    low = {name: part["lo-95"].to_numpy().min() for (name,), part in table.group_by("variable")}
    high = {name: part["hi-95"].to_numpy().max() for (name,), part in table.group_by("variable")}
    assert low["share"] > 0
    assert high["share"] < 1
    assert low["count"] >= 0
    assert low["height"] == high["height"] == 7.0
    other = fitted.forecast(horizon=10, n=100, future=future.with_columns(tide=pl.col("tide") + 5))
    assert not other.equals(table)  # the known future is read

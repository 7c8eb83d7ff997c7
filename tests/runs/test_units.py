"""The units of a table change nothing: seconds or hours, degrees or millidegrees give the same forecasts.

Model time and model values are the same up to rounding, so fit and forecast are, to 1e-4 of the standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from neuralsde.data import from_arrays
from neuralsde.models.sequence_sde import Config
from neuralsde.runs import Run, fit
from neuralsde.train.problem import TrainConfig

HORIZON = 5
AHEAD = (600.0, 1_000.0, 5_000.0)
"""Times after the end, in seconds."""


@dataclass(frozen=True)
class Units:
    """A table that is written with one of these lasting so many seconds, and values scaled and shifted by so much."""

    second: float = 1.0
    scale: float = 1.0
    shift: float = 0.0

    def fit(self) -> Run:
        rng = np.random.default_rng(5)
        rows = 400
        seconds = 1.7e6 + np.cumsum(rng.integers(100, 2_000, rows)).astype(float)
        walk = np.zeros((rows, 2))
        for k in range(1, rows):
            walk[k] = 0.9 * walk[k - 1] + rng.standard_normal(2)
        walk[rng.random(walk.shape) < 0.1] = np.nan
        table = from_arrays(seconds / self.second, walk * self.scale + self.shift)
        options = TrainConfig(steps=150, batch_size=64, learning_rate=3e-3, log_every=50, validate_every=50)
        return fit(table, model=Config(history=1, width=16, depth=1), training=options)

    def forecasts(self, run: Run) -> list[pl.DataFrame]:
        assert run.data is not None
        later = [run.data.series[0].times[-1] + after / self.second for after in AHEAD]
        return [run.forecast(horizon=HORIZON, n=50), run.forecast(times=later, n=50)]


def test_the_units_of_a_table_change_nothing() -> None:
    plain, units = Units(), Units(second=3600.0, scale=1e3, shift=-7.0)
    run, other = plain.fit(), units.fit()
    assert other.typical_gap * units.second == pytest.approx(run.typical_gap, rel=1e-12)
    tables = zip(units.forecasts(other), plain.forecasts(run), strict=True)
    for table, wanted in tables:
        sd = wanted["sd"].to_numpy()
        assert (sd > 0.1).all()
        assert table["time"].to_numpy() * units.second == pytest.approx(wanted["time"].to_numpy(), rel=1e-12)
        assert np.abs(table["sd"].to_numpy() / units.scale - sd).max() <= 1e-4 * sd.min()
        for name in ("mean", "lo-80", "hi-80", "lo-95", "hi-95"):
            back = (table[name].to_numpy() - units.shift) / units.scale
            assert np.abs((back - wanted[name].to_numpy()) / sd).max() <= 1e-4, name

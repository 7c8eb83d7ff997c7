"""From a data frame to a calibrated forecast, in memory: `python examples/forecast_a_table.py`.

Two tanks that leak into each other, read at irregular times with one reading in five missing.
"""

from __future__ import annotations

import numpy as np
import polars as pl

import neuralsde as nsde
from neuralsde.models.sequence_sde import Config


def tanks(rows: int = 600, seed: int = 0) -> pl.DataFrame:
    """A table with the columns hour, upper and lower; nulls where a reading is missing."""
    rng = np.random.default_rng(seed)
    hours = np.cumsum(rng.uniform(0.5, 1.5, rows))
    level = np.zeros((rows, 2))
    for k, dt in enumerate(np.diff(hours)):
        upper, lower = level[k]
        drift = np.array([-0.15 * upper, 0.15 * upper - 0.08 * lower])
        level[k + 1] = level[k] + drift * dt + 0.2 * np.sqrt(dt) * rng.standard_normal(2)
    level[rng.uniform(size=level.shape) < 0.2] = np.nan
    return pl.DataFrame({"hour": hours, "upper": level[:, 0], "lower": level[:, 1]}, nan_to_null=True)


def main(steps: int = 400) -> pl.DataFrame:
    """Fit, score on the last fifth, and forecast the next twelve steps."""
    data = nsde.data.from_frame(tanks(), time="hour")
    run = nsde.fit(data, model=Config(history=0, width=32), steps=steps)
    print(run.describe())
    print(run.score(leads=(1, 6), n=100))
    forecast = run.forecast(horizon=12, levels=(80,), n=200)
    print(forecast.filter(pl.col("time") == pl.col("time").max()))
    return forecast


if __name__ == "__main__":
    main()

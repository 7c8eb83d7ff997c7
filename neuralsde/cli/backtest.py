"""`neuralsde backtest RUN [DATA]`: forecasts from many origins, as if each were the present."""

from __future__ import annotations

from typing import Annotated

from neuralsde.cli.common import (
    Calibrate,
    Draws,
    HeldOutTable,
    Horizon,
    Levels,
    Out,
    RunPath,
    Seed,
    check_out,
    horizon_of,
    load,
    option,
    read_like,
    tell_scores,
)


def backtest(
    run: RunPath,
    data: HeldOutTable = None,
    /,
    *,
    horizon: Horizon = None,
    stride: Annotated[int | None, option("N", "Rows from one origin to the next.")] = None,
    levels: Levels = (80, 95),
    n: Draws = 200,
    seed: Seed = 0,
    calibrate: Calibrate = False,
    out: Out = None,
) -> None:
    """Score forecasts from a rolling origin, with 95 % intervals on the scores."""
    check_out(out)
    fitted = load(run)
    table = None if data is None else read_like(fitted, data)
    ahead = horizon_of(horizon)
    scores = fitted.backtest(table, horizon=ahead, stride=stride, levels=levels, n=n, seed=seed, calibrate=calibrate)
    tell_scores(scores, out)

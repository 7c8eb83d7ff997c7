"""`neuralsde forecast RUN DATA`: the law of what follows each series, as a long table."""

from __future__ import annotations

from neuralsde.cli.common import (
    Calibrate,
    Draws,
    Future,
    Horizon,
    Levels,
    Out,
    RunPath,
    Seed,
    Table,
    Times,
    check_out,
    horizon_of,
    load,
    read_like,
    write,
)


def forecast(
    run: RunPath,
    data: Table,
    /,
    *,
    horizon: Horizon = None,
    times: Times = (),
    future: Future = None,
    levels: Levels = (80, 95),
    n: Draws = 200,
    seed: Seed = 0,
    calibrate: Calibrate = False,
    out: Out = None,
) -> None:
    """Forecast what follows each series of DATA, with intervals.

    Writes id, time, variable, mean, sd and the ends of each interval (lo-80, hi-80, ...), in the units of the table.
    """
    check_out(out)
    fitted = load(run)
    table = fitted.forecast(
        read_like(fitted, data),
        horizon=horizon_of(horizon),
        times=times or None,
        future=future,
        levels=levels,
        n=n,
        seed=seed,
        calibrate=calibrate,
    )
    write(table, out)

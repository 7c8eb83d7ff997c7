"""`neuralsde impute RUN DATA`: what the entries between the observations may have been."""

from __future__ import annotations

from neuralsde.cli.common import (
    Draws,
    Levels,
    Out,
    RunPath,
    Seed,
    Table,
    Times,
    check_out,
    load,
    read_like,
    write,
)


def impute(
    run: RunPath,
    data: Table,
    /,
    *,
    times: Times = (),
    levels: Levels = (80, 95),
    n: Draws = 200,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Fill in the missing values of DATA, and any TIMES between its rows, from both sides.

    Writes id, time, variable, observed, mean, sd, the ends of each interval, and ess: how many equally weighted
    paths the answer is worth.
    """
    check_out(out)
    fitted = load(run)
    write(fitted.impute(read_like(fitted, data), times=times or None, levels=levels, n=n, seed=seed), out)

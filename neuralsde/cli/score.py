"""`neuralsde score RUN [DATA]`: how good the run is, next to three simple baselines."""

from __future__ import annotations

from typing import Annotated

from neuralsde.cli.common import (
    Draws,
    HeldOutTable,
    Levels,
    Out,
    RunPath,
    Seed,
    check_out,
    load,
    option,
    read_like,
    tell_scores,
)


def score(
    run: RunPath,
    data: HeldOutTable = None,
    /,
    *,
    leads: Annotated[tuple[int, ...], option("N...", "Steps of the typical gap ahead.")] = (),
    levels: Levels = (80, 95),
    n: Draws = 200,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Score held-out data: likelihood, CRPS, energy score, coverage.

    Persistence, climatology and a linear autoregression, fitted on the same rows,
    stand beside the model; every number comes with a 95 % interval.
    """
    check_out(out)
    fitted = load(run)
    table = None if data is None else read_like(fitted, data)
    tell_scores(fitted.score(table, leads=leads or None, levels=levels, n=n, seed=seed), out)

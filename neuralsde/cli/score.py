"""`neuralsde score RUN [DATA]`: how good the run is, next to simple baselines."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from neuralsde.cli.common import (
    Calibrate,
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
from neuralsde.cli.points import is_of_points, refuse, score_points


def score(
    run: RunPath,
    data: HeldOutTable = None,
    /,
    *,
    leads: Annotated[tuple[int, ...], option("N...", "Steps of the typical gap ahead.")] = (),
    levels: Levels = (80, 95),
    label: Annotated[str | None, option("CLASS", "For points: under the law of this class.")] = None,
    n: Annotated[int | None, Parameter(help="Sampled paths, 200 by default; of points how many are scored.")] = None,
    seed: Seed = 0,
    calibrate: Calibrate = False,
    out: Out = None,
) -> None:
    """Score held-out data: likelihood, CRPS, energy score, coverage.

    Persistence, climatology and a linear autoregression, fitted on the same rows,
    stand beside the model; every number comes with a 95 % interval. Of points and
    images: nats and bits per dimension, beside two simple laws.
    """
    check_out(out)
    fitted = load(run, points=True)
    if is_of_points(fitted):
        refuse({"leads": leads, "calibrate": calibrate}, f"{run} is a run of independent points", "no such option")
        return score_points(fitted, data, n=n, label=label, seed=seed, out=out)
    refuse({"label": label}, f"{run} is a run of sequences", "a run fitted with --labels")
    table = None if data is None else read_like(fitted, data)
    draws = 200 if n is None else n
    tell_scores(fitted.score(table, leads=leads or None, levels=levels, n=draws, seed=seed, calibrate=calibrate), out)

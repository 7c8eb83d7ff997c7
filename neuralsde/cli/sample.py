"""`neuralsde sample RUN`: paths from a start point, or points and images, in the units of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from neuralsde.cli.common import Future, Names, RunPath, Seed, check_out, load, option, write
from neuralsde.cli.entry import function
from neuralsde.cli.points import is_of_points, refuse, sample_points
from neuralsde.errors import InputError


def sample(
    run: RunPath,
    /,
    *,
    start: Annotated[tuple[float, ...], option("VALUE...", "Start point, a value for each column of the run.")] = (),
    at: Annotated[str | None, option("TIME", "Time of the start, written as in the table; 0 by default.")] = None,
    horizon: Annotated[int | None, option("N", "Steps of the typical gap; 24 by default.")] = None,
    times: Annotated[Names, option("TIME...", "Times of the paths after the start, instead of a horizon.")] = (),
    future: Future = None,
    sampler: Annotated[str | None, option("NAME", "For points: dpmpp-2m by default, ddim, unipc, edm-heun ...")] = None,
    nfe: Annotated[int | None, option("N", "For points: evaluations of the network; 20 by default.")] = None,
    label: Annotated[str | None, option("CLASS", "For points: of this class, of a run fitted with --labels.")] = None,
    guidance: Annotated[float | None, option("W", "For points: how strongly towards the class; 1 by default.")] = None,
    n: Annotated[int, Parameter(help="Number of sampled paths or points.")] = 100,
    seed: Seed = 0,
    out: Annotated[Path | None, option("FILE", "A .csv or .parquet; of points also .npz, of images .png.")] = None,
) -> None:
    """Draw paths from a start point; or points and images from a run of them.

    Paths: path, time and a column for each variable, the start among them. For a
    run with covariates FUTURE holds them, and its times are the times of the paths.
    Points: a row for each, or an array, or a picture of images.
    """
    fitted = load(run, points=True)
    of_paths = {"start": start, "at": at, "horizon": horizon, "times": times, "future": future}
    of_points = {"sampler": sampler, "nfe": nfe, "label": label, "guidance": guidance}
    if is_of_points(fitted):
        refuse(of_paths, f"{run} is a run of independent points, which have no start and no times", "no such option")
        return sample_points(fitted, **of_points, n=n, seed=seed, out=out)
    refuse(of_points, f"{run} is a run of sequences", "a run of --model score, flow-matching or energy")
    check_out(out)
    if not start:
        raise InputError("no start", f"{run} is a run of sequences", f"--start with {', '.join(fitted.columns)}")
    if future is not None:
        known = function("neuralsde.data:future")(future, fitted.layout).series[0]
        ts, context = known.times, known.context
    else:
        ts, context = grid(fitted, at, 24 if horizon is None else horizon, times), None
    paths = fitted.sample(function("numpy:array")(start), ts, n=n, seed=seed, context=context)
    long = {
        "path": [path for path in range(n) for _ in ts],
        "time": fitted.plan.encoder.clock.format(ts) * n,
        **{name: paths[:, :, k].ravel() for k, name in enumerate(fitted.columns)},
    }
    write(function("polars:DataFrame")(long), out)


def grid(fitted: Any, at: str | None, horizon: int, times: Names) -> Any:
    """Clock times of the paths (k,), the start first."""
    clock = fitted.plan.encoder.clock
    if at is None and clock.is_calendar:
        raise InputError("a start without a time", "this run's times are time stamps", "--at TIME")
    begin = 0.0 if at is None else float(clock.parse([at])[0])
    if times:
        return function("numpy:concatenate")([[begin], clock.parse(list(times))])
    if horizon < 1:
        raise InputError(f"a horizon of {horizon}", expected="a whole number of steps, at least 1")
    return begin + fitted.typical_gap * function("numpy:arange")(horizon + 1)

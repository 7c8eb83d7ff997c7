"""`neuralsde sample RUN`: paths from a start point, in the units of the table."""

from __future__ import annotations

from typing import Annotated, Any

from neuralsde.cli.common import Draws, Future, Names, Out, RunPath, Seed, check_out, load, option, write
from neuralsde.cli.entry import function
from neuralsde.errors import InputError


def sample(
    run: RunPath,
    /,
    *,
    start: Annotated[tuple[float, ...], option("VALUE...", "Start point, a value for each column of the run.")],
    at: Annotated[str | None, option("TIME", "Time of the start, written as in the table; 0 by default.")] = None,
    horizon: Annotated[int, option("N", "Steps of the typical gap; 24 by default.")] = 24,
    times: Annotated[Names, option("TIME...", "Times of the paths after the start, instead of a horizon.")] = (),
    future: Future = None,
    n: Draws = 100,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Draw paths from a start point.

    Writes path, time and a column for each variable, the start among them. For a
    run with covariates FUTURE holds them, and its times are the times of the paths.
    """
    check_out(out)
    fitted = load(run)
    if future is not None:
        known = function("neuralsde.data:future")(future, fitted.layout).series[0]
        ts, context = known.times, known.context
    else:
        ts, context = grid(fitted, at, horizon, times), None
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

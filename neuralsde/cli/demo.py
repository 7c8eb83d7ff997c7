"""`neuralsde demo`: the whole way, on real weather that comes with the package."""

from __future__ import annotations

import sys
import time
from itertools import count
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from neuralsde.cli.common import Seed, told
from neuralsde.cli.entry import function


def demo(
    *,
    out: Annotated[Path | None, Parameter(help="The run folder to make; runs/demo, or demo-2 ..., by default.")] = None,
    steps: Annotated[int, Parameter(help="Training steps.")] = 2_000,
    seed: Seed = 0,
) -> None:
    """Fit, forecast, score and report on hourly weather at three airports.

    Twelve weeks, the last seven days of every month, are held out.
    """
    began = time.monotonic()
    folder = out or fresh(Path("runs") / "demo")
    say("fitting a sequence SDE to a year of hourly weather at three airports; held out: the last week of every month")
    fit_weather, automatic = function("neuralsde.experiments.weather:fit_weather"), "neuralsde.train.progress:automatic"
    table, run = fit_weather(folder, steps=steps, seed=seed, progress=function(automatic)())
    told(table)
    say("scoring the held-out weeks next to persistence, climatology and a linear autoregression")
    scores = function("neuralsde.experiments.weather:score_weather")(run, seed=seed)
    print(scores)
    ahead = folder / "forecast.csv"
    run.forecast(table, horizon=24, seed=seed).write_csv(ahead)
    page = run.report(scores=scores)
    print(f"\nforecast of the next 24 hours   {ahead}\nreport, to open in a browser    {page}")
    say(f"done in {time.monotonic() - began:.0f} s")


def fresh(path: Path) -> Path:
    """The path itself, or the first of path-2, path-3, ... that does not exist."""
    names = (path if k == 1 else path.with_name(f"{path.name}-{k}") for k in count(1))
    return next(name for name in names if not name.exists())


def say(line: str) -> None:
    print(line, file=sys.stderr)

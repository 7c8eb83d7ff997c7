"""Where the command line begins: the list of commands and the settings that must stand before JAX is imported.

`neuralsde` alone and `neuralsde --help` are answered from the list below, without the parser, in the time that Python
needs to start.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuralsde import __version__

COMMANDS = (
    ("fit", "Fit a model to sequences, or to points and images; writes a run folder."),
    ("forecast", "Forecast what follows each series, with intervals."),
    ("sample", "Draw paths from a start point; or points and images."),
    ("impute", "Fill in missing values and times between observations."),
    ("score", "Score held-out data, next to simple baselines."),
    ("backtest", "Score forecasts from a rolling origin."),
    ("report", "Write a run's report.html again."),
    ("policy", "Try a policy in its environment: policy eval."),
    ("export", "Write a policy as one file that runs without this package."),
    ("demo", "Fit, forecast, score and report on real weather that comes with the package."),
    ("reproduce", "Repeat a published figure or table."),
    ("info", "Versions and devices."),
)
OVERVIEW = """\
neuralsde: learn the stochastic dynamics behind sequences; sample, forecast, fill in and score with them

usage: neuralsde COMMAND [OPTIONS]

{commands}

  neuralsde COMMAND --help    the options of a command
  neuralsde --version         {version}

try:   neuralsde demo
       neuralsde fit data.csv --id station --time hour --out runs/first
       neuralsde forecast runs/first data.csv --horizon 24 --levels 80 95 --out forecast.csv
"""


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit status (0, 1 failed, 2 misuse, 130 stopped; see `app.py`)."""
    tokens = list(sys.argv[1:] if tokens is None else tokens)
    if not tokens or tokens[0] in ("--help", "-h", "help"):
        print(overview(), end="")
        sys.exit(0)
    prepare()
    sys.exit(function("neuralsde.cli.app:run")(tokens))


def overview() -> str:
    """The first page of help: the commands in the order in which one meets them."""
    lines = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS)
    return OVERVIEW.format(commands=lines, version=__version__)


def prepare() -> None:
    """Settings that JAX, equinox and matplotlib read when they are imported; what the user has set stays.

    A program that took longer than 0.2 s to compile is kept in the user's cache, so that a second start loads it;
    `EQX_ON_ERROR=nan` keeps host callbacks, which cannot be cached, out of compiled programs.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neuralsde" / "jax"
    os.environ.setdefault("EQX_ON_ERROR", "nan")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    os.environ.setdefault("MPLBACKEND", "agg")


def function(name: str) -> Any:
    """What "module:name" names, imported now and not earlier."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)

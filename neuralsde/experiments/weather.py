"""The demo: hourly weather at three airports, fitted on three weeks of every month, scored on the fourth.

Held out: the last seven days of every month, twelve weeks spread over the year; a forecast every six hours. The model
stands beside persistence, climatology by hour and month, and a linear autoregression fitted directly to each lead, all
on the same training rows. How the settings were chosen is in docs/decisions/0004-the-demo.md: on the weeks
before the held-out ones, never on these.
"""

from __future__ import annotations

from pathlib import Path

from neuralsde.data import LastDaysOfMonth, Trajectories
from neuralsde.data.embedded import weather
from neuralsde.models.sequence_sde import Config
from neuralsde.runs.fit import fit
from neuralsde.runs.run import Run
from neuralsde.tasks.score import Scores
from neuralsde.train.progress import Reporter

SPLIT = LastDaysOfMonth(7)
MODEL = Config(history=6)
STEPS = 2_000
LEADS = (1, 6, 24)
STRIDE = 6
PATHS = 100


def fit_weather(
    out: Path, *, steps: int = STEPS, seed: int = 0, progress: Reporter | None = None
) -> tuple[Trajectories, Run]:
    """The table and the run."""
    table = weather()
    return table, fit(table, model=MODEL, steps=steps, seed=seed, out=out, split=SPLIT, progress=progress)


def score_weather(run: Run, *, seed: int = 0) -> Scores:
    """The held-out weeks at 1, 6 and 24 hours."""
    return run.score(leads=LEADS, stride=STRIDE, n=PATHS, seed=seed)

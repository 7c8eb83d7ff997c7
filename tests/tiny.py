"""Small data and a small run that several folders of tests share; fitted once a session, by fixtures of `conftest`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neuralsde.data import Trajectories, from_arrays
from neuralsde.models.sequence_sde import Config
from neuralsde.runs import Run, fit
from neuralsde.runs.folder import RunFolder
from neuralsde.train.problem import TrainConfig

TRAINING = TrainConfig(steps=150, batch_size=128, learning_rate=3e-3, log_every=50, validate_every=50)


def ou_table(series: int = 3, rows: int = 240, *, seed: int = 0, irregular: bool = False) -> Trajectories:
    """Two independent OU channels of unit variance, theta = 0.2 a step, exact transitions."""
    rng = np.random.default_rng(seed)
    times, values = [], []
    for _ in range(series):
        gaps = rng.uniform(0.5, 1.5, rows) if irregular else np.ones(rows)
        decay = np.exp(-0.2 * gaps)
        x = np.zeros((rows, 2))
        x[0] = rng.standard_normal(2)
        for k in range(1, rows):
            x[k] = decay[k] * x[k - 1] + np.sqrt(1 - decay[k] ** 2) * rng.standard_normal(2)
        times.append(np.cumsum(gaps))
        values.append(x)
    return from_arrays(times, values, columns=("level", "flow"))


def tiny_run(folder: Path) -> Run:
    """A run of a few seconds on `ou_table()`."""
    return fit(ou_table(), model=Config(history=1, width=16, depth=1), training=TRAINING, out=folder)


def data_of(run: Run) -> Trajectories:
    """The table of a run that has one at hand."""
    assert run.data is not None
    return run.data


def folder_of(run: Run) -> RunFolder:
    """The folder of a run that has one."""
    assert run.folder is not None
    return run.folder

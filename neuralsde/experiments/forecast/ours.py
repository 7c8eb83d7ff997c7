"""The sequence SDE in this experiment: its settings for each table, the fit, and paths from the origins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from neuralsde.data import LastPart
from neuralsde.experiments.forecast.case import Case
from neuralsde.experiments.forecast.law import Forecast
from neuralsde.models.sequence_sde import Config
from neuralsde.runs.fit import fit
from neuralsde.runs.run import Run
from neuralsde.tasks.ahead import paths_ahead
from neuralsde.train.problem import TrainConfig
from neuralsde.train.progress import Reporter


@dataclass(frozen=True)
class Settings:
    """Model and training of one table."""

    model: Config
    training: TrainConfig


def _training(steps: int, weight_decay: float = 0.0) -> TrainConfig:
    """The best validation comes early on all of these tables, so it is looked for often."""
    return TrainConfig(
        steps=steps, batch_size=512, learning_rate=1e-3, weight_decay=weight_decay, validate_every=steps // 10
    )


SETTINGS: Mapping[str, Settings] = {
    "etth1": Settings(
        Config(history=49, lags=(95, 96, 97, 167, 168, 169), past_units="walk", depth=0, noise="full", tails="student"),
        _training(1_000),
    ),
    "exchange": Settings(
        Config(history=10, level=False, past_units="walk", width=8, depth=1, tails="student", reach=30),
        _training(600, weight_decay=10.0),
    ),
    "weather": Settings(
        Config(history=25, past_units="walk", width=16, depth=1, noise="full", tails="student"), _training(1_000)
    ),
    "beijing": Settings(
        Config(history=25, past_units="walk", width=16, depth=1, noise="full", tails="student"), _training(1_500)
    ),
}
"""What is fitted, chosen on the rehearsal of a table (`case.rehearsal`: the table without its test part).

The loads of ETTh1 repeat by day and week and are linear in their past. Exchange rates wander: without a level and in
units of a walk the network sees how volatile they are just now, and transitions of 1 to 30 days keep drifts from adding
up that are none. Weather is read a day back; Beijing has the settings of the other weather, which were not tuned on it.
"""


def fit_ours(case: Case, settings: Settings, *, seed: int, progress: Reporter | None = None) -> Run:
    """A run, in memory, on the rows before the test part."""
    return fit(
        case.data,
        model=settings.model,
        seed=seed,
        split=LastPart(0.2),
        training=settings.training,
        progress=progress,
    )


def parameters(run: Run) -> int:
    """Trained numbers of a run."""
    return sum(leaf.size for leaf in jax.tree.leaves(run.model) if isinstance(leaf, jax.Array))


def sequence_sde(run: Run, case: Case, *, n: int, seed: int) -> Forecast:
    """Paths (n of them) from every origin, through all horizons."""
    fitted = run.fitted
    rows = fitted.encoder.encode(case.data)
    origins = rows.start[case.series] + case.row
    targets = np.tile(np.array(case.spec.horizons, np.float64), (len(origins), 1))
    ahead = paths_ahead(fitted, rows, origins, targets, [[s] for s in case.data], n=n, seed=seed)
    return Forecast.of_states(np.moveaxis(np.asarray(ahead.states, np.float64), 1, 0), case)

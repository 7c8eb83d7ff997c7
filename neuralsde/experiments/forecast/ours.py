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


_TRAINING = TrainConfig(steps=4_000, batch_size=512, learning_rate=1e-3)

SETTINGS: Mapping[str, Settings] = {
    "etth1": Settings(Config(history=6), _TRAINING),
    "exchange": Settings(Config(history=6), _TRAINING),
    "weather": Settings(Config(history=6), _TRAINING),
    "beijing": Settings(Config(history=6), _TRAINING),
}
"""What is fitted by default: not chosen yet. To be chosen on `Case.rehearsal`, never on the test part."""


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
    return Forecast(np.moveaxis(fitted.encoder.decode(ahead.states), 1, 0))

"""A forecast of many windows, and what it scores; every formula is that of `neuralsde.evaluate.scores`.

CRPS and coverage are those of the marginals: closed form for a Gaussian, fair estimator and randomised PIT for samples.
The energy score is that of all columns together, each in units of its scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neuralsde.evaluate import scores as sc
from neuralsde.experiments.forecast.case import Case

LEVELS = (80, 95)


@dataclass(frozen=True)
class Forecast:
    """Samples (m, n, q, d) of n windows at q horizons, in data units; mean, sd (n, q, d) where marginals are normal."""

    samples: np.ndarray
    mean: np.ndarray | None = None
    sd: np.ndarray | None = None


@dataclass(frozen=True)
class Marks:
    """Scores of single windows: crps (n, q, d) in units of the scale, energy (n, q), coverage[level] (n, q, d)."""

    crps: np.ndarray
    energy: np.ndarray
    coverage: Mapping[int, np.ndarray]

    def over_columns(self) -> np.ndarray:
        """CRPS (n, q): the mean over the columns that were observed."""
        return mean_over_columns(self.crps)


def marks(forecast: Forecast, case: Case) -> Marks:
    """Scores of a forecast of all windows of a case."""
    truth, q = case.truth, case.resolution
    if forecast.mean is None or forecast.sd is None:
        crps = sc.crps_samples(forecast.samples, truth)
        coverage = {level: sc.covered(forecast.samples, truth, level, q) for level in LEVELS}
    else:
        crps = sc.crps_gaussian(forecast.mean, forecast.sd, truth)
        coverage = {level: sc.covered_gaussian(forecast.mean, forecast.sd, truth, level, q) for level in LEVELS}
    return Marks(crps / case.scale, sc.energy_score(forecast.samples, truth, case.scale), coverage)


def mean_over_columns(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is there; NaN where nothing is."""
    present = ~np.isnan(values)
    total, count = np.where(present, values, 0.0).sum(-1), present.sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)

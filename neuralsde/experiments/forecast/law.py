"""A forecast of many windows, and what it scores; every formula is that of `neuralsde.evaluate.scores`.

CRPS and coverage are those of the marginals: closed form for a Gaussian, fair estimator and randomised PIT for samples.
The energy score is that of all columns together, each in units of its scale. `followed` gives a forecast the width that
earlier ones should have had (`tasks.widths`): at each origin only what had come by then counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from neuralsde.evaluate import scores as sc
from neuralsde.experiments.forecast.case import Case
from neuralsde.tasks import widths

LEVELS = (80, 95)


@dataclass(frozen=True)
class Forecast:
    """Samples (m, n, q, d) of n windows at q horizons, in data units; mean, sd (n, q, d) where marginals are normal.

    states: (m, n, q, d) the samples in model units, where they have any: widths are scaled there.
    """

    samples: np.ndarray
    mean: np.ndarray | None = None
    sd: np.ndarray | None = None
    states: np.ndarray | None = None

    @classmethod
    def of_states(cls, states: np.ndarray, case: Case) -> Forecast:
        """From paths (m, n, q, d) in model units."""
        return cls(case.encoder.decode(states), states=states)

    def misses(self, case: Case) -> np.ndarray:
        """How far the truth lay off (levels, n, q, d), as `tasks.widths` counts it."""
        if self.mean is not None and self.sd is not None:
            ends = self.mean + self.sd * ndtri(np.array(widths.TAILS))[:, None, None, None]
        else:
            ends = sc.quantiles(self.samples if self.states is None else self.states, widths.TAILS)
        half = case.resolution / 2
        around = (case.truth - half, case.truth + half)
        return widths.misses(ends, *(around if self.states is None else case.encoder.interval(case.truth)))

    def widened(self, factors: np.ndarray, case: Case) -> Forecast:
        """The forecast with the spread of each window multiplied by factors (n, q, d)."""
        if self.states is not None:
            return Forecast.of_states(widths.widened(self.states, factors), case)
        if self.mean is None or self.sd is None:
            return Forecast(widths.widened(self.samples, factors))
        return Forecast(self.mean + factors * (self.samples - self.mean), self.mean, factors * self.sd)


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


def followed(forecast: Forecast, case: Case, before: Forecast, earlier: Case) -> Forecast:
    """A forecast of the windows of `case`, as wide as those `before`, of the windows of `earlier`, should have been."""
    z, gap = before.misses(earlier), case.gap
    known = earlier.when[:, None] + gap * np.array(case.spec.horizons)
    factors = np.ones(case.truth.shape)
    for now in np.unique(case.when):
        age = (now - known) / gap
        for j, horizon in enumerate(case.spec.horizons):
            seen = age[:, j] >= -_SAME
            factors[case.when == now, j] = widths.factor(z[:, seen, j], np.maximum(age[seen, j], 0.0), horizon)
    return forecast.widened(factors, case)


_SAME = 1e-3
"""Of a gap: times that differ by no more are the same."""


def mean_over_columns(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is there; NaN where nothing is."""
    present = ~np.isnan(values)
    total, count = np.where(present, values, 0.0).sum(-1), present.sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)

"""Scores of a fitted model and of a known Gaussian law at the same origins of simulated series without holes.

One step ahead in nats, exactly; further ahead the CRPS of sampled paths (fair, so their number does not matter) and the
share of truths in the central 80 %. A Gaussian law has both in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuralsde.data import Trajectories, from_arrays
from neuralsde.evaluate import scores as sc
from neuralsde.runs.run import Run
from neuralsde.tasks.ahead import paths_ahead

Row = dict[str, float]
"""Scores by name: "nats", and "crps h" and "coverage h" for every lead h."""


@dataclass(frozen=True)
class Origins:
    """Where is scored: `step (n, 2)` (series, row) for the nats, `ahead (m, 2)` for paths to `leads` rows ahead."""

    step: np.ndarray
    ahead: np.ndarray
    leads: tuple[int, ...]

    @classmethod
    def of(cls, series: int, first: int, last: int, leads: Sequence[int], every: int) -> Origins:
        """Rows first to last - 1 of each series: all of them, and one in `every` for the paths."""
        grid = np.stack(np.meshgrid(np.arange(series), np.arange(first, last), indexing="ij"), axis=-1).reshape(-1, 2)
        return cls(grid, grid[::every], tuple(leads))


def table(values: np.ndarray) -> Trajectories:
    """Series (series, rows) of one column, a row a unit of time."""
    return from_arrays(np.arange(values.shape[1], dtype=np.float64), [one[:, None] for one in values], columns=["x"])


def of_model(run: Run, values: np.ndarray, origins: Origins, *, n: int, seed: int) -> Row:
    """Scores of a fitted model on series (series, rows)."""
    return {name: float(each.mean()) for name, each in each_of_model(run, values, origins, n=n, seed=seed).items()}


def each_of_model(run: Run, values: np.ndarray, origins: Origins, *, n: int, seed: int) -> dict[str, np.ndarray]:
    """The same for every origin: "nats" (n,) of `origins.step`, the others (m,) of `origins.ahead`."""
    fitted, data = run.fitted, table(values)
    encoder, rows, known = fitted.encoder, fitted.encoder.encode(data), [[s] for s in data]

    def flat(place: np.ndarray) -> np.ndarray:
        return place[:, 0] * values.shape[1] + place[:, 1]

    ones = np.ones((len(origins.step), 1))
    law = paths_ahead(fitted, rows, flat(origins.step), ones, known, n=1, seed=seed)
    truth = _truth(values, origins.step, 1)[:, None]
    mean, sd = (part[:, 0, 0].astype(np.float64) for part in (law.mean, law.sd))
    nats = -(sc.log_density(encoder.encode_values(truth), mean, sd) + encoder.log_slope(truth))
    found = {"nats": nats[:, 0]}
    leads = np.tile(np.array(origins.leads, np.float64), (len(origins.ahead), 1))
    paths = paths_ahead(fitted, rows, flat(origins.ahead), leads, known, n=n, seed=seed).states
    drawn = encoder.decode(paths)[..., 0]
    for j, lead in enumerate(origins.leads):
        truth, samples = _truth(values, origins.ahead, lead), np.moveaxis(drawn[:, :, j], 1, 0)
        found[f"crps {lead}"] = sc.crps_samples(samples, truth)
        found[f"coverage {lead}"] = sc.covered(samples, truth, 80)
    return found


def of_law(mean: np.ndarray, sd: np.ndarray, values: np.ndarray, origins: Origins) -> Row:
    """Scores of Gaussian forecasts: mean and sd (series, rows, leads) at every row, the first of the leads 1."""
    assert origins.leads[0] == 1
    mean, sd = np.broadcast_arrays(mean, sd)
    at = tuple(origins.step.T)
    nats = -sc.log_density(_truth(values, origins.step, 1), mean[*at, 0], sd[*at, 0])
    found, at = {"nats": float(nats.mean())}, tuple(origins.ahead.T)
    for j, lead in enumerate(origins.leads):
        truth = _truth(values, origins.ahead, lead)
        found[f"crps {lead}"] = float(sc.crps_gaussian(mean[*at, j], sd[*at, j], truth).mean())
        found[f"coverage {lead}"] = float(sc.covered_gaussian(mean[*at, j], sd[*at, j], truth, 80).mean())
    return found


def random_walk(train: np.ndarray, values: np.ndarray, leads: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The trivial forecast: the last value, with the s.d. of the training increments over each lead."""
    spread = np.array([np.sqrt(np.mean(np.square(train[:, lead:] - train[:, :-lead]))) for lead in leads])
    return np.repeat(values[:, :, None], len(spread), axis=2), spread


def over(rows: Sequence[Row], key: str) -> tuple[float, float]:
    """Mean over sets and its standard error (0 for one set)."""
    values = np.array([row[key] for row in rows])
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _truth(values: np.ndarray, place: np.ndarray, lead: int) -> np.ndarray:
    return values[place[:, 0], place[:, 1] + lead]

"""Outliers in the fork and in the weather: fits on spoiled rows, scores on clean ones.

Every case gives pairs of neighbouring rows, (fits, n, d), in units of each clean column's s.d.; a spoiled point is the
target of one pair and the input of the next. Scales come from the clean rows, so that only the loss differs.

    fork     demonstrated paths are not noisy: near = share of sampled paths within .15 of them from the kink on, mean
             distance of all their points, share that turns up, error of the flow on the straight parts over the speed
    weather  one hour and six hours ahead in held-out weeks: CRPS, coverage, distance of the drift from that of the
             Gaussian fit to clean rows, in units of the s.d. of an hour
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralsde.data import LastDaysOfMonth
from neuralsde.data.embedded import weather
from neuralsde.data.rounding import resolution
from neuralsde.evaluate import scores as sc
from neuralsde.experiments.branching.fork import demonstrations, distance
from neuralsde.experiments.outliers.ways import PLAIN, WAYS, spoiled
from neuralsde.experiments.seeds import paths, train, window
from neuralsde.models.sequence_sde import Config, SequenceSDE

Found = dict[str, list[float]]
"""Measures, one a fit."""
FORK_MEASURES = ("near", "distance", "up", "flow error")
WEATHER_MEASURES = (
    "drift moved",
    "CRPS 1",
    "coverage 80, 1 h",
    "coverage 95, 1 h",
    "CRPS 6",
    "coverage 80, 6 h",
    "coverage 95, 6 h",
)
TRIVIAL = "persistence (trivial)"
FORK_WAYS = (PLAIN, "log, δ = .001", "student flow", "student likelihood")
COPIES, KINK, NEAR, INPUT_NOISE = 50, 45, 0.15, 0.1
FORK_SIZE, WEATHER_SIZE = 0.5, 3.0
"""S.d. of the outliers: in units of the fork (five of its steps), in s.d. of each column of the weather."""
LEADS, EVERY = (1, 6), 12
_LEVELS = (80, 95)


@dataclass(frozen=True)
class Fit:
    """Networks and training of a case; fits, each with its own outliers, start of the weights and batches."""

    fits: int
    steps: int
    width: int
    paths: int


def fit(config: dict[str, Any], x0: np.ndarray, x1: np.ndarray, how: Fit, seed: int) -> SequenceSDE:
    """Models with a leading axis (fits,)."""
    return train(Config(history=0, width=how.width, depth=2, **config), x0, x1, steps=how.steps, seed=seed)


@eqx.filter_jit
def _flows(models: SequenceSDE, x: Array) -> Array:
    """Drift (fits, n, d) at states (n, d)."""
    return eqx.filter_vmap(lambda model: jax.vmap(lambda at: model.drift(window(at)))(x))(models)


def flows(models: SequenceSDE, x: np.ndarray) -> np.ndarray:
    """Drift (fits, n, d) at states (n, d)."""
    return np.asarray(_flows(models, jnp.asarray(x, jnp.float32)), np.float64)


# -- the fork ----------------------------------------------------------------------------------------------------------


def fork(share: float, how: Fit, seed: int) -> dict[str, Found]:
    """The measures by way."""
    lines = demonstrations()
    scale = lines.reshape(-1, 2).std(0)
    rng = np.random.default_rng((seed, int(1_000 * share)))
    clean = np.broadcast_to(np.repeat(lines, COPIES, axis=0), (how.fits, 2 * COPIES, *lines.shape[1:]))
    seen = spoiled(clean, share, FORK_SIZE, rng, rows=True) / scale
    x0, x1 = (part.reshape(how.fits, -1, 2) for part in (seen[:, :, :-1], seen[:, :, 1:]))
    noise = {"input_noise": tuple((INPUT_NOISE / scale).tolist()), "noise_target": "return"}
    found = {}
    for way in FORK_WAYS:
        models = fit({**WAYS[way], **noise}, x0, x1, how, seed)
        found[way] = fork_measures(models, scale, how, seed)
    return found


def fork_measures(models: SequenceSDE, scale: np.ndarray, how: Fit, seed: int) -> Found:
    """Of paths from the origin, and of the flow on the demonstrations away from the kink."""
    lines = demonstrations()
    starts = np.zeros((how.fits, 1, 2))
    drawn = paths(models, starts, np.ones(lines.shape[1] - 1), n=how.paths, seed=seed)[:, 0] * scale
    states, moves = lines[:, :-1], np.diff(lines, axis=1)
    straight = np.abs(np.arange(states.shape[1]) - KINK) > 10
    error = flows(models, (states / scale)[:, straight].reshape(-1, 2)) * scale - moves[:, straight].reshape(-1, 2)
    return path_measures(drawn) | {
        "flow error": (np.sqrt(np.square(error).sum(-1).mean(1)) / np.linalg.norm(moves[0, 0])).tolist()
    }


def path_measures(drawn: np.ndarray) -> Found:
    """Of paths (fits, n, steps, 2) in units of the fork, the first point one step after the origin."""
    away = distance(drawn)
    return {
        "near": (away[:, :, KINK - 1 :] < NEAR).all(-1).mean(1).tolist(),
        "distance": away.mean((1, 2)).tolist(),
        "up": (drawn[:, :, -1, 1] > 0).mean(1).tolist(),
    }


# -- the weather -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hours:
    """Clean rows in s.d. of the training rows: pairs to train on as places in `rows`, and where is forecast.

    rows (n, d); first (m,): rows whose next row is an hour later and in the training; origin (k,): held-out rows that
    are followed by so many complete hours; rounding (d,): the step to which each column was rounded.
    """

    rows: np.ndarray
    first: np.ndarray
    origin: np.ndarray
    rounding: np.ndarray


@cache
def hours() -> Hours:
    """Of the three airports; the last week of every month is held out."""
    data = weather()
    held = np.concatenate(LastDaysOfMonth(7).held_out(data))
    values, times = np.concatenate([s.values for s in data]), np.concatenate([s.times for s in data])
    number = np.repeat(np.arange(len(data)), [len(s) for s in data])
    whole = np.asarray(np.isfinite(values).all(axis=1))
    train = values[whole & ~held]
    mean, sd = train.mean(0), train.std(0)
    hourly = np.abs(np.diff(times) / data.typical_gap() - 1) < 1e-6
    follows = np.logical_and.reduce([hourly, np.diff(number) == 0, whole[1:], whole[:-1]])
    first = np.flatnonzero(np.logical_and.reduce([follows, ~held[1:], ~held[:-1]]))
    kept = np.asarray(np.logical_and.reduce([follows, held[1:], held[:-1]]))
    run = np.lib.stride_tricks.sliding_window_view(kept, max(LEADS)).all(1)
    rounding = np.array([resolution(column) for column in train.T]) / sd
    return Hours(np.where(whole[:, None], (values - mean) / sd, 0.0), first, np.flatnonzero(run)[::EVERY], rounding)


def weather_fits(
    share: float, how: Fit, seed: int, clean_drift: np.ndarray | None
) -> tuple[dict[str, Found], np.ndarray]:
    """The measures by way; and the Gaussian drift (fits, n, d) at the origins, to compare those of spoiled rows with.

    clean_drift: that of the clean rows; None for them themselves.
    """
    data, rng = hours(), np.random.default_rng((seed, int(1_000 * share)))
    seen = spoiled(np.broadcast_to(data.rows, (how.fits, *data.rows.shape)), share, WEATHER_SIZE, rng)
    x0, x1 = seen[:, data.first], seen[:, data.first + 1]
    hour = np.sqrt(np.square(data.rows[data.first + 1] - data.rows[data.first]).mean(0))
    found: dict[str, Found] = {TRIVIAL: _persistence(seen, data)}
    for way, options in WAYS.items():
        models = fit(options, x0, x1, how, seed)
        drift = flows(models, data.rows[data.origin])
        if way == PLAIN and clean_drift is None:
            clean_drift = drift
        assert clean_drift is not None
        starts = np.broadcast_to(data.rows[data.origin], (how.fits, len(data.origin), data.rows.shape[1]))
        draws = paths(models, starts, np.ones(max(LEADS)), n=how.paths, seed=seed)
        found[way] = {"drift moved": np.sqrt((((drift - clean_drift) / hour) ** 2).mean((1, 2))).tolist()}
        found[way] |= _forecast_scores(np.moveaxis(draws, 2, 1), data)
    assert clean_drift is not None
    return found, clean_drift


def _persistence(seen: np.ndarray, data: Hours) -> Found:
    """The last row, with the s.d. of the spoiled increments of an hour times the root of the hours."""
    sd = np.sqrt(np.square(seen[:, data.first + 1] - seen[:, data.first]).mean(1))
    found: Found = {"drift moved": []}
    for lead in LEADS:
        truth, at = data.rows[data.origin + lead], data.rows[data.origin]
        spread = (sd * np.sqrt(lead))[:, None]
        found[f"CRPS {lead}"] = [float(sc.crps_gaussian(at, s, truth).mean()) for s in spread]
        for level in _LEVELS:
            inside = [sc.covered_gaussian(at, s, truth, level, data.rounding) for s in spread]
            found[f"coverage {level}, {lead} h"] = [float(each.mean()) for each in inside]
    return found


def _forecast_scores(draws: np.ndarray, data: Hours) -> Found:
    """Means over columns of draws (fits, n, origins, hours, d)."""
    found: Found = {}
    for lead in LEADS:
        truth = data.rows[data.origin + lead]
        found[f"CRPS {lead}"] = [float(sc.crps_samples(d[:, :, lead - 1], truth).mean()) for d in draws]
        for level in _LEVELS:
            inside = [sc.covered(d[:, :, lead - 1], truth, level, data.rounding) for d in draws]
            found[f"coverage {level}, {lead} h"] = [float(each.mean()) for each in inside]
    return found

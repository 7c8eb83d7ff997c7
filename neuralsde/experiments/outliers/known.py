"""Outliers on an Ornstein-Uhlenbeck process of variance one, and a process with skewed noise.

    x' = φ x + s Z, φ = e^-Δ, s² = 1 - φ²,     seen is y = x + o, o ~ N(0, τ²) with probability p, else 0

An outlier spoils the target of one transition and the input of the next. Least squares of y' - y on y then finds the
slope φ / (1 + p τ²) - 1 for φ - 1; what the other losses find is their limit (`ways.limit`). Scored is
the law of the next *clean* row from a clean one. The skewed process has s (E - 1), E exponential, for s Z: its mean is
the same, so least squares is right, and a loss that looks for the mode is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.special import ndtri

from neuralsde.evaluate import scores as sc
from neuralsde.experiments.outliers.ways import WAYS, Limit, Rows, limit, reweighted, spoiled
from neuralsde.experiments.seeds import train, window
from neuralsde.models.sequence_sde import Config, SequenceSDE

GAP, SIZE = 0.1, 3.0
PHI = float(np.exp(-GAP))
NOISE = float(np.sqrt(1 - PHI**2))
MEASURES = ("pull", "intercept", "coverage 80", "coverage 95", "CRPS")
"""The slope of the learned drift over the true one; its value at 0 in units of the noise; scores of clean rows."""
_LEVELS = (80, 95)
_STATES, _GRID, _DRAWS, _TEST = 21, 401, 100, 2_000

Found = dict[str, list[float]]


def series(count: int, rows: int, rng: np.random.Generator, *, skewed: bool = False) -> np.ndarray:
    """Clean series (count, rows) at rest from the first row."""
    x = np.empty((count, rows))
    x[:, 0] = rng.standard_normal(count)
    noise = rng.exponential(size=(rows, count)) - 1 if skewed else rng.standard_normal((rows, count))
    for k in range(rows - 1):
        x[:, k + 1] = PHI * x[:, k] + NOISE * noise[k]
    return x


def least_squares_pull(share: float) -> float:
    """In closed form: (1 - φ / (1 + p τ²)) / (1 - φ)."""
    return (1 - PHI / (1 + share * SIZE**2)) / (1 - PHI)


def endless(share: float) -> Rows:
    """The law of (y, y' - y) as weighted points: a Gaussian for each of the four cases of what is an outlier."""
    at, z = np.linspace(-5, 5, _STATES), np.linspace(-6, 6, _GRID)
    weight, mass = (np.exp(-0.5 * each**2) for each in (at, z))
    parts = []
    for here, there in ((h, t) for h in (0, 1) for t in (0, 1)):
        chance = (share if here else 1 - share) * (share if there else 1 - share)
        variance = 1 + here * SIZE**2
        y = np.sqrt(variance) * at[:, None]
        left = 1 + there * SIZE**2 - PHI**2 / variance
        y1 = PHI / variance * y + np.sqrt(left) * z
        if chance:
            parts.append((np.broadcast_to(y, y1.shape), y1 - y, chance * weight[:, None] * mass))
    return Rows(*(np.concatenate([part[k].ravel() for part in parts]) for k in range(3)))


def endless_skewed() -> Rows:
    """Of the skewed process. Its noise does not depend on the state, so that of the state two points will do."""
    e = (np.arange(8_000) + 0.5) / 400
    x = np.repeat([-1.0, 1.0], len(e))
    return Rows(x, (PHI - 1) * x + np.tile(NOISE * (e - 1), 2), np.tile(np.exp(-e), 2))


def expected(share: float) -> dict[str, dict[str, float]]:
    """The measures with endless data, by way."""
    rows = endless(share)
    return {way: _measures(limit(way, rows)) for way in WAYS}


def expected_skewed() -> dict[str, dict[str, float]]:
    """Pull and intercept on the skewed process, by way."""
    rows = endless_skewed()
    return {way: _line_measures(limit(way, rows)) for way in WAYS}


def _line_measures(law: Limit) -> dict[str, float]:
    return {"pull": -law.c / (1 - PHI), "intercept": law.a / NOISE}


def _measures(law: Limit) -> dict[str, float]:
    """Coverage in closed form, CRPS by quantiles of the forecast and of the truth."""
    error = float(np.hypot(PHI - 1 - law.c, NOISE))
    p = (np.arange(500) + 0.5) / 500
    draws = np.broadcast_to(law.s * law.quantile(p)[:, None], (len(p), len(p)))
    return {
        **_line_measures(law),
        **{f"coverage {level}": law.covers(level / 100, error) for level in _LEVELS},
        "CRPS": float(sc.crps_samples(draws, error * ndtri(p) - law.a).mean()),
    }


def floor() -> float:
    """CRPS of the exact law: s / √π."""
    return NOISE / float(np.sqrt(np.pi))


def measure(share: float, seed: int, count: int, rows: int, steps: int, *, skewed: bool = False) -> dict[str, Found]:
    """The measures by way, one a fit: `count` fits, each on its own series of so many rows."""
    rng = _rng(seed, share, skewed)
    x = series(count, rows, rng, skewed=skewed)
    y = spoiled(x[..., None], share, SIZE, rng)
    test = series(count, _TEST + 1, rng)
    found: dict[str, Found] = {}
    for way, options in WAYS.items():
        config: Any = Config(history=0, depth=0, confined=False, **options)
        models = train(config, y[:, :-1], y[:, 1:], steps=steps, seed=seed)
        a, slope = (np.asarray(part, np.float64) for part in _line(models))
        found[way] = {"pull": (-slope / (1 - PHI)).tolist(), "intercept": (a / NOISE).tolist()}
        if not skewed:
            found[way] |= _clean_scores(models, test)
    return found


def _rng(seed: int, share: float, skewed: bool = False) -> np.random.Generator:
    return np.random.default_rng((seed, int(1_000 * share), int(skewed)))


def minimisers(losses: Mapping[str, tuple[str, float]], seed: int, count: int, rows: int) -> dict[str, Found]:
    """Pull and intercept at the minimum of flow losses (kind, δ), one for each clean series of `measure`."""
    found: dict[str, Found] = {way: {"pull": [], "intercept": []} for way in losses}
    for x in series(count, rows, _rng(seed, 0.0)):
        given = Rows(x[:-1], np.diff(x), np.ones(rows - 1))
        for way, (kind, delta) in losses.items():
            for name, value in _line_measures(Limit(*reweighted(kind, given, delta), NOISE)).items():
                found[way][name].append(value)
    return found


@eqx.filter_jit
def _line(models: SequenceSDE) -> tuple[Array, Array]:
    """Value at 0 and slope (fits,) of the linear drift."""

    def one(model: SequenceSDE) -> tuple[Array, Array]:
        at = [model.drift(window(np.array([x])))[0] for x in (0.0, 1.0)]
        return at[0], at[1] - at[0]

    return eqx.filter_vmap(one)(models)


def _clean_scores(models: SequenceSDE, test: np.ndarray) -> Found:
    """Coverage and CRPS of the next clean row on each fit's test series, from the law of the step: no paths drawn."""
    laws = _laws(models, jnp.asarray(test[:, :-1], jnp.float32))
    mean, sd, dof = (np.asarray(part, np.float64) for part in laws)
    p = (np.arange(_DRAWS) + 0.5) / _DRAWS
    found: Found = {name: [] for name in (*(f"coverage {level}" for level in _LEVELS), "CRPS")}
    for m, s, nu, truth in zip(mean, sd, dof, test[:, 1:], strict=True):
        unit = Limit(0.0, 0.0, 1.0, None if np.isinf(nu) else float(nu))
        for level in _LEVELS:
            found[f"coverage {level}"].append(float((np.abs(truth - m) < s * unit.half_width(level / 100)).mean()))
        found["CRPS"].append(float(sc.crps_samples(m + s * unit.quantile(p)[:, None], truth).mean()))
    return found


@eqx.filter_jit
def _laws(models: SequenceSDE, x: Array) -> tuple[Array, Array, Array]:
    """Mean and scale (fits, n) of a step from states x (fits, n); degrees of freedom (fits,), inf for a Gaussian."""

    def one(model: SequenceSDE, x: Array) -> tuple[Array, Array, Array]:
        def step(at: Array) -> tuple[Array, Array]:
            law = model.step(window(at[None]), jnp.ones(1))
            return law.mean[0], law.sd[0]

        mean, sd = jax.vmap(step)(x)
        return mean, sd, jnp.asarray(jnp.inf) if model.dof is None else model.dof[0]

    return eqx.filter_vmap(one)(models, x)

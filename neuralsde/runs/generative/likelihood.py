"""How likely held-out points are under a diffusion model: nats a point, and bits a number.

The log density of the probability flow (sampling/likelihood), in data units; of quantised data spread over their cells
it bounds the log probability of the whole numbers, so that nats and bits are upper bounds on what a code would need.
Two simple laws stand beside it, fitted on the same training points: each number by itself with the frequencies of its
values (quantised data), and one Gaussian with the full covariance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from neuralsde.data.images import Scale
from neuralsde.sampling.likelihood import (
    Exact,
    Fixed,
    Hutchinson,
    Mean,
    bits_per_dimension,
    flow_likelihoods,
    mean_nats,
)

EXACT_UP_TO = 16
"""Dimensions up to which the divergence is exact by default; above it one random probe a path, unbiased."""
STEPS = 32
"""Runge-Kutta steps along the flow by default, four evaluations each."""
_BATCH = 128
_MOST_CELLS = 4_096


@dataclass(frozen=True)
class PointScores:
    """Nats a point and bits a number of `n` points, each with its standard error; `baselines` the bits of simple laws.

    bits are of probabilities where the data are quantised, else of densities in data units. nfe: evaluations a point.
    """

    nats: Mean
    bits: Mean
    baselines: dict[str, Mean]
    quantised: bool
    nfe: int
    what: str

    def table(self) -> pl.DataFrame:
        """A row for the model and one for each simple law."""
        rows = {"model": self.bits, **self.baselines}
        return pl.DataFrame({
            "law": list(rows),
            "bits-per-dimension": [row.mean for row in rows.values()],
            "standard-error": [row.standard_error for row in rows.values()],
            "points": [row.n for row in rows.values()],
        })  # fmt: skip

    def __str__(self) -> str:
        unit = "bits per dimension" if self.quantised else "bits per dimension, of the density in data units"
        lines = [
            f"{self.nats.n} {self.what}, {self.nfe} evaluations each; ± one standard error",
            f"nats a point          {self.nats.mean:10.3f} ± {self.nats.standard_error:.3f}",
            unit,
            f"  model               {self.bits.mean:10.4f} ± {self.bits.standard_error:.4f}",
        ]
        lines += [f"  {name:<19} {row.mean:10.4f} ± {row.standard_error:.4f}" for name, row in self.baselines.items()]
        return "\n".join(lines)


def score_points(
    predictor: Any, scale: Scale, values: np.ndarray, train: np.ndarray | None, *, seed: int, steps: int, what: str
) -> PointScores:
    """Of points (n, *shape) in data units; train: the training points, for the simple laws."""
    spread, probes = jax.random.split(jax.random.key(seed))
    u = np.asarray(jax.random.uniform(spread, values.shape))
    how = Exact() if scale.size <= EXACT_UP_TO else Hutchinson()
    found = flow_likelihoods(
        predictor, jnp.asarray(scale.encode(values, u)), solver=Fixed(steps), divergence=how, key=probes,
        batch=min(_BATCH, len(values)),
    )  # fmt: skip
    log_p = np.asarray(found.log_density, np.float64) + scale.log_cell() - scale.log_volume()
    simple = {} if train is None else simple_laws(scale, values, train, u)
    return PointScores(
        mean_nats(log_p),
        bits_per_dimension(log_p, scale.size),
        {name: bits_per_dimension(each, scale.size) for name, each in simple.items()},
        scale.quantised,
        int(np.asarray(found.nfe).max()),
        what,
    )


def simple_laws(scale: Scale, values: np.ndarray, train: np.ndarray, u: np.ndarray) -> dict[str, np.ndarray]:
    """Log probability (quantised) or density (n,) in data units by laws that anyone would try first."""
    found = {"Gaussian": gaussian(scale, values, train, u)}
    if scale.quantised and cell_count(scale) <= _MOST_CELLS:
        found["each number alone"] = alone(scale, values, train)
    return found


def gaussian(scale: Scale, values: np.ndarray, train: np.ndarray, u: np.ndarray) -> np.ndarray:
    """One Gaussian with the mean and covariance of the training points, spread over their cells: (n,)."""
    z, fitted = (scale.encode(part, noise).reshape(len(part), -1).astype(np.float64) for part, noise in
                 ((values, u), (train, np.random.default_rng(0).random(train.shape))))  # fmt: skip
    off, d = fitted - fitted.mean(0), fitted.shape[1]
    cov = off.T @ off / len(off) + 1e-6 * np.eye(d)
    root = np.linalg.cholesky(cov)
    white = np.linalg.solve(root, (z - fitted.mean(0)).T)
    log_p = -0.5 * np.square(white).sum(0) - np.log(np.diag(root)).sum() - 0.5 * d * math.log(2 * math.pi)
    return log_p + scale.log_cell() - scale.log_volume()


def alone(scale: Scale, values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Every number independent of the others, by the frequencies of its values plus half a count each: (n,)."""
    cells = cell_count(scale)

    def codes(part: np.ndarray) -> np.ndarray:
        steps = np.rint((np.asarray(part, np.float64) - min(scale.low)) / np.array(scale.step))
        return np.clip(steps, 0, cells - 1).astype(np.int64).reshape(len(part), -1)

    counts = np.stack([np.bincount(column, minlength=cells) for column in codes(train).T]) + 0.5
    log_p = np.log(counts / counts.sum(1, keepdims=True))
    return log_p[np.arange(scale.size), codes(values)].sum(1)


def cell_count(scale: Scale) -> int:
    """How many different values a quantised number can have."""
    return round((max(scale.high) - min(scale.low)) / min(scale.step)) + 1

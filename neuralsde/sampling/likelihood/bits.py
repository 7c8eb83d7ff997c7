"""From nats to a figure that can be compared: means with standard errors, and bits per dimension of pixels.

Pixels are whole numbers k, which have a probability and no density. With u uniform on [0, 1)^d (Theis et al. 2016)

    log P(k) = log E_u[p(k + u)·1] ≥ E_u log p(k + u),    bits per dimension = -log P / (d log 2)

so the density of dequantised pixels, in units of one level, bounds the bits. A model of x = (k + u - m)/s has the
density p(k + u) = p(x) / Π s.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError


class Mean(NamedTuple):
    """A mean over n points and its standard error; standard_error is NaN for one point."""

    mean: float
    standard_error: float
    n: int


def _over(values: Any) -> Mean:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise InputError(f"values of shape {values.shape}", expected="one number a point, at least one point")
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return Mean(float(values.mean()), error, len(values))


def mean_nats(log_density: Any) -> Mean:
    """-log p over points (n,): nats a point, lower is better."""
    return _over(-np.asarray(log_density, np.float64))


def dequantised(levels: Any, *, key: Key[Array, ""]) -> Float[Array, ...]:
    """Whole-number levels of any shape plus uniform noise on [0, 1), as floats in units of one level.

    Raises InputError for levels that are not whole numbers.
    """
    given = np.asarray(levels)
    if not np.array_equal(given, np.round(given)):
        raise InputError(
            f"levels between {given.min():g} and {given.max():g} that are not whole",
            "only whole-number levels have a probability",
            "pixels such as 0 to 255",
        )
    return jax.numpy.asarray(given, float) + jax.random.uniform(key, given.shape)


def bits_per_dimension(log_density: Any, d: int, *, log_scale: float = 0.0) -> Mean:
    """From log densities (n,) of standardised, dequantised points of d entries.

    log_scale: Σ log s over the d entries, s the s.d. by which each was divided, in units of one level; for one s and
               all entries d log s.
    """
    if d < 1:
        raise InputError(f"d={d}", expected="at least one entry a point")
    return _over((log_scale - np.asarray(log_density, np.float64)) / (d * math.log(2)))

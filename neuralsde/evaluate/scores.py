"""Proper scores and calibration of probabilistic forecasts, in numpy and float64.

A forecast is a sample x_1..x_n (axis 0) or a Gaussian (m, s); the truth y is NaN where it is missing, and so is its
score. Lower is better for every score, higher for every log-probability.

    CRPS   = E|X - y| - 1/2 E|X - X'|        energy score = E||X - y|| - 1/2 E||X - X'||
    log p  = log[Phi((y + q/2 - m)/s) - Phi((y - q/2 - m)/s)]     for data rounded to multiples of q

The second expectations use the fair estimator with n(n - 1) pairs (Ferro 2014), whose mean does not depend on n.
Rounded data have no density; q = 0 gives the ordinary log-density.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, log_ndtr, logsumexp, ndtr, ndtri, stdtr

from neuralsde.errors import InputError

Floats = NDArray[np.float64]
Number = float | int
Numbers = float | int | np.generic | np.ndarray | Sequence[Any]

_LOG_SQRT_TAU = 0.5 * np.log(2.0 * np.pi)
# Below this width in s.d. (times max(1, |z|)) the midpoint rule beats the difference of two nearly equal numbers.
_NARROW = 1e-3


def _ensemble(samples: Numbers, truth: Numbers, minimum: int = 2) -> tuple[Floats, Floats]:
    """Samples `(n, ...)` and truth `(...)` as float64, checked against each other."""
    x, y = np.asarray(samples, np.float64), np.asarray(truth, np.float64)
    if x.ndim == 0 or x.shape[1:] != y.shape:
        raise InputError(
            f"samples of shape {x.shape} and a truth of shape {y.shape}",
            expected="samples (n, ...) with the truth's shape behind the first axis",
        )
    if len(x) < minimum:
        raise InputError(f"{len(x)} samples", "the fair estimator divides by n - 1", f"at least {minimum} samples")
    return x, y


def _positive_sd(sd: Numbers) -> Floats:
    s = np.asarray(sd, np.float64)
    if np.any(s <= 0):
        raise InputError(f"a standard deviation of {np.nanmin(s):g}", expected="every s.d. above zero")
    return s


# -- scores -------------------------------------------------------------------------------------------------------


def crps_samples(samples: Numbers, truth: Numbers) -> Floats:
    """Fair CRPS of an ensemble: samples `(n, ...)`, truth `(...)` -> `(...)`, in the data's units.

    Sum_ij |x_i - x_j| = 2 Sum_i (2i - n - 1) x_(i) over the sorted sample, so the cost is n log n.
    """
    x, y = _ensemble(samples, truth)
    n = len(x)
    weight = (2.0 * np.arange(1, n + 1) - n - 1).reshape((n,) + (1,) * y.ndim)
    return np.asarray(np.mean(np.abs(x - y), axis=0) - np.sum(weight * np.sort(x, axis=0), axis=0) / (n * (n - 1)))


def crps_gaussian(mean: Numbers, sd: Numbers, truth: Numbers) -> Floats:
    """CRPS of N(mean, sd^2), closed form: s [z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi)] (Gneiting & Raftery 2007)."""
    s = _positive_sd(sd)
    z = (np.asarray(truth, np.float64) - np.asarray(mean, np.float64)) / s
    density = np.exp(-0.5 * z**2 - _LOG_SQRT_TAU)
    return np.asarray(s * (z * (2.0 * ndtr(z) - 1.0) + 2.0 * density - 1.0 / np.sqrt(np.pi)))


def energy_score(samples: Numbers, truth: Numbers, scale: Numbers = 1.0) -> Floats:
    """Fair energy score over the last axis: samples `(n, ..., d)`, truth `(..., d)` -> `(...)`.

    `scale` (scalar or `(d,)`) divides every column first, so that units do not decide which column counts. A row
    with any missing column is NaN: scores over different columns must not be averaged.
    """
    x, y = _ensemble(samples, truth)
    if y.ndim == 0:
        raise InputError("a truth without columns", expected="a last axis of length d")
    x, y = x / np.asarray(scale, np.float64), y / np.asarray(scale, np.float64)
    n = len(x)
    near = np.mean(np.linalg.norm(x - y, axis=-1), axis=0)
    # One shift at a time: n - 1 passes over (n, ..., d) instead of an array of n^2 pairs.
    spread = sum(np.sum(np.linalg.norm(x[k:] - x[:-k], axis=-1), axis=0) for k in range(1, n))
    return np.asarray(near - spread / (n * (n - 1)))


# -- likelihood ---------------------------------------------------------------------------------------------------


def log_probability(lower: Numbers, upper: Numbers, mean: Numbers, sd: Numbers, dof: Numbers | None = None) -> Floats:
    """Log P(lower < X < upper) for X ~ N(mean, sd^2); the ends broadcast and may be infinite.

    dof: X is of Student's law of scale sd with so many degrees of freedom. Use this one when the cell's ends went
    through a transform; `log_interval` when they did not.
    """
    s, m = _positive_sd(sd), np.asarray(mean, np.float64)
    a, b = (np.asarray(lower, np.float64) - m) / s, (np.asarray(upper, np.float64) - m) / s
    if np.any(a >= b):
        raise InputError("a cell whose upper end is not above its lower end", expected="lower < upper")
    with np.errstate(invalid="ignore", divide="ignore"):
        centre, width = 0.5 * (a + b), b - a
        if dof is None:
            return _log_cell(a, b, centre, width)
        narrow = log_density(centre, 0.0, 1.0, dof) + np.log(width)
        a, b = (_as_normal(end, dof) for end in (a, b))
        wide = _log_cell(a, b, 0.5 * (a + b), b - a)
        return np.where(width < _NARROW * np.maximum(1.0, np.abs(centre)), narrow, wide)


def _log_cell(a: Floats | float, b: Floats | float, centre: Floats | float, width: Floats | float) -> Floats:
    """log[Phi(b) - Phi(a)], stable in both tails; narrow cells need centre and width in full precision."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        flip = a + b > 0  # reflect into the left tail, where log_ndtr keeps its digits
        a, b = np.where(flip, -b, a), np.where(flip, -a, b)
        wide = log_ndtr(b) + np.log1p(-np.exp(log_ndtr(a) - log_ndtr(b)))
        # The midpoint rule with its next term: log phi(z) + log w + log(1 + w^2 (z^2 - 1)/24).
        correction = np.log1p(width**2 * (centre**2 - 1.0) / 24.0)
        narrow = -0.5 * centre**2 - _LOG_SQRT_TAU + np.log(width) + correction
        return np.where(width * np.maximum(1.0, np.abs(centre)) < _NARROW, narrow, wide)


def log_density(truth: Numbers, mean: Numbers, sd: Numbers, dof: Numbers | None = None) -> Floats:
    """Log N(truth; mean, sd^2), or of Student's law of scale sd with `dof` degrees of freedom."""
    s = _positive_sd(sd)
    z = (np.asarray(truth, np.float64) - np.asarray(mean, np.float64)) / s
    if dof is None:
        return np.asarray(-0.5 * z**2 - np.log(s) - _LOG_SQRT_TAU)
    v = np.asarray(dof, np.float64)
    norm = gammaln((v + 1) / 2) - gammaln(v / 2) - 0.5 * np.log(np.pi * v)
    return np.asarray(norm - (v + 1) / 2 * np.log1p(z**2 / v) - np.log(s))


def _as_normal(z: Floats, dof: Numbers) -> Floats:
    """Where a standard normal has the probability on either side that Student's law has at z."""
    return np.asarray(-np.sign(z) * ndtri(stdtr(np.asarray(dof, np.float64), -np.abs(z))))


def log_interval(truth: Numbers, mean: Numbers, sd: Numbers, q: Numbers = 0.0) -> Floats:
    """Log-probability of the rounding interval `truth +- q/2` under N(mean, sd^2), or the log-density where q = 0.

    All arguments broadcast; `q` may differ by column. Nats. The negative of its mean over rows and columns is the
    likelihood score in nats per dimension and step.
    """
    y, step = np.asarray(truth, np.float64), np.asarray(q, np.float64)
    if np.any(step < 0):
        raise InputError(f"a rounding step of {step.min():g}", expected="q >= 0")
    rounded = step > 0
    if not rounded.any():
        return log_density(y, mean, sd)
    s = _positive_sd(sd)
    z, w = (y - np.asarray(mean, np.float64)) / s, np.where(rounded, step, 1.0) / s
    cell = _log_cell(z - w / 2, z + w / 2, z, w)
    return cell if rounded.all() else np.where(rounded, cell, log_density(y, mean, sd))


def log_mixture(log_terms: Numbers) -> Floats:
    """Log of the mean over axis 0 of exp(log_terms): `(n, ...)` log-probabilities of n components -> `(...)`."""
    terms = np.asarray(log_terms, np.float64)
    return np.asarray(logsumexp(terms, axis=0) - np.log(len(terms)))


def log_interval_mixture(truth: Numbers, mean: Numbers, sd: Numbers, q: Numbers = 0.0) -> Floats:
    """`log_interval` of the equal mixture of n Gaussians: means and s.d. `(n, ...)`, truth `(...)` -> `(...)`.

    The density of a forecast several steps ahead: the mean over paths of the last one-step Gaussian.
    """
    return log_mixture(log_interval(np.asarray(truth, np.float64)[None], mean, sd, q))


# -- calibration --------------------------------------------------------------------------------------------------


def quantiles(samples: Numbers, probabilities: Numbers) -> Floats:
    """Quantiles over axis 0, `(n, ...)` -> `(len(p), ...)`, at plotting positions i/(n + 1) (Hyndman & Fan, type 6).

    Those are the ones whose interval holds a new draw with the nominal probability for any n.
    """
    x = np.asarray(samples, np.float64)
    return np.asarray(np.quantile(x, np.asarray(probabilities, np.float64), axis=0, method="weibull"))


def band(samples: Numbers, level: Number) -> tuple[Floats, Floats]:
    """Central interval at `level` (0.8 or 80): `(n, ...)` -> lower `(...)`, upper `(...)`."""
    p = _fraction(level)
    lower, upper = quantiles(samples, [(1 - p) / 2, (1 + p) / 2])
    return lower, upper


def band_gaussian(mean: Numbers, sd: Numbers, level: Number) -> tuple[Floats, Floats]:
    """Central interval of N(mean, sd^2) at `level` (0.8 or 80)."""
    m, half = np.asarray(mean, np.float64), _positive_sd(sd) * ndtri((1 + _fraction(level)) / 2)
    return np.asarray(m - half), np.asarray(m + half)


def inside(lower: Numbers, upper: Numbers, truth: Numbers) -> Floats:
    """1.0 where the truth lies in the closed band, 0.0 where it does not, NaN where it is missing."""
    y = np.asarray(truth, np.float64)
    held = (np.asarray(lower, np.float64) <= y) & (y <= np.asarray(upper, np.float64))
    return np.where(np.isnan(y), np.nan, held.astype(np.float64))


def covered(samples: Numbers, truth: Numbers, level: Number, q: Numbers = 0.0) -> Floats:
    """Probability in [0, 1] that the randomised PIT falls in the central `level`: its mean is the coverage.

    For rounded data (q > 0) this is exact where a plain "inside the band" is not; `(n, ...)`, `(...)` -> `(...)`.
    """
    low, high = _pit_range(samples, truth, q)
    return _overlap(low, high, _fraction(level))


def covered_gaussian(
    mean: Numbers, sd: Numbers, truth: Numbers, level: Number, q: Numbers = 0.0, dof: Numbers | None = None
) -> Floats:
    """`covered` for the forecast N(mean, sd^2), or Student's law of scale sd with `dof` degrees of freedom."""
    low, high = _pit_range_gaussian(mean, sd, truth, q, dof)
    return _overlap(low, high, _fraction(level))


def pit(samples: Numbers, truth: Numbers, q: Numbers = 0.0, *, seed: int = 0) -> Floats:
    """Randomised probability integral transform, uniform on [0, 1] for a calibrated forecast; `(...)`, NaN if missing.

    The rank of the truth is drawn uniformly among the ranks that its rounding interval `truth +- q/2` allows, which
    makes the law exactly uniform for any n, any q and any ties.
    """
    low, high = _pit_range(samples, truth, q)
    return np.asarray(low + np.random.default_rng(seed).uniform(size=low.shape) * (high - low))


def pit_gaussian(mean: Numbers, sd: Numbers, truth: Numbers, q: Numbers = 0.0, *, seed: int = 0) -> Floats:
    """`pit` for the forecast N(mean, sd^2)."""
    low, high = _pit_range_gaussian(mean, sd, truth, q)
    return np.asarray(low + np.random.default_rng(seed).uniform(size=low.shape) * (high - low))


def _pit_range(samples: Numbers, truth: Numbers, q: Numbers) -> tuple[Floats, Floats]:
    x, y = _ensemble(samples, truth, minimum=1)
    half, missing = np.asarray(q, np.float64) / 2, np.isnan(y)
    below = np.sum(x < y - half, axis=0) / (len(x) + 1)
    above = (np.sum(x <= y + half, axis=0) + 1) / (len(x) + 1)
    return np.where(missing, np.nan, below), np.where(missing, np.nan, above)


def _pit_range_gaussian(
    mean: Numbers, sd: Numbers, truth: Numbers, q: Numbers, dof: Numbers | None = None
) -> tuple[Floats, Floats]:
    z = np.asarray(truth, np.float64) - np.asarray(mean, np.float64)
    half, s = np.asarray(q, np.float64) / 2, _positive_sd(sd)
    if dof is None:
        return np.asarray(ndtr((z - half) / s)), np.asarray(ndtr((z + half) / s))
    return np.asarray(stdtr(dof, (z - half) / s)), np.asarray(stdtr(dof, (z + half) / s))


def _overlap(low: Floats, high: Floats, level: Number) -> Floats:
    """Share of [low, high] inside the central `level` of [0, 1]; a point counts as 0 or 1."""
    first, last = (1 - level) / 2, (1 + level) / 2
    width = high - low
    shared = np.clip(np.minimum(high, last) - np.maximum(low, first), 0.0, None)
    point = np.where(np.isnan(low), np.nan, ((first <= low) & (low <= last)).astype(np.float64))
    return np.where(width > 0, shared / np.where(width > 0, width, 1.0), point)


def _fraction(level: Number) -> float:
    p = level / 100 if level > 1 else level
    if not 0 < p < 1:
        raise InputError(f"a level of {level:g}", expected="a level between 0 and 100, as 80 or 0.8")
    return p

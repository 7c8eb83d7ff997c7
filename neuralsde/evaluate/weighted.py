"""Summaries and CRPS of weighted samples, such as the paths of importance sampling; numpy, float64.

samples (n, ...), weights (n,) that sum to 1, support (...): how many distinct equally weighted draws they are worth
(1 / Σ w² with equal draws merged, which resampling makes). With equal weights everything is what `scores` has:
the unbiased variance, the quantiles at i/(n + 1), the fair CRPS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuralsde.evaluate.scores import Floats


def mean_and_sd(samples: Floats, weights: Floats, support: Floats) -> tuple[Floats, Floats]:
    """Weighted mean and s.d. (...), Σ w (x - m)² / (1 - 1/support); one distinct draw has no spread to show."""
    mean = np.tensordot(weights, samples, 1)
    square = np.tensordot(weights, (samples - mean) ** 2, 1)
    return mean, np.sqrt(square / _freedom(support))


def quantiles(samples: Floats, weights: Floats, support: Floats, probabilities: Sequence[float]) -> Floats:
    """Weighted quantiles (len(p), ...).

    The sorted draw i stands at ½ + (c_i - ½) s/(s + 1), c_i the weight below it and half its own, s the support:
    the plotting position i/(n + 1) for equal weights; linear in between, flat outside.
    """
    n, shape = len(samples), samples.shape[1:]
    flat = samples.reshape(n, -1)
    order = np.argsort(flat, axis=0)
    ordered, w = np.take_along_axis(flat, order, 0), weights[order]
    s = np.broadcast_to(support, shape).ravel()
    place = 0.5 + (np.cumsum(w, axis=0) - w / 2 - 0.5) * s / (s + 1)
    return np.stack([_between(ordered, place, p) for p in probabilities]).reshape(len(probabilities), *shape)


def crps_weighted(samples: Floats, weights: Floats, support: Floats, truth: Floats) -> Floats:
    """Fair CRPS (...): Σ w |x - y| - ½ ΣΣ w w' |x - x'| / (1 - 1/support); truth (...)."""
    order = np.argsort(samples, axis=0)
    x, w = np.take_along_axis(samples, order, 0), weights[order]
    # ½ ΣΣ w_i w_j |x_i - x_j| = Σ_i w_i x_i (weight below - weight above)
    below = np.cumsum(w, axis=0) - w
    pairs = (w * x * (2 * below + w - 1)).sum(0)
    return np.tensordot(weights, np.abs(samples - truth), 1) - pairs / _freedom(support)


def equally_weighted(samples: Floats, weights: Floats, *, seed: int = 0) -> Floats:
    """As many draws (n, ...) of equal weight, by systematic resampling."""
    n = len(weights)
    points = (np.arange(n) + np.random.default_rng(seed).uniform()) / n
    return samples[np.minimum(np.searchsorted(np.cumsum(weights), points), n - 1)]


def _freedom(support: Floats) -> Floats:
    share = 1 - 1 / np.asarray(support, np.float64)
    return np.where(share > 1e-9, share, 1.0)


def _between(ordered: Floats, place: Floats, p: float) -> Floats:
    """The value at position p of each column, between the two draws around it."""
    last = len(place) - 1
    above = np.minimum((place < p).sum(0), last)
    under = np.maximum(above - 1, 0)
    column = np.arange(place.shape[1])
    low, high = place[under, column], place[above, column]
    share = np.clip((p - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
    return ordered[under, column] + share * (ordered[above, column] - ordered[under, column])

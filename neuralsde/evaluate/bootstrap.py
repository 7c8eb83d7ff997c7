"""Intervals for averages of dependent values, by resampling whole blocks.

Scores of neighbouring windows, and of places that share their weather, are not independent; blocks (a held-out week)
nearly are. Draw K blocks out of K with replacement, B times; the statistic is the mean over the rows drawn,
sum of block sums / sum of block counts. With few blocks the percentile interval is too short, so it is taken at the
level Phi(-sqrt(K/(K-1)) t_{K-1}) that makes it as wide as Student's interval when the mean is normal (Hesterberg 2015,
"What teachers should know about the bootstrap", section 4.1, the expanded percentile interval).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from neuralsde.errors import InputError
from neuralsde.evaluate.scores import Floats, Number, Numbers


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; arrays of one shape `(...)`. NaN ends: fewer than two blocks hold a value."""

    value: Floats
    low: Floats
    high: Floats

    def at(self, index: int | tuple[int, ...]) -> Estimate:
        """The estimate of one entry, with arrays of shape `()`."""
        return Estimate(np.asarray(self.value[index]), np.asarray(self.low[index]), np.asarray(self.high[index]))


def block_bootstrap(
    values: Numbers, blocks: Numbers, *, n_boot: int = 1000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Mean over axis 0 of `values (n, ...)` with an interval; `blocks (n,)` are labels of any kind.

    NaN entries are left out, each column by itself. The same blocks and seed draw the same resamples, so intervals
    of two calls are paired; for "a against b" give a - b.
    """
    x, labels = np.asarray(values, np.float64), np.asarray(blocks)
    if x.ndim == 0 or labels.shape != x.shape[:1] or len(x) == 0:
        raise InputError(
            f"values of shape {x.shape} and block labels of shape {labels.shape}",
            expected="values (n, ...) and one label for each of the n > 0 rows",
        )
    if n_boot < 1 or not 0 < level < 1:
        raise InputError(f"n_boot={n_boot}, level={level:g}", expected="n_boot >= 1 and a level between 0 and 1")
    sums, counts = _block_sums(x.reshape(len(x), -1), labels)
    with np.errstate(invalid="ignore"):
        value = sums.sum(axis=0) / counts.sum(axis=0)
    low, high = _percentile_ends(sums, counts, n_boot, level, seed)
    shape = x.shape[1:]
    return Estimate(value.reshape(shape), low.reshape(shape), high.reshape(shape))


def _block_sums(flat: Floats, labels: np.ndarray) -> tuple[Floats, Floats]:
    """Sums and counts of the finite entries of `flat (n, m)` in each block: two arrays `(K, m)`."""
    _, index = np.unique(labels, return_inverse=True)
    k = int(index.max()) + 1
    present = ~np.isnan(flat)
    sums, counts = np.zeros((k, flat.shape[1])), np.zeros((k, flat.shape[1]))
    np.add.at(sums, index, np.where(present, flat, 0.0))
    np.add.at(counts, index, present.astype(np.float64))
    return sums, counts


def _percentile_ends(sums: Floats, counts: Floats, n_boot: int, level: float, seed: int) -> tuple[Floats, Floats]:
    k = len(sums)
    low, high = np.full(sums.shape[1], np.nan), np.full(sums.shape[1], np.nan)
    weights = np.random.default_rng(seed).multinomial(k, np.full(k, 1.0 / k), size=n_boot).astype(np.float64)
    filled = (counts > 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        means = (weights @ sums) / (weights @ counts)
    for used in np.unique(filled[filled > 1]):
        column = filled == used
        tail = float(ndtr(np.sqrt(used / (used - 1)) * stdtrit(used - 1, (1 - level) / 2)))
        ends = np.nanquantile(means[:, column], [tail, 1 - tail], axis=0)
        low[column], high[column] = ends[0], ends[1]
    return low, high


def stretch_blocks(times: Numbers, gap: Number) -> NDArray[np.int64]:
    """Labels `(n,)`: a new block wherever the sorted times leave a hole longer than `gap`.

    One label for all series at one time, since they share what drives them.
    """
    t = np.asarray(times, np.float64)
    order = np.argsort(t, kind="stable")
    labels = np.empty(len(t), np.int64)
    labels[order] = np.concatenate([[0], np.cumsum(np.diff(t[order]) > gap)]) if len(t) else 0
    return labels


def length_blocks(times: Numbers, length: Number) -> NDArray[np.int64]:
    """Labels `(n,)`: consecutive blocks of one `length` from the earliest time on, in the clock's units."""
    t = np.asarray(times, np.float64)
    if length <= 0:
        raise InputError(f"a block length of {length:g}", expected="a length above zero")
    return np.floor((t - t.min()) / length).astype(np.int64) if len(t) else np.zeros(0, np.int64)

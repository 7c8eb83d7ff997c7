"""To how many decimals was this column rounded? Rounded values have no density (THEORY 21).

A model is then scored by the probability of the rounding interval [x - q/2, x + q/2], which needs its width q.
"""

from __future__ import annotations

import numpy as np


def resolution(values: np.ndarray) -> float:
    """The rounding step q of a column (n,) without NaN, in data units; 0 when it is not visibly rounded.

    Rounded means that at least a quarter of the distinct values occur twice: many zeros alone are no rounding. The step
    is the median spacing of neighbouring distinct values, each counted as often as the rarer of the two, and then the
    mean of the spacings near it, because a scale turned into another (degrees F from tenths of C) steps unevenly.
    Values far rarer than usual, such as a few readings on a finer scale, are left out.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) < 2 or np.mean(counts > 1) < 0.25:
        return 0.0
    common = counts >= _weighted_median(counts, counts) / 4
    if common.sum() > 2:
        distinct, counts = distinct[common], counts[common]
    spacing, weight = np.diff(distinct), np.minimum(counts[:-1], counts[1:])
    near = np.abs(spacing / _weighted_median(spacing, weight) - 1) < 0.25
    return float(f"{np.average(spacing[near], weights=weight[near]):.9g}")


def _weighted_median(values: np.ndarray, weight: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])

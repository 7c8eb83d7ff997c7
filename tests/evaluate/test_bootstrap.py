"""The block bootstrap covers at its level, and pairs what shares a seed."""

from __future__ import annotations

import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.evaluate.bootstrap import block_bootstrap, length_blocks, stretch_blocks


def test_interval_of_twelve_dependent_blocks_covers_the_mean_at_its_level():
    rng = np.random.default_rng(3)
    trials, k, per = 1500, 12, 7
    # strong dependence inside a block: rows alone would give intervals less than half as wide
    values = rng.normal(size=(k, 1, trials)) + 0.5 * rng.normal(size=(k, per, trials))
    blocks = np.repeat(np.arange(k), per)
    estimate = block_bootstrap(values.reshape(k * per, trials), blocks, n_boot=800)
    held = ((estimate.low <= 0) & (estimate.high >= 0)).mean()
    assert held == pytest.approx(0.95, abs=0.02)
    alone = block_bootstrap(values.reshape(k * per, trials), np.arange(k * per), n_boot=200)
    assert ((alone.low <= 0) & (alone.high >= 0)).mean() < 0.75


def test_value_is_the_mean_of_what_is_there():
    x = np.array([[1.0, np.nan], [3.0, np.nan], [5.0, 2.0], [7.0, 4.0]])
    estimate = block_bootstrap(x, ["a", "a", "b", "b"])
    np.testing.assert_allclose(estimate.value, np.nanmean(x, axis=0))
    assert estimate.low[0] < 4 < estimate.high[0]
    assert np.isnan(estimate.low[1])
    assert np.isnan(estimate.high[1])


def test_shape_and_determinism():
    x = np.random.default_rng(0).normal(size=(30, 3, 2))
    blocks = np.arange(30) // 5
    one, two = block_bootstrap(x, blocks, seed=4), block_bootstrap(x, blocks, seed=4)
    assert one.value.shape == one.low.shape == (3, 2)
    np.testing.assert_array_equal(one.low, two.low)
    moved = block_bootstrap(2 * x + 1, blocks, seed=4)
    np.testing.assert_allclose(moved.high, 2 * one.high + 1)


def test_block_labels():
    times = np.array([0.0, 1, 2, 50, 51, 100, 0.5])
    assert stretch_blocks(times, 10).tolist() == [0, 0, 0, 1, 1, 2, 0]
    assert length_blocks(times, 50).tolist() == [0, 0, 0, 1, 1, 2, 0]


def test_labels_must_fit():
    with pytest.raises(InputError, match="one label"):
        block_bootstrap(np.zeros((3, 2)), [1, 2])

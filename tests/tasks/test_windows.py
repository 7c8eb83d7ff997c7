"""Held-out windows against sets computed by hand."""

from __future__ import annotations

import numpy as np

from neuralsde.data import Encoder, from_arrays
from neuralsde.tasks.windows import find_windows, pairs


def encoded(times, values):
    data = from_arrays(times, values)
    encoder = Encoder.fit(data)
    return encoder, encoder.encode(data)


def test_regular_rows_give_exact_leads_inside_the_marked_part():
    _, rows = encoded(np.arange(20.0), np.random.default_rng(0).standard_normal((20, 1)))
    marked = np.arange(20) >= 12
    windows = find_windows(rows, marked, (1, 3), 2.0)
    assert windows.origin.tolist() == [12, 14, 16, 18]
    assert windows.target.tolist() == [[13, 15], [15, 17], [17, 19], [19, -1]]
    np.testing.assert_array_equal(windows.lead, [[1, 3], [1, 3], [1, 3], [1, np.nan]])


def test_a_window_never_crosses_unmarked_rows_or_series():
    values = [np.random.default_rng(k).standard_normal((10, 1)) for k in range(2)]
    _, rows = encoded([np.arange(10.0)] * 2, values)
    marked = np.tile(np.array([0, 1, 1, 1, 0, 0, 1, 1, 1, 1], bool), 2)
    windows = find_windows(rows, marked, (2,), 0.0)
    found = list(zip(windows.origin.tolist(), windows.target[:, 0].tolist(), strict=True))
    assert found == [(1, 3), (6, 8), (7, 9), (11, 13), (16, 18), (17, 19)]


def test_a_hole_in_the_rows_leaves_the_target_out():
    times = np.array([0.0, 1, 2, 3, 8, 9, 10, 11])
    _, rows = encoded(times, np.random.default_rng(0).standard_normal((8, 1)))
    windows = find_windows(rows, np.ones(8, bool), (2,), 0.0)
    assert windows.origin.tolist() == [0, 1, 4, 5]


def test_irregular_rows_keep_their_actual_lead():
    times = np.array([0.0, 1.0, 2.0, 3.3, 4.0, 5.0, 6.0])
    _, rows = encoded(times, np.random.default_rng(0).standard_normal((7, 1)))
    windows = find_windows(rows, np.ones(7, bool), (3,), 0.0)
    assert windows.target[0, 0] == 3
    np.testing.assert_allclose(windows.lead[0, 0], rows.time[3])


def test_pairs_are_in_data_units_with_nan_where_nothing_was_seen():
    values = np.random.default_rng(1).normal(5, 3, (12, 2))
    values[[0, 6], 1] = np.nan
    encoder, rows = encoded(np.arange(12.0), values)
    windows = find_windows(rows, np.ones(12, bool), (1,), 0.0)
    found = pairs(encoder, rows, windows, 0, 1)
    np.testing.assert_allclose(found.target, values[1:], rtol=1e-5)
    np.testing.assert_allclose(found.history[:, 1, 0], values[:-1, 0], rtol=1e-5)
    assert np.isnan(found.history[0, :, 1]).all()  # never seen so far
    np.testing.assert_allclose(found.history[6, 1, 1], values[5, 1], rtol=1e-5)  # the last seen

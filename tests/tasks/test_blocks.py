"""Stretches: where they begin and end, and the points on the way."""

from __future__ import annotations

import numpy as np
import pytest

from neuralsde.data import Encoder, Rows, from_arrays
from neuralsde.data.trajectories import Series, Trajectories
from neuralsde.errors import InputError
from neuralsde.tasks import blocks
from neuralsde.tasks.blocks import Block, find_blocks

NONE = np.zeros(0)


def encoded(times: np.ndarray, values: np.ndarray) -> Rows:
    """Rows whose model time is the time."""
    series = Series("a", times, values, np.zeros((len(times), 0)))
    data = Trajectories((series,), tuple("xyz"[: values.shape[1]]))
    usual = from_arrays(np.arange(9.0), np.random.default_rng(0).normal(size=(9, values.shape[1])))
    return Encoder.fit(usual).encode(Trajectories(data.series, usual.columns))


def with_holes(rows: int, *missing: tuple[int, int]) -> np.ndarray:
    values = np.ones((rows, 2)) * np.arange(rows)[:, None]
    for row, channel in missing:
        values[row, channel] = np.nan
    return values


def spans(found: list[Block]) -> list[tuple[int, int]]:
    """First row of the window's present, and last row of the path."""
    return [(b.start, int(b.row.max())) for b in found]


def test_a_hole_lies_between_two_complete_windows():
    rows = encoded(np.arange(20.0), with_holes(20, (7, 0), (8, 1), (15, 0)))
    assert spans(find_blocks(rows, [NONE], history=0)) == [(6, 9), (14, 16)]
    # the h rows after a hole still have it in their window
    assert spans(find_blocks(rows, [NONE], history=2)) == [(6, 11), (14, 18)]
    assert spans(find_blocks(rows, [NONE], history=8)) == [(6, 19)]
    assert [b.slot[b.slot >= 0].tolist() for b in find_blocks(rows, [NONE], history=2)] == [[7, 8], [15]]


def test_a_complete_table_needs_nothing():
    assert find_blocks(encoded(np.arange(20.0), with_holes(20)), [NONE], history=3) == []


def test_the_first_row_is_a_step_from_the_prior():
    rows = encoded(np.arange(9.0), with_holes(9, (0, 1)))
    (block,) = find_blocks(rows, [NONE], history=1)
    assert block.unseen
    assert block.start == 0
    assert block.row.tolist() == [0, 1, 2]
    assert block.dt.tolist() == [0, 1, 1]
    assert block.gap.tolist() == [0, 1, 1]


def test_a_single_row():
    (block,) = find_blocks(encoded(np.zeros(1), with_holes(1, (0, 1))), [NONE], history=2)
    assert (block.unseen, block.row.tolist(), block.slot.tolist()) == (True, [0], [0])


@pytest.mark.parametrize("substeps", [1, 3])
def test_points_of_a_gap(substeps: int):
    times = np.array([0.0, 1.0, 4.2, 5.2, 6.2])
    rows = encoded(times, with_holes(5, (2, 0)))
    (block,) = find_blocks(rows, [np.array([1.5])], history=0, substeps=substeps)
    assert spans([block]) == [(1, 3)]
    assert block.times[-1] == rows.time[3]
    np.testing.assert_allclose(block.dt.sum(), 4.2, rtol=1e-6)
    # a gap of 3.2 is three steps, each of which closes; the asked time is one more point, in the first of them
    np.testing.assert_allclose(block.gap[block.closes], [3.2 / 3] * 3 + [1.0])
    np.testing.assert_allclose(block.times[block.row >= 0], [4.2, 5.2])
    assert len(block) == 4 * substeps + 1
    asked = block.slot == len(rows)
    assert block.times[asked].tolist() == [1.5]
    assert not block.closes[asked].any()
    np.testing.assert_allclose(block.gap[asked], 3.2 / 3)


def test_an_asked_time_at_a_division_of_a_gap_is_that_point():
    rows = encoded(np.array([0.0, 1.0, 4.0, 5.0]), with_holes(4))
    (block,) = find_blocks(rows, [np.array([2.0])], history=1)
    assert block.times.tolist() == [2.0, 3.0, 4.0]
    assert block.slot.tolist() == [4, -1, -1]


def test_pieces_of_a_long_stretch_overlap(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocks, "LONGEST", 20)
    monkeypatch.setattr(blocks, "OVERLAP", 5)
    n = 100
    missing = [(i, i % 2) for i in range(n) if i % 10 != 5]  # complete rows, but never two in a row
    rows = encoded(np.arange(float(n)), with_holes(n, *missing))
    found = find_blocks(rows, [NONE], history=1)
    answers = [b.row[b.slot >= 0] for b in found]
    assert sorted(np.concatenate(answers).tolist()) == [row for row, _ in missing]
    for block, mine in zip(found[1:-1], answers[1:-1], strict=True):
        assert mine[0] - block.start >= 5
        assert block.row.max() - mine[-1] >= 5
        assert len(block) <= 40
        assert block.start % 10 in (5, 6)  # the rows whose window has the least missing


def test_the_look_ahead_waits_for_a_rare_channel(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocks, "LONGEST", 20)
    monkeypatch.setattr(blocks, "OVERLAP", 5)
    n = 90
    rows = encoded(np.arange(float(n)), with_holes(n, *[(i, 1) for i in range(n) if i % 30]))
    for block in find_blocks(rows, [NONE], history=0):
        assert block.row.max() == n - 1 or block.row.max() % 30 == 0


def test_a_gap_without_end_is_refused():
    rows = encoded(np.array([0.0, 1.0, 1e6, 1e6 + 1]), with_holes(4, (2, 0)))
    with pytest.raises(InputError, match="999999 steps"):
        find_blocks(rows, [NONE], history=0)

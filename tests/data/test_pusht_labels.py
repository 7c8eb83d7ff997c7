"""Other actions for the same steps: how many are changed and into what; sets cut and put together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neuralsde.data.pusht import Demonstrations, joined, noisy, outliers, without_last
from neuralsde.errors import InputError

RNG = np.random.default_rng(0)
ENDS = np.array([3, 5, 9], np.uint32)


def small(n: int = 9, ends: np.ndarray = ENDS) -> Demonstrations:
    actions = RNG.uniform(200, 300, (n, 2)).astype(np.float32)
    images = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((96, 96, 3), np.uint8) if n < 20 else None
    return Demonstrations(RNG.uniform(0, 500, (n, 5)), actions, ends, images=images)


def test_noise_has_the_size_that_was_asked_for_and_stays_in_the_arena():
    demos = small(4_000, np.array([4_000]))
    found = noisy(demos, 7.0, 3)
    move = found.actions - demos.actions
    np.testing.assert_allclose(move.std(0), 7.0, rtol=4 / np.sqrt(2 * 4_000))
    np.testing.assert_array_equal(found.state, demos.state)
    np.testing.assert_array_equal(noisy(demos, 7.0, 3).actions, found.actions)
    far = noisy(demos, 400.0, 3).actions
    assert (far.min(), far.max(), far.dtype) == (0.0, 512.0, np.float32)


def test_outliers_are_uniform_at_exactly_a_share_of_the_steps_and_nested():
    demos = small(20_000, np.array([20_000]))
    few, at_few = outliers(demos, 0.05, 1)
    many, at_many = outliers(demos, 0.1, 1)
    assert (at_few.sum(), at_many.sum()) == (1_000, 2_000)
    assert at_many[at_few].all()
    np.testing.assert_array_equal(few.actions[at_few], many.actions[at_few])
    np.testing.assert_array_equal(many.actions[~at_many], demos.actions[~at_many])
    anywhere = many.actions[at_many]
    np.testing.assert_allclose(anywhere.mean(0), 256, atol=4 * 512 / np.sqrt(12 * 2_000))
    np.testing.assert_allclose(anywhere.var(0), 512**2 / 12, rtol=0.09)  # 4.5 standard errors of a uniform variance
    assert outliers(demos, 0.0, 1)[0].actions.tolist() == demos.actions.tolist()


def test_sets_are_cut_and_put_together_again():
    demos = small()
    cut = without_last(demos)
    rows = [0, 1, 3, 5, 6, 7]
    for name in ("state", "actions", "keypoints", "images"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(demos, name)[rows])
    assert cut.ends.tolist() == [2, 3, 6]
    again = joined(demos.take([0]), demos.take([1, 2]))
    for name in ("state", "actions", "ends", "keypoints", "images", "numbers"):
        np.testing.assert_array_equal(getattr(again, name), getattr(demos, name))
    assert joined(demos, replace(demos, images=None)).images is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: noisy(small(), -1.0, 0), "noise of -1 px"),
        (lambda: outliers(small(), 1.5, 0), "a share of 1.5"),
        (lambda: without_last(small(9, np.array([1, 9]))), "an episode of one step"),
        (lambda: joined(), "0 sets"),
        (lambda: joined(small(), replace(small(), goal=(1.0, 2.0, 3.0))), "one goal"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(wrong: Any, says: str):
    with pytest.raises(InputError, match=says) as error:
        wrong()
    assert "\n" not in error.value.line

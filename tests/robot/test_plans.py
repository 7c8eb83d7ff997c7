"""Moments of demonstrations against a loop over the rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.robot.plans import Plans

ENDS = np.array([3, 4, 9])
OBS, ACTIONS = np.arange(18.0).reshape(9, 2), 100 + np.arange(18.0).reshape(9, 2)
POSITIONS = 200 + np.arange(18.0).reshape(9, 2)


def by_hand(t: int, n_obs: int, horizon: int) -> tuple[np.ndarray, ...]:
    """History, last action, plan, observations after it, and what was in the episode."""
    episode = int(np.searchsorted(ENDS, t, side="right"))
    first, last = ([0, *ENDS])[episode], ENDS[episode] - 1
    history = np.stack([OBS[max(first, t - back)] for back in range(n_obs - 1, -1, -1)])
    before = POSITIONS[t] if t == first else ACTIONS[t - 1]
    ahead = range(t, t + horizon)
    plan = np.stack([ACTIONS[min(k, last)] for k in ahead])
    future = np.stack([OBS[min(k + 1, last)] for k in ahead])
    return history, before, plan, future, np.array([k <= last for k in ahead])


def test_every_moment_is_what_was_known_and_done():
    plans = Plans.of(OBS, ACTIONS, POSITIONS, ENDS)
    found = jax.jit(lambda plans: plans.take(jnp.arange(9), 3, 4))(plans)
    for t in range(9):
        got = (found.history[t], found.action[t], found.plan[t], found.future[t], found.seen[t])
        for ours, wanted in zip(got, by_hand(t, 3, 4), strict=True):
            np.testing.assert_array_equal(ours, wanted)


def test_batches_are_drawn_from_the_rows_that_train_and_from_all_of_them():
    rows = np.array([0, 2, 5])
    plans = Plans.of(OBS, ACTIONS, POSITIONS, ENDS, rows=rows)
    drawn = jax.jit(lambda plans: plans.sample(64, 1, 1, key=jax.random.key(0)))(plans)
    assert set(np.asarray(drawn.history[:, 0, 0]).tolist()) == set(OBS[rows, 0].tolist())


@pytest.mark.parametrize("ends", [[3, 4], [4, 4, 9], []])
def test_ends_that_do_not_fit_are_refused(ends: list[int]):
    with pytest.raises(InputError, match="episode ends"):
        Plans.of(OBS, ACTIONS, POSITIONS, np.array(ends, np.int64))

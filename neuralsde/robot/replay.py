"""Demonstrations played again: the recorded actions from the recorded start must lead through the recorded states.

This checks that simulator, starts and units are those of the demonstrations, and says what the demonstrators reached:
on the published set a mean maximum reward of 0.9465.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from neuralsde.data.pusht import Demonstrations
from neuralsde.robot.environment import Conditions
from neuralsde.robot.stage import Here, Scene
from neuralsde.robot.starts import recorded_start


@dataclass(frozen=True)
class Replay:
    """max_reward: (episodes,) the greatest of each. gap: (episodes,) the greatest distance from a recorded state, px.

    A difference of angles counts as what it moves at the end of the stem, 120 px away.
    """

    max_reward: Float[np.ndarray, " episodes"]
    gap: Float[np.ndarray, " episodes"]


def replay(demos: Demonstrations) -> Replay:
    """Every episode from its start to its end, past the moment of success if the record goes on."""
    assert demos.numbers is not None
    conditions = Conditions(goal=demos.goal)
    rewards, gaps = [], []
    for first, end, number in zip(demos.starts, demos.ends, demos.numbers, strict=True):
        start = recorded_start(demos.state[first].astype(np.float64), int(number))
        stage = Here(Scene(start[None], np.zeros(1, np.uint32), "pose", 1, conditions))
        states = [stage.begin().states]
        played = []
        for action in demos.actions[first:end].astype(np.float64):
            played.append(stage.play(np.zeros(1, np.int64), action[None, None]))
            states.append(played[-1].states)
        rewards.append(max(float(part.rewards[0, 0]) for part in played))
        gaps.append(_gap(np.concatenate(states[:-1], 1)[0], demos.state[first:end]))
    return Replay(np.array(rewards), np.array(gaps))


def _gap(states: np.ndarray, recorded: np.ndarray) -> float:
    difference = states - recorded
    difference[:, 4] = 120.0 * ((difference[:, 4] + np.pi) % (2 * np.pi) - np.pi)
    return float(np.abs(difference).max())

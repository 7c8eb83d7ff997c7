"""A policy for one goal, used for another: the whole scene is moved so that the goal lies where it was learnt.

    seen    x' = R(-turn) (x - goal) + learnt goal,     turn = angle of the goal - angle of the learnt goal
    done    a  = R(turn) (a' - learnt goal) + goal

The block's physics does not know where it is, so away from the walls nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuralsde.data.pusht import GOAL
from neuralsde.errors import InputError
from neuralsde.robot.rollout import Actor

Pose = tuple[float, float, float]


@dataclass(frozen=True)
class Relocated:
    """`actor`, which learnt `learnt`, as an actor for `goal`. Raises InputError for actors that look at images."""

    actor: Actor
    goal: Pose
    learnt: Pose = GOAL

    def __post_init__(self) -> None:
        if self.actor.kind == "image":
            raise InputError("another goal for a policy of images", "the goal is drawn into them where it is",
                             "pose or keypoints, or demonstrations of that goal")  # fmt: skip

    @property
    def kind(self) -> str:
        return self.actor.kind

    @property
    def n_obs(self) -> int:
        return self.actor.n_obs

    def act(self, histories: np.ndarray, last: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """As `Actor.act`, in the arena's own coordinates."""
        plans = self.actor.act(self._seen(histories), moved(last, self.goal, self.learnt), seeds)
        return moved(plans, self.learnt, self.goal)

    def _seen(self, histories: np.ndarray) -> np.ndarray:
        points = histories.reshape(*histories.shape[:-1], -1, 2)
        out = moved(points, self.goal, self.learnt)
        if self.kind == "pose":  # the second pair is a direction, drawn on a circle around the middle of the arena
            middle = (256.0, 256.0)
            out[..., 1, :] = moved(points[..., 1, :], (*middle, self.goal[2]), (*middle, self.learnt[2]))
        return out.reshape(histories.shape)


def moved(points: np.ndarray, origin: Pose, target: Pose) -> np.ndarray:
    """Points (..., 2) of a scene that is moved as one piece so that the pose `origin` becomes `target`."""
    turn = target[2] - origin[2]
    cos, sin = np.cos(turn), np.sin(turn)
    x, y = points[..., 0] - origin[0], points[..., 1] - origin[1]
    return np.stack([cos * x - sin * y + target[0], sin * x + cos * y + target[1]], -1).astype(points.dtype)

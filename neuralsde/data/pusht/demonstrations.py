"""Demonstrations of Push-T as arrays: all steps in one row, episodes one after the other.

    steps     0 ......... e_1 ......... e_2 ......... n        episode k is the steps e_k <= i < e_{k+1}

At step i the demonstrator saw `state[i]` and asked for the agent to go to `actions[i]` during the next 0.1 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from neuralsde.data.pusht.features import (
    GOAL,
    IMAGE,
    image_features,
    keypoint_features,
    keypoints_of,
    pose_features,
    require_kind,
)
from neuralsde.data.tables import from_arrays
from neuralsde.data.trajectories import Trajectories
from neuralsde.errors import InputError

COLUMNS = ("agent_x", "agent_y", "block_x", "block_y", "angle", "action_x", "action_y")


@dataclass(frozen=True)
class Demonstrations:
    """n steps of demonstrated episodes, in pixels and radians.

    state: (n, 5) agent x, y, block x, y, angle. actions: (n, 2) where the agent was told to go. ends: (episodes,) the
    step after the last of each. keypoints: (n, 9, 2) as recorded, or computed from the states where none were.
    images: (n, 96, 96, 3) uint8 or None. numbers: (episodes,) their places in the file, which `take` keeps.
    goal: x, y, angle of the block to be reached.
    Raises InputError for shapes that do not fit, ends that do not increase to n, and entries that are not finite.
    """

    state: np.ndarray
    actions: np.ndarray
    ends: np.ndarray
    keypoints: np.ndarray | None = None
    images: np.ndarray | None = None
    numbers: np.ndarray | None = None
    goal: tuple[float, float, float] = GOAL
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        where = f" of {self.source}" if self.source else ""
        steps = len(self.state) if self.state.ndim else 0
        layout = {"state": (self.state, (5,)), "action": (self.actions, (2,)),
                  "keypoint": (self.keypoints, (9, 2)), "img": (self.images, IMAGE)}  # fmt: skip
        for name, (array, shape) in layout.items():
            if array is not None:
                _require_steps(f"the array '{name}'{where}", array, steps, shape)
        ends = self.ends
        if ends.ndim != 1 or ends.dtype.kind not in "iu" or not len(ends):
            raise InputError(f"episode_ends{where}: {ends.dtype} of shape {ends.shape}", "", "(episodes,) integers")
        short = np.flatnonzero(np.diff(ends.astype(np.int64), prepend=0) < 1)
        if len(short):
            at = int(short[0])
            raise InputError(f"episode_ends{where}: entry {at} is {ends[at]}", "ends do not increase", "e_k < e_{k+1}")
        if ends[-1] != steps:
            raise InputError(f"episode_ends{where}: the last is {ends[-1]}", f"there are {steps} steps", f"{steps}")
        if self.keypoints is None:
            object.__setattr__(self, "keypoints", keypoints_of(self.state).astype(np.float32))
        if self.numbers is None:
            object.__setattr__(self, "numbers", np.arange(len(ends)))

    def __len__(self) -> int:
        """Steps."""
        return len(self.state)

    @property
    def episodes(self) -> int:
        return len(self.ends)

    @property
    def starts(self) -> Int[np.ndarray, " episodes"]:
        """The first step of each episode."""
        return np.concatenate([[0], self.ends[:-1]]).astype(np.int64)

    @property
    def episode_of(self) -> Int[np.ndarray, " n"]:
        """The episode of each step, 0 to episodes - 1."""
        return np.repeat(np.arange(self.episodes), self.ends - self.starts)

    def take(self, episodes: Sequence[int] | np.ndarray) -> Demonstrations:
        """These episodes, in this order."""
        chosen = np.asarray(episodes, np.int64)
        if chosen.ndim != 1 or not len(chosen) or chosen.min() < 0 or chosen.max() >= self.episodes:
            raise InputError(f"episodes {chosen.tolist()}", "", f"some of 0 to {self.episodes - 1}")
        rows = np.concatenate([np.arange(int(self.starts[k]), int(self.ends[k])) for k in chosen])
        assert self.keypoints is not None
        assert self.numbers is not None
        return replace(self, state=self.state[rows], actions=self.actions[rows],
                       ends=np.cumsum(self.ends[chosen] - self.starts[chosen]), keypoints=self.keypoints[rows],
                       images=None if self.images is None else self.images[rows],
                       numbers=self.numbers[chosen])  # fmt: skip

    def split(self, seed: int, share: float) -> tuple[Demonstrations, Demonstrations]:
        """Episodes to fit and episodes held out, `share` of all; a function of the seed."""
        held = round(share * self.episodes)
        if not 0 < held < self.episodes:
            raise InputError(f"a share of {share:g} of {self.episodes} episodes", f"{held} would be held out",
                             "at least one on either side")  # fmt: skip
        order = np.random.default_rng(seed).permutation(self.episodes)
        return self.take(np.sort(order[held:])), self.take(np.sort(order[:held]))

    def trajectories(self) -> Trajectories:
        """One series an episode, in steps, with `COLUMNS` as values; the angle without its jumps of 2 pi."""
        ranges = [slice(a, b) for a, b in zip(self.starts, self.ends, strict=True)]
        series = [_unwrapped(self.state[steps], self.actions[steps]) for steps in ranges]
        assert self.numbers is not None
        return from_arrays(None, series, ids=[f"episode {k}" for k in self.numbers], columns=COLUMNS)


def _unwrapped(state: np.ndarray, actions: np.ndarray) -> np.ndarray:
    return np.concatenate([state[:, :4], np.unwrap(state[:, 4:], axis=0), actions], 1)


def observations(
    demos: Demonstrations, kind: str, rows: np.ndarray | slice | None = None
) -> Float[np.ndarray, "n features"]:
    """What a policy reads at each step, or at the steps `rows`; float32, px (see `features.py`).

    Keypoints are those of the states, by the function that the environment uses, not the recorded ones.
    Images are 110 kB a step: give `rows`, a batch at a time. Raises InputError where the set has none.
    """
    rows = slice(None) if rows is None else rows
    state = demos.state[rows].astype(np.float64)
    if require_kind(kind) == "pose":
        return pose_features(state).astype(np.float32)
    if kind == "keypoints":
        return keypoint_features(state).astype(np.float32)
    if demos.images is None:
        raise InputError("observations as images", "the demonstrations were read without images", hint="images=True")
    return image_features(demos.images[rows], state)


def _require_steps(name: str, array: np.ndarray, steps: int, shape: tuple[int, ...]) -> None:
    expected = "(n, " + ", ".join(str(size) for size in shape) + ")"
    if array.shape[1:] != shape or array.dtype.kind not in "uif":
        raise InputError(f"{name}: {array.dtype} of shape {array.shape}", "", f"numbers of shape {expected}")
    if len(array) != steps:
        raise InputError(f"{name}: {len(array)} steps", f"'state' has {steps}", "arrays of one length")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{name}: {int((~np.isfinite(array)).sum())} entries that are not finite", "", "all finite")

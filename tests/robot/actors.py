"""Actors that need no training: seeded noise around a target, and a fixed list of actions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Wanderer:
    """Goes to and fro around the middle; each row draws from its own seed alone. Keeps the sizes of its batches."""

    kind: str = "keypoints"
    n_obs: int = 2
    execute: int = 4
    batches: list[int] = field(default_factory=list)
    seen: list[np.ndarray] = field(default_factory=list)

    def act(self, histories: np.ndarray, last: np.ndarray, seeds: np.ndarray, /) -> np.ndarray:
        self.batches.append(len(seeds))
        self.seen.append(histories.copy())
        steps = np.array([np.random.default_rng(int(seed)).normal(0, 70, (self.execute, 2)) for seed in seeds])
        towards = 0.7 * (256 - histories[:, -1:, -2:]) + 0.2 * (last[:, None] - 256)
        return np.clip(histories[:, -1:, -2:] + towards + steps, 20, 490)


@dataclass
class Script:
    """The same actions (steps, 2) in every episode, `execute` of them a plan."""

    actions: np.ndarray
    execute: int = 1
    kind: str = "pose"
    n_obs: int = 1
    at: int = 0
    last: list[np.ndarray] = field(default_factory=list)

    def act(self, histories: np.ndarray, last: np.ndarray, seeds: np.ndarray, /) -> np.ndarray:
        self.last.append(last.copy())
        part = self.actions[self.at : self.at + self.execute]
        self.at += self.execute
        return np.repeat(part[None], len(histories), 0)

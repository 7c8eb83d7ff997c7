"""What a Push-T policy reads: one vector of pixels, of which the last two are the agent's x and y.

    state       (5,)      agent x, y, block x, y, angle a: what the simulator and the files hold
    pose        (6,)      block x, y, 256 + 256 cos a, 256 + 256 sin a, agent x, y
    keypoints  (20,)      nine points R(a) k_i + (block x, y) of the block, agent x, y
    image   (27650,)      96 x 96 x 3 grey levels from 0 to 255, row by row, agent x, y

An angle jumps by 2 pi, a point on a circle does not; with the circle as wide as the arena one rule of units serves all:
x / 256 - 1. The functions are the same for recorded states and for those of the simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from neuralsde.errors import InputError, closest

SIDE = 512.0
"""The arena is a square of this side, in pixels."""
IMAGE = (96, 96, 3)
GOAL = (256.0, 256.0, float(np.pi / 4))
"""The published goal: x, y and angle of the block."""

KINDS = ("pose", "keypoints", "image")

# The nine keypoints in the block's frame, as the medians of R(-a) (recorded keypoint - block position) over the
# published demonstrations; recorded and computed ones differ by up to 0.03 px in 99 % of the steps, 2 px in contact.
LOCAL_KEYPOINTS = np.array([
    [9.26978651346635, 90.04097385613929],
    [-60.983471949173676, -1.1867301835642103],
    [60.912755462053845, -1.3933634669352646],
    [-0.270503666707838, 25.54362508030108],
    [-14.064927441597465, 122.81585387134592],
    [39.0027383321903, 32.85740440846913],
    [-39.96641440022453, 32.72965537741265],
    [-16.824344021116513, 62.863179073708],
    [23.54146134779328, -1.7002878634095033],
])  # fmt: skip


def require_kind(kind: str) -> str:
    """The same word, if it is a kind of observation."""
    if kind not in KINDS:
        raise InputError(f"observations of the kind {kind!r}", hint=closest(kind, KINDS))
    return kind


def features(kind: str) -> int:
    """The length of an observation. Raises InputError for a word that is no kind."""
    return {"pose": 6, "keypoints": 2 * len(LOCAL_KEYPOINTS) + 2, "image": int(np.prod(IMAGE)) + 2}[require_kind(kind)]


def keypoints_of(
    state: Float[np.ndarray, "*n 5"], local: Float[np.ndarray, "k 2"] = LOCAL_KEYPOINTS
) -> Float[np.ndarray, "*n k 2"]:
    """R(a) k_i + p: points of the block's frame in the arena, px."""
    cos, sin = np.cos(state[..., 4:5]), np.sin(state[..., 4:5])
    x, y = local[:, 0], local[:, 1]
    return np.stack([cos * x - sin * y + state[..., 2:3], sin * x + cos * y + state[..., 3:4]], -1)


def pose_features(state: Float[np.ndarray, "*n 5"]) -> Float[np.ndarray, "*n 6"]:
    """Block position, its angle as a point on the circle around the middle of the arena, agent position; px."""
    angle = state[..., 4:5]
    circle = SIDE / 2 * (1 + np.concatenate([np.cos(angle), np.sin(angle)], -1))
    return np.concatenate([state[..., 2:4], circle, state[..., :2]], -1)


def keypoint_features(state: Float[np.ndarray, "*n 5"]) -> Float[np.ndarray, "*n 20"]:
    """The nine keypoints one after the other, agent position; px."""
    flat = keypoints_of(state).reshape(*state.shape[:-1], 2 * len(LOCAL_KEYPOINTS))
    return np.concatenate([flat, state[..., :2]], -1)


def image_features(
    image: Num[np.ndarray, "*n 96 96 3"], state: Float[np.ndarray, "*n 5"]
) -> Float[np.ndarray, "*n 27650"]:
    """The grey levels of an image row by row, agent position in px; float32."""
    flat = image.reshape(*image.shape[:-3], -1).astype(np.float32)
    return np.concatenate([flat, state[..., :2].astype(np.float32)], -1)


def image_parts(observation: Any) -> tuple[Any, Any]:
    """Images (..., 96, 96, 3) and agent positions (..., 2) out of image observations (..., 27650); numpy or JAX."""
    return observation[..., :-2].reshape(*observation.shape[:-1], *IMAGE), observation[..., -2:]


@dataclass(frozen=True)
class Normaliser:
    """z = (x - centre) / scale, one number a feature or one for all; plain arithmetic, for numpy and JAX arrays."""

    centre: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, values: Float[np.ndarray, "*n d"]) -> Normaliser:
        """Each feature from its least to its greatest value onto [-1, 1]; one that never changes is only shifted."""
        flat = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
        low, high = flat.min(0), flat.max(0)
        half = np.where(high > low, (high - low) / 2, 1.0)
        return cls(tuple(((low + high) / 2).tolist()), tuple(half.tolist()))

    def encode(self, x: Any) -> Any:
        return (x - np.array(self.centre, np.float32)) / np.array(self.scale, np.float32)

    def decode(self, z: Any) -> Any:
        return z * np.array(self.scale, np.float32) + np.array(self.centre, np.float32)

    def to_dict(self) -> dict[str, Any]:
        return {"centre": list(self.centre), "scale": list(self.scale)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Normaliser:
        return cls(tuple(saved["centre"]), tuple(saved["scale"]))


ACTIONS = Normaliser((SIDE / 2,), (SIDE / 2,))
"""Of actions, and of every position in the arena: x / 256 - 1."""
AS_SEEN = Normaliser((0.0,), (1.0,))
"""Of observations that are left as they are, for a policy that has units of its own."""


def normaliser(kind: str) -> Normaliser:
    """Of observations, the same for every set of demonstrations: arena and grey levels onto [-1, 1]."""
    if require_kind(kind) != "image":
        return ACTIONS
    half = (127.5,) * int(np.prod(IMAGE)) + (SIDE / 2,) * 2
    return Normaliser(half, half)

"""Push-T as an environment: gym-pusht's own simulator, headless, and ten times as fast a step.

An action is where the agent is told to go, px. In each of ten physics steps of h = 0.01 s a PD law moves the agent,

    v <- v + (100 (action - p) - 20 v) h,       then the simulator's step of h,

and the reward is min(coverage / 0.95, 1) (see `coverage.py`). Both are those of `PushTEnv.step` to the last bit (the
reward to 1e-9): left out are the geometry library, pictures that nobody asked for, a count of contacts that calls back
into Python from within the physics, and the wrappers around each number, so the physics library is called directly.
`Conditions` changes the task: another goal, noise on what is seen, actions that arrive late, a push on the block.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from neuralsde.data.pusht import GOAL, IMAGE, features, image_features, keypoint_features, pose_features
from neuralsde.errors import InputError, RunFailed, extra
from neuralsde.robot.coverage import SUCCESS, coverage

STEPS_PER_SECOND = 10
MAX_STEPS = 300
"""The published length of an episode."""
LEVER = 60.0
"""Half the bar of the T, px: noise of s px on positions goes with noise of s / LEVER on the angle."""


@dataclass(frozen=True)
class Push:
    """Someone moves the block: during `step` by `distance` px in a drawn direction, and by `turn` radians.

    The block is pushed through the simulator: agent and walls stay in its way. A drawn sign goes with the turn.
    """

    step: int = 50
    distance: float = 40.0
    turn: float = 0.3


@dataclass(frozen=True)
class Conditions:
    """What is asked of a policy beside the published task.

    goal: x, y, angle of the block. delay: whole steps until an action arrives; the agent is told to stay until the
    first one does. noise: standard deviation of what is seen: px on positions and keypoints, with noise / 60 on the
    angle; grey levels on images. push: see `Push`.
    Raises InputError for a delay below 0, a noise below 0, or numbers that are not finite.
    """

    goal: tuple[float, float, float] = GOAL
    delay: int = 0
    noise: float = 0.0
    push: Push | None = None

    def __post_init__(self) -> None:
        if len(self.goal) != 3 or not all(math.isfinite(part) for part in self.goal):
            raise InputError(f"the goal {self.goal}", "", "x, y in px and an angle in radians")
        if self.delay < 0:
            raise InputError(f"a delay of {self.delay} steps", "", "0 or more")
        if not 0 <= self.noise < math.inf:
            raise InputError(f"observation noise of {self.noise:g} px", "", "0 or more")
        if self.push is not None and self.push.step < 0:
            raise InputError(f"a push at step {self.push.step}", "", "0 or more")


PUBLISHED_TASK = Conditions()


def simulator(size: int = 96) -> Any:
    """A headless `PushTEnv` that draws pictures of this size. Raises InputError where the extra is not installed."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with extra("robot", "the Push-T environment"):
        from gym_pusht.envs.pusht import PushTEnv
    return PushTEnv(obs_type="state", render_mode="rgb_array", visualization_width=size, visualization_height=size)


def _libraries() -> tuple[Any, Any]:
    """The C functions under pymunk 6, the only one that gym-pusht takes, and the filter that makes pictures smaller."""
    with extra("robot", "the Push-T environment"):
        from cv2 import resize
        from pymunk._chipmunk_cffi import lib
    return lib, resize


class PushT:
    """One episode at a time: `reset(start)`, then `step(action)` until it is done.

    kind: what `step` returns as observation: "pose", "keypoints" or "image" (see `data.pusht`).
    size: of the square pictures that `render` draws.
    """

    def __init__(self, kind: str = "keypoints", conditions: Conditions = PUBLISHED_TASK, size: int = 256) -> None:
        features(kind)  # refuses a word that is no kind
        if size < IMAGE[0]:
            raise InputError(f"pictures of {size} px", "the mark of the action would be thinner than a line",
                             f"at least {IMAGE[0]}")  # fmt: skip
        self.kind, self.conditions = kind, conditions
        self._env, (self._lib, self._resize) = simulator(size), _libraries()
        self._goal = np.array(conditions.goal, np.float64)
        self._late: deque[tuple[float, float]] = deque()
        self.random = np.random.default_rng(0)
        self._shove = (0.0, 0.0, 0.0)
        self._taken = 0

    def reset(self, start: Float[np.ndarray, " 5"], seed: int | Sequence[int] = 0) -> Float[np.ndarray, " features"]:
        """The first observation of an episode from `start` (see `starts.py`); `seed` of noise and push alone."""
        self.place(start, seed)
        return self.observe()

    def place(self, start: Float[np.ndarray, " 5"], seed: int | Sequence[int] = 0) -> None:
        """As `reset`, but nobody looks."""
        if not np.isfinite(start).all():
            raise InputError(f"the start {start.tolist()}", "", "five finite numbers")
        self._env.reset(options={"reset_to_state": np.asarray(start, np.float64)})
        self._env.goal_pose = self._goal.copy()
        for shape in self._env.space.shapes:  # the simulator counts contacts between shapes of type 0
            shape.collision_type = 1
        self.random = np.random.default_rng(seed)
        self._shove = self._drawn_push()  # before any noise: the same for all who play this episode
        self._late = deque([self.state[:2]] * self.conditions.delay)
        self._taken = 0

    def step(self, action: Float[np.ndarray, " 2"]) -> tuple[Float[np.ndarray, " features"], float, bool]:
        """Observation, reward and whether the block covers more than 0.95 of the goal, a tenth of a second later."""
        self.advance(action)
        covered = float(coverage(np.array(self.state[2:]), self._goal))
        return self.observe(), min(covered / SUCCESS, 1.0), covered > SUCCESS

    def advance(self, action: Float[np.ndarray, " 2"]) -> None:
        """The physics of a step alone. Raises RunFailed for an action that is not finite."""
        x, y = action.tolist()
        if not (math.isfinite(x) and math.isfinite(y)):
            raise RunFailed(f"the action ({x}, {y}) of step {self._taken}", "it is not finite")
        self._late.append((x, y))
        push = self.conditions.push
        now = push is not None and push.step == self._taken
        _control(self._lib, self._env, *self._late.popleft(), self._shove if now else None)
        self._taken += 1

    @property
    def state(self) -> tuple[float, float, float, float, float]:
        """Agent x, y, block x, y, angle in [0, 2 pi): as recorded in demonstrations."""
        lib, block = self._lib, self._env.block._body
        agent, there = lib.cpBodyGetPosition(self._env.agent._body), lib.cpBodyGetPosition(block)
        return agent.x, agent.y, there.x, there.y, lib.cpBodyGetAngle(block) % (2 * np.pi)

    def observe(self) -> Float[np.ndarray, " features"]:
        """What a policy sees now, float32, px."""
        return observed([self], np.array([self.state]))[0]

    def picture(self) -> UInt8[np.ndarray, "96 96 3"]:
        """The picture that demonstrations hold, without the action; byte for byte the simulator's own "pixels".

        Read as the four bytes a pixel that the surface holds, and in its order, blue first: to copy it into another
        order before it is made smaller takes most of the time that the simulator needs.
        """
        surface = self._env._draw()
        held = np.frombuffer(surface.get_view("0"), np.uint8).reshape(*surface.get_size(), 4)
        return np.ascontiguousarray(self._resize(held, IMAGE[:2])[..., 2::-1])

    def render(self) -> UInt8[np.ndarray, "size size 3"]:
        """A picture of now: goal in green, block in grey, agent in blue, and the last action as a red cross."""
        return self._env.render()

    def _drawn_push(self) -> tuple[float, float, float]:
        """Velocity that the block is given during the step of the push: px/s and rad/s."""
        push = self.conditions.push or Push()
        angle, sign = self.random.uniform(0, 2 * np.pi), self.random.choice([-1.0, 1.0])
        speed = push.distance * STEPS_PER_SECOND
        return speed * math.cos(angle), speed * math.sin(angle), float(sign) * push.turn * STEPS_PER_SECOND


def observed(episodes: Sequence[PushT], states: Float[np.ndarray, "n 5"]) -> Float[np.ndarray, "n features"]:
    """What policies see of episodes of one kind that are in `states`: see `data.pusht`; with the noise asked for."""
    kind, noise = episodes[0].kind, episodes[0].conditions.noise

    def drawn(size: int) -> np.ndarray:
        return noise * np.array([episode.random.standard_normal(size) for episode in episodes])

    if kind == "pose":
        states = states + drawn(5) / np.array([1, 1, 1, 1, LEVER]) if noise else states
        return pose_features(states).astype(np.float32)
    if kind == "keypoints":
        seen = keypoint_features(states)
    else:
        seen = image_features(np.array([episode.picture() for episode in episodes]), states)
    if noise:
        seen = seen + drawn(features(kind))
    if noise and kind == "image":
        seen[:, :-2] = np.clip(seen[:, :-2], 0, 255)
    return seen.astype(np.float32)


def _control(lib: Any, env: Any, x: float, y: float, pushed: tuple[float, float, float] | None) -> None:
    """Ten times the PD law and the physics; bit for bit what `PushTEnv.step` computes with numpy."""
    agent, block, space = env.agent._body, env.block._body, env.space._space
    dt, k_p, k_v = env.dt, env.k_p, env.k_v
    env._last_action = (x, y)  # drawn by `render`
    at, velocity = lib.cpBodyGetPosition(agent), lib.cpBodyGetVelocity(agent)
    px, py, vx, vy = at.x, at.y, velocity.x, velocity.y
    for _ in range(int(1 / (dt * env.control_hz))):
        vx += (k_p * (x - px) + k_v * (0.0 - vx)) * dt
        vy += (k_p * (y - py) + k_v * (0.0 - vy)) * dt
        lib.cpBodySetVelocity(agent, (vx, vy))
        if pushed is not None:  # the arena is thick as honey: a velocity lasts one physics step
            lib.cpBodySetVelocity(block, pushed[:2])
            lib.cpBodySetAngularVelocity(block, pushed[2])
        lib.cpSpaceStep(space, dt)
        at = lib.cpBodyGetPosition(agent)
        px, py = at.x, at.y

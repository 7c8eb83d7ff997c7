"""Policies at work: episodes from given starts, and what became of them.

An episode ends when more than 0.95 of the goal is covered, or after `max_steps` steps of 0.1 s. Its figure is the
greatest reward on the way; the published figure of a policy is the mean of that over starts (Chi et al. 2023).

An episode is a function of actor, start, conditions, seed and its place in `starts`: not of the other episodes, nor of
how many processes play them. For that an actor gets one seed a row, and draws what it needs for a row from that alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt32

from neuralsde.errors import InputError, RunFailed
from neuralsde.robot.environment import MAX_STEPS, PUBLISHED_TASK, STEPS_PER_SECOND, Conditions
from neuralsde.robot.stage import Elsewhere, Here, Scene, Stage


@runtime_checkable
class Actor(Protocol):
    """Who decides. kind: of the observations. n_obs: how many it looks at."""

    @property
    def kind(self) -> str: ...

    @property
    def n_obs(self) -> int: ...

    def act(
        self,
        histories: Float32[np.ndarray, "batch n_obs features"],
        last: Float32[np.ndarray, "batch 2"],
        seeds: UInt32[np.ndarray, " batch"],
        /,
    ) -> Float[np.ndarray, "batch execute 2"]:
        """The next actions, px, for each row; all are carried out before the next call.

        histories: the latest observations, the newest last, px; before the start the first one is repeated.
        last: the last commanded action; before the first, where the agent stands. seeds: of what is drawn, one a row.
        The batch is as large as the set of starts or, as episodes end, a half, a quarter ... of it (rows are repeated
        to fill it), so that few programs are compiled.
        """
        ...


@dataclass(frozen=True)
class Rollouts:
    """n episodes of at most T steps; NaN after the end of each.

    rewards: (n, T). success: (n,) the goal was covered. steps, plans: (n,) how many were carried out.
    states: (n, T + 1, 5) from the start on; actions: (n, T, 2) as commanded.
    frames: pictures (steps + 1, size, size, 3) of the recorded episodes, by place.
    acting, stepping: seconds in the actor and in the environment, all episodes together.
    """

    starts: Float[np.ndarray, "n 5"]
    rewards: Float[np.ndarray, "n T"]
    success: Bool[np.ndarray, " n"]
    steps: Int[np.ndarray, " n"]
    plans: Int[np.ndarray, " n"]
    states: Float[np.ndarray, "n T1 5"]
    actions: Float[np.ndarray, "n T 2"]
    frames: dict[int, np.ndarray] = field(default_factory=dict)
    acting: float = 0.0
    stepping: float = 0.0

    @property
    def max_reward(self) -> Float[np.ndarray, " n"]:
        return np.nanmax(self.rewards, 1)

    @property
    def time_to_095(self) -> Float[np.ndarray, " n"]:
        """Seconds until more than 0.95 of the goal was covered; infinite where it never was."""
        return np.where(self.success, self.steps / STEPS_PER_SECOND, np.inf)

    def summary(self) -> dict[str, float]:
        """Mean maximum reward with its standard error over starts, share of successes, median time, episode length.

        The median time counts an episode without success as infinitely long.
        """
        best = self.max_reward
        return {
            "max_reward": float(best.mean()),
            "standard_error": float(best.std(ddof=1) / math.sqrt(len(best))) if len(best) > 1 else math.nan,
            "success": float(self.success.mean()),
            "median_time_to_095": float(np.median(self.time_to_095)),
            "steps": float(self.steps.mean()),
            "plans": float(self.plans.mean()),
        }


def rollout(
    actor: Actor,
    starts: np.ndarray,
    *,
    max_steps: int = MAX_STEPS,
    seed: int = 0,
    conditions: Conditions = PUBLISHED_TASK,
    processes: int | None = None,
    record: Sequence[int] = (),
    size: int = 256,
) -> Rollouts:
    """One episode from each of the starts (n, 5) (see `starts.py`), all side by side.

    seed: of what actor, observation noise and pushes draw. processes: to step and draw in, None for this one (states
    and keypoints take about 0.1 ms a step, so others pay off with images alone; a script that asks for them needs the
    usual `if __name__ == "__main__"`). record: places of the episodes of which pictures of `size` (96 or more)
    are kept. Raises InputError for starts, an actor or places that do not fit, RunFailed for actions that are not
    finite.
    """
    if starts.ndim != 2 or starts.shape[1] != 5 or not len(starts):
        raise InputError(f"starts of shape {starts.shape}", "", "(n, 5): agent x, y, block x, y, angle")
    if max_steps < 1 or actor.n_obs < 1:
        raise InputError(f"{max_steps} steps at most and {actor.n_obs} observations", "", "at least one of each")
    if not all(0 <= place < len(starts) for place in record):
        raise InputError(f"episodes {list(record)} to record", "", f"places from 0 to {len(starts) - 1}")
    draws = np.array([np.random.default_rng([seed, i]).integers(2**32, size=max_steps + 1, dtype=np.uint32)
                      for i in range(len(starts))])  # fmt: skip
    scene = Scene(starts, draws[:, 0], actor.kind, actor.n_obs, conditions, tuple(record), size)
    stage = Here(scene) if processes is None else Elsewhere(scene, processes)
    try:
        return _played(actor, stage, scene, draws[:, 1:], max_steps)
    finally:
        stage.close()


def _played(actor: Actor, stage: Stage, scene: Scene, draws: np.ndarray, max_steps: int) -> Rollouts:
    n = len(scene.starts)
    clock = time.perf_counter()
    played = stage.begin()
    acting, stepping = 0.0, time.perf_counter() - clock
    states, actions = np.full((n, max_steps + 1, 5), np.nan), np.full((n, max_steps, 2), np.nan)
    rewards, success = np.full((n, max_steps), np.nan), np.zeros(n, bool)
    states[:, 0] = played.states[:, 0]
    last, histories = states[:, 0, :2].astype(np.float32), played.histories.astype(np.float32)
    rows, done_steps, plans = np.arange(n), 0, np.zeros(n, np.int64)
    for call in range(max_steps):
        clock = time.perf_counter()
        chosen = _acted(actor, histories[rows], last[rows], draws[rows, call], n)[:, : max_steps - done_steps]
        acting, clock = acting + time.perf_counter() - clock, time.perf_counter()
        played = stage.play(rows, chosen)
        stepping += time.perf_counter() - clock
        span = slice(done_steps, done_steps + chosen.shape[1])
        taken = np.isfinite(played.rewards)
        rewards[rows, span], actions[rows, span] = played.rewards, np.where(taken[..., None], chosen, np.nan)
        states[rows, done_steps + 1 : span.stop + 1] = played.states
        histories[rows], last[rows], success[rows] = played.histories, chosen[:, -1], played.done
        plans[rows] += 1
        rows, done_steps = rows[~played.done], span.stop
        if not len(rows) or done_steps == max_steps:
            break
    steps = np.isfinite(rewards).sum(1)
    return Rollouts(scene.starts, rewards, success, steps, plans, states, actions, stage.frames(), acting, stepping)


def _acted(actor: Actor, histories: np.ndarray, last: np.ndarray, seeds: np.ndarray, most: int) -> np.ndarray:
    """One plan a row, out of a batch of `most`, or a half, a quarter ... of it; (m, execute, 2) float64."""
    m = len(seeds)
    fill = np.resize(np.arange(m), batch_size(m, most))
    plans = np.asarray(actor.act(histories[fill], last[fill], seeds[fill]), np.float64)
    if plans.ndim != 3 or plans.shape[::2] != (len(fill), 2) or not plans.shape[1]:
        raise InputError(f"plans of shape {plans.shape} from the actor", "", f"({len(fill)}, execute, 2)")
    if not np.isfinite(plans[:m]).all():
        raise RunFailed("the actor's plans", f"{int((~np.isfinite(plans[:m])).sum())} numbers are not finite")
    return plans[:m]


def batch_size(running: int, most: int) -> int:
    """The least of most, most / 2, most / 4 ... (rounded up) that holds the running episodes."""
    size = most
    while size > 1 and -(-size // 2) >= running:
        size = -(-size // 2)
    return size

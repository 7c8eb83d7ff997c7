"""How good a policy is: episodes from fixed starts, what a plan costs, and how long it takes to answer.

The figure is the mean over starts of the greatest reward on the way (Chi et al. 2023), with the standard error of that
mean. Two sets of starts are kept apart: those from seed 200000 on are for choosing between policies, the published ones
from seed 100000 on are for final figures, and lose their worth when choices are made on them.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from neuralsde.errors import InputError
from neuralsde.robot.environment import MAX_STEPS, PUBLISHED_TASK, Conditions
from neuralsde.robot.latency import Latency, latency
from neuralsde.robot.policy import Policy
from neuralsde.robot.rollout import Rollouts, rollout
from neuralsde.robot.starts import CHOICES, PUBLISHED, starts
from neuralsde.robot.video import side_by_side, write_mp4
from neuralsde.runs.folder import versions
from neuralsde.train.files import write_atomic

RESULT, VIDEO = "evaluation.json", "episodes.mp4"
"""What `Evaluation.write` writes."""


@dataclass(frozen=True)
class Evaluation:
    """Episodes from the starts of the seeds first_seed, first_seed + 1, ..., and the time of the answers."""

    policy: Policy
    rollouts: Rollouts
    latency: Latency
    first_seed: int
    seed: int
    conditions: Conditions
    max_steps: int

    @property
    def starts_are(self) -> str:
        """What the starts may be used for."""
        if self.first_seed >= CHOICES:
            return "for choices"
        return "published" if self.first_seed >= PUBLISHED else "neither published nor for choices"

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values; None for what was never reached, or cannot be known from one episode."""
        played, how = self.rollouts, self.policy.how
        count = len(played.starts)
        reached = played.time_to_095
        return {
            "policy": self.policy.config.to_dict(),
            "execution": asdict(how),
            "starts": {"first_seed": self.first_seed, "count": count, "are": self.starts_are},
            "seed": self.seed,
            "conditions": asdict(self.conditions),
            "max_steps": self.max_steps,
            **{name: _finite(value) for name, value in played.summary().items()},
            "evaluations_per_plan": self.policy.evaluations,
            "evaluations_per_action": self.policy.evaluations_per_action,
            "latency_ms": asdict(self.latency),
            "device": str(jax.devices()[0]),
            "versions": versions(),
            "date": datetime.now(UTC).date().isoformat(),
            "episodes": [
                {
                    "start": self.first_seed + k, "max_reward": float(played.max_reward[k]),
                    "success": bool(played.success[k]), "time_to_095": _finite(float(reached[k])),
                    "steps": int(played.steps[k]),
                }
                for k in range(count)
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        found, last = self.to_dict(), self.first_seed + len(self.rollouts.starts) - 1
        config, how, slow = self.policy.config, self.policy.how, self.latency
        sampler = f", sampler {how.sampler}" if how.sampler else ""
        error = found["standard_error"]
        never = 1 - found["success"]
        time = found["median_time_to_095"]
        lines = [
            ("policy", f"{config.name} on {config.kind}; executes {how.execute} of {config.horizon} actions a plan"
                       f"{sampler}{'' if how.noise == 1 else f', {how.noise:g} of its noise'}"),
            ("starts", f"{len(self.rollouts.starts)}, seeds {self.first_seed} to {last} ({self.starts_are}); "
                       f"random seed {self.seed}"),
            ("conditions", _told(self.conditions)),
            ("mean maximum reward", f"{found['max_reward']:.3f}" + ("" if error is None else f" ± {error:.3f}")),
            ("success", f"{100 * found['success']:.0f} %"),
            ("time to .95", f"median {'never' if time is None else f'{time:.1f} s'}; {100 * never:.0f} % never"),
            ("evaluations", f"{found['evaluations_per_plan']} a plan, {found['evaluations_per_action']:g} an executed "
                            "action"),
            ("one answer takes", f"p50 {slow.p50:.2f} ms, p99 {slow.p99:.2f} ms ({slow.calls} calls, batch 1, "
                                 f"{found['device']})"),
        ]  # fmt: skip
        return "\n".join(f"{name:<21}{text}" for name, text in lines)

    def write(self, folder: str | Path) -> list[Path]:
        """`evaluation.json`, and `episodes.mp4` where pictures were kept, into a folder that is made; their paths.

        Raises InputError where the extra that writes videos is not installed.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / RESULT]
        write_atomic(written[0], (json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n").encode())
        if self.rollouts.frames:
            frames = [self.rollouts.frames[place] for place in sorted(self.rollouts.frames)]
            written.append(write_mp4(folder / VIDEO, side_by_side(frames)))
        return written


def evaluate(
    policy: Policy,
    n: int = 100,
    *,
    first_seed: int = CHOICES,
    seed: int = 0,
    conditions: Conditions = PUBLISHED_TASK,
    max_steps: int = MAX_STEPS,
    record: int = 0,
    calls: int = 300,
) -> Evaluation:
    """Play n episodes of the policy, asked as `policy.how` says, and time its answers.

    first_seed: of the starts; `robot.CHOICES` by default, `robot.PUBLISHED` for a final figure. seed: of what the
    policy, observation noise and pushes draw. record: of how many episodes, from the first, pictures are kept.
    calls: answers that are timed. Raises InputError for numbers that cannot be meant and without the extra `robot`.
    """
    if not 0 <= record <= n:
        raise InputError(f"{record} episodes to record of {n}", expected=f"0 to {n}")
    placed = starts(first_seed, n)
    played = rollout(
        policy, placed, max_steps=max_steps, seed=seed, conditions=conditions, record=range(record), size=192
    )
    return Evaluation(policy, played, latency(policy, calls), first_seed, seed, conditions, max_steps)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _told(conditions: Conditions) -> str:
    """What differs from the published task."""
    push = conditions.push
    changes = [
        f"actions {conditions.delay} steps late" if conditions.delay else "",
        f"observation noise of {conditions.noise:g}" if conditions.noise else "",
        "" if push is None else f"a push of {push.distance:g} px and {push.turn:g} rad in step {push.step}",
        "" if conditions.goal == PUBLISHED_TASK.goal else f"the goal at {conditions.goal}",
    ]
    return ", ".join(change for change in changes if change) or "the published task"

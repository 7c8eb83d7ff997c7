"""Policies of one experiment: trained in folders beside its results, so that a stopped run goes on, and rolled out.

A trial is a policy of one cell (a way to make demonstrations, or a loss) and one seed. Its figure is the greatest
reward of each episode over starts that are never those of a published table (`starts.CHOICES`). Two trials are compared
over the same starts, which are then hard or easy for both.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from neuralsde.data.pusht import Demonstrations
from neuralsde.experiments.asked import Asked
from neuralsde.robot.policy import Config, Policy
from neuralsde.robot.replay import replay
from neuralsde.robot.rollout import Actor, rollout
from neuralsde.robot.starts import CHOICES, starts
from neuralsde.robot.train import train_policy
from neuralsde.runs.folder import begun
from neuralsde.train.problem import TrainConfig

EXECUTE = 4
"""Actions of a plan that are carried out before the next one."""
_DIGITS = 4


@dataclass(frozen=True)
class Rewards:
    """each: (policies, starts) the greatest reward of each episode."""

    each: Float[np.ndarray, "policies starts"]

    @property
    def mean(self) -> float:
        return float(self.each.mean())

    @property
    def standard_error(self) -> float:
        """Over starts, and over policies where there are several: their variances add."""
        return _error(self.each)

    @property
    def success(self) -> float:
        """Share of the episodes in which the goal was covered."""
        return float((self.each >= 1).mean())

    def over(self, full: Rewards) -> tuple[float, float]:
        """Their mean over that of `full`, with its standard error: r = m / m', error of x - r x' over m'."""
        ratio = self.mean / full.mean if full.mean else math.nan
        return ratio, _error(self.each - ratio * full.each) / full.mean if full.mean else math.nan

    def ahead_of(self, other: Rewards) -> tuple[float, float]:
        """Their mean less that of `other` over the same starts, with its standard error.

        Of the difference at each start, and of each side's policies, which were trained apart: variances add.
        """
        apart = self.each.mean(0) - other.each.mean(0)
        variance = apart.var(ddof=1) / len(apart) if len(apart) > 1 else 0.0
        for side in (self.each, other.each):
            variance += side.mean(1).var(ddof=1) / len(side) if len(side) > 1 else 0.0
        return float(apart.mean()), math.sqrt(variance)

    def to_json(self) -> list[str]:
        """A line for each policy, four digits an episode."""
        return [line_of(row) for row in self.each]

    @staticmethod
    def from_json(lines: Sequence[str]) -> Rewards:
        return Rewards(np.array([[float(value) for value in line.split()] for line in lines]))

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.standard_error:.3f}"


def truncated(rewards: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """To the digits that are kept, towards zero: a success is 1, and nothing else is."""
    return np.trunc(10**_DIGITS * rewards) / 10**_DIGITS


def line_of(rewards: Float[np.ndarray, " n"]) -> str:
    """As they are kept: rewards that were truncated before."""
    return " ".join(f"{value:.{_DIGITS}f}" for value in rewards)


def _error(each: Float[np.ndarray, "policies starts"]) -> float:
    policies, episodes = each.shape
    variance = each.mean(0).var(ddof=1) / episodes if episodes > 1 else 0.0
    return math.sqrt(variance + (each.mean(1).var(ddof=1) / policies if policies > 1 else 0.0))


def rewards(actor: Actor, count: int, *, seed: int = 0, max_steps: int | None = None) -> Rewards:
    """Of one policy from the first `count` starts of `CHOICES`; figures as they are written, to four digits."""
    limit: dict[str, Any] = {} if max_steps is None else {"max_steps": max_steps}
    return Rewards(truncated(rollout(actor, starts(CHOICES, count), seed=seed, **limit).max_reward)[None])


def training_of(steps: int, batch: int, seed: int) -> TrainConfig:
    """How a policy of a trial is trained."""
    return TrainConfig(
        steps=steps, batch_size=batch, learning_rate=1e-3, ema=0.999 if steps > 2_000 else 0.99, seed=seed,
        validate_every=max(1, steps // 4), log_every=max(1, steps // 40), save_seconds=30.0,
    )  # fmt: skip


def opened(asked: Asked[Any], known: Demonstrations, held: Demonstrations, count: int) -> dict[str, Any]:
    """The first facts: what is learnt from and what is not, what a reward is measured against, and what has been done.

    fits: of each seed, those of the same command on the same data that was stopped. seconds: spent on them.
    """
    data = {"episodes": known.episodes, "rows": len(known), "held out": held.episodes}
    before = asked.before()
    if before.get("data") == data and not before.get("finished"):
        kept = {name: before[name] for name in ("reference", "fits", "seconds")}
    else:
        reference = {
            "resting": rewards(Resting(), count, max_steps=1).to_json(),
            "demonstrations": round(float(replay(known).max_reward.mean()), _DIGITS),
        }
        kept = {"reference": reference, "fits": {}, "seconds": 0}
    return asked.first | {"data": data} | kept


def seed_by_seed(
    asked: Asked[Any],
    parts: tuple[Demonstrations, Demonstrations],
    fits: Callable[[Demonstrations, Demonstrations, int, dict[str, Any]], Iterator[str]],
    page: Callable[[dict[str, Any]], str],
    picture: Callable[[dict[str, Any], Path], None],
) -> Iterator[str]:
    """Fill in what each seed's `fits(known, held, seed, found)` finds, kept after every line; then page and picture."""
    size = asked.size
    facts = opened(asked, *parts, size.starts)
    spent = facts["seconds"]
    for number in asked.numbers(size.policies):
        for line in fits(*parts, number, facts["fits"].setdefault(f"{number}", {})):
            facts["seconds"] = spent + asked.seconds
            asked.write(facts, "")  # a stopped run leaves what it has
            yield line
    facts |= {"finished": True, "seconds": spent + asked.seconds}
    text = page(facts)
    asked.write(facts, text)
    picture(facts, asked.path())
    tidy(asked)
    yield from text.splitlines()


def trained(asked: Asked[Any], cell: str, demos: Demonstrations, config: Config, training: TrainConfig) -> Policy:
    """The policy of a cell; goes on with one that was stopped, or loads one that is there."""
    folder = folder_of(asked, cell, training.seed)
    policy = train_policy(demos, config, training, folder, resume=begun(folder), progress=asked.progress)
    return policy.executing(execute=min(EXECUTE, config.horizon))


def folder_of(asked: Asked[Any], cell: str, seed: int) -> Path:
    """Where the policy of a cell lies until the results are written."""
    return _folder(asked) / "-".join([*re.findall(r"\w+", cell), f"{seed}"])


def tidy(asked: Asked[Any]) -> None:
    """Remove the run folders of an experiment whose results are written."""
    shutil.rmtree(_folder(asked), ignore_errors=True)


def _folder(asked: Asked[Any]) -> Path:
    """One for each command and size: a run of another size is never gone on with."""
    same = json.dumps([asked.first["command"], asked.first["size"]])
    return asked.out / f"{asked.name}-runs-{hashlib.sha256(same.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Resting:
    """An actor that stays where it is: what a start alone is worth."""

    kind: str = "pose"
    n_obs: int = 1

    def act(self, histories: np.ndarray, last: np.ndarray, seeds: np.ndarray, /) -> np.ndarray:
        return last[:, None].astype(np.float64)

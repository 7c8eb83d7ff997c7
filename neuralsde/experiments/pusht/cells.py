"""One measured figure of a policy: which line, how it is asked, under which conditions, from which starts.

Every cell is kept in the results as soon as it is known, under a key that says all of that; a sweep that was stopped
measures only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from neuralsde.experiments.pusht.lines import LINES
from neuralsde.experiments.pusht.trials import Rewards, line_of, truncated
from neuralsde.robot.environment import PUBLISHED_TASK, Conditions, Push
from neuralsde.robot.policy import Policy
from neuralsde.robot.rollout import rollout
from neuralsde.robot.starts import starts

CONDITIONS: dict[str, Conditions] = {
    "": PUBLISHED_TASK,
    "noise of 5 px": Conditions(noise=5.0),
    "noise of 10 px": Conditions(noise=10.0),
    "1 step late": Conditions(delay=1),
    "2 steps late": Conditions(delay=2),
    "3 steps late": Conditions(delay=3),
    "a push": Conditions(push=Push()),
}
"""What is changed of the published task."""


@dataclass(frozen=True)
class Cell:
    """line: a key of `LINES`. seed: of the training. steps: evaluations an executed action. execute: actions a plan.

    starts: how many, of seeds from `first` on.
    noise: as of `Execution`; None: what is chosen for the line. when: a key of `CONDITIONS`.
    """

    line: str
    seed: int
    steps: float
    execute: int
    starts: int
    first: int
    noise: float | None = None
    when: str = ""

    @property
    def key(self) -> str:
        """In words; what a result is kept under."""
        when = f", {self.when}" if self.when else ""
        return (
            f"{self.line}, seed {self.seed}, {self.steps:g} an action, {self.execute} actions a plan, "
            f"{self.share:g} of the noise, {self.starts} starts from {self.first}{when}"
        )

    @property
    def share(self) -> float:
        """Of the noise that is drawn."""
        return LINES[self.line].share(self.execute) if self.noise is None else self.noise

    def asked(self, policy: Policy) -> Policy:
        """The policy, asked like this."""
        line = LINES[self.line]
        steps = self.steps if line.anytime else 1.0
        return policy.executing(execute=self.execute, steps=steps, noise=self.share, sampler=line.sampler)

    def measured(self, policy: Policy, max_steps: int) -> dict[str, Any]:
        """Roll out and summarise; `rewards` are the greatest of each start, in a line."""
        asked = self.asked(policy)
        found = rollout(
            asked,
            starts(self.first, self.starts),
            seed=self.seed,
            conditions=CONDITIONS[self.when],
            max_steps=max_steps,
        )
        told = found.summary()
        return {
            "reward": told["max_reward"],
            "error": told["standard_error"],
            "success": told["success"],
            "evaluations": asked.evaluations,
            "rewards": line_of(truncated(found.max_reward)),
        }


@dataclass
class Table:
    """Cells by key, kept by `keep` after each new one."""

    found: dict[str, Any]
    policy_of: Callable[[Cell], Policy]
    keep: Callable[[], None]
    max_steps: int

    def fill(self, cells: Iterable[Cell]) -> Iterator[str]:
        """Measure what is not there yet; a line for each new cell."""
        for cell in cells:
            if rewards_of(self.found, cell) is None:
                self.found[cell.key] = cell.measured(self.policy_of(cell), self.max_steps)
                self.keep()
                got = self.found[cell.key]
                yield f"{cell.key}: {got['reward']:.3f} ± {got['error']:.3f}"


def rewards_of(found: Mapping[str, Any], cell: Cell) -> Float[np.ndarray, " starts"] | None:
    """Of a cell, or the first ones of the same with more starts: an episode does not depend on its company."""
    for key, part in found.items():
        count = len(part["rewards"].split())
        if count >= cell.starts and key == replace(cell, starts=count).key:
            return Rewards.from_json([part["rewards"]]).each[0, : cell.starts]
    return None


def collected(found: Mapping[str, Any], cells: Iterable[Cell]) -> Rewards | None:
    """Of cells that differ in the seed alone; None while one is missing."""
    parts = [rewards_of(found, cell) for cell in cells]
    whole = [part for part in parts if part is not None]
    return Rewards(np.stack(whole)) if whole and len(whole) == len(parts) else None


def success(found: Mapping[str, Any], cells: Iterable[Cell]) -> float:
    """Share of the episodes in which the goal was covered."""
    return float(np.mean([found[cell.key]["success"] for cell in cells]))

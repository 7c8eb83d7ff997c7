"""`neuralsde reproduce pusht`: train all methods, play all cells, write tables, pictures and videos.

Trained policies lie in `OUT/pusht-runs/NAME-SEED` and stay there, for `neuralsde policy eval` and `neuralsde export`. A
run that is stopped goes on where it was: trainings from their last save, the sweep from its last cell. Where the
results are and the policies are not, those that a missing figure asks for are trained again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuralsde.data.pusht import Demonstrations
from neuralsde.experiments.asked import Asked
from neuralsde.experiments.pusht import lines
from neuralsde.experiments.pusht.cells import CONDITIONS, Cell, Table, collected
from neuralsde.experiments.pusht.lines import FITTED, LINES, OURS
from neuralsde.robot.latency import latencies_on_one_core
from neuralsde.robot.policy import Config, Policy
from neuralsde.robot.replay import replay
from neuralsde.robot.starts import PUBLISHED
from neuralsde.robot.train import train_policy
from neuralsde.runs.folder import RunFolder, begun
from neuralsde.train.problem import TrainConfig


@dataclass(frozen=True)
class Size:
    """What is trained, and what is played.

    steps of batch moments; width, blocks, n_obs, horizon: of every policy. execute: actions of a plan.
    main: budgets (evaluations an executed action) at which all seeds play `starts` starts; closed: budgets at which
    they do so with a plan for every action; sweep: budgets at which the first seed plays `sweep_starts`; executed:
    other lengths that our line is played at; noises: other shares of its noise. max_steps: of an episode.
    first: seed of the first start. calls: timed for a latency. film: episodes of the video.
    """

    steps: int = 12_000
    batch: int = 512
    width: int = 256
    blocks: int = 3
    n_obs: int = 2
    horizon: int = 8
    execute: int = 4
    main: tuple[float, ...] = (1, 2, 100)
    closed: tuple[float, ...] = (1, 2, 4)
    sweep: tuple[float, ...] = (1, 2, 4, 8, 16, 32, 100)
    starts: int = 200
    sweep_starts: int = 100
    executed: tuple[int, ...] = (1, 2, 8)
    noises: tuple[float, ...] = (0.0, 0.5, 1.0)
    max_steps: int = 300
    first: int = PUBLISHED
    calls: int = 1_000
    film: int = 8


@dataclass(frozen=True)
class Study:
    """One call: what was asked, the demonstrations, the kind of observation."""

    asked: Asked[Size]
    demos: Demonstrations
    kind: str
    policies: dict[tuple[str, int], Policy] = field(default_factory=dict)

    @property
    def size(self) -> Size:
        return self.asked.size

    # -- policies ----------------------------------------------------------------------------------------------------

    def folder(self, name: str, seed: int) -> Path:
        return self.asked.out / f"{self.asked.name}-runs" / f"{name}-{seed}"

    def config(self, name: str) -> Config:
        size = self.size
        return lines.config(
            name, self.kind, n_obs=size.n_obs, horizon=size.horizon, width=size.width, blocks=size.blocks
        )

    def policy(self, name: str, seed: int) -> Policy:
        """Trained, loaded, or gone on with."""
        size, folder, config = self.size, self.folder(name, seed), self.config(name)
        training = TrainConfig(
            steps=size.steps, batch_size=size.batch, learning_rate=1e-3, seed=seed, ema=0.999,
            validate_every=max(1, size.steps // 12), log_every=max(1, size.steps // 60), save_seconds=60.0,
        )  # fmt: skip
        return train_policy(self.demos, config, training, folder, resume=begun(folder), progress=self.asked.progress)

    def loaded(self, name: str, seed: int) -> Policy:
        """`policy`, once: what it has compiled is kept."""
        if (name, seed) not in self.policies:
            self.policies[name, seed] = self.policy(name, seed)
        return self.policies[name, seed]

    def training(self, name: str, seed: int) -> dict[str, Any]:
        """What finished.json says of one that is trained."""
        return RunFolder.open(self.folder(name, seed)).summary()

    # -- cells -------------------------------------------------------------------------------------------------------

    def cells(
        self, line: str, steps: float, seeds: Sequence[int], starts: int, *, execute: int = 0, **more: Any
    ) -> list[Cell]:
        """The same for each of the seeds."""
        length = execute or self.size.execute
        return [Cell(line, seed, steps, length, starts, self.size.first, **more) for seed in seeds]

    @property
    def seeds(self) -> range:
        return self.asked.numbers(1)

    @staticmethod
    def each(budgets: Sequence[float]) -> list[tuple[str, float]]:
        """Lines and budgets of a table; a method that answers in one pass has one."""
        return [(line, k) for line in LINES for k in budgets if LINES[line].anytime or k == budgets[0]]

    @property
    def main(self) -> list[tuple[str, float]]:
        return self.each(self.size.main)

    @property
    def rounds(self) -> list[tuple[int, tuple[float, ...]]]:
        """Actions executed of a plan, and the budgets, of each table that all seeds play for."""
        return [(self.size.execute, self.size.main), *([(1, self.size.closed)] if self.size.closed else [])]

    @property
    def sweep(self) -> list[tuple[str, float]]:
        return self.each(self.size.sweep)

    def everything(self, found: dict[str, Any]) -> Iterator[Cell]:
        """All cells in the order in which they are worth knowing."""
        size, first = self.size, self.seeds[:1]
        for execute, budgets in self.rounds:
            for line, k in self.each(budgets):
                yield from self.cells(line, k, self.seeds, size.starts, execute=execute)
        for line, k in self.sweep:
            yield from self.cells(line, k, first, size.sweep_starts)
        for length in size.executed:
            yield from self.cells(OURS, size.main[0], first, size.starts, execute=length)
        for share in size.noises:
            yield from self.cells(OURS, size.main[0], first, size.starts, noise=share)
        for when in list(CONDITIONS)[1:]:
            for line, k in self.tried(found):
                yield from self.cells(line, k, first, size.sweep_starts, when=when)

    def tried(self, found: dict[str, Any]) -> list[tuple[str, float]]:
        """Under other conditions: ours, at the budget of the best baseline too, that baseline, and who has one pass."""
        rival, budget = self.best_baseline(found)
        one_pass = [(line, self.size.main[0]) for line, told in LINES.items() if not told.anytime]
        return list(dict.fromkeys([(OURS, self.size.main[0]), (OURS, budget), (rival, budget), *one_pass]))

    def best_baseline(self, found: dict[str, Any]) -> tuple[str, float]:
        """By the mean reward of the main table."""
        known = {
            (line, k): collected(found, self.cells(line, k, self.seeds, self.size.starts))
            for line, k in self.main
            if line != OURS
        }
        return max((key for key, value in known.items() if value), key=lambda key: known[key].mean)  # type: ignore[union-attr]

    def known(self) -> dict[str, Any]:
        """The facts so far: those that are on file, if they are of the same policies on the same data."""
        told = {
            "kind": self.kind,
            "episodes": self.demos.episodes,
            "rows": len(self.demos),
            "policies": {name: json.loads(json.dumps(self.config(name).to_dict())) for name in FITTED},
        }
        first = self.asked.first | {"command": self.asked.first["command"] + f" --obs {self.kind}"}
        before = self.asked.before(first)
        same = all(before.get(name) == value for name, value in told.items())
        return first | {"cells": {}, "latency": {}, "train": {}} | (before if same else {}) | told

    # -- all of it ---------------------------------------------------------------------------------------------------

    def run(self, facts: dict[str, Any]) -> Iterator[str]:
        """Fill in `facts`, told as they become known and kept on the way."""
        spent = facts.get("seconds", 0)

        def keep() -> None:
            facts["seconds"] = spent + self.asked.seconds
            self.asked.write(facts, "")

        if "replayed" not in facts:
            facts["replayed"] = float(replay(self.demos).max_reward.mean())
        for seed in self.seeds:
            for name in FITTED:
                told = f"{name}, seed {seed}"
                if told not in facts["train"]:
                    self.policy(name, seed)
                    facts["train"][told] = self.training(name, seed)
                    keep()
                yield f"{told}: trained in {facts['train'][told]['seconds']:.0f} s"
        table = Table(
            facts["cells"], lambda cell: self.loaded(LINES[cell.line].name, cell.seed), keep, self.size.max_steps
        )
        yield from table.fill(self.everything(facts["cells"]))
        yield from self.times(facts["latency"], keep)

    def times(self, known: dict[str, Any], keep: Callable[[], None]) -> Iterator[str]:
        """The time of a call of `act` in every cell of the sweep, and with a plan for every action, unless known."""
        first, asked = self.seeds[0], {}
        cells = [(line, k, self.size.execute) for line, k in self.sweep]
        cells += [(line, k, 1) for line, k in self.each(self.size.closed)]
        for line, k, execute in cells:
            if (name := timed(line, k, execute)) not in known:
                cell = self.cells(line, k, [first], 1, execute=execute)[0]
                how = cell.asked(self.loaded(LINES[line].name, first)).how
                asked[name] = self.folder(LINES[line].name, first), how, max(100, int(self.size.calls / k))
        if asked:
            found = latencies_on_one_core(list(asked.values()))
            known.update({name: vars(one) for name, one in zip(asked, found, strict=True)})
            keep()
        for name in asked:
            yield f"{name}: {known[name]['p50']:.2f} ms a call, 99 of 100 below {known[name]['p99']:.2f}"


def timed(line: str, k: float, execute: int) -> str:
    """What a latency is kept under."""
    return f"{line}, {k:g} an action, {execute} actions a plan"

"""Wrong actions at 0, 1, 5 and 10 % of the demonstrated steps: which loss keeps the reward and the calibration?

A wrong action is drawn uniformly from the arena. It is the target of one transition of the policy and the start of the
next, so a share p of wrong actions spoils 1 - (1 - p)² of the transitions. The SDE is trained with three flow losses,
everything else equal, and with Student's tails as well; rewards are of episodes, calibration is that of one action
ahead on held-out demonstrations as they were recorded (`one_step.py`, which also says what is expected).

    NEURALSDE_DATA=/path/to/data neuralsde reproduce pusht-outliers
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neuralsde.data.pusht import Demonstrations, outliers
from neuralsde.evaluate import style
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.pusht.data import demonstrations
from neuralsde.experiments.pusht.one_step import LEVELS, OneStep, expected, one_step, random_walk
from neuralsde.experiments.pusht.trials import Rewards, rewards, seed_by_seed, trained, training_of
from neuralsde.experiments.seeds import cell
from neuralsde.robot.policy import Config, Policy
from neuralsde.robot.sde_plan import OPTIONS, SDE
from neuralsde.robot.starts import CHOICES

NAME = "pusht-outliers"
SHARES = (0, 1, 5, 10)
"""Per cent of the actions."""
HELD_OUT = 0.1
DELTA = 1e-3
WAYS: dict[str, dict[str, Any]] = {
    "mse": {"flow_loss": "mse"},
    "log": {"flow_loss": "log", "log_delta": DELTA},
    "student": {"flow_loss": "student"},
    "student, tails": {"flow_loss": "student", "tails": "student"},
}
"""Options of the sequence SDE; the last is the only one whose diffusion knows of outliers too."""
PLAIN, WALK = "mse", "random walk (trivial)"
MEASURES = {
    "moved": "Mean moved, px a coordinate, root mean square: how far the action one ahead, on the mean, is from that "
    "of the mse policy of clean actions, at every offset of a plan. Floor 0; the column 0 % is what two clean policies "
    "differ by.",
    **{
        f"inside {level}": f"Share inside the central {level} %. Floor, and right: {level / 100:g}." for level in LEVELS
    },
    "nats": "Nats an action (both coordinates), of the rounded one. Lower is better; the floor is not known: compare "
    "with mse at 0 %.",
    "spread": "Scale of the law, px, root mean square.",
}


@dataclass(frozen=True)
class Size:
    """Policies a cell, their steps of batch moments, width and blocks; starts they are rolled out from."""

    policies: int = 1
    steps: int = 2_500
    batch: int = 256
    width: int = 192
    blocks: int = 3
    starts: int = 200
    shares: tuple[int, ...] = SHARES
    max_steps: int = 300


SMALL = Size(steps=2, batch=8, width=4, blocks=0, starts=2, shares=(0, 10), max_steps=4)
FULL = Size(policies=3, steps=12_000, batch=512, width=256)


def policy_config(size: Size, way: str) -> Config:
    """The policy of a way; every demonstration in the mirror too."""
    return Config(SDE(replace(OPTIONS, **WAYS[way])), width=size.width, blocks=size.blocks, mirror=True)


@dataclass(frozen=True)
class Trial:
    """The cells of one seed: its own outliers, start of the weights and batches."""

    asked: Asked[Size]
    known: Demonstrations
    held: Demonstrations
    seed: int

    def spoiled(self, share: float) -> Demonstrations:
        return outliers(self.known, share / 100, self.seed)[0]

    def policy(self, share: float, way: str) -> Policy:
        size = self.asked.size
        training = training_of(size.steps, size.batch, self.seed)
        return trained(self.asked, f"{share} {way}", self.spoiled(share), policy_config(size, way), training)

    def measured(self, share: float, way: str, clean: OneStep) -> dict[str, Any]:
        """Rewards of a cell, and figures of its laws."""
        size, policy = self.asked.size, self.policy(share, way)
        law = one_step(policy, self.held)
        got = rewards(policy, size.starts, seed=self.seed, max_steps=size.max_steps)
        return {"rewards": got.to_json()[0], **law.figures(), "moved": law.moved(clean)}


@experiment(NAME, Size(), FULL)
def reproduce(asked: Asked[Size], *, data: Path | None = None) -> Iterator[str]:
    """Spoil, train, roll out; write pusht-outliers.json, .md and .png into `out`; yields lines as they become known.

    seeds: times the policies of the size. data: the demonstrations, instead of `$NEURALSDE_DATA/pusht`.
    A run that was stopped goes on where it stopped.
    """

    def fits(known: Demonstrations, held: Demonstrations, seed: int, found: dict[str, Any]) -> Iterator[str]:
        return _cells(Trial(asked, known, held, seed), found)

    return seed_by_seed(asked, demonstrations(data).split(0, HELD_OUT), fits, page, _picture)


def _cells(trial: Trial, found: dict[str, Any]) -> Iterator[str]:
    """Fill `found` in, share by share and way by way; one line each."""
    size = trial.asked.size
    clean = one_step(trial.policy(0, PLAIN), trial.held)
    for share in size.shares:
        part = found.setdefault(f"{share}", {"measured": {}, "expected": {}})
        part[WALK] = random_walk(trial.spoiled(share), clean).figures()
        for way, options in WAYS.items():
            if way not in part["measured"]:
                part["measured"][way] = trial.measured(share, way, clean)
                if "tails" not in options:
                    part["expected"][way] = expected(clean, share / 100, options["flow_loss"], DELTA)
                got = part["measured"][way]
                yield (
                    f"seed {trial.seed}, {share} %, {way}: reward {Rewards.from_json([got['rewards']])}, "
                    f"{got['inside 90']:.1%} inside 90 %, mean moved by {got['moved']:.1f} px"
                )


# -- what is written ---------------------------------------------------------------------------------------------------


def page(facts: dict[str, Any]) -> str:
    """The results as markdown."""
    size, data, reference = facts["size"], facts["data"], facts["reference"]
    heads = [f"{share} %" for share in size["shares"]]
    lines = [
        "# Push-T with wrong actions",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. A share of the demonstrated actions is drawn from "
        "all the arena instead; each spoils the target of one transition and the start of the next: "
        + ", ".join(f"{1 - (1 - share / 100) ** 2:.1%} of them at {share} %" for share in size["shares"] if share)
        + f". {data['episodes']} episodes ({data['rows']:,} steps) to learn from, {data['held out']} held out and left "
        f"as they were. One neural SDE on keypoints (width {size['width']}, {size['blocks']} blocks, "
        f"{size['steps']:,} steps of batch {size['batch']}, mirror images too), {len(facts['fits'])} a cell, with the "
        f"flow loss named; log has δ = {DELTA:g}; tails: the likelihood of its diffusion is Student's. It is fitted to "
        "whole actions, in one short training, and draws all of its noise: not the policy of the main table.",
        "",
        f"Reward: the greatest of an episode, mean over {size['starts']} starts from seed {CHOICES} on ± standard "
        f"error, one evaluation an action. Most is 1; the demonstrations reach {reference['demonstrations']:.4f}; an "
        f"agent that stays where it is {Rewards.from_json(reference['resting'])}. In brackets: of the reward of the "
        "same loss at 0 %, over the same starts. Expected: a diffusion learnt from wrong actions is wide with every "
        "flow loss, so a robust flow alone saves little.",
        "",
        "| reward | " + " | ".join(heads) + " |",
        "|---|" + "--:|" * len(heads),
    ]
    for way in WAYS:
        cells = []
        for share in size["shares"]:
            got, clean = collected(facts, share, way), collected(facts, size["shares"][0], way)
            ratio, error = got.over(clean)
            cells.append(f"{got}" + (f" ({ratio:.3f} ± {error:.3f})" if share != size["shares"][0] else ""))
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "One action ahead, on held-out demonstrations. In brackets what is expected by endless data of the clean mse "
        "policy's law with such targets (`experiments/pusht/one_step.py`); with tails nothing is worked out.",
    ]
    for measure, title in MEASURES.items():
        lines += ["", title, "", f"| {measure} | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(heads)]
        for way in (*WAYS, WALK):
            cells = [_cell(facts, share, way, measure) for share in size["shares"]]
            if any(cells):
                lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def collected(facts: dict[str, Any], share: float, way: str) -> Rewards:
    """Of all policies of a cell."""
    return Rewards.from_json([fit[f"{share}"]["measured"][way]["rewards"] for fit in facts["fits"].values()])


def values(facts: dict[str, Any], share: float, way: str, measure: str, part: str = "measured") -> list[float]:
    """One figure of every fit; of the random walk, and of what is expected, where there is one."""
    parts = [fit[f"{share}"] for fit in facts["fits"].values()]
    found = [one[way] if way == WALK else one[part].get(way, {}) for one in parts]
    return [one[measure] for one in found if measure in one]


def _cell(facts: dict[str, Any], share: float, way: str, measure: str) -> str:
    measured, told = values(facts, share, way, measure), values(facts, share, way, measure, "expected")
    digits = 3 if measure.startswith("inside") else 2
    if not measured:
        return ""
    return cell(measured, digits) + (f" ({np.mean(told):.{digits}f})" if told and way != WALK else "")


_COLOURS = {"mse": style.INK, "log": style.MUTED, "student": style.FAINT, "student, tails": style.ACCENT}


def _picture(facts: dict[str, Any], path: Path) -> None:
    """Reward, mean and coverage over the share of outliers: points and lines measured, crosses expected."""
    shares = facts["size"]["shares"]
    fig, at = style.figure(900, 280), np.arange(len(shares))
    panels = (("rewards", "reward"), ("moved", "mean moved, px"), ("inside 50", "share inside the central 50 %"))
    for k, (measure, title) in enumerate(panels):
        ax = style.axes(fig, left=40 + 300 * k, right=10 + 300 * (2 - k), top=56, bottom=44)
        for way, colour in _COLOURS.items():
            if measure == "rewards":
                got = [collected(facts, share, way) for share in shares]
                told, error = [one.mean for one in got], [one.standard_error for one in got]
                ax.errorbar(at, told, error, fmt="o-", color=colour, markersize=4, linewidth=1.2, label=way)
                continue
            told = [np.mean(values(facts, share, way, measure)) for share in shares]
            ax.plot(at, told, "o-", color=colour, markersize=4, linewidth=1.2)
            said = [values(facts, share, way, measure, "expected") for share in shares]
            if all(said):
                ax.plot(at, [np.mean(each) for each in said], "x", color=colour, markersize=6)
        if measure == "inside 50":
            ax.axhline(0.5, color=style.RULE, linewidth=1.2)
        ax.set_xticks(at, [f"{share} %" for share in shares])
        ax.set_xlabel("wrong actions" + ("" if measure == "rewards" else "; crosses: expected"))
        ax.set_title(title, fontsize=11, color=style.INK)
        if not k:
            fig.legend(*ax.get_legend_handles_labels(), loc="upper center", ncols=len(WAYS), frameon=False, fontsize=10)
    style.save(fig, path)

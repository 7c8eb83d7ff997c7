"""`neuralsde reproduce pusht-choices`: what the SDE policy is made of, and how each method is asked.

What `reproduce pusht` takes as given, on starts of seeds from 200,000 on: one change of the policy at a time, and for
each method the share of its noise. One training each, short ones unless `--full` asks for those of `reproduce pusht`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neuralsde.data.pusht import Demonstrations, observations
from neuralsde.evaluate import style
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.pusht import lines
from neuralsde.experiments.pusht.data import demonstrations
from neuralsde.experiments.pusht.lines import CHOSEN, LINES
from neuralsde.experiments.pusht.trials import tidy, trained, training_of
from neuralsde.models.sequence_sde.config import FlowLoss
from neuralsde.robot.baselines import Diffusion, FlowMatching, Mixture
from neuralsde.robot.plan_law import Execution
from neuralsde.robot.policy import Config, Method, Policy
from neuralsde.robot.rollout import rollout
from neuralsde.robot.sde_plan import OPTIONS, SDE
from neuralsde.robot.starts import CHOICES, starts


@dataclass(frozen=True)
class Size:
    """As of `study.Size`; starts: episodes of a cell. noises: shares of the noise."""

    steps: int = 2_500
    batch: int = 256
    width: int = 256
    blocks: int = 3
    horizon: int = 8
    starts: int = 100
    noises: tuple[float, ...] = (0.5, 0.75, 1.0)
    max_steps: int = 300


MOMENTS = 2_000
"""At which `moves` looks."""
FULL = Size(steps=12_000, batch=512)
SMALL = Size(steps=2, batch=4, width=4, blocks=1, horizon=2, starts=2, noises=(1.0,), max_steps=2)


def sde(flow_loss: FlowLoss, **options: Any) -> SDE:
    """A policy that is fitted to whole actions."""
    return SDE(options=replace(OPTIONS, flow_loss=flow_loss, **options))


def anytime(**options: Any) -> SDE:
    """A policy that is fitted to steps of every length."""
    return replace(CHOSEN, options=replace(CHOSEN.options, **options))


VARIANTS: dict[str, dict[str, Any]] = {
    "chosen": {},
    "without mirror images": {"mirror": False},
    "mean-square flow loss": {"method": anytime(flow_loss="gaussian")},
    "Student tails": {"method": anytime(tails="student")},
    "whole actions alone": {"method": sde("student")},
    "whole actions, mean-square flow loss": {"method": sde("mse")},
    "whole actions, log flow loss": {"method": sde("log")},
    "noise on what is seen, .02": {"observation_noise": 0.02},
    "no noise on the action before": {"method": anytime(input_noise=0.0)},
    "noise of .05 there (chosen: .02)": {"method": anytime(input_noise=0.05)},
    "one observation": {"n_obs": 1},
}
"""Changes of the policy's `Config`, one at a time."""
RIVALS: dict[str, Method] = {
    "diffusion": Diffusion(),
    "flow-matching": FlowMatching(),
    "mixture": Mixture(),
    "diffusion, told the last action": Diffusion(last_action=True),
    "flow-matching, told the last action": FlowMatching(last_action=True),
}
"""Other methods that draw."""
WAYS: dict[str, dict[str, Any]] = {
    "4 actions a plan": {},
    "2 evaluations an action": {"steps": 2.0},
    "8 evaluations an action": {"steps": 8.0},
    "1 action a plan": {"execute": 1},
    "8 actions a plan": {"execute": 8},
    "nothing drawn": {"noise": 0.0},
}
"""Ways to ask, beside 4 actions a plan, 1 evaluation each, and the chosen share of the noise."""


@dataclass(frozen=True)
class Trial:
    """A policy that is trained under a name, and the ways in which it is asked."""

    name: str
    config: Config
    ways: dict[str, Execution]


def trials(size: Size) -> Iterator[Trial]:
    """Variants of the SDE, then shares of the noise of every method that has any."""
    common = {"n_obs": 2, "horizon": size.horizon, "width": size.width, "blocks": size.blocks}
    ours = lines.config("sde", "keypoints", **common)
    usual = Execution(execute=min(4, size.horizon), noise=LINES["sde"].noise)
    for name, change in VARIANTS.items():
        ways = {way: replace(usual, **_asked(asked, size.horizon)) for way, asked in WAYS.items()}
        if not change.get("method", CHOSEN).anytime:  # fitted to whole actions: more evaluations refine nothing
            ways = {way: how for way, how in ways.items() if how.steps == 1}
        if not change:
            ways |= _shares(CHOSEN, usual.execute, size)
        yield Trial(name, replace(ours, **change), ways)
    for name, method in RIVALS.items():
        yield Trial(name, replace(ours, method=method), _shares(method, usual.execute, size))


def _shares(method: Method, execute: int, size: Size) -> dict[str, Execution]:
    """Ways to ask by share of the noise."""
    sampler = getattr(method, "sampler", "")
    return {
        f"{share:g} of the noise, {count} executed, {k:g} an action": Execution(count, k, share, sampler)
        for count, budgets in ((execute, (1.0, 2.0, 16.0)), (1, (1.0, 4.0)))
        for k in (budgets[:1] if isinstance(method, Mixture) else budgets)
        for share in size.noises
    }


def _asked(change: dict[str, Any], horizon: int) -> dict[str, Any]:
    """A change of an `Execution`, with the share of the noise that goes with it."""
    if "execute" not in change:
        return change
    execute = min(change["execute"], horizon)
    return {"execute": execute, "noise": LINES["sde"].share(execute)}


@experiment("pusht-choices", Size(), FULL)
def reproduce(asked: Asked[Size], *, data: Path | None = None) -> Iterator[str]:
    """Write pusht-choices.json, .md and .png into `out`; yields lines as they become known. Resumes."""
    size, demos = asked.size, demonstrations(data)
    facts = asked.first | {"trials": {}, "seconds": 0} | asked.before()
    spent = facts["seconds"]
    for trial in trials(size):
        known = _of_this(facts["trials"].get(trial.name), trial)
        facts["trials"][trial.name] = known
        if "moves" in known and set(known["ways"]) >= set(trial.ways):
            continue
        for line in _tried(trial, known, asked, demos):
            facts["seconds"] = spent + asked.seconds
            asked.write(facts, page(facts))
            yield line
    text = page(facts)
    asked.write(facts, text)
    picture(facts, asked.path())
    tidy(asked)
    yield from text.splitlines()


def _of_this(known: dict[str, Any] | None, trial: Trial) -> dict[str, Any]:
    """What is known of a trial, unless it was of another policy or asked otherwise."""
    config = json.loads(json.dumps(trial.config.to_dict()))
    if known is None or known["config"] != config:
        return {"config": config, "ways": {}}
    ways = {way: found for way, found in known["ways"].items() if found["how"] == str(trial.ways.get(way))}
    return known | {"ways": ways}


def _tried(trial: Trial, known: dict[str, Any], asked: Asked[Size], demos: Demonstrations) -> Iterator[str]:
    """Train, and play what is not known yet."""
    size = asked.size
    training = training_of(size.steps, size.batch, asked.seed)
    policy = trained(asked, trial.name, demos, trial.config, training)
    known["moves"] = moves(policy, demos)
    for way, how in trial.ways.items():
        if way not in known["ways"]:
            played = rollout(
                policy.executing(**vars(how)), starts(CHOICES, size.starts), seed=asked.seed, max_steps=size.max_steps
            ).summary()
            kept = {key: played[key] for key in ("max_reward", "standard_error", "success")}
            known["ways"][way] = {"how": str(how), **kept}
            yield f"{trial.name}, {way}: {played['max_reward']:.3f} ± {played['standard_error']:.3f}"


def moves(policy: Policy, demos: Demonstrations) -> tuple[float, float]:
    """How far the next action is from the last, px: with nothing drawn, and as demonstrated, over the same moments."""
    past = max(1, policy.n_obs - 1)
    rows = np.flatnonzero(np.arange(len(demos)) - demos.starts[demos.episode_of] >= past)
    rows = rows[:: max(1, len(rows) // MOMENTS)]
    seen = np.stack([observations(demos, policy.kind, rows - k) for k in reversed(range(policy.n_obs))], axis=1)
    last = demos.actions[rows - 1].astype(np.float32)
    planned = policy.executing(execute=1, noise=0.0).act(seen, last, 0)[:, 0]
    told, done = (float(np.linalg.norm(a - last, axis=1).mean()) for a in (planned, demos.actions[rows]))
    return told, done


def page(facts: dict[str, Any]) -> str:
    """As markdown."""
    size, count = facts["size"], len(VARIANTS) + len(RIVALS)
    text = [
        "# Push-T: what was chosen",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. {size['steps']} steps of {size['batch']} moments, "
        f"one seed; mean maximum reward ± standard error over {size['starts']} starts of seeds from {CHOICES} on; "
        "nothing that is published was measured on them. Changes are of the policy in the first row, one at a time. "
        f"{_chance(size['steps'])}, so smaller differences say nothing."
        + (f" {len(facts['trials'])} of {count} policies have been tried yet." if len(facts["trials"]) < count else ""),
        "",
        "Moves: how far the next action is from the last one when nothing is drawn, by how far it is in the "
        "demonstrations, in the mean; a drift that is the mean action goes less far than the actions do.",
        "",
        "| policy | " + " | ".join(WAYS) + " | moves |",
        "|---|" + "--:|" * (len(WAYS) + 1),
    ]
    others = {name: found for name, found in facts["trials"].items() if name in RIVALS or name == next(iter(VARIANTS))}
    for name in VARIANTS:
        if name in facts["trials"]:
            found = facts["trials"][name]
            told = " | ".join(_cell(found["ways"].get(way)) for way in WAYS)
            text.append(f"| {name} | {told} | {_moves(found)} |")
    ways = list(dict.fromkeys(way for found in others.values() for way in found["ways"] if way not in WAYS))
    text += [
        "",
        "Each method by the share of its noise, actions executed of a plan, and evaluations an action:",
        "",
        "| | " + " | ".join(others) + " |",
    ]
    text.append("|---|" + "--:|" * len(others))
    for way in ways:
        text.append(f"| {way} | " + " | ".join(_cell(found["ways"].get(way)) for found in others.values()) + " |")
    return "\n".join(text)


def _chance(steps: int) -> str:
    """By how much two trainings of one policy differ; as seen between seeds of `pusht` and of `pusht-inverse`."""
    what, apart = ("Short trainings", ".04") if steps < FULL.steps else ("One training each", ".02")
    return f"{what}: two of the same policy can differ by {apart}"


def _cell(found: dict[str, Any] | None) -> str:
    return "" if found is None else f"{found['max_reward']:.3f} ± {found['standard_error']:.3f}"


def _moves(found: dict[str, Any]) -> str:
    return "{:.2f}".format(found["moves"][0] / found["moves"][1]) if "moves" in found else ""


def picture(facts: dict[str, Any], path: Path) -> None:
    """The variants, one dot for each way."""
    names = [name for name in VARIANTS if name in facts["trials"]]
    fig = style.figure(760, 60 + 32 * len(names))
    ax = style.axes(fig, left=230, bottom=34, top=16, grid="x")
    for k, way in enumerate(WAYS):
        rows = [(y, facts["trials"][name]["ways"].get(way)) for y, name in enumerate(reversed(names))]
        points = [(found["max_reward"], y) for y, found in rows if found]
        shade = style.ACCENT if k == 0 else style.MUTED
        ax.plot(*np.transpose(points), "o^sDvP"[k], color=shade, markersize=6 if k == 0 else 4, label=way)
    ax.set_yticks(range(len(names)), list(reversed(names)))
    ax.set_xlabel("mean maximum reward")
    ax.legend(fontsize=8, frameon=False, labelcolor=style.INK, loc="lower left")
    style.save(fig, path)

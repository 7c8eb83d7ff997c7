"""The page of `neuralsde reproduce pusht`: tables made of the cells, with what was asked beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neuralsde.experiments.pusht.cells import CONDITIONS, Cell, collected, success
from neuralsde.experiments.pusht.lines import LINES, OURS
from neuralsde.experiments.pusht.study import Study, timed
from neuralsde.experiments.pusht.trials import Rewards
from neuralsde.robot.starts import PUBLISHED

MARKS = (
    ("diffusion policy (Chi et al. 2023), best of its checkpoints", "100 a plan of 8", 0.95),
    ("the same, mean of its last ten checkpoints", "100 a plan of 8", 0.91),
    ("neural SDE (arXiv 2501.18871), 4 actions a plan", "not stated", 0.92),
)
"""Published figures of state policies: who, evaluations, mean maximum reward."""
ASKED: dict[float, float] = {1: 0.95, 2: 0.97}
"""Of the SDE, at so many evaluations an executed action."""
LEVEL = 0.02
"""Behind by less than that is level."""
ASKED_MS, QUICK = 1.0, 2
"""Of one call on one core, at up to so many evaluations an executed action."""


def page(study: Study, facts: dict[str, Any]) -> str:
    """As markdown."""
    size, cells = study.size, facts["cells"]
    where = (
        "the published ones" if size.first == PUBLISHED else f"of seeds from {size.first} on, not the published ones"
    )
    lines = [
        "# Push-T",
        "",
        f"Written by `{facts['command']}`. Policies of {facts['kind']} ({size.n_obs} observations) from "
        f"{facts['episodes']} demonstrations ({facts['rows']} steps at 10 Hz) and their mirror images; the same "
        f"residual network (width {size.width}, {size.blocks} blocks) and {size.steps} steps of {size.batch} moments "
        "for every method; the averaged weights of the last step are used, no checkpoint is chosen. Starts are "
        f"{where}; an episode has at most {size.max_steps} steps, its figure is the greatest reward on the way.",
        "",
        "One evaluation is one state through all the networks that a step needs. Methods are compared at equal "
        "evaluations for each executed action and equal execution: a chunk that is drawn in 4 evaluations for 4 "
        "actions has cost 1 an action. The SDE has two of the networks, flow and diffusion, and its path starts from "
        "the action before; the others are told what was seen alone, as they were published.",
        "",
        *(line for execute, budgets in study.rounds for line in _compared(study, facts, execute, budgets)),
        "",
        "![reward by evaluations](pusht.png)",
        "",
        *_sweep(study, facts),
        *_ours(study, cells),
        *_robust(study, cells),
        *_training(facts),
    ]
    return "\n".join(lines)


def _compared(study: Study, facts: dict[str, Any], execute: int, budgets: Sequence[float]) -> list[str]:
    """All methods by budget, and what is asked of the SDE beside what it reached."""
    size, seeds, cells = study.size, study.seeds, facts["cells"]

    def asked(line: str, k: float) -> list[Cell]:
        return study.cells(line, k, seeds, size.starts, execute=execute)

    known = {(line, k): collected(cells, asked(line, k)) for line, k in study.each(budgets)}
    executed = f"{execute} actions executed of each plan" if execute > 1 else "a plan for every action"
    many = len(seeds) > 1
    lines = [
        f"## {executed[0].upper()}{executed[1:]}",
        "",
        f"{size.starts} starts, {len(seeds)} training seed{'s' * many}: mean maximum reward ± standard error (of starts"
        f"{' and of seeds together' * many}), and the share of the episodes that cover the goal, by evaluations an "
        "action. In brackets the share of its noise that a method draws, chosen on other starts where it can be chosen."
        + " Below them the time of one call of `act`, as in the table of evaluations."
        * (execute == 1),
        "",
        "| method | " + " | ".join(f"{k:g}" for k in budgets) + " |",
        "|---|" + "--:|" * len(budgets),
    ]
    for line, told in LINES.items():
        found = [
            "" if known.get((line, k)) is None else f"{known[line, k]}, {100 * success(cells, asked(line, k)):.0f} %"
            for k in budgets
        ]
        share = "nothing drawn" if told.still else f"{told.share(execute):g}"
        lines.append(f"| {told.words} ({share}) | " + " | ".join(found) + " |")
        lines += [_times(facts, line, budgets, execute)] * (execute == 1)
    if execute == size.execute:
        lines += [
            f"| demonstrations, replayed | {facts['replayed']:.3f} |" + " |" * (len(budgets) - 1),
            "",
            "Published: " + "; ".join(f"{who} {value:.2f} ({cost})" for who, cost, value in MARKS) + ".",
        ]
    if many:
        each = "; ".join(f"{k:g}: " + ", ".join(f"{mean:.3f}" for mean in ours.each.mean(1))
                         for k in budgets if (ours := known.get((OURS, k))))  # fmt: skip
        lines += ["", f"The SDE seed by seed, by evaluations an action: {each}."]
    lines += ["", *_asked(known, budgets, ASKED if execute == size.execute else {})]
    for k in budgets:
        time = facts["latency"].get(timed(OURS, k, execute))
        if k <= QUICK and time:
            holds = "yes" if time["p99"] < ASKED_MS else "**no**"
            lines.append(
                f"| 99 of 100 calls within {ASKED_MS:g} ms at {k:g} an action | {time['p99']:.2f} ms | {holds} |"
            )
    return [*lines, ""]


def _asked(
    known: Mapping[tuple[str, float], Rewards | None], budgets: Sequence[float], asked: Mapping[float, float]
) -> list[str]:
    """Each target, what was measured, and whether it holds."""
    rows = ["| asked of the SDE | measured | holds |", "|---|--:|--:|"]
    for k in budgets:
        ours = known.get((OURS, k))
        if ours is None:
            continue
        if k in asked:
            rows.append(f"| {asked[k]:.2f} at {k:g} an action | {ours} | {_reached(ours.mean >= asked[k])} |")
        rivals = {line: known.get((line, k)) or known.get((line, budgets[0])) for line in LINES if line != OURS}
        best = max((line for line, one in rivals.items() if one), key=lambda line: rivals[line].mean, default=None)  # type: ignore[union-attr]
        if best is None:
            continue
        rival = rivals[best]
        assert rival is not None
        apart, error = ours.ahead_of(rival)
        word, holds = ("ahead of", _apart(apart, 2 * error)) if k < 100 else ("level with", _reached(apart > -LEVEL))
        rows.append(
            f"| {word} the best baseline at {k:g} an action ({LINES[best].title}, {rival.mean:.3f}) | "
            f"{apart:+.3f} ± {error:.3f} (same starts) | {holds} |"
        )
    return rows


def _sweep(study: Study, facts: dict[str, Any]) -> list[str]:
    size, first = study.size, study.seeds[:1]
    lines = [
        f"## Evaluations: {size.sweep_starts} starts, one seed",
        "",
        "Mean maximum reward ± standard error over starts; below it the time of one call of `act` at batch 1 on one "
        "core, NumPy to NumPy, milliseconds: half of the calls / 99 of 100 are faster.",
        "",
        "| method | " + " | ".join(f"{k:g}" for k in size.sweep) + " |",
        "|---|" + "--:|" * len(size.sweep),
    ]
    for line, told in LINES.items():
        found = [collected(facts["cells"], study.cells(line, k, first, size.sweep_starts)) for k in size.sweep]
        lines.append(f"| {told.words} | " + " | ".join(_cell(one) for one in found) + " |")
        lines.append(_times(facts, line, size.sweep, size.execute))
    return [*lines, ""]


def _times(facts: dict[str, Any], line: str, budgets: Sequence[float], execute: int) -> str:
    """A row of p50 / p99."""
    times = [facts["latency"].get(timed(line, k, execute)) for k in budgets]
    return "| ms a call | " + " | ".join(f"{t['p50']:.2f} / {t['p99']:.2f}" if t else "" for t in times) + " |"


def _ours(study: Study, cells: dict[str, Any]) -> list[str]:
    """How the SDE is asked: other lengths of execution, other shares of its noise."""
    size, first, k = study.size, study.seeds[:1], study.size.main[0]
    lines = [
        f"## How the SDE is asked ({size.starts} starts, one seed, {k:g} evaluation an action)",
        "",
        f"Without a word on it {LINES[OURS].noise:g} of the learnt noise is drawn, {LINES[OURS].closed:g} where one "
        "action is executed.",
        "",
        "| | reward |",
        "|---|--:|",
    ]
    for length in sorted({*size.executed, size.execute}):
        one = collected(cells, study.cells(OURS, k, first, size.starts, execute=length))
        lines.append(f"| {length} of {size.horizon} actions executed | {_cell(one)} |")
    for share in size.noises:
        one = collected(cells, study.cells(OURS, k, first, size.starts, noise=share))
        lines.append(f"| {size.execute} executed, {share:g} of the noise | {_cell(one)} |")
    return [*lines, ""]


def _robust(study: Study, cells: dict[str, Any]) -> list[str]:
    size, first, tried = study.size, study.seeds[:1], study.tried(cells)
    titles = [LINES[line].title + (f", {k:g} an action" if LINES[line].anytime else ", one pass") for line, k in tried]
    lines = [
        f"## Other conditions ({size.sweep_starts} starts, one seed)",
        "",
        "Noise: on positions and keypoints as they are seen. Late: actions arrive that many steps of 0.1 s later. "
        f"Push: at 5 s someone moves the block by 40 px and turns it by 0.3. {size.execute} actions of each plan.",
        "",
        "| | " + " | ".join(titles) + " |",
        "|---|" + "--:|" * len(tried),
    ]
    for when in CONDITIONS:
        found = [collected(cells, study.cells(line, k, first, size.sweep_starts, when=when)) for line, k in tried]
        lines.append(f"| {when or 'as published'} | " + " | ".join(_cell(one) for one in found) + " |")
    return [*lines, ""]


def _training(facts: dict[str, Any]) -> list[str]:
    lines = ["## Training", "", "| policy | seconds |", "|---|--:|"]
    return [*lines, *(f"| {name} | {summary['seconds']:.0f} |" for name, summary in facts["train"].items())]


def _cell(found: Rewards | None) -> str:
    return "" if found is None else str(found)


def _reached(yes: bool) -> str:
    return "yes" if yes else "**no**"


def _apart(over: float, chance: float) -> str:
    """Of a difference that is to be above 0, when so much is chance."""
    return "yes" if over > chance else "not told apart" if over >= -chance else "**no**"

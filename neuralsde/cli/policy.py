"""`neuralsde policy eval RUN`: a policy at work in its environment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from neuralsde.cli.common import Flag, option
from neuralsde.cli.entry import function
from neuralsde.errors import InputError

PolicyPath = Annotated[Path, Parameter(help="The run folder of a policy.")]
Execute = Annotated[
    int | None, option("N", "Actions of a plan that are carried out before the next; by default all of it.")
]
Steps = Annotated[str | None, option("M", "Evaluations for each of them: 1 by default, 2 ..., or 1/2, 1/4.")]
Noise = Annotated[float | None, option("SHARE", "How much of the learnt chance is drawn: 1 by default, 0 for none.")]
Sampler = Annotated[str | None, option("NAME", "For diffusion and flow-matching: ddim, ddpm, euler, heun ...")]

policy = App(
    name="policy", help="Try a policy in its environment.", help_format="plaintext", group_parameters="Options"
)


@policy.command(name="eval")
def evaluate(
    run: PolicyPath,
    /,
    *,
    starts: Annotated[int, Parameter(help="How many episodes, each from a start of its own.")] = 100,
    first_seed: Annotated[
        int | None, option("SEED", "Of the first start; 200000 by default, kept for choosing between policies.")
    ] = None,
    published: Annotated[
        bool, Flag, Parameter(help="The published starts, for a final figure alone.", show_default=False)
    ] = False,
    execute: Execute = None,
    steps: Steps = None,
    noise: Noise = None,
    sampler: Sampler = None,
    seed: Annotated[int, Parameter(help="Seed of what policy, noise and pushes draw.")] = 0,
    delay: Annotated[int, option("STEPS", "Actions arrive so many steps of 0.1 s late.")] = 0,
    observation_noise: Annotated[float, option("PX", "Noise on what is seen, its standard deviation.")] = 0.0,
    push: Annotated[bool, Flag, Parameter(help="Someone moves the block after 5 s.", show_default=False)] = False,
    max_steps: Annotated[int, Parameter(help="Length of an episode in steps of 0.1 s.")] = 300,
    out: Annotated[Path | None, option("FOLDER", "For evaluation.json, and for the video.")] = None,
    video: Annotated[int, option("N", "Record the first N episodes, as episodes.mp4 in OUT.")] = 0,
) -> None:
    """Roll a policy out in its environment and print how good it is.

    Mean maximum reward with its standard error, success, time to .95 of the goal,
    evaluations per plan and per executed action, and how long one answer takes.
    """
    if published and first_seed is not None:
        raise InputError("--published and --first-seed", "both say where the starts begin", "one of the two")
    if video and out is None:
        raise InputError(f"--video {video}", "there is no folder to write it to", "--out FOLDER")
    asked = asked_policy(run, execute, steps, noise, sampler)
    robot = function("neuralsde.robot:environment")
    kept = function("neuralsde.robot:PUBLISHED" if published else "neuralsde.robot:CHOICES")
    conditions = robot.Conditions(delay=delay, noise=observation_noise, push=robot.Push() if push else None)
    print(f"playing {starts} episodes of up to {max_steps} steps", file=sys.stderr)
    found = function("neuralsde.robot.evaluation:evaluate")(
        asked, starts, first_seed=kept if first_seed is None else first_seed, seed=seed, conditions=conditions,
        max_steps=max_steps, record=video,
    )  # fmt: skip
    print(found)
    for path in [] if out is None else found.write(out):
        print(f"written: {path}", file=sys.stderr)


def asked_policy(run: Path, execute: int | None, steps: str | None, noise: float | None, sampler: str | None) -> Any:
    """The policy of a run folder, asked as typed; InputError for what does not fit its method."""
    changes = {"execute": execute, "steps": None if steps is None else rate(steps), "noise": noise, "sampler": sampler}
    loaded = function("neuralsde.robot.train:load_policy")(run)
    if sampler is not None and loaded.config.name not in ("diffusion", "flow-matching"):
        raise InputError(f"--sampler {sampler}", f"the policy is of the method {loaded.config.name}, which has none",
                         "a policy of diffusion or flow-matching")  # fmt: skip
    return loaded.executing(**{name: value for name, value in changes.items() if value is not None})


def rate(text: str) -> float:
    """Evaluations an action, as typed: 2, 0.5 or 1/2."""
    top, _, below = text.partition("/")
    try:
        return float(top) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"--steps {text}", "it is not a number", "1, 2, 3 ..., or 1/2, 1/3 ...") from None

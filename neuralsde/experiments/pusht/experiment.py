"""`reproduce`: everything on Push-T, from demonstrations to tables, pictures and videos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neuralsde.errors import InputError, closest
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.pusht import images
from neuralsde.experiments.pusht.data import demonstrations
from neuralsde.experiments.pusht.lines import LINES, OURS
from neuralsde.experiments.pusht.page import page
from neuralsde.experiments.pusht.pictures import film, picture
from neuralsde.experiments.pusht.study import Size, Study
from neuralsde.robot.policy import KINDS
from neuralsde.robot.rollout import rollout
from neuralsde.robot.starts import starts

FULL = Size(steps=60_000, width=1_024, blocks=4)
"""The paper's network: four residual blocks of width 1,024."""
SMALL = Size(
    steps=2, batch=4, width=8, blocks=1, horizon=2, execute=2, main=(1,), closed=(1,), sweep=(1,), starts=2,
    sweep_starts=2, executed=(), noises=(0.0,), max_steps=2, first=200_000, calls=100, film=2,
)  # fmt: skip


@experiment("pusht", Size(), FULL)
def reproduce(asked: Asked[Size], *, obs: str = "keypoints", data: Path | None = None) -> Iterator[str]:
    """Write pusht.json, pusht.md, pusht.png, pusht.html and the policies into `out`; yields lines as they are known.

    obs: what policies see. data: the demonstrations; $NEURALSDE_DATA/pusht by default.
    """
    if obs not in KINDS:
        raise InputError(f"--obs {obs}", f"one of {', '.join(KINDS)}", hint=closest(obs, KINDS))
    if obs == "image":
        size = {FULL: images.FULL, SMALL: images.SMALL}.get(asked.size, images.Size())
        yield from images.reproduce(
            out=asked.out, seed=asked.seed, full=asked.size == FULL, size=size, progress=asked.progress, data=data
        )
        return
    study = Study(asked, demonstrations(data), obs)
    facts = study.known()
    spent = facts.get("seconds", 0)
    yield from study.run(facts)
    rival, budget = study.best_baseline(facts["cells"])
    recordings: dict[str, list[np.ndarray]] = {}
    for line, k in ((OURS, study.size.main[0]), (rival, budget)):
        cell = study.cells(line, k, study.seeds[:1], study.size.film)[0]
        asked_for = cell.asked(study.loaded(LINES[line].name, cell.seed))
        played = rollout(
            asked_for,
            starts(cell.first, cell.starts),
            seed=cell.seed,
            record=range(cell.starts),
            max_steps=study.size.max_steps,
        )
        recordings[f"{LINES[line].title}, {k:g} evaluation(s) an action"] = list(played.frames.values())
    film(recordings, asked.path(".html"))
    facts["seconds"] = spent + asked.seconds
    told = page(study, facts)
    asked.write(facts, told)
    picture(study, facts, next(iter(recordings.values()))[0], asked.path())
    yield from told.splitlines()

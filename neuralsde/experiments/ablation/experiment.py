"""Ten seeds of every objective on every problem, in one program each, with the curve of the held-out nats.

The paper says that the joint likelihood of flow and diffusion gets stuck, and shows nothing. What is known: the joint
gradient of the flow is that of a squared error weighted by 1/σ², so where the mean is not yet found σ grows and the
mean is learnt last (Seitzer et al. 2022), the worse the further off σ begins. Decoupled, the flow is weighted by one
running variance a column, whatever σ(x) is. Both have the mean and the s.d. of the truth as their minimum. The log flow
loss has not: of two modes it takes the likelier (THEORY 16). Eq. 15, a squared error of variances, sees large ones.

    neuralsde reproduce ablation
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuralsde.errors import InputError
from neuralsde.experiments.ablation.problems import KNOWN, Problem, diabetes, drawn
from neuralsde.experiments.ablation.report import page, picture
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.seeds import held_out_nats, train_on
from neuralsde.models.sequence_sde import Config

NAME = "ablation"
OBJECTIVES: dict[str, dict[str, Any]] = {
    "joint": {"objective": "joint"},
    "decoupled": {},
    "decoupled, log flow": {"flow_loss": "log"},
    "decoupled, log flow and eq. 15": {"flow_loss": "log", "diffusion_loss": "square"},
}
NAMES = (*KNOWN, "diabetes")
FAR = 1 / 30
"""A diffusion that begins so much too small."""
WAYS = {name: (options, 1.0) for name, options in OBJECTIVES.items()} | {
    f"{name}, σ begins at 1/30": (OBJECTIVES[name], FAR) for name in ("joint", "decoupled")
}
"""Options and the first scale of the diffusion, by name."""


@dataclass(frozen=True)
class Size:
    """Seeds, rows to fit and to score, steps, points of the curve, rate, the networks, and transitions in a step."""

    fits: int = 10
    train: int = 20_000
    test: int = 1_000
    steps: int = 3_000
    points: int = 10
    rate: float = 1e-2
    width: int = 32
    depth: int = 2
    batch: int = 128


SMALL = Size(2, 500, 200, 40, 2, 1e-2, 8, 1)
FULL = Size(10, 100_000, 20_000, 50_000, 100, 1e-3, 128, 3, 512)


@experiment(NAME, Size(), FULL)
def reproduce(asked: Asked[Size], *, problems: Sequence[str] = NAMES) -> Iterator[str]:
    """Fit everything; write ablation.json, ablation.md and ablation.png; yields lines.

    seeds:    times the size.
    problems: some of `NAMES`; those that the same command has left in `out` stay.
    """
    size, seed = asked.size, asked.seed
    known = asked.before().get("problems", {})
    facts = asked.first | {"left out": [], "problems": known}
    fits = size.fits * asked.seeds
    for name in problems:
        began = time.monotonic()
        try:
            problem = (
                drawn(name, fits, size.train, size.test, asked.seed) if name in KNOWN else diabetes(fits, asked.seed)
            )
        except InputError as error:
            facts["left out"].append(f"{name}: {error}")
            yield facts["left out"][-1]
            continue
        found = {way: fitted(problem, *options, size=size, seed=seed) for way, options in WAYS.items()}
        known[name] = {"known": problem.known, "found": found, "seconds": round(time.monotonic() - began)}
        yield f"{name}: " + ", ".join(f"{way} {np.mean(row['nats']):.3f}" for way, row in found.items())
        facts["problems"] = {each: known[each] for each in NAMES if each in known}
        facts["seconds"] = sum(part["seconds"] for part in facts["problems"].values())
        asked.write(facts, page(facts))  # after every problem: a stopped run leaves what it has
    picture(facts, asked.path())
    yield from page(facts).splitlines()


def fitted(
    problem: Problem, options: dict[str, Any], first_scale: float, *, size: Size, seed: int
) -> dict[str, list[Any]]:
    """Held-out nats per dimension: `curve` (seeds, points + 1), and `nats` (seeds,) of the averaged weights."""
    config = Config(history=0, width=size.width, depth=size.depth, **options)
    models, curve = train_on(
        config, problem.data, steps=size.steps, seed=seed, rate=size.rate, held=problem.held, points=size.points,
        first_scale=first_scale, batch=size.batch,
    )  # fmt: skip
    nats = np.asarray(held_out_nats(models, problem.held), np.float64)
    return {"curve": np.round(curve, 4).tolist(), "nats": np.round(nats, 5).tolist()}

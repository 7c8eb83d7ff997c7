"""Handwritten digits of 8 x 8 pixels, drawn by a diffusion model that was trained on 1,160 of them.

neuralsde reproduce digits
"""

from __future__ import annotations

from collections.abc import Iterator

from neuralsde.data.embedded import digits
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.images.study import Case, Size, study

CASE = Case(
    name="digits",
    title="Digits of 8 x 8 pixels",
    images=lambda: digits(labels=True),
    held_out=500,
    patch=2,
    rate=2e-3,
    sampler="dpmpp-2m",
    nfe=32,
    curve=("dpmpp-2m", "ddim", "unipc", "dpm-2", "edm-heun", "heun", "ddpm", "sde-dpmpp-2m"),
)
DEFAULT = Size(
    steps=1_200, batch=128, width=48, depth=3, rank=256, drawn=1_000, compared=500, scored=500, flow_steps=32,
    classifier=1_000, budgets=(6, 12, 24, 48),
)  # fmt: skip
SMALL = Size(
    steps=2, batch=8, width=8, depth=1, rank=0, drawn=70, compared=70, scored=6, flow_steps=1, classifier=20,
    budgets=(32,), net="mlp",
)  # fmt: skip
FULL = Size(
    steps=20_000, batch=256, width=96, depth=0, rank=512, drawn=5_000, compared=500, scored=500, flow_steps=96,
    classifier=2_000, budgets=(4, 6, 8, 12, 16, 24, 32, 48, 64, 96), net="auto",
)  # fmt: skip


@experiment(CASE.name, DEFAULT, FULL)
def reproduce(asked: Asked[Size]) -> Iterator[str]:
    """Write digits.json, digits.md and digits.png into `out`; yields lines as they become known."""
    return study(CASE, asked)

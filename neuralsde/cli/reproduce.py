"""`neuralsde reproduce NAME`: a published figure or table, with the expected numbers beside the measured ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from neuralsde.cli.common import Seed, choose
from neuralsde.cli.entry import function
from neuralsde.errors import INTERRUPTED, InputError, NeuralSDEError

EXPERIMENTS = {
    "ablation": "neuralsde.experiments.ablation:reproduce",
    "branching": "neuralsde.experiments.branching:reproduce",
    "correlated-noise": "neuralsde.experiments.correlated_noise:reproduce",
    "densities": "neuralsde.experiments.densities:reproduce",
    "digits": "neuralsde.experiments.images.digits:reproduce",
    "forecast": "neuralsde.experiments.forecast:reproduce",
    "interpolation": "neuralsde.experiments.interpolation:reproduce",
    "long-horizon": "neuralsde.experiments.long_horizon:reproduce",
    "memory": "neuralsde.experiments.memory:reproduce",
    "mnist": "neuralsde.experiments.images.mnist:reproduce",
    "outliers": "neuralsde.experiments.outliers:reproduce",
    "physics": "neuralsde.experiments.physics:reproduce",
    "pusht": "neuralsde.experiments.pusht:reproduce",
    "pusht-images": "neuralsde.experiments.pusht.images:reproduce",
    "pusht-choices": "neuralsde.experiments.pusht.choices:reproduce",
    "pusht-inverse": "neuralsde.experiments.pusht.inverse:reproduce",
    "pusht-outliers": "neuralsde.experiments.pusht.outliers:reproduce",
    "recovery": "neuralsde.experiments.recovery:reproduce",
    "regime-change": "neuralsde.experiments.regime_change:reproduce",
    "samplers": "neuralsde.experiments.samplers:reproduce",
    "scaling": "neuralsde.experiments.scaling:reproduce",
    "super-resolution": "neuralsde.experiments.super_resolution:reproduce",
    "trio": "neuralsde.experiments.trio:reproduce",
}

TAKES = {"obs": ("pusht",), "data": ("pusht", "pusht-images", "pusht-choices", "pusht-inverse", "pusht-outliers")}
"""Options of some experiments alone."""


def reproduce(
    name: Annotated[str, Parameter(help="One of: " + ", ".join(EXPERIMENTS) + ".")],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Folder to write to; runs/NAME by default.")] = None,
    seed: Seed = 0,
    seeds: Annotated[int, Parameter(help="How many seeds, from --seed on.")] = 1,
    full: Annotated[bool, Parameter(help="The large size: hours, or a GPU.", negative="")] = False,
    obs: Annotated[str | None, Parameter(help="What the policies of pusht see: keypoints, pose or image.")] = None,
    data: Annotated[Path | None, Parameter(help="Demonstrations of Push-T: a zarr folder or zip, or an NPZ.")] = None,
) -> None:
    """Repeat a published figure or table and print measured beside expected numbers."""
    target = function(EXPERIMENTS[choose(name, EXPERIMENTS, "experiment")])
    options = {key: value for key, value in (("obs", obs), ("data", data)) if value is not None}
    for key in options:
        if name not in TAKES[key]:
            raise InputError(f"--{key} for {name}", "it has no such option", f"one of {', '.join(TAKES[key])}")
    progress = function("neuralsde.train.progress:automatic")()
    lines = target(out=out or Path("runs") / name, seed=seed, seeds=seeds, full=full, progress=progress, **options)
    try:
        for line in lines:
            print(line, flush=True)
    except NeuralSDEError as error:
        if error.exit_status == INTERRUPTED:  # an experiment has no --resume: it goes on by itself
            error.hint = "the same command again: it goes on with what is saved"
        raise

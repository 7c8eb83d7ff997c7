"""Learn the stochastic dynamics behind sequences; sample, forecast, fill in and score with them.

The map of the house; every import points upwards in this list, a test sees to it:

    errors, typing   the words of the house
    sde              the calculus: processes, Brownian paths, simulation, closed forms; knows nothing about learning
    noising          how data become noise, and what a network can say about it
    nets, models     networks; a model is a distribution, a loss and a way to sample
    sampling         from noise back to data: the samplers of noising processes
    data             tables, frames and arrays to ragged trajectories, and to what a model reads
    train            state, step, loop, checkpoint
    evaluate         scores, baselines, plots, the report
    tasks            forecast, sample, impute, score, backtest
    runs             fit and load: a run folder as an object
    robot            Push-T: demonstrations to policies, environment, rollouts
    experiments      one file per published table or figure
    cli              one thin file per command

The names below are resolved on first use, so that `import neuralsde` loads no JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralsde import data, errors, evaluate, models, nets, noising, robot, runs, sampling, sde, tasks, train
    from neuralsde.errors import InputError, NeuralSDEError, RunFailed
    from neuralsde.models.physics import Between, Physics, Positive, Residual
    from neuralsde.robot.load import load
    from neuralsde.runs import Run, fit

__version__ = "0.1.0"

_RINGS = (
    "data",
    "errors",
    "evaluate",
    "experiments",
    "models",
    "nets",
    "noising",
    "robot",
    "runs",
    "sampling",
    "sde",
    "tasks",
    "train",
)
_NAMES = {
    "fit": "neuralsde.runs",
    "load": "neuralsde.robot.load",
    "Run": "neuralsde.runs",
    "Physics": "neuralsde.models.physics",
    "Positive": "neuralsde.models.physics",
    "Between": "neuralsde.models.physics",
    "Residual": "neuralsde.models.physics",
    "InputError": "neuralsde.errors",
    "NeuralSDEError": "neuralsde.errors",
    "RunFailed": "neuralsde.errors",
}

__all__ = [
    "Between",
    "InputError",
    "NeuralSDEError",
    "Physics",
    "Positive",
    "Residual",
    "Run",
    "RunFailed",
    "__version__",
    "data",
    "errors",
    "evaluate",
    "fit",
    "load",
    "models",
    "nets",
    "noising",
    "robot",
    "runs",
    "sampling",
    "sde",
    "tasks",
    "train",
]


def __getattr__(name: str) -> Any:
    """A ring as a module, or one of the first names from the module that holds it."""
    if name in _RINGS:
        return importlib.import_module(f"neuralsde.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'neuralsde' has no attribute '{name}'; it has: {', '.join(sorted(__all__))}")


def __dir__() -> list[str]:
    return sorted(__all__)

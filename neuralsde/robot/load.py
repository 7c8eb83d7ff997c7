"""Any run folder as what it is: what `runs.load` opens, and policies, which lie further out than it may look."""

from __future__ import annotations

from pathlib import Path
from typing import Any, overload

from neuralsde.data import Trajectories
from neuralsde.models.physics import Physics
from neuralsde.robot.policy import Policy
from neuralsde.robot.train import load_policy
from neuralsde.runs import GenerativeRun, PhysicsRun, Run
from neuralsde.runs import load as load_run
from neuralsde.runs.folder import POLICY, read_config


@overload
def load(path: str | Path, *, model: None = None, data: Any = None) -> Any: ...
@overload
def load(path: str | Path, *, model: Physics, data: Trajectories | None = None) -> PhysicsRun: ...
def load(
    path: str | Path, *, model: Physics | None = None, data: Any = None
) -> Run | PhysicsRun | GenerativeRun | Policy:
    """The run in a folder: a `Run` of sequences, a `GenerativeRun` of points or images, or a `Policy`.

    That of a stated SDE needs its `model=Physics(...)` again, which no folder can hold. data: what it was fitted on.
    Raises InputError for a folder that is not a run, an unfinished run, or broken weights.
    """
    if model is None and data is None and read_config(path).get("model", {}).get("name") == POLICY:
        return load_policy(path)
    return load_run(path, model=model, data=data)

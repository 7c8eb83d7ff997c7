"""`fit(data, model=Physics(...))`: from a table to the parameters of a stated SDE, and back from a folder.

The order: split, coordinates, the residual network if one is wanted (trained together with the parameters), then the
parameters by maximum likelihood over all rows that are not held out. Everything in float64, on any device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from neuralsde.data import Encoder, Split, Trajectories
from neuralsde.data.rules import Rule, rule_from_dict
from neuralsde.data.split import TRAIN, VALIDATION
from neuralsde.errors import InputError, RunFailed
from neuralsde.models.physics import Panel, Physics, PhysicsSDE
from neuralsde.runs.folder import RunFolder, begin
from neuralsde.runs.physics.estimate import Estimate, estimate, parameter_table, starts_around
from neuralsde.runs.physics.panel import make_panel, moments, most_blocks
from neuralsde.runs.physics.paths import physics_encoder
from neuralsde.runs.physics.residual import TRAINING, residual_problem
from neuralsde.runs.physics.run import NAME, PhysicsRun, structure
from neuralsde.tasks.fitted import GapLaw
from neuralsde.train.loop import train
from neuralsde.train.problem import TrainConfig
from neuralsde.train.progress import Reporter
from neuralsde.train.weights import load_model, save_model

SIMULATION_SUBSTEPS = 8
"""Euler-Maruyama steps a typical gap, at least."""


def fit_physics(
    data: Trajectories,
    config: Physics,
    *,
    steps: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    split: Rule | None = None,
    training: TrainConfig | None = None,
    progress: Reporter | None = None,
) -> PhysicsRun:
    """Fit the parameters of a stated SDE, and its residual network; arguments as of `runs.fit`.

    steps, training, resume: of the residual network; a stated SDE alone is found by a search that ends by itself.
    Raises InputError as `fit`, and for values without a logarithm in a column that is followed in logs; RunFailed when
    no start leads to a maximum.
    """
    options = replace(training or TRAINING, seed=seed)
    options = options if steps is None else replace(options, steps=steps)
    parts = Split.of(data, split)
    run = _unfitted(data, parts, config, seed)
    plan = _plan(run, data, options)
    folder = begin(out, plan, resume)
    with jax.enable_x64(True):
        model, metrics = run.model, ()
        if config.residual is not None:
            panels = [_panel(run, parts, role) for role in (TRAIN, VALIDATION)]
            panels[1] = panels[1] if bool(panels[1].counted.any()) else panels[0]
            problem = residual_problem(model, panels[0], panels[1], config.residual)
            result = train(problem, options, folder and folder.path, resume=resume, progress=progress)
            model, metrics = result.model, tuple(result.metrics)
        found = _search(model, _panel(run, parts, None), config, seed)
        model = eqx.tree_at(lambda m: m.z, model, jnp.asarray(found.z))
    run = replace(run, model=model, found=found, folder=folder, data=data, metrics=metrics)
    if folder is not None and not folder.finished:
        with jax.enable_x64(True):
            save_model(folder.weights_path, (model, found))
        folder.mark_finished(_summary(run))
    return run


def load_physics(folder: RunFolder, config: Physics | None, data: Trajectories | None = None) -> PhysicsRun:
    """The run in a folder, with the modules that it was fitted with. Raises InputError when they are not given, or not
    those.
    """
    saved = folder.config
    if config is None:
        raise InputError(
            f"the run {folder.path}",
            "it is that of a stated SDE, whose drift and diffusion are code and not in the folder",
            "the modules of the fit",
            f"in Python: load({str(folder.path)!r}, model=Physics(...))",
        )
    folder.summary()
    encoder = Encoder.from_dict(saved["encoder"])
    unit = _unit(config, encoder)
    model = _model(config, encoder.columns, encoder.mean, encoder.sd, encoder.tau / unit, 0)
    if structure(model) != saved["model"]["structure"]:
        raise InputError(
            "model=Physics(...) with the parameters " + ", ".join(model.parameters.names),
            f"{folder.path} was fitted with other modules, constants or noise",
            "the same modules; parameters: " + ", ".join(saved["model"]["parameters"]),
        )
    with jax.enable_x64(True):
        model, found = load_model(folder.weights_path, (model, _empty(len(model.parameters))))
    origin = saved["data"]
    return PhysicsRun(
        config, model, found, encoder, GapLaw(**saved["law"]), rule_from_dict(saved["split"]), unit,
        origin["fingerprint"], origin["source"], folder, data,
    )  # fmt: skip


def _unfitted(data: Trajectories, split: Split, config: Physics, seed: int) -> PhysicsRun:
    """Everything about a run but its estimates."""
    logs = config.logs(data.columns)
    mean, sd = moments(split.train_data, logs)
    encoder = physics_encoder(split.train_data, logs, mean, sd)
    unit = _unit(config, encoder)
    model = _model(config, data.columns, mean, sd, encoder.tau / unit, seed)
    if len(model.parameters) == 0:
        raise InputError(
            "Physics(...) without parameters", "nothing can be estimated", "Positive(...), Between(...) or arrays in "
            "the modules of drift and diffusion", "Positive(1.0) where the module holds 1.0",
        )  # fmt: skip
    gaps = np.concatenate([np.diff(s.times) for s in split.fit_data]) / encoder.tau
    substeps = max(config.substeps, SIMULATION_SUBSTEPS)
    law = GapLaw(float(gaps.min()), float(np.median(gaps)), float(gaps.max()), substeps)
    found = _empty(len(model.parameters))
    return PhysicsRun(config, model, found, encoder, law, split.rule, unit, data.fingerprint(), data.source, data=data)


def _model(
    config: Physics, columns: tuple[str, ...], mean: tuple[float, ...], sd: tuple[float, ...], gap: float, seed: int
) -> PhysicsSDE:
    with jax.enable_x64(True):
        model = PhysicsSDE(config, columns, mean=mean, sd=sd, gap=gap, key=jax.random.key(seed))
        y = jnp.asarray(np.where(model.logs, np.exp(mean), mean))
        shapes = [
            ("drift", model.stated().drift, y.shape),
            ("diffusion", model.stated().diffusion, model.noise.diffusion_shape(y.shape)),
        ]
        for name, function, wanted in shapes:
            shape = jnp.shape(function(jnp.zeros(()), y, None))
            if shape != wanted:
                meaning = f"the columns are {', '.join(columns)} and the noise is {model.noise}"
                raise InputError(f"a {name} of shape {shape}", meaning, f"{wanted}")
    return model


def _unit(config: Physics, encoder: Encoder) -> float:
    """One unit of the SDE's time, in clock units."""
    return 1.0 if config.time_unit is None else encoder.clock.duration(config.time_unit)


def _panel(run: PhysicsRun, split: Split, role: int | None) -> Panel:
    """The rows that are not held out; counted are those of one role, or all."""
    roles = None if role is None else [part == role for part in split.fit_roles]
    return make_panel(split.fit_data, run.model.logs, run.unit, roles)


def _search(model: PhysicsSDE, panel: Panel, config: Physics, seed: int) -> Estimate:
    count = int(panel.counted.sum())
    if count <= len(model.parameters):
        raise InputError(
            f"{count} entries after a row in which every column had been seen",
            f"there are {len(model.parameters)} parameters",
            "more rows, or columns that are observed more often",
        )
    count = (
        1 if config.residual is not None else config.starts
    )  # beside a trained residual the search begins at its end
    starts = jnp.asarray(starts_around(model.parameters, np.asarray(model.z), count, seed))
    found = _estimate(model, panel, starts, most_blocks(panel))
    if not bool(found.settled):
        raise RunFailed(
            "the likelihood has no maximum that the search could find",
            f"after {int(found.steps)} steps; the data may not tell some parameters apart, or the start is far off",
            hint="other start values, fewer parameters, in_logs for columns above 0, or observation_noise",
        )
    return jax.tree.map(np.asarray, found)


_estimate: Callable[..., Estimate] = eqx.filter_jit(estimate)


def _empty(p: int) -> Estimate:
    """Slots for a saved estimate."""
    with jax.enable_x64(True):
        zero, square, count = jnp.zeros(()), jnp.zeros((p, p)), jnp.zeros((), int)
        return Estimate(jnp.zeros(p), square, square, count, zero, count, count, jnp.zeros((), bool))


def _plan(run: PhysicsRun, data: Trajectories, training: TrainConfig) -> dict[str, Any]:
    config = run.config
    return {
        "model": {
            "name": NAME,
            "structure": structure(run.model),
            "parameters": list(run.model.parameters.names),
            "noise": repr(config.noise),
            "calculus": type(config.calculus).__name__,
            "in_logs": list(run.model.logs),
            "time_unit": config.time_unit,
            "substeps": config.substeps,
            "order": config.order,
            "starts": config.starts,
            "residual": config.residual and asdict(config.residual),
        },
        "train": asdict(training),
        "split": run.rule.to_dict(),
        "data": {"source": data.source, "fingerprint": run.fingerprint, "series": len(data), "rows": data.n_rows},
        "law": run.law.to_dict(),
        "encoder": run.encoder.to_dict(),
    }


def _summary(run: PhysicsRun) -> dict[str, Any]:
    rows = parameter_table(run.model.parameters, run.found).to_dicts()
    finite = [{k: v if not isinstance(v, float) or np.isfinite(v) else None for k, v in row.items()} for row in rows]
    return {"nats": float(run.found.nats), "entries": int(run.found.entries), "parameters": finite}

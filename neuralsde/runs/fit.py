"""`fit`: from a table, or from points, to a run.

The order of a run: plan, folder with config.json, training with checkpoints, weights, finished. Whatever can be wrong
with the input is found before the folder is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from neuralsde.data import Points, SomePoints, Trajectories
from neuralsde.data.rules import Rule
from neuralsde.data.windows import Table
from neuralsde.errors import InputError, closest
from neuralsde.models.physics import Physics
from neuralsde.models.sequence_sde import Config, Running, SequenceSDE, Transition, loss, transition_losses
from neuralsde.runs.folder import begin
from neuralsde.runs.generative import FAMILIES, Backbone, GenerativeRun, fit_points
from neuralsde.runs.generative.families import Config as GenerativeConfig
from neuralsde.runs.physics import PhysicsRun, fit_physics
from neuralsde.runs.plan import MODELS, Prepared, model_config, prepare
from neuralsde.runs.run import Run
from neuralsde.runs.stages import calibrated, tuned
from neuralsde.tasks.diagnose import watch
from neuralsde.train.loop import Result, train
from neuralsde.train.problem import Problem, TrainConfig
from neuralsde.train.progress import Reporter
from neuralsde.train.weights import load_model, save_model

TRAINING = TrainConfig(steps=4_000, batch_size=512, learning_rate=1e-3)
"""The default training of a sequence SDE."""

BEST_RULE = (
    "the averaged (EMA) weights with the lowest validation loss, in nats per dimension and step of the held-out "
    "validation transitions; the earlier of equals"
)
TUNING = "tuning"
"""Folder of the tuning inside that of the run."""
_VALIDATION_TRANSITIONS = 20_000


@overload
def fit(
    data: Trajectories,
    *,
    model: str | Config = "sequence-sde",
    steps: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    split: Rule | None = None,
    training: TrainConfig | None = None,
    progress: Reporter | None = None,
) -> Run: ...
@overload
def fit(
    data: Trajectories,
    *,
    model: Physics,
    steps: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    split: Rule | None = None,
    training: TrainConfig | None = None,
    progress: Reporter | None = None,
) -> PhysicsRun: ...
@overload
def fit(
    data: Any,
    *,
    model: str | GenerativeConfig,
    steps: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    split: SomePoints | None = None,
    training: TrainConfig | None = None,
    progress: Reporter | None = None,
    network: Backbone | None = None,
) -> GenerativeRun: ...
def fit(
    data: Any,
    *,
    model: str | Config | Physics | GenerativeConfig = "sequence-sde",
    steps: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    split: Any = None,
    training: TrainConfig | None = None,
    progress: Reporter | None = None,
    network: Backbone | None = None,
) -> Run | PhysicsRun | GenerativeRun:
    """Fit a sequence SDE, or the parameters of a stated one, to sequences; or a diffusion model to points and images.

    data:     sequences from `nsde.data.read`, `from_frame` or `from_arrays`; for the models of points an array (n, d),
              (n, h, w) or (n, h, w, c), a file of one, or `Points` from `nsde.data.read_points`, `points` or `digits`.
    model:    a name ("sequence-sde"; "score", "flow-matching", "energy"), the `Config(...)` of one with its settings,
              or `Physics(...)` with a drift and a diffusion of your own (a `PhysicsRun` comes back).
    steps, seed: shorthands that override those of `training`.
    out:      the run folder; without one the run lives in memory.
    resume:   go on with the run in `out`, bit for bit as if it had never stopped.
    split:    the held-out rule; by default the last 20 % of each series' time, or 20 % of more than 20 series; for
              points `SomePoints`, 20 % of them.
    network:  a `Backbone`, for the models of points.

    Best checkpoint: the EMA weights of lowest validation loss (`BEST_RULE`). Raises InputError for data or options
    that cannot be meant, RunFailed when training breaks, Interrupted on Ctrl-C (the run is saved).
    """
    common: dict[str, Any] = {
        "steps": steps, "seed": seed, "out": out, "resume": resume, "split": split, "training": training,
        "progress": progress,
    }  # fmt: skip
    of_points = model in FAMILIES if isinstance(model, str) else isinstance(model, GenerativeConfig)
    if isinstance(model, str) and model not in (*MODELS, *FAMILIES):
        known = (*MODELS, *FAMILIES)
        raise InputError(f"the model '{model}'", "there is none of that name", hint=closest(model, known))
    _require_kind(data, of_points, model if isinstance(model, str) else type(model).__module__.split(".")[2])
    if of_points:
        config = FAMILIES[model].default if isinstance(model, str) else model
        return fit_points(data, config, network=network, **common)  # type: ignore[arg-type]
    if network is not None:
        raise InputError(f"network={network}", "it is for the models of points", ", ".join(FAMILIES))
    if isinstance(model, Physics):
        return fit_physics(data, model, **common)
    assert isinstance(model, str | Config)
    return _fit_sequences(data, model, **common)


def _require_kind(data: Any, of_points: bool, name: str) -> None:
    """Refuse sequences for a model of points, and points for a model of sequences."""
    if isinstance(data, Trajectories) is not of_points:
        return
    if of_points:
        raise InputError(
            f"sequences for the model {name}", "it is one of independent points",
            "an array (n, d) or images (n, h, w), or Points", "nsde.data.read_points(path), or model='sequence-sde'",
        )  # fmt: skip
    what = f"points of shape {data.shape}" if isinstance(data, Points) else f"a {type(data).__name__}"
    raise InputError(
        f"{what} for the model {name}", "it is one of sequences",
        "Trajectories, from nsde.data.read, from_frame or from_arrays", "model=" + " or ".join(map(repr, FAMILIES)),
    )  # fmt: skip


def _fit_sequences(
    data: Trajectories,
    model: str | Config,
    *,
    steps: int | None,
    seed: int,
    out: str | Path | None,
    resume: bool,
    split: Rule | None,
    training: TrainConfig | None,
    progress: Reporter | None,
) -> Run:
    """A sequence SDE; arguments as of `fit`."""
    config = model_config(model, {}) if isinstance(model, str) else model
    options = replace(training or TRAINING, seed=seed)
    options = options if steps is None else replace(options, steps=steps)
    prepared = prepare(data, config, options, split)
    folder = begin(out, prepared.plan.to_dict(), resume)
    path = None if folder is None else folder.path
    result = train(problem_of(prepared), options, path, resume=resume, progress=progress)
    metrics = tuple(result.metrics)
    if folder is not None and folder.finished:
        return Run(prepared.plan, load_model(folder.weights_path, result.model), folder, data, metrics)
    found, summary = result.model, _summary(result)
    if config.denoiser == "calibrated":
        chosen = calibrated(found, prepared)
        found, summary["stabiliser"] = chosen.model, chosen.summary()
    if config.tune_steps:
        tuning = tuned(found, prepared, None if path is None else path / TUNING, resume=resume, progress=progress)
        found, summary["tuning"] = tuning.model, tuning.summary()
    if folder is not None:
        save_model(folder.weights_path, found)
        folder.mark_finished(summary)
    return Run(prepared.plan, found, folder, data, metrics)


def problem_of(prepared: Prepared) -> Problem:
    """What the training loop is given."""
    plan, past, most = prepared.plan, prepared.plan.config.past, prepared.plan.config.reach
    data = (Table.of(prepared.rows, prepared.train_rows), jax.device_put(prepared.train_starts))
    size = plan.train.batch_size

    def sample_batch(data: tuple[Table, Array], key: Key[Array, ""]) -> Transition:
        table, start = data
        chosen = start[jax.random.randint(key, (size,), 0, len(start))]
        if most == 1:
            return jax.vmap(lambda row: table.transition(row, past))(chosen)
        rows = jax.random.randint(jax.random.fold_in(key, 1), (size,), 1, most + 1)
        return jax.vmap(lambda row, ahead: table.leap(row, past, ahead, most))(chosen, rows)

    running = Running.first(jnp.asarray(plan.walk, jnp.float32))
    start = prepared.validation_starts if len(prepared.validation_starts) else prepared.train_starts
    remarks = watch(plan.fitted(plan.model()), prepared.rows, start)
    return Problem(plan.model(), loss, sample_batch, data, _validation(prepared), aux=running, remarks=remarks)


def _validation(prepared: Prepared) -> Callable[[SequenceSDE], float]:
    """Mean nats per observed entry over the validation transitions (all of them, or evenly spread ones)."""
    start = prepared.validation_starts if len(prepared.validation_starts) else prepared.train_starts
    start = start[np.linspace(0, len(start) - 1, min(len(start), _VALIDATION_TRANSITIONS)).astype(np.int64)]
    table, past = Table.of(prepared.rows), prepared.plan.config.past
    running = Running.first(jnp.ones(prepared.plan.encoder.dim))

    @eqx.filter_jit
    def nats(model: SequenceSDE, table: Table, start: Array) -> Array:
        def one(row: Array) -> tuple[Array, Array]:
            losses = transition_losses(model, table.transition(row, past), running, None)
            return losses.nats.sum(), losses.seen.sum()

        total, count = jax.vmap(one)(start)
        return total.sum() / jnp.maximum(count.sum(), 1)

    return lambda model: float(nats(model, table, jax.device_put(start)))


def _summary(result: Result) -> dict[str, Any]:
    return {
        "steps": result.steps,
        "best_step": result.best_step,
        "best_validation_nats": result.best_score,
        "best_rule": BEST_RULE,
        "seconds": round(result.seconds, 1),
    }

"""`fit(points, model="score")`: from independent points or images to a run, and back from a folder.

The order: split and scale, folder, training with checkpoints on points that are spread over their cells afresh at every
step, weights. Best checkpoint: the EMA weights of lowest validation loss, at noises and noise levels that are the same
at every validation.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from neuralsde.data.images import Points, SomePoints, points
from neuralsde.runs.folder import RunFolder, begin
from neuralsde.runs.generative.backbone import Backbone
from neuralsde.runs.generative.families import FAMILIES, Config, first_aux
from neuralsde.runs.generative.plan import Plan, Prepared, prepare
from neuralsde.runs.generative.run import GenerativeRun, open_points
from neuralsde.train.loop import train
from neuralsde.train.problem import Problem, TrainConfig
from neuralsde.train.progress import Reporter
from neuralsde.train.weights import load_model, save_model

TRAINING = TrainConfig(steps=4_000, batch_size=128, learning_rate=2e-3, ema=0.999, validate_every=500)
"""The default training of a diffusion model."""
BEST_RULE = "the averaged (EMA) weights with the lowest validation loss of the held-out validation points"
_VALIDATION_DRAWS = 2_048
_VALIDATION_BATCH = 256


def fit_points(
    data: Any,
    config: Config,
    *,
    network: Backbone | None = None,
    steps: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    split: SomePoints | None = None,
    training: TrainConfig | None = None,
    progress: Reporter | None = None,
) -> GenerativeRun:
    """Fit a diffusion model, a flow or an energy to points.

    data:    `Points`, a file, or an array (n, d), (n, h, w) or (n, h, w, c). With labels: a model of each class.
    network: of `Backbone`; the others as of `runs.fit`.
    Raises InputError for data that cannot be meant and options that do not fit, RunFailed when training breaks.
    """
    if not isinstance(data, Points):
        data = open_points(data) if isinstance(data, str | Path) else points(data)
    options = replace(training or TRAINING, seed=seed)
    options = options if steps is None else replace(options, steps=steps)
    prepared = prepare(data, config, network or Backbone(), options, split)
    problem = problem_of(prepared)  # a network that cannot be built leaves no folder behind
    folder = begin(out, prepared.plan.to_dict(), resume)
    result = train(problem, options, None if folder is None else folder.path, resume=resume, progress=progress)
    metrics, found = tuple(result.metrics), result.model
    if folder is not None and folder.finished:
        found = load_model(folder.weights_path, found)
    elif folder is not None:
        save_model(folder.weights_path, found)
        folder.mark_finished({
            "steps": result.steps,
            "best_step": result.best_step,
            "best_validation_loss": result.best_score,
            "best_rule": BEST_RULE,
            "seconds": round(result.seconds, 1),
        })  # fmt: skip
    return GenerativeRun(prepared.plan, found, folder, data, metrics)


def load_points(folder: RunFolder, data: Points | None = None) -> GenerativeRun:
    """The run in a folder."""
    plan = Plan.from_dict(folder.config)
    folder.summary()
    fitted = load_model(folder.weights_path, plan.model())
    lines = folder.metrics_path.read_text().splitlines() if folder.metrics_path.is_file() else []
    return GenerativeRun(plan, fitted, folder, data, tuple(json.loads(line) for line in lines))


def problem_of(prepared: Prepared) -> Problem:
    """What the training loop is given."""
    plan, given = prepared.plan, prepared.training
    size, scale, family = plan.train.batch_size, plan.scale, FAMILIES[plan.family]
    labels = given.labels if plan.classes else None
    data = (_compact(given.values), None if labels is None else jnp.asarray(labels, jnp.int32))

    def sample_batch(data: tuple[Array, Array | None], key: Key[Array, ""]) -> Any:
        values, labels = data
        place, spread = jax.random.split(key)
        chosen = jax.random.randint(place, (size,), 0, len(values))
        x = scale.encode(values[chosen], jax.random.uniform(spread, (size, *scale.shape)))
        return x if labels is None else (x, labels[chosen])

    aux = first_aux(plan.config, scale.shape, key=jax.random.fold_in(jax.random.key(plan.train.seed), 1))
    return Problem(plan.model(), family.loss, sample_batch, data, _validation(prepared), aux=aux)


def _validation(prepared: Prepared) -> Callable[[Any], float]:
    """Mean loss over the validation points, each as often as makes some 2,000 draws; the same draws at every call."""
    plan, given = prepared.plan, prepared.validation
    batch = min(_VALIDATION_BATCH, _VALIDATION_DRAWS)
    rows = np.resize(np.arange(len(given)), max(len(given), _VALIDATION_DRAWS) // batch * batch).reshape(-1, batch)
    rng = np.random.default_rng(plan.train.seed)
    values = given.values[rows]
    x = jnp.asarray(plan.scale.encode(values, rng.random(values.shape)))
    labels = jnp.asarray(given.labels[rows], jnp.int32) if plan.classes and given.labels is not None else None
    aux = first_aux(plan.config, plan.scale.shape, key=jax.random.key(0))
    loss, key = FAMILIES[plan.family].loss, jax.random.key(plan.train.seed)

    @eqx.filter_jit
    def mean(model: Any, x: Array, labels: Array | None) -> Array:
        def one(part: tuple[Array, Any, Array]) -> Array:
            x, labels, key = part
            return loss(model, x if labels is None else (x, labels), aux, key=key)[0]

        return jax.lax.map(one, (x, labels, jax.random.split(key, len(x)))).mean()

    return lambda model: float(mean(model, x, labels))


def _compact(values: np.ndarray) -> Array:
    """On the device as small as it is: bytes stay bytes."""
    return jnp.asarray(values if values.dtype.itemsize == 1 else values.astype(np.float32))

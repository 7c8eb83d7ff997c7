"""From demonstrations to a policy in a run folder, and back.

Every method is trained by the same loop: AdamW on batches of moments drawn evenly from the training episodes, weights
averaged (EMA). The policy has the averaged weights of the last step, whatever the validation loss says: likelihood of
held-out demonstrations and reward are not the same thing, and a rule that looks at rewards needs an environment. A few
episodes are held out all the same, so that the log shows over-fitting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from neuralsde.data.pusht import ACTIONS, Demonstrations, normaliser, observations
from neuralsde.errors import InputError
from neuralsde.robot.plan_law import Execution, PlanLaw
from neuralsde.robot.plans import Batch, Plans
from neuralsde.robot.policy import Config, Policy, Setting, build, config_of
from neuralsde.robot.sde_plan import Facts
from neuralsde.runs.folder import RunFolder, begin
from neuralsde.train.loop import train
from neuralsde.train.problem import Problem, TrainConfig
from neuralsde.train.progress import Reporter
from neuralsde.train.weights import load_model, save_model

MODEL = "policy"
"""What `config.json` of such a run names as its model."""
TRAINING = TrainConfig(steps=12_000, batch_size=512, learning_rate=1e-3, ema=0.999, validate_every=1_000)
"""About six minutes on one CPU core at width 256."""
RULE = "the averaged (EMA) weights of the last step"
HELD_OUT = 0.02
_VALIDATION_MOMENTS = 1_024


def train_policy(
    demos: Demonstrations,
    config: Config | None = None,
    training: TrainConfig | None = None,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    progress: Reporter | None = None,
) -> Policy:
    """Train a policy on demonstrations.

    out:    a run folder; None keeps everything in memory. resume: go on with the run that is there; the end is bit for
            bit that of a run that was never stopped.
    Raises InputError for demonstrations that cannot be meant and a folder that does not fit, RunFailed when training
    breaks, Interrupted on Ctrl-C.
    """
    config, training = config or Config(), training or TRAINING
    prepared = prepare(demos, config, training)
    problem = problem_of(prepared)
    folder = begin(out, prepared.to_dict(), resume)
    if folder is not None and folder.finished:
        return load_policy(folder.path)
    result = train(problem, training, None if folder is None else folder.path, resume=resume, progress=progress)
    law = eqx.combine(result.state.ema, problem.split()[1])
    if folder is not None:
        save_model(folder.weights_path, law)
        folder.mark_finished({
            "steps": result.steps,
            "rule": RULE,
            "validation_loss": result.metrics[-1].get("validation") if result.metrics else None,
            "seconds": round(result.seconds, 1),
        })  # fmt: skip
    return Policy(config, prepared.setting, law)


def save_policy(policy: Policy, out: str | Path) -> RunFolder:
    """Write a policy that was made in memory as a finished run folder of its own."""
    folder = RunFolder.create(out, _model(policy.config, policy.setting))
    save_model(folder.weights_path, policy.law)
    folder.mark_finished({"rule": "saved from memory"})
    return folder


def load_policy(path: str | Path, how: Execution | None = None) -> Policy:
    """The policy in a run folder. Raises InputError for one that is not finished, is of another kind, or is broken."""
    folder = RunFolder.open(path)
    model = dict(folder.config.get("model", {}))
    if model.pop("name", None) != MODEL:
        raise InputError(f"the run {path}", "it is not that of a policy", "a folder made by train_policy")
    folder.summary()
    config, setting = config_of(model), Setting.from_dict(folder.config["setting"])
    like = eqx.filter_eval_shape(lambda: build(config, setting, key=jax.random.key(0)))
    return Policy(config, setting, load_model(folder.weights_path, like), how)


# -- what training reads -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """Moments to train on and to validate on, and what `config.json` says."""

    config: Config
    training: TrainConfig
    setting: Setting
    plans: Plans
    held_out: Batch
    data: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {**_model(self.config, self.setting), "train": asdict(self.training), "data": self.data}


def prepare(demos: Demonstrations, config: Config, training: TrainConfig) -> Prepared:
    """Moments in model units, and the episodes that are held out, drawn by the seed."""
    ends, units = np.asarray(demos.ends), normaliser(config.kind)
    o = units.encode(observations(demos, config.kind))
    a, agent = (ACTIONS.encode(raw.astype(np.float32)) for raw in (demos.actions, demos.state[:, :2]))
    held = _held_out(ends, training.seed)
    plans = Plans.of(o, a, agent, ends, rows=np.flatnonzero(~held))
    facts = Facts(_walk(a, ends), _walk(np.concatenate([o, a], axis=1), ends))
    rows = np.random.default_rng(training.seed).choice(np.flatnonzero(held), _VALIDATION_MOMENTS)
    return Prepared(
        config,
        training,
        Setting(o.shape[1], a.shape[1], units, ACTIONS, facts),
        plans,
        plans.take(jnp.asarray(rows), config.n_obs, config.horizon),
        {"source": demos.source, "episodes": len(ends), "rows": len(a), "held_out": int(held[ends - 1].sum())},
    )


def _held_out(ends: Int[np.ndarray, " e"], seed: int) -> Bool[np.ndarray, " n"]:
    """Which rows lie in held-out episodes: at least one episode, and at least one is left."""
    if len(ends) < 2:
        raise InputError(f"{len(ends)} episodes", "one is held out to see over-fitting", "at least two")
    chosen = np.random.default_rng(seed).permutation(len(ends))[: max(1, round(HELD_OUT * len(ends)))]
    return np.repeat(np.isin(np.arange(len(ends)), chosen), np.diff(ends, prepend=0))


def _walk(x: Float[np.ndarray, "n d"], ends: Int[np.ndarray, " e"]) -> tuple[float, ...]:
    """Root mean square of the moves from row to row within episodes."""
    inside = np.ones(len(x) - 1, bool)
    inside[ends[:-1] - 1] = False
    moves = np.square(np.diff(x, axis=0)[inside]).mean(0)
    return tuple(np.sqrt(np.maximum(moves, 1e-8)).tolist())


def problem_of(prepared: Prepared) -> Problem:
    """What the training loop is given."""
    config, size = prepared.config, prepared.training.batch_size
    law = build(config, prepared.setting, key=jax.random.key(prepared.training.seed))

    def sample_batch(data: Plans, key: Key[Array, ""]) -> Batch:
        return data.sample(size, config.n_obs, config.horizon, key=key)

    def loss(model: PlanLaw, batch: Batch, aux: Any, *, key: Key[Array, ""]) -> Any:
        noise_key, key = jax.random.split(key)
        if config.observation_noise:
            noise = config.observation_noise * jax.random.normal(noise_key, batch.history.shape)
            batch = eqx.tree_at(lambda b: b.history, batch, batch.history + noise)
        return model.loss(batch, aux, key=key)

    return Problem(
        law, loss, sample_batch, prepared.plans, _validation(law, prepared.held_out), aux=law.first_aux(),
        trainable=_is_weight,
    )  # fmt: skip


def _is_weight(leaf: Any) -> bool:
    """Constants of a model are NumPy arrays: no gradient moves them, and no weight decay may."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _validation(law: PlanLaw, moments: Batch) -> Callable[[Any], float]:
    """The loss of the held-out moments, with the same draws at every call."""
    aux, key = law.first_aux(), jax.random.key(0)
    value = eqx.filter_jit(lambda model: model.loss(moments, aux, key=key)[0])
    return lambda model: float(value(model))


def _model(config: Config, setting: Setting) -> dict[str, Any]:
    return {"model": {"name": MODEL, **config.to_dict()}, "setting": setting.to_dict()}

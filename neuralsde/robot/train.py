"""From demonstrations to a policy in a run folder, and back.

Every method is trained by the same loop: AdamW on batches of moments drawn evenly from the training episodes, weights
averaged (EMA). The policy has the averaged weights of the last step, whatever the validation loss says: likelihood of
held-out demonstrations and reward are not the same thing, and a rule that looks at rewards needs an environment. A few
episodes are held out all the same, so that the log shows over-fitting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from neuralsde.data.pusht import ACTIONS, AS_SEEN, Demonstrations, features, mirrored, normaliser, observations
from neuralsde.errors import InputError
from neuralsde.robot.plan_law import Execution, PlanLaw
from neuralsde.robot.plans import Batch, Plans
from neuralsde.robot.policy import Config, Policy, Setting, build, config_of
from neuralsde.robot.sde_plan import Facts
from neuralsde.robot.sights import Album, Sights
from neuralsde.runs.folder import POLICY, RunFolder, begin
from neuralsde.train.loop import train
from neuralsde.train.problem import Problem, TrainConfig
from neuralsde.train.progress import Reporter
from neuralsde.train.weights import load_model, save_model

Watch = Callable[[Policy, Batch | Sights], Mapping[str, float]]

TRAINING = TrainConfig(steps=12_000, batch_size=512, learning_rate=1e-3, ema=0.999, validate_every=1_000)
"""Six minutes on one CPU core at width 256, twice that for an anytime SDE."""
RULE = "the averaged (EMA) weights of the last step"
HELD_OUT = 0.02
_MOMENTS, _MOMENTS_WITH_IMAGES = 1_024, 256
"""Held out, at each validation."""


def train_policy(
    demos: Demonstrations,
    config: Config | None = None,
    training: TrainConfig | None = None,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    progress: Reporter | None = None,
    watch: Watch | None = None,
) -> Policy:
    """Train a policy on demonstrations.

    out:    a run folder; None keeps everything in memory. resume: go on with the run that is there; the end is bit for
            bit that of a run that was never stopped.
    watch:  is shown the policy of the averaged weights and the held-out moments at every validation; the numbers that
            it returns go into the same line of metrics.jsonl, and change nothing else.
    Raises InputError for demonstrations that cannot be meant and a folder that does not fit, RunFailed when training
    breaks, Interrupted on Ctrl-C.
    """
    config, training = config or Config(), training or TRAINING
    prepared = prepare(demos, config, training)
    problem = problem_of(prepared, watch)
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
    if model.pop("name", None) != POLICY:
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
    plans: Plans | Album
    held_out: Batch | Sights
    data: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {**_model(self.config, self.setting), "train": asdict(self.training), "data": self.data}


def prepare(demos: Demonstrations, config: Config, training: TrainConfig) -> Prepared:
    """Moments in model units, and the episodes that are held out, drawn by the seed, their mirror images with them."""
    told, held = "keypoints" if config.kind == "image" else config.kind, _held_out(demos.ends, training.seed)
    sets = [demos, mirrored(demos)] if config.mirror else [demos]
    ends = np.concatenate([demos.ends + k * len(demos) for k in range(len(sets))])
    o = np.concatenate([normaliser(told).encode(observations(one, told)) for one in sets])
    a, agent = (
        ACTIONS.encode(np.concatenate(raw).astype(np.float32))
        for raw in ([one.actions for one in sets], [one.state[:, :2] for one in sets])
    )
    held = np.tile(held, len(sets))
    plans, units, moments = Plans.of(o, a, agent, ends, rows=np.flatnonzero(~held)), normaliser(told), _MOMENTS
    if config.encoder is not None:
        plans, units = Album.of(plans, demos.images, *config.encoder.looks(config.n_obs)), AS_SEEN
        moments = _MOMENTS_WITH_IMAGES
    facts = Facts(_walk(a, ends), _walk(np.concatenate([o, a], axis=1), ends))
    rows = np.random.default_rng(training.seed).choice(np.flatnonzero(held), moments)
    return Prepared(
        config,
        training,
        Setting(features(config.kind), a.shape[1], units, ACTIONS, facts),
        plans,
        plans.take(jnp.asarray(rows), config.n_obs, config.horizon),
        {
            "source": demos.source, "episodes": demos.episodes, "rows": len(demos),
            "held_out": int(held[demos.ends - 1].sum()),
        },
    )  # fmt: skip


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


def problem_of(prepared: Prepared, watch: Watch | None = None) -> Problem:
    """What the training loop is given."""
    config, size = prepared.config, prepared.training.batch_size
    size = size if config.encoder is None else config.encoder.moments(size)
    law = build(config, prepared.setting, key=jax.random.key(prepared.training.seed))

    def sample_batch(data: Plans | Album, key: Key[Array, ""]) -> Batch | Sights:
        return data.sample(size, config.n_obs, config.horizon, key=key)

    def loss(model: PlanLaw, batch: Any, aux: Any, *, key: Key[Array, ""]) -> Any:
        noise_key, key = jax.random.split(key)
        if config.observation_noise:
            batch = batch.noisy(config.observation_noise, key=noise_key)
        return model.loss(batch, aux, key=key)

    return Problem(
        law, loss, sample_batch, prepared.plans, _validation(law, prepared, watch), aux=law.first_aux(),
        trainable=is_weight,
    )  # fmt: skip


def is_weight(leaf: Any) -> bool:
    """Constants of a model are NumPy arrays: no gradient moves them, and no weight decay may."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _validation(law: PlanLaw, prepared: Prepared, watch: Watch | None) -> Callable[[Any], dict[str, float]]:
    """The loss of the held-out moments, with the same draws at every call, and what is seen by who watches."""
    aux, key = law.first_aux(), jax.random.key(0)
    value = eqx.filter_jit(lambda model, moments: model.loss(moments, aux, key=key)[0])

    def validate(model: PlanLaw) -> dict[str, float]:
        seen = {} if watch is None else watch(Policy(prepared.config, prepared.setting, model), prepared.held_out)
        return {**seen, "validation": float(value(model, prepared.held_out))}

    return validate


def _model(config: Config, setting: Setting) -> dict[str, Any]:
    return {"model": {"name": POLICY, **config.to_dict()}, "setting": setting.to_dict()}

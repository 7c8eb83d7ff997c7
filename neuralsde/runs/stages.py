"""What may follow the likelihood in the training of a sequence SDE: a calibrated stabiliser, tuning on simulated paths.

Both look at simulated paths and at held-out validation rows. The strength of a stabiliser is the one of a few with the
least energy score of whole paths, so nobody sets it by hand. Tuning is a training run of its own (`tuning/` in the run
folder), from the best weights of the first and with a lower rate; its result is kept if it beats them. Both are
functions of the plan alone, so a run that is resumed in one of them ends like one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from neuralsde.data.split import VALIDATION
from neuralsde.data.windows import Table, stretch, typical_move
from neuralsde.models.sequence_sde import SequenceSDE
from neuralsde.models.sequence_sde.simulated import Stretch, path_energy, paths, simulated_loss
from neuralsde.runs.plan import Prepared
from neuralsde.train.loop import train
from neuralsde.train.problem import Problem, TrainConfig
from neuralsde.train.progress import Reporter

STRENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
TUNING_RATE = 0.3
"""Peak rate of the tuning, as a share of that of the training."""
_LONGEST, _STARTS, _PATHS = 256, 48, 16
_VALIDATION_STARTS, _VALIDATION_PATHS = 512, 16


@dataclass(frozen=True)
class Calibrated:
    """A model with the strength of its stabiliser, and the score of each strength that was tried."""

    model: SequenceSDE
    scores: dict[float, float]

    def summary(self) -> dict[str, Any]:
        """For the record of the run."""
        scores = {f"{strength:g}": score for strength, score in self.scores.items()}
        return {"strength": float(np.asarray(self.model.strength)), "path_energy": scores}


def calibrated(model: SequenceSDE, prepared: Prepared) -> Calibrated:
    """The model with the best of `STRENGTHS` on validation paths; the smaller of equals."""
    table, start, rows = _long_stretches(prepared)
    key, past, n = jax.random.key(prepared.plan.train.seed), prepared.plan.config.past, _PATHS

    @eqx.filter_jit
    def score(model: SequenceSDE, table: Table, start: Array) -> Array:
        def one(row: Array, k: Key[Array, ""]) -> Array:
            piece = stretch(table, row, past, rows)
            found = paths(model, piece, key=k, n=n, substeps=model.config.substeps)
            return path_energy(found, piece, jnp.ones(model.dim))

        return jax.vmap(one)(start, jax.random.split(key, len(start))).mean()

    def at(strength: float) -> SequenceSDE:
        return eqx.tree_at(lambda m: m.strength, model, jnp.float32(strength))

    scores = {c: float(score(at(c), table, jax.device_put(start))) for c in STRENGTHS}
    finite = {c: s for c, s in scores.items() if np.isfinite(s)} or {0.0: np.inf}
    return Calibrated(at(min(finite, key=lambda c: finite[c])), scores)


@dataclass(frozen=True)
class Tuned:
    """A model after tuning, with the validation scores before and after it, and the step it is from."""

    model: SequenceSDE
    before: float
    after: float
    step: int

    def summary(self) -> dict[str, Any]:
        """For the record of the run."""
        return {"validation_before": self.before, "validation_after": self.after, "best_step": self.step}


def tuned(
    model: SequenceSDE, prepared: Prepared, folder: Path | None, *, resume: bool, progress: Reporter | None
) -> Tuned:
    """The model after tuning, or as it was if that is better on validation paths."""
    problem, config = tuning_problem(model, prepared), tuning_config(prepared)
    before = float(problem.validate(model))
    if folder is not None:
        folder.mkdir(exist_ok=True)
    result = train(problem, config, folder, resume=resume, progress=progress)
    if result.best_score < before:
        return Tuned(result.model, before, result.best_score, result.best_step)
    return Tuned(model, before, before, 0)


def tuning_config(prepared: Prepared) -> TrainConfig:
    """How the tuning trains: as the first training, with its own number of steps and a lower rate."""
    first, steps = prepared.plan.train, prepared.plan.config.tune_steps
    return replace(
        first,
        steps=steps,
        batch_size=max(16, first.batch_size // prepared.plan.config.tune_paths),
        learning_rate=TUNING_RATE * first.learning_rate,
        warmup=None,
        validate_every=max(1, min(first.validate_every, steps // 8)),
        log_every=max(1, min(first.log_every, steps // 8)),
        ema=min(first.ema, 0.99),
    )


def tuning_problem(model: SequenceSDE, prepared: Prepared) -> Problem:
    """What the training loop is given for the tuning."""
    plan = prepared.plan
    config, size, past = plan.config, tuning_config(prepared).batch_size, plan.config.past
    rows, n, score = config.tune_horizon, config.tune_paths, config.tune_score
    scale = jnp.asarray(typical_move(prepared.rows, prepared.train_starts, rows), jnp.float32)
    data = (Table.of(prepared.rows, prepared.train_rows), jax.device_put(prepared.train_starts))

    def sample_batch(data: tuple[Table, Array], key: Key[Array, ""]) -> Stretch:
        table, start = data
        chosen = start[jax.random.randint(key, (size,), 0, len(start))]
        return jax.vmap(lambda row: stretch(table, row, past, rows))(chosen)

    def loss(
        model: SequenceSDE, batch: Stretch, aux: Any, *, key: Key[Array, ""]
    ) -> tuple[Array, tuple[dict[str, Array], Any]]:
        value = simulated_loss(model, batch, scale, key=key, n=n, score=score)
        return value, ({score: value}, aux)

    return Problem(model, loss, sample_batch, data, _validation(prepared, scale))


def _validation(prepared: Prepared, scale: Array) -> Callable[[SequenceSDE], float]:
    """The score over fixed validation stretches, always with the same normals."""
    table, start = _validation_table(prepared)
    start = jax.device_put(_spread(start, _VALIDATION_STARTS))
    config, key = prepared.plan.config, jax.random.key(prepared.plan.train.seed)

    @eqx.filter_jit
    def score(model: SequenceSDE, table: Table, start: Array) -> Array:
        batch = jax.vmap(lambda row: stretch(table, row, config.past, config.tune_horizon))(start)
        return simulated_loss(model, batch, scale, key=key, n=_VALIDATION_PATHS, score=config.tune_score)

    return lambda model: float(score(model, table, start))


def _validation_table(prepared: Prepared) -> tuple[Table, np.ndarray]:
    """The rows with the reach of the validation part, and its starts; those of the training part if it has none."""
    if len(prepared.validation_starts):
        return Table.of(prepared.rows, prepared.roles == VALIDATION), prepared.validation_starts
    return Table.of(prepared.rows, prepared.train_rows), prepared.train_starts


def _long_stretches(prepared: Prepared) -> tuple[Table, np.ndarray, int]:
    """A table, starts with the longest stretches after them, and the number of rows of these."""
    table, start = _validation_table(prepared)
    length = np.asarray(table.reach)[start] - start
    rows = int(min(_LONGEST, length.max()))
    return table, _spread(start[length >= rows], _STARTS), rows


def _spread(start: np.ndarray, most: int) -> np.ndarray:
    return start[np.linspace(0, len(start) - 1, min(len(start), most)).astype(np.int64)]

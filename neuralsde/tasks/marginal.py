"""Fit the score of a process' marginals from one start: simulate, then train on the simulated steps.

Paths are drawn once, by Euler-Maruyama on `ts`, and three quarters of them are trained on; the last step into each
state is drawn afresh in every batch. The network is validated on the other quarter, with noise that stays the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from neuralsde.errors import InputError, RunFailed
from neuralsde.models.marginal_score import Config, MarginalScore, Steps, loss, step_losses
from neuralsde.sde import SDE, EulerMaruyama, Ito, simulate
from neuralsde.sde.keys import checked_key
from neuralsde.train.loop import train
from neuralsde.train.problem import Problem, TrainConfig
from neuralsde.train.progress import Reporter

TRAINING = TrainConfig(steps=2_000, batch_size=512, learning_rate=2e-3, ema=0.99, validate_every=200)
"""The default training of a marginal score: some ten seconds for a small network."""

_VALIDATION_STEPS = 8_192


@dataclass(frozen=True)
class MarginalFit:
    """A fitted score and what its training came to.

    score:         s(t, y, args), for `sde.time_reversal` and `sde.probability_flow`. The Gaussian's, if that is the
                   better one on the held-out paths.
    loss:          per unit of time on held-out paths; the exact score would reach -E|Gᵀ∇log p|², averaged over time.
    gaussian_loss: the same of the Gaussian with the marginals' moments, where the training starts. The network is
                   worth their difference; next to nothing for a process that is linear.
    metrics:       the lines of the training log.
    """

    score: MarginalScore
    loss: float
    gaussian_loss: float
    metrics: tuple[dict[str, Any], ...]


def fit_marginal_score(
    process: SDE,
    y0: Any,
    ts: Any,
    *,
    key: Key[Array, ""],
    n: int = 4_096,
    args: Any = None,
    config: Config = Config(),  # noqa: B008 (a frozen value)
    training: TrainConfig = TRAINING,
    folder: Path | None = None,
    resume: bool = False,
    progress: Reporter | None = None,
) -> MarginalFit:
    """Learn ∇log p_t of `process` from the start y0, for t in [ts[0], ts[-1]].

    process: any, of an array state; `model.process()` of a sequence SDE is one, with the `args` that it asks for.
    y0:      a state, or a function key -> state that draws one: the start law.
    ts:      (k,) increasing, k >= 3, the grid of the simulation. The marginals are those of these Euler steps; where
             the law begins as a point, the first gap is the earliest age at which a score exists. 30 to 100 steps.
    n:       paths simulated, kept in memory with drift and diffusion: n·k·d·w numbers. Their moments, which the score
             rests on, are known to 1/√n.
    training, folder, resume, progress: as in `neuralsde.train.loop.train`.

    Raises InputError for input that cannot be meant and RunFailed when the simulation or the training breaks.
    """
    times = jnp.asarray(ts, jnp.result_type(float))
    if times.ndim != 1 or times.shape[0] < 3:
        raise InputError(f"ts of shape {times.shape}", expected="at least three increasing times, shape (k,)")
    if isinstance(n, bool) or not isinstance(n, int) or n < 8:
        raise InputError(f"n={n!r}", expected="the number of simulated paths, an integer >= 8")
    path_key, net_key, noise_key = jax.random.split(checked_key(key), 3)
    ys = _simulated(process.to(Ito()), y0, times, path_key, n, args)
    states = ys.reshape(n, times.shape[0], -1)
    steps = jax.jit(lambda states: Steps.of(process, times, states, args, ys[0, 0]))(states)
    count = n // 4
    fitting, held = (
        jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), part) for part in _split(steps, count)
    )
    model = eqx.filter_jit(MarginalScore)(config, times, states, key=net_key)
    validate = _validation(held, noise_key, float((times[-1] - times[0]) / (times.shape[0] - 1)))
    found = train(_problem(model, fitting, validate, training), training, folder, resume=resume, progress=progress)
    gaussian = validate(model)
    best = found.model if found.best_score < gaussian else model
    return MarginalFit(best, min(found.best_score, gaussian), gaussian, tuple(found.metrics))


def _simulated(process: SDE, y0: Any, ts: Array, key: Key[Array, ""], n: int, args: Any) -> Array:
    """States (n, k, *shape) of n paths."""

    @jax.jit
    def paths(keys: Array) -> Array:
        def one(key: Array) -> Array:
            start_key, key = jax.random.split(key)
            start = y0(start_key) if callable(y0) else y0
            start = jnp.asarray(start, jnp.result_type(float, jnp.result_type(start)))
            return simulate(process, start, ts, key=key, method=EulerMaruyama(), args=args).ys

        return jax.vmap(one)(keys)

    ys = paths(jax.random.split(key, n))
    if not bool(jnp.isfinite(ys).all()):
        raise RunFailed(
            "simulated paths that are not finite",
            "the drift grows faster than linearly and the steps are too long, or a model was trained too briefly",
            hint="more times in ts",
        )
    return ys


def _split(steps: Steps, count: int) -> tuple[Steps, Steps]:
    """All paths but the first `count`, and these."""
    return jax.tree.map(lambda leaf: leaf[count:], steps), jax.tree.map(lambda leaf: leaf[:count], steps)


def _problem(model: MarginalScore, data: Steps, validate: Callable[[Any], float], training: TrainConfig) -> Problem:
    """What the training loop is given; only the network is trained, not the moments that standardise its input."""
    size = training.batch_size

    def sample_batch(data: Steps, key: Key[Array, ""]) -> Steps:
        chosen = jax.random.randint(key, (size,), 0, data.t.shape[0])
        return jax.tree.map(lambda leaf: leaf[chosen], data)

    frozen = jax.tree.map(lambda leaf: False, model)
    trainable = eqx.tree_at(lambda m: m.net, frozen, jax.tree.map(eqx.is_inexact_array, model.net))
    return Problem(model, loss, sample_batch, data, validate, trainable=trainable)


def _validation(held: Steps, key: Key[Array, ""], gap: float) -> Callable[[MarginalScore], float]:
    """Mean loss per unit of time over evenly spread held-out steps, with normals that stay the same."""
    chosen = jnp.linspace(0, held.t.shape[0] - 1, min(held.t.shape[0], _VALIDATION_STEPS)).astype(jnp.int32)
    part = jax.tree.map(lambda leaf: leaf[chosen], held)
    xi = jax.random.normal(key, (chosen.shape[0], part.spread.shape[2]), part.spread.dtype)
    measure = eqx.filter_jit(lambda model, part, xi: step_losses(model, part, xi).mean())
    return lambda model: float(measure(model, part, xi)) / gap

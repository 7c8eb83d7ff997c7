"""Inverse dynamics: what was done, from what was seen before and after it; learnt where actions are known.

    a_t - p_t = A (m, 1) + r (f(o) + e^(g(o)) ε),      ε ~ N(0, I)

p are the agent's positions, m its moves from row to row in the window o_(t-past) ... o_(t+future). A is their
least-squares map, in closed form: of an agent whose law is linear it is all there is to find (`robot/agent.py`, which
also says how fast the error falls with `past`). r is the size of what A leaves, and f, g are networks of the whole
window that start at zero, so what is learnt is no worse than A and bends where the block or a wall pushes back. Several
of them, each from its own start, make one law: the mean of means, and as variance the mean variance plus the variance
of the means (Lakshminarayanan et al. 2017), which is wide where there were no labels like these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from neuralsde.data.pusht import Demonstrations, normaliser, observations, without_last
from neuralsde.data.pusht.features import SIDE
from neuralsde.errors import InputError
from neuralsde.nets import ResidualMLP
from neuralsde.train.loop import train
from neuralsde.train.problem import Problem, TrainConfig
from neuralsde.train.progress import Reporter

KINDS = ("pose", "keypoints")
"""Observations that are few numbers, the last two of them the agent's position."""
TRAINING = TrainConfig(steps=1_000, batch_size=256, learning_rate=1e-3, ema=0.99, validate_every=100)
"""Seconds on one CPU core."""
CHECKED = 0.1
"""Share of the labelled episodes that choose the weights, at least one."""
_LOG_RANGE = 7.0
_LEAST = 1e-3
"""Px: below this a residual is rounding."""


@dataclass(frozen=True)
class InverseConfig:
    """What is read, and the networks.

    kind: of the observations, one of `KINDS`. past: observations before the present one; before the start
    of an episode the first is repeated, as of an agent at rest. future: observations after it, one at least; what lies
    past the end is repeated and flagged. width, blocks: of a residual network. members: networks; 0 for least squares
    alone, whose spread is the same everywhere.
    """

    kind: str = "pose"
    past: int = 4
    future: int = 1
    width: int = 64
    blocks: int = 2
    members: int = 3

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind={self.kind!r} of inverse dynamics", expected=" or ".join(KINDS))
        for name, least in (("past", 0), ("future", 1), ("width", 1), ("blocks", 0), ("members", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r}", expected=f"a whole number, at least {least}")


@dataclass(frozen=True)
class Inferred:
    """demos: the steps whose effect was seen, all but the last of each episode, with the mean action of each.

    sd: (n, 2) its standard deviation, px.
    """

    demos: Demonstrations
    sd: Float[np.ndarray, "n 2"]


@dataclass(frozen=True)
class Windows:
    """What is read at n steps. moves (n, q): of the agent in the window, px, then 1 for every row past the end, then 1.

    inputs (n, i): of the networks, without a unit. present (n, 2): where the agent is, px.
    """

    moves: Float[np.ndarray, "n q"]
    inputs: Float[np.ndarray, "n i"]
    present: Float[np.ndarray, "n 2"]


class InverseDynamics(eqx.Module):
    """A law of the action given what was seen around it.

    linear (q, 2), residual (2,) and scale (f,), the size of the moves of each feature, are constants; px. nets has a
    leading axis (members,).
    """

    config: InverseConfig = eqx.field(static=True)
    scale: np.ndarray
    linear: np.ndarray
    residual: np.ndarray
    nets: ResidualMLP | None

    def infer(self, demos: Demonstrations) -> Inferred:
        """Actions for demonstrations, from their states alone; kept in the arena."""
        seen = windows(demos, self.config, self.scale)
        around = seen.present + seen.moves @ self.linear
        mean, sd = np.zeros_like(around), np.broadcast_to(np.ones(2), around.shape)
        if self.nets is not None:
            means, sds = (np.asarray(part, np.float64) for part in _of_nets(self.nets, jnp.asarray(seen.inputs)))
            mean, sd = means.mean(0), np.sqrt(np.square(sds).mean(0) + means.var(0))
        actions = np.clip(around + self.residual * mean, 0.0, SIDE).astype(np.float32)
        return Inferred(replace(without_last(demos), actions=actions), self.residual * sd)


def fit_inverse(
    labelled: Demonstrations,
    config: InverseConfig | None = None,
    training: TrainConfig | None = None,
    *,
    progress: Reporter | None = None,
) -> InverseDynamics:
    """Learn it from demonstrations with actions; of the networks the weights that do best on the episodes checked.

    Raises InputError for fewer than two episodes (one, for least squares alone), RunFailed when training breaks.
    """
    config, training = config or InverseConfig(), training or TRAINING
    if not config.members:
        return _least_squares(labelled, config)[0]
    if labelled.episodes < 2:
        raise InputError("one labelled episode", "one is kept to choose the weights", "two or more", "members=0")
    fitted, checked = labelled.split(training.seed, max(CHECKED, 1 / labelled.episodes))
    start, seen, left = _least_squares(fitted, config)
    problem = _problem(start, (seen.inputs, left), _left_in(start, checked), training)
    nets = train(problem, training, progress=progress).model
    return eqx.tree_at(lambda model: model.nets, start, nets, is_leaf=lambda leaf: leaf is None)


def windows(demos: Demonstrations, config: InverseConfig, scale: Float[np.ndarray, " f"] | None = None) -> Windows:
    """Of every step but the last of each episode. scale: of the features' moves, px; those of `demos` without it."""
    o = observations(demos, config.kind).astype(np.float64)
    scale = moves_of(o, demos.ends) if scale is None else scale
    rows = np.setdiff1d(np.arange(len(demos)), demos.ends.astype(np.int64) - 1)
    first, last = demos.starts[demos.episode_of[rows]], demos.ends.astype(np.int64)[demos.episode_of[rows]] - 1
    at = np.clip(rows[:, None] + np.arange(-config.past, config.future + 1), first[:, None], last[:, None])
    moves = np.diff(o[at], axis=1)
    late = (rows[:, None] + np.arange(2, config.future + 1) > last[:, None]).astype(np.float64)
    agent = moves[..., -2:].reshape(len(rows), -1)
    changes, now = (moves / scale).reshape(len(rows), -1), normaliser(config.kind).encode(o[rows])
    return Windows(
        np.concatenate([agent, late, np.ones((len(rows), 1))], 1),
        np.concatenate([changes, now, late], 1).astype(np.float32),
        o[rows, -2:],
    )


def moves_of(o: Float[np.ndarray, "n f"], ends: Int[np.ndarray, " e"]) -> Float[np.ndarray, " f"]:
    """Root mean square of the moves of each feature within episodes; 1 where there are none."""
    inside = np.ones(len(o) - 1, bool)
    inside[ends[:-1].astype(np.int64) - 1] = False
    size = np.sqrt(np.square(np.diff(o, axis=0)[inside]).mean(0))
    return np.where(size > _LEAST, size, 1.0)


# -- fitting -----------------------------------------------------------------------------------------------------------


def _least_squares(demos: Demonstrations, config: InverseConfig) -> tuple[InverseDynamics, Windows, np.ndarray]:
    """The model without networks; the windows, and what it leaves in units of its residual."""
    scale = moves_of(observations(demos, config.kind).astype(np.float64), demos.ends)
    seen = windows(demos, config, scale)
    target = without_last(demos).actions - seen.present
    linear = np.linalg.lstsq(seen.moves, target, rcond=None)[0]
    left = target - seen.moves @ linear
    residual = np.maximum(np.sqrt(np.square(left).mean(0)), _LEAST)
    return InverseDynamics(config, scale, linear, residual, None), seen, left / residual


def _left_in(model: InverseDynamics, demos: Demonstrations) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and what `model` leaves, of other demonstrations."""
    seen = windows(demos, model.config, model.scale)
    left = without_last(demos).actions - seen.present - seen.moves @ model.linear
    return seen.inputs, left / model.residual


Pairs = tuple[Any, Any]
"""Inputs (n, i) and what is left of the actions (n, 2)."""


def _problem(start: InverseDynamics, fitted: Pairs, checked: Pairs, training: TrainConfig) -> Problem:
    config = start.config
    keys = jax.random.split(jax.random.key(training.seed), config.members)
    size = fitted[0].shape[1]
    nets = eqx.filter_vmap(lambda key: ResidualMLP(size, 4, width=config.width, blocks=config.blocks, key=key))(keys)
    data, held = (tuple(jnp.asarray(part, jnp.float32) for part in pairs) for pairs in (fitted, checked))

    def sample_batch(data: Pairs, key: Key[Array, ""]) -> Pairs:
        """Every member its own rows: (members, b, ...)."""
        rows = jax.random.randint(key, (config.members, training.batch_size), 0, len(data[0]))
        return data[0][rows], data[1][rows]

    def loss(nets: ResidualMLP, batch: Pairs, aux: Any, *, key: Key[Array, ""]) -> Any:
        return eqx.filter_vmap(_nats)(nets, *batch).mean(), ({}, aux)

    validate = eqx.filter_jit(eqx.filter_vmap(_nats, in_axes=(eqx.if_array(0), None, None)))
    return Problem(nets, loss, sample_batch, data, lambda nets: float(validate(nets, *held).mean()))


def _nats(net: ResidualMLP, inputs: Float[Array, "n i"], left: Float[Array, "n 2"]) -> Float[Array, ""]:
    """Mean negative log density of a coordinate, less its constant."""
    mean, log_sd = _law(net, inputs)
    return (0.5 * jnp.square((left - mean) * jnp.exp(-log_sd)) + log_sd).mean()


def _law(net: ResidualMLP, inputs: Float[Array, "n i"]) -> tuple[Float[Array, "n 2"], Float[Array, "n 2"]]:
    """Mean and log s.d. of what is left."""
    raw = net(inputs)
    return raw[:, :2], _LOG_RANGE * jnp.tanh(raw[:, 2:] / _LOG_RANGE)


@eqx.filter_jit
def _of_nets(nets: ResidualMLP, inputs: Float[Array, "n i"]) -> tuple[Array, Array]:
    """Means and s.d. (members, n, 2)."""
    mean, log_sd = eqx.filter_vmap(_law, in_axes=(eqx.if_array(0), None))(nets, inputs)
    return mean, jnp.exp(log_sd)

"""A plan drawn whole, from noise: its network, and the law that any sampler of `sampling/` makes of it.

A noised plan x_t, its clock and the history go through one residual network, as those of the SDE policy do. In the
losses of `models/` the history takes the place of a label.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.models.flow_matching import FlowMatching
from neuralsde.models.score import ScoreModel
from neuralsde.nets import Conditions, ResidualMLP
from neuralsde.robot.plan_law import Execution, PlanLaw, Planned, Shape
from neuralsde.robot.plans import Batch
from neuralsde.sampling import sample, sampler_named

_CLOCK = 32


class ChunkNet(eqx.Module):
    """net(x, clock, history) -> like x (horizon, a)."""

    conditions: Conditions
    net: ResidualMLP
    shape: Shape = eqx.field(static=True)

    def __init__(
        self, shape: Shape, width: int, blocks: int, last_action: bool = False, *, key: Key[Array, ""]
    ) -> None:
        first, second = jax.random.split(key)
        told = _CLOCK + shape.context + last_action * shape.action
        self.conditions = Conditions(_CLOCK, key=first)
        self.net = ResidualMLP(shape.plan + told, shape.plan, width=width, blocks=blocks, key=second)
        self.shape = shape

    def __call__(self, x: Float[Array, "H a"], clock: Any, history: Float[Array, " c"]) -> Float[Array, "H a"]:
        told = jax.nn.silu(self.conditions(clock)).astype(x.dtype)
        return self.net(jnp.concatenate([x.ravel(), told, history])).reshape(x.shape)


class ChunkPlan(PlanLaw):
    """Plans from noise, step by step.

    model:     of `models.score` or `models.flow_matching`, over a `ChunkNet`. objective: its loss.
    sampler:   by name, used unless another is asked for.
    ends:      first and last time for a sampler that follows the velocity alone; None for the sampler's own grid.
    last_action: whether the history ends in the last commanded action, from which the SDE's path starts.
    """

    shape: Shape = eqx.field(static=True)
    model: ScoreModel | FlowMatching
    objective: Callable[..., tuple[Array, tuple[dict[str, Array], Any]]] = eqx.field(static=True)
    sampler: str = eqx.field(static=True)
    ends: tuple[float, float] | None = eqx.field(static=True, default=None)
    last_action: bool = eqx.field(static=True, default=False)

    def read(self, history: Float[Array, "n_obs f"], action: Float[Array, " a"]) -> Float[Array, " c"]:
        """What the network is told, beside the plan and the clock."""
        return jnp.concatenate([history.ravel(), action]) if self.last_action else history.ravel()

    def loss(self, batch: Batch, aux: Any, *, key: Key[Array, ""]) -> tuple[Array, tuple[dict[str, Array], Any]]:
        history = jax.vmap(self.read)(batch.history, batch.action)
        return self.objective(self.model, (batch.plan, history), aux, key=key)

    def plan(
        self, history: Float[Array, "n_obs f"], action: Float[Array, " a"], how: Execution, *, key: Key[Array, ""]
    ) -> Planned:
        """At most `how.budget` evaluations."""
        sampler = sampler_named(how.sampler or self.sampler)
        predictor = self.model.predictor(self.read(history, action))
        if sampler.stochastic and how.noise != 1:
            name = type(sampler).__name__
            raise InputError(
                f"noise={how.noise:g} for {name}",
                "it draws noise at every step",
                "noise=1",
                "sampler='ddim' or 'euler'",
            )
        schedule, steps = predictor.schedule, sampler.steps_for(how.budget)
        ends = self.ends if sampler.flows else None
        with jax.ensure_compile_time_eval():  # a grid is checked as numbers
            ts = sampler.times(schedule, steps) if ends is None else jnp.linspace(*ends, steps + 1)
        start_key, key = jax.random.split(key)
        x = schedule.prior_sd * jax.random.normal(start_key, (self.shape.horizon, self.shape.action)) * how.noise
        found = sample(predictor, x, ts, sampler=sampler, key=key)
        return Planned(found.x[: how.execute], found.nfe)

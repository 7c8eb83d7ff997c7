"""The network of a plan as one vector, and how samplers of `sampling/` make plans with it.

A noised plan x_t, its clock and the history go through one residual network, as those of the SDE policy do. In the
losses of `models/` the history takes the place of a label.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.nets import Conditions, ResidualMLP
from neuralsde.noising import Predictor
from neuralsde.robot.plan_law import Execution, Planned, Shape
from neuralsde.sampling import Sampler, sample

_CLOCK = 32


class ChunkNet(eqx.Module):
    """net(x, clock, history) -> like x (horizon, a)."""

    conditions: Conditions
    net: ResidualMLP
    shape: Shape = eqx.field(static=True)

    def __init__(self, shape: Shape, width: int, blocks: int, *, key: Key[Array, ""]) -> None:
        first, second = jax.random.split(key)
        self.conditions = Conditions(_CLOCK, key=first)
        self.net = ResidualMLP(shape.plan + _CLOCK + shape.context, shape.plan, width=width, blocks=blocks, key=second)
        self.shape = shape

    def __call__(self, x: Float[Array, "H a"], clock: Any, history: Float[Array, " c"]) -> Float[Array, "H a"]:
        told = jax.nn.silu(self.conditions(clock)).astype(x.dtype)
        return self.net(jnp.concatenate([x.ravel(), told, history])).reshape(x.shape)


def sampled(
    predictor: Predictor, ends: tuple[float, float] | None, sampler: Sampler, how: Execution, shape: Shape, key: Any
) -> Planned:
    """A plan with at most `how.budget` evaluations. ends: first and last time, those of the sampler by default."""
    if sampler.stochastic and not how.noise:
        name = type(sampler).__name__
        raise InputError(f"noise=False for {name}", "it draws noise at every step", hint="sampler='ddim' or 'euler'")
    schedule, steps = predictor.schedule, sampler.steps_for(how.budget)
    with jax.ensure_compile_time_eval():  # a grid is checked as numbers
        ts = sampler.times(schedule, steps) if ends is None else jnp.linspace(*ends, steps + 1)
    start_key, key = jax.random.split(key)
    x = schedule.prior_sd * jax.random.normal(start_key, (shape.horizon, shape.action)) * how.noise
    found = sample(predictor, x, ts, sampler=sampler, key=key)
    return Planned(found.x[: how.execute], found.nfe)

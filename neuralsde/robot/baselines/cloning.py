"""Behaviour cloning: the mean of the plans that were made after such a history, by least squares.

    min E |a - f(o)|²       (Pomerleau 1989; over plans of several actions: Zhao et al. 2023)

The mean of two good plans can be a bad one; that is what it is here to show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from neuralsde.nets import ResidualMLP
from neuralsde.robot.plan_law import Execution, PlanLaw, Planned, Shape, mean_seen
from neuralsde.robot.plans import Batch


@dataclass(frozen=True)
class Cloning:
    """No options of its own."""

    def build(self, shape: Shape, width: int, blocks: int, facts: Any, *, key: Key[Array, ""]) -> CloningPlan:
        return CloningPlan(shape, ResidualMLP(shape.context, shape.plan, width=width, blocks=blocks, key=key))


class CloningPlan(PlanLaw):
    """A plan by one pass of a network; nothing is drawn."""

    shape: Shape = eqx.field(static=True)
    net: ResidualMLP

    def mean(self, history: Float[Array, "n_obs f"]) -> Float[Array, "H a"]:
        return self.net(history.ravel()).reshape(self.shape.horizon, self.shape.action)

    def loss(self, batch: Batch, aux: Any, *, key: Key[Array, ""]) -> tuple[Array, tuple[dict[str, Array], Any]]:
        error = jnp.square(jax.vmap(self.mean)(batch.history) - batch.plan)
        return mean_seen(error, batch.seen), ({}, aux)

    def plan(
        self, history: Float[Array, "n_obs f"], action: Float[Array, " a"], how: Execution, *, key: Key[Array, ""]
    ) -> Planned:
        return Planned(self.mean(history)[: how.execute], jnp.ones((), jnp.int32))

"""The law of the next actions given what was seen: what every policy here is, and how it is asked for a plan.

`steps` is the number of evaluations for each executed action, for every method alike: one evaluation is one state
through all the networks that a step needs. A method that draws a whole plan at once spends steps x execute of them on
it; one that answers in a single pass always spends one. What was spent is counted where it happens and comes back with
the plan.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from neuralsde.errors import InputError
from neuralsde.robot.plans import Batch
from neuralsde.sampling import sampler_named


@dataclass(frozen=True)
class Execution:
    """How a policy is asked for a plan.

    execute: actions of a plan that are carried out before the next one.
    steps:   evaluations for each of them: 1, 2, 3 ..., or a fraction 1/m (one evaluation for m actions).
    noise:   how much of what was learnt to be chance is drawn: 1 all of it; less leaves out a demonstrator's tremor
             with it (a share of the s.d. of an SDE's noise, a mixture's components, a sampler's prior); 0 nothing: of
             an SDE the flow alone, of a mixture the centre of the drawn component.
    sampler: of a diffusion or flow-matching policy, by its name in `sampling.SAMPLERS`; "" is the method's own.
    """

    execute: int = 8
    steps: float = 1.0
    noise: float = 1.0
    sampler: str = ""

    def __post_init__(self) -> None:
        whole = isinstance(self.execute, int) and not isinstance(self.execute, bool)
        if not whole or self.execute < 1:
            raise InputError(f"execute={self.execute!r}", expected="a whole number of actions, at least 1")
        if not (self.steps > 0 and min(abs(s - round(s)) for s in (self.steps, 1 / self.steps)) < 1e-9):
            raise InputError(
                f"steps={self.steps!r} evaluations for each action", expected="1, 2, 3 ..., or 1/2, 1/3 ..."
            )
        if not 0 <= self.noise < np.inf:
            raise InputError(f"noise={self.noise!r}", expected="0 for none, 1 for all that was learnt, or between")
        if self.sampler:
            sampler_named(self.sampler)

    @property
    def rate(self) -> Fraction:
        """Evaluations for each action, exactly."""
        return Fraction(round(self.steps)) if self.steps > 0.999 else Fraction(1, round(1 / self.steps))

    @property
    def budget(self) -> int:
        """Evaluations for a plan, at least one."""
        return max(1, -(-self.execute * self.rate.numerator // self.rate.denominator))


class Planned(eqx.Module):
    """The actions to be executed, model units, and how many evaluations they took."""

    actions: Float[Array, "execute a"]
    evaluations: Int[Array, ""]


@dataclass(frozen=True)
class Shape:
    """Sizes of a policy: numbers in an observation, observations it reads, numbers in an action, actions of a plan."""

    observation: int
    n_obs: int
    action: int
    horizon: int

    @property
    def context(self) -> int:
        """Length of a history as one vector."""
        return self.n_obs * self.observation

    @property
    def plan(self) -> int:
        """Length of a plan as one vector."""
        return self.horizon * self.action


class PlanLaw(eqx.Module):
    """A distribution of plans, a loss, a way to sample; one moment a call, model units."""

    shape: eqx.AbstractVar[Shape]

    @abc.abstractmethod
    def plan(
        self, history: Float[Array, "n_obs f"], action: Float[Array, " a"], how: Execution, *, key: Key[Array, ""]
    ) -> Planned:
        """A plan; `how` decides shapes and is a constant of the compiled program."""

    @abc.abstractmethod
    def loss(self, batch: Batch, aux: Any, *, key: Key[Array, ""]) -> tuple[Array, tuple[dict[str, Array], Any]]:
        """In the form of `neuralsde.train`."""

    def first_aux(self) -> Any:
        """What the loss carries from step to step, before the first; nothing by default."""
        return ()

    def check(self, how: Execution) -> None:
        """Raise InputError for an execution that this law cannot serve."""
        if how.execute > self.shape.horizon:
            raise InputError(
                f"execute={how.execute} of plans of {self.shape.horizon} actions", expected="no more than were learnt"
            )


def mean_seen(error: Float[Array, "b H ..."], seen: Array) -> Float[Array, ""]:
    """Mean of what was in the episode."""
    weight = jnp.broadcast_to(seen.reshape(*seen.shape, *(1,) * (error.ndim - seen.ndim)), error.shape)
    return jnp.where(weight, error, 0.0).sum() / jnp.maximum(weight.sum(), 1)

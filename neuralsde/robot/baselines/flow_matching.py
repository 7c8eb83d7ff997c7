"""Flow matching over plans: straight lines from noise to a plan, given the history (Lipman et al. 2023).

Training is that of `models.flow_matching` with the history in the place of a label and independent pairs (a coupling by
optimal transport would have to respect the history); plans by Euler's method or any sampler that asks for a velocity.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.models import flow_matching
from neuralsde.robot.baselines.chunk import ChunkNet, sampled
from neuralsde.robot.plan_law import Execution, PlanLaw, Planned, Shape
from neuralsde.robot.plans import Batch
from neuralsde.sampling import sampler_named

OPTIONS = flow_matching.Config(unlabelled=0.0)


@dataclass(frozen=True)
class FlowMatching:
    """options: of the flow. sampler: the one that is used unless another is asked for."""

    options: flow_matching.Config = field(default=OPTIONS)
    sampler: str = "euler"

    def __post_init__(self) -> None:
        if self.options.coupling != "independent":
            raise InputError(
                f"coupling={self.options.coupling!r} of a policy",
                "noise would be paired with plans of other histories",
                "coupling='independent'",
            )

    def build(self, shape: Shape, width: int, blocks: int, facts: Any, *, key: Key[Array, ""]) -> FlowPlan:
        sampler_named(self.sampler)
        net = ChunkNet(shape, width, blocks, key=key)
        return FlowPlan(shape, flow_matching.FlowMatching(self.options, net), self.sampler)


class FlowPlan(PlanLaw):
    """Plans along a learned velocity."""

    shape: Shape = eqx.field(static=True)
    model: flow_matching.FlowMatching
    sampler: str = eqx.field(static=True)

    def loss(self, batch: Batch, aux: Any, *, key: Key[Array, ""]) -> tuple[Array, tuple[dict[str, Array], Any]]:
        history = batch.history.reshape(len(batch.history), -1)
        return flow_matching.loss(self.model, (batch.plan, history), aux, key=key)

    def plan(
        self, history: Float[Array, "n_obs f"], action: Float[Array, " a"], how: Execution, *, key: Key[Array, ""]
    ) -> Planned:
        sampler = sampler_named(how.sampler or self.sampler)
        low, high = self.model.config.ends
        ends = (high, low) if sampler.flows else None
        return sampled(self.model.predictor(history.ravel()), ends, sampler, how, self.shape, key)

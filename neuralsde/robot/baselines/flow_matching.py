"""Flow matching over plans: straight lines from noise to a plan, given the history (Lipman et al. 2023).

Training is that of `models.flow_matching` with the history in the place of a label and independent pairs (a coupling by
optimal transport would have to respect the history); plans by Euler's method or any sampler that asks for a velocity.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Array, Key

from neuralsde.errors import InputError
from neuralsde.models import flow_matching
from neuralsde.robot.baselines.chunk import ChunkNet, ChunkPlan
from neuralsde.robot.plan_law import Shape
from neuralsde.sampling import sampler_named

OPTIONS = flow_matching.Config(unlabelled=0.0)


@dataclass(frozen=True)
class FlowMatching:
    """options: of the flow. sampler: the one that is used unless another is asked for.

    last_action: whether the last commanded action is read as well.
    """

    options: flow_matching.Config = field(default=OPTIONS)
    sampler: str = "euler"
    last_action: bool = False

    def __post_init__(self) -> None:
        if self.options.coupling != "independent":
            raise InputError(
                f"coupling={self.options.coupling!r} of a policy",
                "noise would be paired with plans of other histories",
                "coupling='independent'",
            )

    def build(self, shape: Shape, width: int, blocks: int, facts: Any, *, key: Key[Array, ""]) -> ChunkPlan:
        sampler_named(self.sampler)
        model = flow_matching.FlowMatching(self.options, ChunkNet(shape, width, blocks, self.last_action, key=key))
        low, high = self.options.ends
        return ChunkPlan(shape, model, flow_matching.loss, self.sampler, (high, low), self.last_action)

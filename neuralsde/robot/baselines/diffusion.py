"""A diffusion model of plans: the policy of Chi et al. 2023, on the backbone of all policies here.

Training is that of `models.score` with the history in the place of a label; plans come from any sampler of
`sampling/`: "ddpm" with 100 evaluations a plan as it was published, "ddim" with fewer. The network's output is
preconditioned (Karras et al. 2022), so that one evaluation already gives the best guess of the plan; `kind="noise"`
is the published one. A plan is drawn without looking at the present action, unless `last_action` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Array, Key

from neuralsde.models import score
from neuralsde.noising import Cosine
from neuralsde.robot.baselines.chunk import ChunkNet, ChunkPlan
from neuralsde.robot.plan_law import Shape
from neuralsde.sampling import sampler_named

OPTIONS = score.Config(schedule=Cosine(), kind="edm", weighting="simple", data_sd=0.4, unlabelled=0.0)
"""The published schedule. Actions that fill [-1, 1] have an s.d. of about 0.4."""


@dataclass(frozen=True)
class Diffusion:
    """options: of the score model. sampler: the one that is used unless another is asked for.

    last_action: whether the last commanded action is read as well; the published policy does not.
    """

    options: score.Config = field(default=OPTIONS)
    sampler: str = "ddim"
    last_action: bool = False

    def build(self, shape: Shape, width: int, blocks: int, facts: Any, *, key: Key[Array, ""]) -> ChunkPlan:
        sampler_named(self.sampler)
        net = ChunkNet(shape, width, blocks, self.last_action, key=key)
        model = score.ScoreModel(self.options, net)
        return ChunkPlan(shape, model, score.loss, self.sampler, last_action=self.last_action)

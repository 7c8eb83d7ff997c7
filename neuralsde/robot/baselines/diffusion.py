"""A diffusion model of plans: the policy of Chi et al. 2023, on the backbone of all policies here.

Training is that of `models.score` with the history in the place of a label; plans come from any sampler of
`sampling/`: "ddpm" with 100 evaluations a plan as it was published, "ddim" with fewer. The network's output is
preconditioned (Karras et al. 2022), so that one evaluation already gives the best guess of the plan; `kind="noise"`
is the published one. A plan is drawn without looking at the present action.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Key

from neuralsde.models import score
from neuralsde.noising import Cosine
from neuralsde.robot.baselines.chunk import ChunkNet, sampled
from neuralsde.robot.plan_law import Execution, PlanLaw, Planned, Shape
from neuralsde.robot.plans import Batch
from neuralsde.sampling import sampler_named

OPTIONS = score.Config(schedule=Cosine(), kind="edm", weighting="simple", data_sd=0.4, unlabelled=0.0)
"""The published schedule. Actions that fill [-1, 1] have an s.d. of about 0.4."""


@dataclass(frozen=True)
class Diffusion:
    """options: of the score model. sampler: the one that is used unless another is asked for."""

    options: score.Config = field(default=OPTIONS)
    sampler: str = "ddim"

    def build(self, shape: Shape, width: int, blocks: int, facts: Any, *, key: Key[Array, ""]) -> DiffusionPlan:
        sampler_named(self.sampler)
        return DiffusionPlan(
            shape, score.ScoreModel(self.options, ChunkNet(shape, width, blocks, key=key)), self.sampler
        )


class DiffusionPlan(PlanLaw):
    """Plans from noise, step by step."""

    shape: Shape = eqx.field(static=True)
    model: score.ScoreModel
    sampler: str = eqx.field(static=True)

    def loss(self, batch: Batch, aux: Any, *, key: Key[Array, ""]) -> tuple[Array, tuple[dict[str, Array], Any]]:
        history = batch.history.reshape(len(batch.history), -1)
        return score.loss(self.model, (batch.plan, history), aux, key=key)

    def plan(
        self, history: Float[Array, "n_obs f"], action: Float[Array, " a"], how: Execution, *, key: Key[Array, ""]
    ) -> Planned:
        sampler = sampler_named(how.sampler or self.sampler)
        return sampled(self.model.predictor(history.ravel()), None, sampler, how, self.shape, key)

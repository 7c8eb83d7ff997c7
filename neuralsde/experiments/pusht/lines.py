"""Who is compared: the SDE and its baselines, on one backbone, one budget of training and one set of demonstrations."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neuralsde.robot.baselines import Cloning, Diffusion, FlowMatching, Mixture
from neuralsde.robot.policy import Config, Method
from neuralsde.robot.sde_plan import OPTIONS, SDE


@dataclass(frozen=True)
class Line:
    """A line of the tables. name: of the policy that is trained; sampler: of it, "" for its own way.

    noise: how much of the learnt noise is drawn (`Execution`), chosen, where there is a choice, on the starts for
    choices at 1 and 2 evaluations an action; closed: the same where every action has a plan of its own, at 1 and 4.
    anytime: whether it can use more than one evaluation; otherwise a plan is one pass. still: nothing is drawn.
    """

    title: str
    name: str
    sampler: str = ""
    noise: float = 1.0
    closed: float = 1.0
    anytime: bool = True
    still: bool = False

    @property
    def words(self) -> str:
        """Title and cost."""
        return self.title if self.anytime else f"{self.title}, one pass a plan"

    def share(self, execute: int) -> float:
        """Of its noise, when that many actions of a plan are executed."""
        return self.closed if execute == 1 else self.noise


OURS = "sde"
LINES: dict[str, Line] = {
    OURS: Line("neural SDE", "sde", noise=0.5, closed=0.5),
    "flow-matching": Line("flow matching, Euler", "flow-matching", "euler", noise=0.75),
    "ddim": Line("diffusion, DDIM", "diffusion", "ddim", noise=0.75),
    "ddpm": Line("diffusion, DDPM", "diffusion", "ddpm"),
    "mixture": Line("mixture of 5 Gaussians", "mixture", anytime=False),
    "cloning": Line("behaviour cloning", "cloning", anytime=False, still=True),
}
CHOSEN = SDE(options=replace(OPTIONS, flow_loss="student"), anytime=True)
FITTED: dict[str, Method] = {
    "sde": CHOSEN,
    "diffusion": Diffusion(),
    "flow-matching": FlowMatching(),
    "mixture": Mixture(),
    "cloning": Cloning(),
}


def config(name: str, kind: str, *, n_obs: int, horizon: int, width: int, blocks: int) -> Config:
    """What is trained under that name; all of them learn from the mirror image of every demonstration too."""
    return Config(
        FITTED[name],
        kind,
        n_obs=n_obs,
        horizon=horizon,
        width=width,
        blocks=blocks,
        mirror=True,
    )

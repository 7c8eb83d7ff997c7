"""Policies that draw a whole plan at once, on the backbone and the budget of the SDE policy.

chunk.py          a plan drawn whole from noise: its network, and its law under any sampler
cloning.py        the mean plan (behaviour cloning by least squares)
mixture.py        a mixture of Gaussians over plans
diffusion.py      a diffusion model of plans: DDPM, DDIM and the other samplers of `sampling/`
flow_matching.py  straight lines from noise to plans
"""

from neuralsde.robot.baselines.cloning import Cloning
from neuralsde.robot.baselines.diffusion import Diffusion
from neuralsde.robot.baselines.flow_matching import FlowMatching
from neuralsde.robot.baselines.mixture import Mixture

__all__ = ["Cloning", "Diffusion", "FlowMatching", "Mixture"]

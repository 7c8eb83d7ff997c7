"""Ring 2: samplers of noising processes, from noise back to data.

loop.py         `sample`: one loop for all; a step is a pure function, evaluations are counted by the code
draw.py         `draw`: many samples at once, with the checks
ode.py          Euler, Heun, RK4: the probability flow in t or in log SNR
ancestral.py    DDIM(eta), DDPM
dpm.py          DPMSolver(1 | 2 | 3), DPMSolverPP2S: single steps in log SNR
multistep.py    DPMSolverPP: DPM-Solver++ (2M) and, with eta=1, its SDE
unipc.py        UniPC(1 | 2 | 3)
edm.py          EDMHeun, with churn
reverse.py      `reverse_process`, an ordinary `sde.SDE`; ReverseSDE(method): any method of `sde/` on it
corrector.py    PredictorCorrector, AnnealedLangevin
adaptive.py     AdaptiveODE, AdaptiveSDE: steps by their error
moments.py      `gaussian_moments`: mean and covariance of what a sampler makes of a Gaussian, exactly
registry.py     SAMPLERS by name
likelihood/     how probable data are: by the flow, by a bound, by annealing; a map of its own
"""

from neuralsde.models.mcmc import Chain, hmc, langevin, mala
from neuralsde.sampling.adaptive import AdaptiveODE, AdaptiveSDE
from neuralsde.sampling.ancestral import DDIM, DDPM
from neuralsde.sampling.corrector import AnnealedLangevin, PredictorCorrector
from neuralsde.sampling.dpm import DPMSolver, DPMSolverPP2S
from neuralsde.sampling.draw import draw
from neuralsde.sampling.edm import EDMHeun
from neuralsde.sampling.loop import Cell, Counting, Sampler, Samples, sample
from neuralsde.sampling.moments import gaussian_moments
from neuralsde.sampling.multistep import DPMSolverPP
from neuralsde.sampling.ode import RK4, Euler, Heun
from neuralsde.sampling.registry import SAMPLERS, sampler_named
from neuralsde.sampling.reverse import ReverseSDE, reverse_process
from neuralsde.sampling.unipc import UniPC

__all__ = [
    "DDIM",
    "DDPM",
    "RK4",
    "SAMPLERS",
    "AdaptiveODE",
    "AdaptiveSDE",
    "AnnealedLangevin",
    "Cell",
    "Chain",
    "Counting",
    "DPMSolver",
    "DPMSolverPP",
    "DPMSolverPP2S",
    "EDMHeun",
    "Euler",
    "Heun",
    "PredictorCorrector",
    "ReverseSDE",
    "Sampler",
    "Samples",
    "UniPC",
    "draw",
    "gaussian_moments",
    "hmc",
    "langevin",
    "mala",
    "reverse_process",
    "sample",
    "sampler_named",
]

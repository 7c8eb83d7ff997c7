"""Ring 1: how data become noise, and what a network can say about it.

schedule.py   t -> (α, σ), the forward SDE, the clock log SNR; the only copy of each formula
grids.py      the times at which a sampler stops
predict.py    score, noise, x_0, velocity, v: one thing in five spellings; preconditioning
guide.py      conditioning: classifier and classifier-free guidance, inpainting, linear inverse problems
oracle.py     laws whose score is known at every noise
"""

from neuralsde.noising.grids import Spacing, times
from neuralsde.noising.guide import classifier_free, classifier_guided, dps, inpainting, pigdm
from neuralsde.noising.oracle import Gaussian, Mixture, eight_gaussians
from neuralsde.noising.predict import KINDS, Kind, Preconditioned, Predictor, Spellings, convert, from_energy
from neuralsde.noising.schedule import EDM, SCHEDULES, VE, VP, CondOT, Cosine, Schedule, SubVP

__all__ = [
    "EDM",
    "KINDS",
    "SCHEDULES",
    "VE",
    "VP",
    "CondOT",
    "Cosine",
    "Gaussian",
    "Kind",
    "Mixture",
    "Preconditioned",
    "Predictor",
    "Schedule",
    "Spacing",
    "Spellings",
    "SubVP",
    "classifier_free",
    "classifier_guided",
    "convert",
    "dps",
    "eight_gaussians",
    "from_energy",
    "inpainting",
    "pigdm",
    "times",
]

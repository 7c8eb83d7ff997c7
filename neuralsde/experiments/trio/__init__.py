"""Energy, score and flow: one network, learned by every loss, sampled in every way that is valid for it.

The network maps (x, a clock) to a vector. It is read as the noise in x_t (score), as a velocity (flow), or the sum of
its outputs as an energy. What each loss leaves in it decides what it can do:

    a score at every level       reverse SDE, probability flow, annealed Langevin; density by the flow
    an energy at every level     the same, and HMC at the last level; density also by -E - log Z
    a velocity, pairs coupled    the ODE alone, and its density
    an energy at one level       Langevin and HMC; density by -E - log Z

Z is known by a sum over a grid, so that annealed importance sampling and the normaliser that noise-contrastive
estimation learns are measured as well. The exact score of the law stands in the first row: what the samplers can do.

    neuralsde reproduce trio --seed 0

ways.py the losses and what each leaves in the network, measure.py one model, page.py expectations and page.
"""

from neuralsde.experiments.trio.experiment import reproduce
from neuralsde.experiments.trio.page import page, verdicts
from neuralsde.experiments.trio.ways import FULL, SAMPLERS, SMALL, WAYS, Size, refusal

__all__ = ["FULL", "SAMPLERS", "SMALL", "WAYS", "Size", "page", "refusal", "reproduce", "verdicts"]

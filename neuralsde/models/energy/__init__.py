"""Energies: a density known up to a number, p(x) ∝ exp(-E(x)), whose gradient is a score.

module.py    the energy of a network, at one level or of every noise level; its predictor
chains.py    Langevin steps, with or without Metropolis' test: where negative points come from
losses.py    contrastive divergence (from the data, persistent), noise-contrastive estimation, score matching
"""

from neuralsde.models.energy.chains import Langevin
from neuralsde.models.energy.losses import first_aux, loss
from neuralsde.models.energy.module import Config, EnergyModel

__all__ = ["Config", "EnergyModel", "Langevin", "first_aux", "loss"]

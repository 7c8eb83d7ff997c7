"""How likely data are under a model that samples: exact, bounded, in bits, and the normaliser of an energy.

flow.py       the probability flow by change of variables: log density at t0, the prior's share apart
solve.py      the ordinary equations it needs: a fixed grid (RK4, Heun) or step control
bound.py      the variational bound through the SDE
bits.py       dequantised pixels, bits per dimension with a standard error
annealed.py   log ∫ exp(-E) by annealed importance sampling, with effective sample size and standard error
"""

from neuralsde.models.divergence import Divergence, Exact, Hutchinson, HutchPlusPlus
from neuralsde.sampling.likelihood.annealed import Normaliser, log_normaliser
from neuralsde.sampling.likelihood.bits import Mean, bits_per_dimension, dequantised, mean_nats
from neuralsde.sampling.likelihood.bound import Bound, likelihood_bound
from neuralsde.sampling.likelihood.flow import FlowLikelihood, flow_likelihood, flow_likelihoods
from neuralsde.sampling.likelihood.solve import Adaptive, Fixed

__all__ = [
    "Adaptive",
    "Bound",
    "Divergence",
    "Exact",
    "Fixed",
    "FlowLikelihood",
    "HutchPlusPlus",
    "Hutchinson",
    "Mean",
    "Normaliser",
    "bits_per_dimension",
    "dequantised",
    "flow_likelihood",
    "flow_likelihoods",
    "likelihood_bound",
    "log_normaliser",
    "mean_nats",
]

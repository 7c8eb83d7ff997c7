"""Processes whose law, or whose path, is known in closed form: oracles for tests, examples and demonstrations.

Laws have `process()` (the Ito SDE), `transition(y0, dt)` (mean and variance after a time dt), `sample(y0, ts, *, key)`
(no step size) and `log_density(y1, y0, dt)`, batched over broadcast gaps where the state is one entry.

gaussian    OU, BrownianBridge, LinearSDE; `condition`, a joint Gaussian given some of its entries
positive    GBM; CIR, the square-root process, with its non-central chi-square density
linear      LinearTimeVarying: A(t), b(t), S(t); moments to a measured tolerance, likelihood of noisy observations
examples    solved along a Brownian path: LiExample2, LiExample3, Heisenberg (and GBM, which is example 1)
"""

from neuralsde.sde.exact.examples import Heisenberg, LiExample2, LiExample3
from neuralsde.sde.exact.gaussian import OU, BrownianBridge, LinearSDE, condition
from neuralsde.sde.exact.linear import LinearTimeVarying
from neuralsde.sde.exact.parts import gaussian_log_density
from neuralsde.sde.exact.positive import CIR, GBM

__all__ = [
    "CIR",
    "GBM",
    "OU",
    "BrownianBridge",
    "Heisenberg",
    "LiExample2",
    "LiExample3",
    "LinearSDE",
    "LinearTimeVarying",
    "condition",
    "gaussian_log_density",
]

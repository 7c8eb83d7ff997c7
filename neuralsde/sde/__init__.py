"""Ring 1: stochastic calculus. Nothing in here knows about learning or data.

A process and its solution
    SDE               drift, diffusion, noise and calculus as one value; `.to(Stratonovich())`
    Diagonal, Scalar, General     the shape of the noise, each with `depends=`
    Ito, Stratonovich             the calculus
    simulate          one scan over any increasing times; many paths by `jax.vmap`
    Solution, Result  ts, ys and a result code; `.raise_if_failed()`
Its parts, as values
    BrownianGrid      a Brownian path as (key, times); `.coarsen(r)`, `.refine(r)`; `subdivide` makes its times
    EulerMaruyama     the method; METHODS lists them all
    Backprop, Checkpointed        how gradients pass through
Closed forms (exact)
    OU, GBM, BrownianBridge, LinearSDE      transition law, exact samples, log density: the oracles of the tests
    condition         a joint Gaussian given some of its entries
Paths given observations (bridge)
    conditional_paths, ConditionalPaths     guided proposals with exact importance weights for a Gaussian kernel
"""

from neuralsde.sde.bridge import ConditionalPaths, conditional_paths
from neuralsde.sde.brownian import BrownianGrid, BrownianPath, Cell, subdivide
from neuralsde.sde.exact import GBM, OU, BrownianBridge, LinearSDE, condition
from neuralsde.sde.gradients import Backprop, Checkpointed, Gradient
from neuralsde.sde.methods import METHODS, EulerMaruyama, Method
from neuralsde.sde.process import SDE, Diagonal, General, Ito, Scalar, Stratonovich
from neuralsde.sde.simulate import simulate
from neuralsde.sde.solution import Result, Solution

__all__ = [
    "GBM",
    "METHODS",
    "OU",
    "SDE",
    "Backprop",
    "BrownianBridge",
    "BrownianGrid",
    "BrownianPath",
    "Cell",
    "Checkpointed",
    "ConditionalPaths",
    "Diagonal",
    "EulerMaruyama",
    "General",
    "Gradient",
    "Ito",
    "LinearSDE",
    "Method",
    "Result",
    "Scalar",
    "Solution",
    "Stratonovich",
    "condition",
    "conditional_paths",
    "simulate",
    "subdivide",
]

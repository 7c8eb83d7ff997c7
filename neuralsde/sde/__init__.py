"""Ring 1: stochastic calculus. Nothing in here knows about learning or data.

A process and its solution
    SDE               drift, diffusion, noise and calculus as one value; `.to(Stratonovich())`
    Diagonal, Scalar, General     the shape of the noise, each with `depends=`
    Ito, Stratonovich             the calculus
    simulate          one scan over any monotone times; many paths by `jax.vmap`
    Solution, Result  ts, ys and a result code; `.raise_if_failed()`
    Stop, Change      events that end a path, or move it and let it go on
    simulate_adaptive, to_diffrax, brownian_tree      the same process with step control, by diffrax
    probability_flow  the ordinary equation with the same law at every time
    time_reversal     the process that runs the marginals backward (a pathwise inverse are decreasing times)
Its parts, as values
    BrownianGrid      a Brownian path as (key, times); `.coarsen(r)`, `.refine(r)`, `.antithetic()`
    Davie, Foster, Fourier        models of the space-space Lévy area
    EulerMaruyama, Milstein, Heun, ...                the methods; METHODS lists them all
    Checkpointed, Backprop, Reversible, ContinuousAdjoint, Auto       how gradients pass through; `explain_gradient`
Whether it can be trusted
    wellposedness     do the conditions of existence and uniqueness hold
    step_size_certificate         is this step small enough, measured on coupled paths
Closed forms (exact)
    OU, GBM, CIR, BrownianBridge, LinearSDE, LinearTimeVarying        laws: transition, exact samples, log density
    LiExample2, LiExample3, Heisenberg                solutions along a path
    condition         a joint Gaussian given some of its entries
Paths given observations (bridge)
    conditional_paths, ConditionalPaths     guided proposals with exact importance weights for a Gaussian kernel
How likely a transition is (likelihood)
    transition_log_density, TransitionDensity         over a long gap, under m Euler steps, by simulated likelihood
"""

import importlib
from typing import TYPE_CHECKING, Any

from neuralsde.errors import closest
from neuralsde.sde.bridge import ConditionalPaths, conditional_paths
from neuralsde.sde.brownian import Area, Backward, BrownianGrid, BrownianPath, Cell, Davie, Foster, Fourier, subdivide
from neuralsde.sde.certificate import StepSizeCertificate, step_size_certificate
from neuralsde.sde.events import Change, Event, Stop
from neuralsde.sde.exact import (
    CIR,
    GBM,
    OU,
    BrownianBridge,
    Heisenberg,
    LiExample2,
    LiExample3,
    LinearSDE,
    LinearTimeVarying,
    condition,
)
from neuralsde.sde.explain import explain_gradient
from neuralsde.sde.gradients import (
    GRADIENTS,
    Auto,
    Backprop,
    Checkpointed,
    ContinuousAdjoint,
    Gradient,
    Reversible,
)
from neuralsde.sde.likelihood import TransitionDensity, transition_log_density
from neuralsde.sde.methods import (
    METHODS,
    RI6,
    SRIW1,
    DriftImplicitEuler,
    EulerHeun,
    EulerMaruyama,
    ExponentialEuler,
    FullTruncationEuler,
    Heun,
    Method,
    Midpoint,
    Milstein,
    MilsteinArea,
    ReversibleHeun,
    ShARK,
    TamedEuler,
)
from neuralsde.sde.methods.reversible_pair import ReversiblePair
from neuralsde.sde.process import SDE, Diagonal, General, Ito, Scalar, Stratonovich
from neuralsde.sde.reversal import probability_flow, time_reversal
from neuralsde.sde.simulate import simulate
from neuralsde.sde.solution import Result, Solution
from neuralsde.sde.wellposed import WellPosedness, wellposedness

if TYPE_CHECKING:
    from neuralsde.sde.adaptive import brownian_tree, simulate_adaptive, to_diffrax

_ADAPTIVE = ("brownian_tree", "simulate_adaptive", "to_diffrax")

__all__ = [
    "CIR",
    "GBM",
    "GRADIENTS",
    "METHODS",
    "OU",
    "RI6",
    "SDE",
    "SRIW1",
    "Area",
    "Auto",
    "Backprop",
    "Backward",
    "BrownianBridge",
    "BrownianGrid",
    "BrownianPath",
    "Cell",
    "Change",
    "Checkpointed",
    "ConditionalPaths",
    "ContinuousAdjoint",
    "Davie",
    "Diagonal",
    "DriftImplicitEuler",
    "EulerHeun",
    "EulerMaruyama",
    "Event",
    "ExponentialEuler",
    "Foster",
    "Fourier",
    "FullTruncationEuler",
    "General",
    "Gradient",
    "Heisenberg",
    "Heun",
    "Ito",
    "LiExample2",
    "LiExample3",
    "LinearSDE",
    "LinearTimeVarying",
    "Method",
    "Midpoint",
    "Milstein",
    "MilsteinArea",
    "Result",
    "Reversible",
    "ReversibleHeun",
    "ReversiblePair",
    "Scalar",
    "ShARK",
    "Solution",
    "StepSizeCertificate",
    "Stop",
    "Stratonovich",
    "TamedEuler",
    "TransitionDensity",
    "WellPosedness",
    "brownian_tree",
    "condition",
    "conditional_paths",
    "explain_gradient",
    "probability_flow",
    "simulate",
    "simulate_adaptive",
    "step_size_certificate",
    "subdivide",
    "time_reversal",
    "to_diffrax",
    "transition_log_density",
    "wellposedness",
]


def __getattr__(name: str) -> Any:
    """The names that need diffrax, which takes a second to import."""
    if name in _ADAPTIVE:
        return getattr(importlib.import_module("neuralsde.sde.adaptive"), name)
    raise AttributeError(f"module 'neuralsde.sde' has no attribute '{name}'; {closest(name, __all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)

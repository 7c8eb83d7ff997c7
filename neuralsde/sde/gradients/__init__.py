"""How gradients pass through a solve, as values: `gradient=sde.Checkpointed()`. `base` is the contract."""

from neuralsde.sde.gradients.adjoint import ContinuousAdjoint
from neuralsde.sde.gradients.auto import Auto
from neuralsde.sde.gradients.base import Gradient, Loop, Ran
from neuralsde.sde.gradients.checkpoint import Backprop, Checkpointed
from neuralsde.sde.gradients.reversible import Reversible

GRADIENTS: tuple[type[Gradient], ...] = (Backprop, Checkpointed, Reversible, ContinuousAdjoint, Auto)
"""Every gradient mode of the package."""

__all__ = [
    "GRADIENTS",
    "Auto",
    "Backprop",
    "Checkpointed",
    "ContinuousAdjoint",
    "Gradient",
    "Loop",
    "Ran",
    "Reversible",
]

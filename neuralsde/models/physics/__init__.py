"""Known physics: an SDE that the user states, whose parameters are estimated; with or without a residual network.

parameters.py   Positive, Between: what is estimated, on an unconstrained scale; names
config.py       Physics, Residual: the stated SDE as a value
module.py       PhysicsSDE: the SDE at given parameters, in the coordinates of the filter; its likelihood
"""

from neuralsde.models.physics.config import Physics, Residual
from neuralsde.models.physics.module import Panel, PhysicsSDE
from neuralsde.models.physics.parameters import Between, Parameters, Positive

__all__ = ["Between", "Panel", "Parameters", "Physics", "PhysicsSDE", "Positive", "Residual"]

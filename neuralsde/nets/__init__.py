"""Ring 2: networks, as equinox Modules without any knowledge of what they are used for.

MLP       a multilayer perceptron beside a linear map, zero at the start
lipschitz_bound, sampled_lipschitz       how steep a network can be: certified from above, sampled from below
SpectralNorm, constrain, unwrap, clip_weights, lipswish      networks that are held below a given steepness
"""

from neuralsde.nets.lipschitz import (
    SpectralNorm,
    clip_weights,
    constrain,
    lipschitz_bound,
    lipswish,
    sampled_lipschitz,
    unwrap,
)
from neuralsde.nets.mlp import MLP

__all__ = [
    "MLP",
    "SpectralNorm",
    "clip_weights",
    "constrain",
    "lipschitz_bound",
    "lipswish",
    "sampled_lipschitz",
    "unwrap",
]

"""Ring 2: networks, as equinox Modules without any knowledge of what they are used for.

MLP       a multilayer perceptron beside a linear map, zero at the start
ResidualMLP, ResidualTrunk  the same with residual blocks, which may be deep; what heads are put on
TimeMLP, Patches, UNet      net(x, t, label=None) -> like x, told of a time and a class: for points, images, images on
                            a GPU
Votes                       image -> points in it
Conditions, Dense, fourier  their parts
lipschitz_bound, sampled_lipschitz       how steep a network can be: certified from above, sampled from below
SpectralNorm, constrain, unwrap, clip_weights, lipswish      networks that are held below a given steepness
"""

from neuralsde.nets.convolutions import Votes
from neuralsde.nets.embeddings import Conditions, Dense, TimeMLP, fourier
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
from neuralsde.nets.patches import Patches
from neuralsde.nets.residual import ResidualMLP, ResidualTrunk
from neuralsde.nets.unet import UNet

__all__ = [
    "MLP",
    "Conditions",
    "Dense",
    "Patches",
    "ResidualMLP",
    "ResidualTrunk",
    "SpectralNorm",
    "TimeMLP",
    "UNet",
    "Votes",
    "clip_weights",
    "constrain",
    "fourier",
    "lipschitz_bound",
    "lipswish",
    "sampled_lipschitz",
    "unwrap",
]

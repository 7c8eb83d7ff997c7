"""Ring 2: networks, as equinox Modules without any knowledge of what they are used for.

MLP       a multilayer perceptron beside a linear map, zero at the start
"""

from neuralsde.nets.mlp import MLP

__all__ = ["MLP"]

"""The reversible pair is exact in float64, and reversible Heun in float32 too, over 256 steps and four saved states."""

import gradient_problems as problems
import jax.numpy as jnp
import pytest

from neuralsde import sde
from neuralsde.sde.gradients import Backprop, Reversible
from neuralsde.sde.methods.heun import Heun
from neuralsde.sde.methods.reversible_heun import ReversibleHeun
from neuralsde.sde.methods.reversible_pair import ReversiblePair


@pytest.mark.usefixtures("x64")
def test_a_pair_equals_backprop_in_float64():
    """With coupling .95 a carry is stored every 80 steps."""
    case = (sde.Diagonal(), ReversiblePair(Heun(), 0.95), sde.Stratonovich(), 64)
    exact = problems.gradients(*case, Backprop(), jnp.float64)
    assert problems.apart(problems.gradients(*case, Reversible(), jnp.float64), exact) <= 1e-12


def test_reversible_heun_equals_backprop_in_float32():
    case = (sde.Diagonal(), ReversibleHeun(), sde.Stratonovich(), 64)
    exact = problems.gradients(*case, Backprop(), jnp.float32)
    assert problems.apart(problems.gradients(*case, Reversible(), jnp.float32), exact) <= 1e-5

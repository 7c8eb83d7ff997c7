"""Every mode that says it is exact gives the gradient of plain reverse mode on the same path, by every road.

Weights are leaves of the process, closed over, in `args`; y0 and the times are differentiated as well; every saved
state has a cotangent of its own; paths are batched by `jax.vmap`.
"""

from typing import Any

import gradient_problems as problems
import jax
import jax.numpy as jnp
import pytest

from neuralsde import sde
from neuralsde.sde.gradients import Backprop, Checkpointed, Reversible
from neuralsde.sde.methods.reversible_heun import ReversibleHeun

CASES: list[tuple[Any, ...]] = [  # noise, method, calculus, steps in each of four gaps, modes
    (sde.General(problems.M), ReversibleHeun(), sde.Stratonovich(), 64, (Reversible(segments=5),)),
    (sde.Scalar(), sde.EulerMaruyama(), sde.Ito(), 1, (Checkpointed(segments=3),)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{type(c[1]).__name__}-{type(c[0]).__name__}")
@pytest.mark.usefixtures("x64")
def test_exact_modes_equal_backprop_in_float64(case):
    exact = problems.gradients(*case[:4], mode=Backprop(), dtype=jnp.float64)
    assert all(float(jnp.abs(leaf).sum()) > 1e-3 for leaf in jax.tree.leaves(exact))  # no road is dead
    for mode in case[-1]:
        assert problems.apart(problems.gradients(*case[:4], mode=mode, dtype=jnp.float64), exact) <= 1e-12, mode

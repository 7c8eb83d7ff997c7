"""What does not fit is refused in four parts: what was given, what that means, what was expected, what to try."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.errors import InputError

KEY = jax.random.key(0)
TS = np.array([0.0, 0.5, 1.0])


def like(*shape):
    return lambda t, y, args: jnp.ones(shape)


def solve(drift=None, diffusion=None, noise=None, y0: Any = None, ts: Any = TS, **options):
    process = sde.SDE(drift or like(3), diffusion or like(3), noise or sde.Diagonal())
    return sde.simulate(process, jnp.ones(3) if y0 is None else y0, ts, key=KEY, **options)


CASES = {
    "drift, a scalar": (lambda: solve(drift=like()), "drift(t, y, args) of shape ()", "shape (3,)", "broadcast_to"),
    "drift, one too many": (lambda: solve(drift=like(4)), "drift(t, y, args) of shape (4,)", "shape (3,)", "vmap"),
    "drift, a batch": (lambda: solve(drift=like(1, 3)), "of shape (1, 3)", "shape (3,)", "jax.vmap"),
    "drift, no value": (lambda: solve(drift=lambda t, y, a: None), "returns None", "shape (3,)", "return"),
    "drift, two arguments": (lambda: solve(drift=lambda t, y: y), "drift(t, y)", "drift(t, y, args)", "args: net(y)"),
    "diffusion, of the state": (lambda: solve(diffusion=jnp.sin), "diffusion(x", "(t, y, args)", "lambda t, y, args"),
    "event, two of three": (lambda: sde.Stop(cast("Any", lambda t, y: y > 0)), "when(t, y)", "(t, y, args)", "net"),
    "diffusion, a matrix": (lambda: solve(diffusion=like(3, 2)), "shape (3, 2)", "shape (3,)", "sde.General(2)"),
    "diffusion, a scalar": (lambda: solve(diffusion=like()), "diffusion(t, y, args) of shape ()", "(3,)", "broadcast"),
    "diffusion, a vector for General": (
        lambda: solve(noise=sde.General(2)), "shape (3,)", "shape (3, 2)", "sde.Diagonal()",
    ),
    "diffusion, other columns": (
        lambda: solve(diffusion=like(3, 4), noise=sde.General(2)), "shape (3, 4)", "shape (3, 2)", "vmap",
    ),
    "diffusion, transposed": (
        lambda: solve(diffusion=like(2, 3), noise=sde.General(2)), "shape (2, 3)", "shape (3, 2)", "vmap",
    ),
    "diffusion, a matrix for Scalar": (
        lambda: solve(diffusion=like(3, 1), noise=sde.Scalar()), "shape (3, 1)", "shape (3,)", "sde.General(1)",
    ),
    "noise, no columns": (lambda: solve(noise=sde.General(0)), "General(m=0)", "an integer >= 1", ""),
    "state, a batch": (lambda: solve(y0=jnp.ones((5, 3))), "of shape (3,)", "shape (5, 3)", "jax.vmap"),
    "state, integers": (lambda: solve(y0=jnp.arange(3)), "y0 of dtype int", "float32", "jnp.asarray(y0, float)"),
    "state, booleans": (lambda: solve(y0=np.array([True, False, True])), "y0 of dtype bool", "float32", "asarray"),
    "state, complex": (lambda: solve(y0=jnp.ones(3, complex)), "y0 of dtype complex64", "real state", "jnp.stack"),
    "state, 16 bits": (lambda: solve(y0=jnp.ones(3, jnp.bfloat16)), "bfloat16", "float32", "astype"),
    "state, nothing": (lambda: solve(y0=()), "y0=()", "an array", ""),
    "times, turning": (lambda: solve(ts=np.array([0.0, 1.0, 0.5])), "ts[1]=1 is followed by", "strictly", "np.unique"),
    "times, one": (lambda: solve(ts=np.array([0.0])), "ts of shape (1,)", "at least two", "t0, t1"),
    "times, a table": (lambda: solve(ts=np.ones((2, 3))), "ts of shape (2, 3)", "a vector", "jax.vmap"),
    "method, other calculus": (
        lambda: solve(method=sde.Heun()), "Heun for a process of calculus Ito", "Stratonovich", "process.to",
    ),
    "method, noise that does not commute": (
        lambda: solve(diffusion=like(3, 2), noise=sde.General(2), method=sde.Milstein()),
        "Milstein", "has to commute", "MilsteinArea",
    ),
    "method, other noise": (lambda: solve(method=sde.ShARK()), "ShARK", "additive", "one of"),
}  # fmt: skip
"""Options of the wrong type are in test_simulate.py: here the types are checked before the package sees them."""


@pytest.mark.parametrize("case", CASES)
def test_a_misfit_is_explained(case):
    call, got, expected, hint = CASES[case]
    with pytest.raises(InputError) as caught:
        call()
    error = caught.value
    assert got in error.got
    assert expected in error.expected
    assert hint in error.hint
    assert error.meaning or not hint
    assert "\n" not in error.line


@pytest.mark.parametrize("y0", [1, 1.0, np.float64(1), np.ones((), np.float32)])
def test_numbers_are_states(y0):
    assert solve(like(), like(), y0=y0).ys.dtype in (jnp.float32, jnp.float64)


def test_times_may_be_a_list():
    assert np.array_equal(solve(ts=[0, 0.5, 1]).ts, TS)

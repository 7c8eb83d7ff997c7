"""Decreasing times: the pathwise inverse on the same path (THEORY 6)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.sde.process import CorrectedDrift

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(5)
GBM = sde.GBM(0.5, 0.8).process()


def returns(process, steps, paths=200):
    """Root mean square distance from the start after there and back, on the same path."""

    def one(key):
        ts = np.array([0.0, 1.0])
        path = sde.BrownianGrid(key, ts, substeps=steps)
        there = sde.simulate(process, 1.0, ts, path=path, substeps=steps).ys[-1]
        return sde.simulate(process, there, ts[::-1], path=path, substeps=steps).ys[-1] - 1.0

    return float(jnp.sqrt((jax.jit(jax.vmap(one))(jax.random.split(KEY, paths)) ** 2).mean()))


def test_euler_returns_to_its_start_at_its_strong_order():
    errors = [returns(GBM, n) for n in (16, 64, 256)]
    order = np.polyfit(np.log([1 / 16, 1 / 64, 1 / 256]), np.log(errors), 1)[0]
    assert 0.4 < order < 0.65
    assert errors[-1] < 0.1


def test_without_the_other_drift_it_never_would():
    """The negative control: undo the correction of `simulate`, and the error stays, however fine the steps."""
    undone = sde.SDE(CorrectedDrift(GBM.drift, GBM.diffusion, GBM.noise, 2.0), GBM.diffusion, GBM.noise, GBM.calculus)

    def one(key):
        ts, n = np.array([0.0, 1.0]), 256
        path = sde.BrownianGrid(key, ts, substeps=n)
        there = sde.simulate(GBM, 1.0, ts, path=path, substeps=n).ys[-1]
        return sde.simulate(undone, there, ts[::-1], path=path, substeps=n).ys[-1] - 1.0

    error = jnp.sqrt((jax.jit(jax.vmap(one))(jax.random.split(KEY, 200)) ** 2).mean())
    assert error > 0.4


def test_decreasing_times_that_are_traced_are_a_code_and_no_states():
    ts = jnp.array([0.0, 1.0])
    path = sde.BrownianGrid(KEY, ts, substeps=4)
    sol = jax.jit(lambda ts: sde.simulate(GBM, 1.0, ts[::-1], path=path, substeps=4))(ts)
    assert sol.result == sde.Result.TIMES_NOT_MONOTONE
    assert jnp.isnan(sol.ys[-1])


def test_back_by_key_is_back_along_the_same_path():
    ts = jnp.array([0.0, 0.3, 1.0])
    ou = sde.OU(0.5).process()
    by_key = sde.simulate(ou, 1.0, ts[::-1], key=KEY, substeps=3).ys
    by_path = sde.simulate(ou, 1.0, ts[::-1], path=sde.BrownianGrid(KEY, ts, 3), substeps=3).ys
    assert jnp.array_equal(by_key, by_path)
    fine = 4096
    there = sde.simulate(ou, 1.0, ts, key=KEY, substeps=fine).ys
    back = sde.simulate(ou, there[-1], ts[::-1], key=KEY, substeps=fine).ys
    assert jnp.allclose(back, there[::-1], atol=1e-3)


def test_backward_cells_are_the_forward_ones_from_the_last_to_the_first():
    path = sde.BrownianGrid(KEY, jnp.array([0.0, 0.3, 1.0]))
    backward = sde.Backward(path)
    there: Any = path.cell(0, (2,), jnp.float64, {"A"})
    back: Any = backward.cell(1, (2,), jnp.float64, {"A"})
    assert (back.t0, back.t1, back.dt) == (there.t1, there.t0, -there.dt)
    assert jnp.array_equal(back.W, -there.W)
    assert jnp.array_equal(back.H, there.H)
    assert jnp.array_equal(back.A, -there.A)

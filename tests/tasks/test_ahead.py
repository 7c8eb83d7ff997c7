"""Steps to targets, and paths whose law is known because the coefficients are set by hand."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from neuralsde.errors import InputError, RunFailed
from neuralsde.runs import Run
from neuralsde.tasks.ahead import grid, paths_ahead
from neuralsde.tasks.fitted import Fitted


def walking(run: Run) -> Fitted:
    """The run with zero drift and the diffusion of a random walk."""
    nets = (run.model.flow_net, run.model.diffusion_net)
    zero = [
        eqx.tree_at(lambda n: (n.linear.weight, n.linear.bias, n.out.weight), net, replace_fn=jnp.zeros_like)
        for net in nets
    ]
    model = eqx.tree_at(lambda m: (m.flow_net, m.diffusion_net), run.model, tuple(zero))
    return Fitted(model, run.plan.encoder, run.plan.law)


def test_grid_takes_steps_of_the_typical_gap_and_pads_with_zeros():
    steps = grid(np.array([[1.0, 3.0, 3.4], [0.4, np.nan, np.nan]]))
    np.testing.assert_allclose(steps.dt, [[1, 1, 1, 0.4], [0.4, 0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(steps.end[0], [1, 2, 3, 3.4])
    assert steps.at.tolist() == [[0, 2, 3], [0, 0, 0]]


def test_a_random_walk_spreads_with_the_root_of_time(run: Run):
    fitted = walking(run)
    rows = fitted.encoder.encode(tiny.data_of(run))
    origins = rows.start[1:] - 1
    targets = np.tile([1.0, 4.0, 9.5], (len(origins), 1))
    ahead = paths_ahead(fitted, rows, origins, targets, [[s] for s in tiny.data_of(run)], n=4_000, seed=0)
    spread = (ahead.states - rows.filled[origins][:, None, None]).std(axis=1)
    expected = np.sqrt([1.0, 4.0, 9.5])[None, :, None] * fitted.model.walk
    np.testing.assert_allclose(spread, np.broadcast_to(expected, spread.shape), rtol=4 * 0.7 / np.sqrt(4_000))


def test_paths_do_not_depend_on_how_many_origins_go_with_them(run: Run):
    fitted = run.fitted
    rows = fitted.encoder.encode(tiny.data_of(run))
    known = [[s] for s in tiny.data_of(run)]
    both = paths_ahead(fitted, rows, np.array([5, 9]), np.array([[2.0], [5.0]]), known, n=8, seed=3)
    one = paths_ahead(fitted, rows, np.array([5]), np.array([[2.0]]), known, n=8, seed=3)
    np.testing.assert_allclose(both.states[0], one.states[0], rtol=1e-5, atol=1e-6)


def test_states_that_overflow_are_a_failed_run_and_not_a_nan(run: Run):
    fitted = walking(run)
    broken = eqx.tree_at(lambda m: m.flow_net.linear.bias, fitted.model, jnp.full(2, jnp.inf))
    rows = fitted.encoder.encode(tiny.data_of(run))
    known = [[s] for s in tiny.data_of(run)]
    bad = Fitted(broken, fitted.encoder, fitted.law)
    with pytest.raises(RunFailed, match="not finite"):
        paths_ahead(bad, rows, np.array([3]), np.array([[1.0]]), known, n=2, seed=0)


def test_sample_starts_where_it_should_and_repeats_by_seed(run: Run):
    ts = np.array([0.0, 1.0, 2.5, 4.0])
    paths = run.sample([0.3, -0.2], ts, n=6, seed=1)
    assert paths.shape == (6, 4, 2)
    np.testing.assert_array_equal(paths[:, 0], np.tile([0.3, -0.2], (6, 1)))
    np.testing.assert_array_equal(paths, run.sample([0.3, -0.2], ts, n=6, seed=1))
    assert not np.array_equal(paths, run.sample([0.3, -0.2], ts, n=6, seed=2))


@pytest.mark.parametrize(
    ("y0", "ts", "says"),
    [
        ([1.0], [0.0, 1.0], "2 finite values"),
        ([1.0, np.nan], [0.0, 1.0], "finite"),
        ([1.0, 1.0], [0.0, 0.0], "increasing"),
    ],
)
def test_sample_refuses_what_cannot_be_meant(run: Run, y0, ts, says: str):
    with pytest.raises(InputError, match=says):
        run.sample(y0, ts)

"""Brownian laws: replay to the bit, moments, and one path at several resolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.errors import InputError

KEY = jax.random.key(3)
TS = jnp.array([0.0, 0.3, 0.35, 1.0, 2.0])


def test_the_normals_of_a_cell_have_the_same_bits_in_every_program():
    """Over unit cells an increment is its raw normals; other lengths agree up to how a program rounds the root."""
    for ts, same in ((jnp.arange(5.0), jnp.array_equal), (TS, lambda a, b: jnp.allclose(a, b, rtol=3e-7, atol=0))):
        path = sde.BrownianGrid(KEY, ts)
        alone = jnp.stack([path.increment(i, (3,), jnp.float32) for i in range(4)])
        scanned = jax.jit(
            lambda p: jax.lax.scan(lambda c, j: (c, p.increment(j, (3,), jnp.float32)), 0, jnp.arange(4))[1]
        )(path)
        assert same(alone, path.increments((3,), jnp.float32))
        assert same(alone, scanned)
        assert same(alone[2], jnp.sqrt(ts[3] - ts[2]) * jax.random.normal(jax.random.fold_in(KEY, 2), (3,)))


def test_increments_have_the_length_of_their_cell_as_variance_and_cells_are_uncorrelated():
    many = np.asarray(sde.BrownianGrid(KEY, TS).increments((40_000,), jnp.float32))
    covariance = np.cov(many)
    gaps = np.diff(np.asarray(TS))
    assert np.allclose(np.diag(covariance), gaps, rtol=0.04)
    correlation = covariance / np.sqrt(np.outer(gaps, gaps))
    assert np.abs(correlation - np.eye(4)).max() < 0.03


def test_refining_keeps_the_increments_of_the_parent_and_coarsening_merges_exactly():
    parent = sde.BrownianGrid(KEY, TS)
    fine = parent.refine(2).refine(3)
    assert fine.cells == 24
    assert jnp.allclose(fine.ts, sde.subdivide(TS, 6), atol=1e-6)
    assert jnp.allclose(fine.coarsen(6).increments((2,)), parent.increments((2,)), atol=1e-6)
    assert jnp.allclose(fine.coarsen(2).coarsen(3).values((2,))[-1], fine.values((2,))[-1], atol=1e-6)
    assert jnp.array_equal(fine.coarsen(6).ts, TS)


def test_refined_increments_have_the_law_of_brownian_motion():
    fine = sde.BrownianGrid(KEY, jnp.array([0.0, 1.0, 4.0])).refine(2)
    many = np.asarray(fine.increments((40_000,), jnp.float32))
    expected = np.diag([0.5, 0.5, 1.5, 1.5])
    assert np.abs(np.cov(many) - expected).max() < 0.04


def test_subdivide_keeps_the_given_times_to_the_bit():
    fine = sde.subdivide(TS, 7)
    assert fine.shape == (29,)
    assert jnp.array_equal(fine[::7], TS)
    assert jnp.all(jnp.diff(fine) > 0)


def test_ratios_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="divisor of 4"):
        sde.BrownianGrid(KEY, TS).coarsen(3)
    with pytest.raises(InputError, match="integer >= 1"):
        sde.BrownianGrid(KEY, TS).refine(0)

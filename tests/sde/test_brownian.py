"""Brownian laws: replay to the bit, moments, and one path at several resolutions."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.extend.random import threefry_2x32

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.sde.brownian.normals import normals, subkey, threefry

KEY = jax.random.key(3)
TS = jnp.array([0.0, 0.3, 0.35, 1.0, 2.0])


def test_the_normals_of_a_cell_have_the_same_bits_in_every_program():
    """Over unit cells an increment is its raw normals; other lengths agree up to how a program rounds the root."""

    @jax.jit
    def scanned(path):
        return jax.lax.scan(lambda c, j: (c, path.increment(j, (3,), jnp.float32)), 0, jnp.arange(4))[1]

    for ts, same in ((jnp.arange(5.0), np.array_equal), (TS, lambda a, b: np.allclose(a, b, rtol=3e-7, atol=0))):
        path = sde.BrownianGrid(KEY, ts)
        alone = np.stack([path.increment(i, (3,), jnp.float32) for i in range(4)])
        assert same(alone, path.increments((3,), jnp.float32))
        assert same(alone, scanned(path))
        assert same(alone[2], jnp.sqrt(ts[3] - ts[2]) * normals(KEY, 2, (3,), jnp.float32))


def test_the_cipher_is_that_of_the_keys():
    """The same blocks as JAX's own Threefry, which numbers its counters (0, 1, ...) in two halves."""
    count = jnp.arange(8, dtype=jnp.uint32)
    theirs = jnp.split(threefry_2x32(jax.random.key_data(KEY), count), 2)
    ours = threefry(jax.random.key_data(KEY), count[:4], count[4:])
    assert all(jnp.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_draws_are_normal_and_independent_over_cells_numbers_and_keys():
    """10⁶ numbers by (i, j): Kolmogorov-Smirnov, moments up to the fourth, neighbours in i, j and key."""
    for dtype in (jnp.float32, jnp.float64):
        with jax.enable_x64(dtype == jnp.float64):
            draw = jax.jit(jax.vmap(lambda i, dtype=dtype: normals(KEY, i, (1_000,), dtype)))
            z = np.asarray(draw(jnp.arange(1_000)), np.float64)
        assert scipy.stats.kstest(z.ravel(), "norm").pvalue > 1e-3
        for power, moment in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
            assert abs((z**power).mean() - moment) < 5 * np.sqrt((z ** (2 * power)).mean()) / 1e3
        assert abs((z[1:] * z[:-1]).mean()) < 5e-3
        assert abs((z[:, 1:] * z[:, :-1]).mean()) < 5e-3
    draw = jax.jit(jax.vmap(lambda i: normals(subkey(KEY, i, 0), i, (1_000,), jnp.float32)))
    other = np.asarray(draw(jnp.arange(1_000)))
    assert abs((z * other).mean()) < 5e-3


def test_increments_have_the_length_of_their_cell_as_variance_and_cells_are_uncorrelated():
    many = np.asarray(sde.BrownianGrid(KEY, TS).increments((40_000,), jnp.float32))
    covariance = np.cov(many)
    gaps = np.diff(np.asarray(TS))
    assert np.allclose(np.diag(covariance), gaps, rtol=0.04)
    correlation = covariance / np.sqrt(np.outer(gaps, gaps))
    assert np.abs(correlation - np.eye(4)).max() < 0.03


def test_refining_and_coarsening_keep_the_times_of_the_parent():
    parent = sde.BrownianGrid(KEY, TS)
    fine = parent.refine(2).refine(3)
    assert fine.cells == 24
    assert jnp.allclose(fine.ts, sde.subdivide(TS, 6), atol=1e-6)
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


# ---- areas


@cache
def _program(area):
    def motion(key, h):
        return sde.BrownianGrid(key, jnp.array([0.0, h]), area=area).motion(0, (2,), jnp.float64, {"A"})

    return jax.jit(jax.vmap(motion, (0, None)))


def _all(area, n, h=1.0):
    """W, H, A of one cell of length h for n independent paths, in float64."""
    return map(np.asarray, _program(area)(jax.random.split(KEY, n), h))


@pytest.mark.parametrize("area", [sde.Davie(), sde.Foster(), sde.Fourier(3)])
def test_areas_have_the_moments_of_brownian_motion(area, x64):
    """h = 2: Var W = h, Var H = h/12, Cov(W, H) = 0, Var A = h²/4, E[A | W, H] = H ⊗ W - W ⊗ H."""
    n, h = 40_000, 2.0
    W, H, A = _all(area, n, h)
    assert np.allclose(np.var(W, 0), h, rtol=0.03)
    assert np.allclose(np.var(H, 0), h / 12, rtol=0.03)
    assert abs(float((W * H).mean())) < 4 * h / np.sqrt(12 * 2 * n)
    assert np.allclose(A, -np.swapaxes(A, 1, 2), atol=1e-12)
    swing = A[:, 0, 1] - (H[:, 0] * W[:, 1] - W[:, 0] * H[:, 1])
    assert np.isclose(np.var(A[:, 0, 1]), h**2 / 4, rtol=0.04)
    assert np.isclose(np.var(swing), h**2 / 12, rtol=0.04)
    assert abs(float(swing.mean())) < 4 * h / np.sqrt(12 * n)


@pytest.mark.parametrize("area", [sde.Foster(), sde.Fourier(3)])
def test_the_swing_is_wider_where_the_parabola_is(area, x64):
    """Var(b | H) = h²/20 + (h/5)(H_1² + H_2²): Davie's is flat, the other two know it."""
    W, H, A = _all(area, 40_000)
    swing = A[:, 0, 1] - (H[:, 0] * W[:, 1] - W[:, 0] * H[:, 1])
    slope, level = np.polyfit((H**2).sum(1), swing**2, 1)
    assert abs(slope - 1 / 5) < 0.03
    assert abs(level - 1 / 20) < 0.006


def test_coarsening_merges_areas_as_the_integrals_they_are(x64):
    """A path of 3,000 points, its cells merged by Chen's rule: H and A against sums over the points."""
    n = 3_000
    path = sde.BrownianGrid(KEY, jnp.linspace(0.0, 1.0, n + 1), area=sde.Davie())
    merged: Any
    merged, w = jax.jit(lambda p: (p.coarsen(n).motion(0, (2,), jnp.float64, {"A"}), p.values((2,), jnp.float64)))(path)
    w = np.asarray(w)
    middle, steps = (w[1:] + w[:-1]) / 2, np.diff(w, axis=0)
    W, H, A = merged
    assert np.allclose(W, w[-1])
    assert np.allclose(H, middle.mean(0) - w[-1] / 2, atol=2e-3)
    turn = middle.T @ steps
    assert np.allclose(A, (turn - turn.T) / 2, atol=2 / np.sqrt(n))  # the swings of the cells have s.d. 1/(2√n)


def test_the_fourier_area_has_the_law_of_the_area_and_davies_only_its_variance(x64):
    """E exp(iuA) = 1/cosh(uh/2) (Lévy 1951), so E A⁴ = 5/16 h⁴. Davie's Gaussian swing gives .2708."""
    fourth = [float((list(_all(area, 160_000))[2][:, 0, 1] ** 4).mean()) for area in (sde.Fourier(8), sde.Davie())]
    assert abs(fourth[0] - 5 / 16) < 0.024
    assert abs(fourth[1] - 0.2708) < 0.02


def test_asking_for_areas_leaves_the_increments_as_they_are():
    for path in (sde.BrownianGrid(KEY, TS), sde.BrownianGrid(jax.random.key(3, impl="rbg"), TS)):
        alone = jax.jit(lambda p: p.cell(3, (2,), jnp.float32))(path)
        whole = jax.jit(lambda p: p.cell(3, (2,), jnp.float32, {"H", "A", "key"}))(path)
        assert alone.H is None
        assert alone.A is None
        assert alone.key is None
        assert jnp.allclose(alone.W, whole.W, rtol=1e-6)
        assert whole.A.shape == (2, 2)


def test_refining_keeps_the_space_time_area_of_the_parent_and_the_law_of_its_children(x64):
    parent = sde.BrownianGrid(KEY, TS.astype(jnp.float64))
    both = jax.jit(lambda p: [q.motions((2,), jnp.float64) for q in (p.refine(3).refine(2).coarsen(6), p)])
    again: Any
    before: Any
    again, before = both(parent)
    assert np.allclose(again.W, before.W, atol=1e-13)
    assert np.allclose(again.H, before.H, atol=1e-13)
    many: Any = sde.BrownianGrid(KEY, jnp.array([0.0, 3.0])).refine(3).motions((40_000,), jnp.float64)
    stacked = np.concatenate([many.W, many.H])
    assert np.abs(np.cov(stacked) - np.diag([1.0] * 3 + [1 / 12] * 3)).max() < 0.03


def test_the_mirrored_path_is_the_path_with_the_other_sign():
    path = sde.BrownianGrid(KEY, TS)
    both: Any = [p.motion(1, (2,), jnp.float32, {"A"}) for p in (path, path.antithetic())]
    whole, mirrored = both
    assert np.array_equal(mirrored.W, -whole.W)
    assert np.array_equal(mirrored.H, -whole.H)
    assert np.array_equal(mirrored.A, whole.A)
    pair = [sde.simulate(sde.OU(1.0).process(), 0.0, TS, path=p).ys for p in (path, path.antithetic())]
    assert np.allclose(pair[0], -pair[1], atol=1e-6)


def test_a_grid_with_substeps_computes_the_times_that_subdivide_stores():
    grid = sde.BrownianGrid(KEY, TS, substeps=7)
    assert grid.cells == 28
    assert jnp.allclose(grid.ts, sde.subdivide(TS, 7), atol=1e-7)
    assert jnp.array_equal(grid.ts[::7], TS)
    assert jnp.array_equal(grid.refine(2).coarsen(14).ts, TS)


def test_late_times_lose_no_length_to_rounding():
    """At t = 4096 in float32, neighbouring times are 5e-4 apart; the cells of 1e-4 still have the right length."""
    grid = sde.BrownianGrid(KEY, jnp.array([4096.0, 4097.0]), substeps=10_000)
    lengths, increments = jax.jit(lambda g: (jax.vmap(g.ends)(jnp.arange(g.cells))[2], g.increments()))(grid)
    assert np.allclose(lengths, 1e-4, rtol=1e-6)
    assert np.isclose(np.var(increments) * 1e4, 1.0, rtol=0.05)


def test_a_path_that_cannot_be_told_is_refused():
    for times, says in ((TS[::-1], "strictly increasing"), (jnp.zeros(1), "at least two")):
        with pytest.raises(InputError, match=says):
            sde.BrownianGrid(KEY, times)
    with pytest.raises(InputError, match="substeps of 0"):
        sde.BrownianGrid(KEY, TS, substeps=0)


def test_an_area_needs_a_vector_of_motions():
    with pytest.raises(InputError, match="General"):
        sde.BrownianGrid(KEY, TS).cell(0, (2, 2), jnp.float32, {"A"})
    with pytest.raises(InputError, match="terms"):
        sde.Fourier(0)

"""The laws of the calculus as properties: for any key, any grid, any coefficients (DESIGN's contracts, float64).

Every law is one compiled program of fixed shapes, so that an example costs a call and not a compilation.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neuralsde import sde

GAPS = 4
seeds = st.integers(0, 2**32 - 1)
gaps = st.lists(st.floats(1e-3, 1.0), min_size=GAPS, max_size=GAPS)
numbers = st.lists(st.floats(-1.0, 1.0), min_size=12, max_size=12)


def in_float64(program) -> Any:
    """The program compiled once, called in double precision."""
    compiled = jax.jit(program)

    def call(*values):
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, compiled(*(jnp.asarray(value) for value in values)))

    return call


def grid(seed, widths):
    return sde.BrownianGrid(jax.random.key(seed), jnp.concatenate([jnp.zeros(1), jnp.cumsum(widths)]), area=sde.Davie())


@in_float64
def replayed(seed, widths) -> Any:
    path = grid(seed, widths)
    motion = lambda i: path.motion(i, (2,), jnp.float64, {"A"})  # noqa: E731
    there = jax.vmap(motion)(jnp.arange(GAPS))
    back = jax.lax.map(motion, jnp.arange(GAPS)[::-1])
    return tuple(there), tuple(part[::-1] for part in back)


@given(seeds, gaps)
def test_a_cell_is_the_same_in_whatever_order_it_is_asked_for(seed, widths):
    for one, other in zip(*replayed(seed, widths), strict=True):
        assert np.allclose(one, other, rtol=1e-14, atol=1e-15)


@in_float64
def merged(seed, widths) -> Any:
    path = grid(seed, widths)
    needs = {"A"}
    motion = lambda p: tuple(p.motion(0, (2,), jnp.float64, needs))  # noqa: E731
    again: Any = path.refine(2).coarsen(2).motions((2,), jnp.float64, needs)
    first = path.motion(0, (2,), jnp.float64, needs)
    return motion(path.coarsen(4)), motion(path.coarsen(2).coarsen(2)), (again.W[0], again.H[0]), (first.W, first.H)


@given(seeds, gaps)
def test_merging_is_associative_and_undoes_splitting(seed, widths):
    at_once, in_two, again, first = merged(seed, widths)
    for one, other in (*zip(at_once, in_two, strict=True), *zip(again, first, strict=True)):
        assert np.allclose(one, other, rtol=0, atol=1e-12)


def coefficients(p):
    """A drift and a diffusion of two entries with twelve parameters, coupled and bounded."""
    A, b, C = p[:4].reshape(2, 2), p[4:6], p[6:10].reshape(2, 2)
    f = lambda t, y, args: A @ y + jnp.sin(t) * b  # noqa: E731
    g = lambda t, y, args: 0.5 + 0.3 * jnp.tanh(C @ y + p[10:])  # noqa: E731
    return f, g


@in_float64
def spelt(seed, widths, p):
    f, g = coefficients(p)
    ts = grid(seed, widths).base_ts
    solve = lambda process, y, ts=ts, m=3: sde.simulate(process, y, ts, key=jax.random.key(seed), substeps=m).ys  # noqa: E731
    y0 = jnp.array([0.4, -0.7])
    base = solve(sde.SDE(f, g), y0)
    matrix = solve(sde.SDE(f, lambda t, y, a: jnp.diag(g(t, y, a)), sde.General(2)), y0)
    tree = solve(sde.SDE(lambda t, y, a: {"u": f(t, y["u"], a)}, lambda t, y, a: {"u": g(t, y["u"], a)}), {"u": y0})
    finer = solve(sde.SDE(f, g), y0, sde.subdivide(ts, 3), 1)[::3]
    there_and_back = solve(sde.SDE(f, g).to(sde.Stratonovich()).to(sde.Ito()), y0)
    return base, matrix, tree["u"], finer, there_and_back


@given(seeds, gaps, numbers)
def test_equal_spellings_of_a_process_agree(seed, widths, p):
    base, *others = spelt(seed, widths, p)
    for other in others:
        assert np.allclose(base, other, rtol=0, atol=1e-12)


@in_float64
def corrections(p, y):
    f, g = coefficients(p)
    coupled = sde.SDE(f, g).correction(0.0, y)
    matrix = sde.SDE(f, lambda t, y, a: jnp.diag(g(t, y, a)), sde.General(2)).correction(0.0, y)
    slopes = jax.jacfwd(lambda y: g(0.0, y, None))(y)
    return coupled, matrix, 0.5 * g(0.0, y, None) * jnp.diag(slopes)


@given(numbers, st.lists(st.floats(-2.0, 2.0), min_size=2, max_size=2))
def test_the_correction_is_half_the_sum_over_columns_moved_along_themselves(p, y):
    coupled, matrix, by_jacobian = corrections(p, y)
    assert np.allclose(coupled, by_jacobian, atol=1e-14)
    assert np.allclose(matrix, by_jacobian, atol=1e-14)


@in_float64
def moved(seed, widths, p, shift):
    A = p[:4].reshape(2, 2)
    process = sde.SDE(lambda t, y, a: A @ y, lambda t, y, a: 0.5 + 0.3 * jnp.tanh(y))
    ts = grid(seed, widths).base_ts
    return [sde.simulate(process, jnp.ones(2), ts + by, key=jax.random.key(seed), substeps=2).ys for by in (0.0, shift)]


@given(seeds, gaps, numbers, st.floats(-100.0, 100.0))
def test_only_lengths_of_time_count_where_nothing_depends_on_time(seed, widths, p, shift):
    here, there = moved(seed, widths, p, shift)
    assert np.allclose(here, there, rtol=1e-9, atol=1e-9)


@in_float64
def mirrored(seed, widths, p):
    A, b = p[:4].reshape(2, 2), p[4:6]
    noisy = sde.SDE(lambda t, y, a: A @ y + b, lambda t, y, a: a * jnp.ones(2), sde.Diagonal(depends="additive"))
    path = grid(seed, widths)
    solve = lambda path, size: sde.simulate(noisy, jnp.ones(2), path.base_ts, path=path, args=size).ys  # noqa: E731
    pair = [sde.simulate(noisy, jnp.ones(2), path.base_ts, path=p, args=0.7).ys for p in (path, path.antithetic())]
    return (pair[0] + pair[1]) / 2, solve(path, 0.0)


@given(seeds, gaps, numbers)
def test_a_path_and_its_mirror_average_to_the_path_without_noise(seed, widths, p):
    average, quiet = mirrored(seed, widths, p)
    assert np.allclose(average, quiet, rtol=0, atol=1e-12)


BACK = np.array([0.0, 0.7, 1.0])


@in_float64
def returned(seed, p):
    """Stratonovich, one noise for two entries: the step has strong order 1, and back is the inverse of there."""
    A, c = 0.5 * p[:4].reshape(2, 2), 0.5 * p[4:6]
    process = sde.SDE(lambda t, y, a: A @ y, lambda t, y, a: c * y, sde.Scalar(), sde.Stratonovich())
    options = {"key": jax.random.key(seed), "method": sde.Heun(), "substeps": 256}
    end = sde.simulate(process, jnp.ones(2), BACK, **options).ys[-1]
    return sde.simulate(process, end, BACK[::-1], **options).ys[-1]


@given(seeds, numbers)
def test_forward_then_backward_is_where_it_began(seed, p):
    assert np.allclose(returned(seed, p), 1.0, atol=0.02)

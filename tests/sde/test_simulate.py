"""Laws of `simulate`: orders, moments, replay, equal spellings, gradients, dtypes, result codes and refusals."""

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.errors import InputError, RunFailed

KEY = jax.random.key(7)
OU = sde.OU(theta=1.3, mu=0.4, sigma=0.7)
TS = jnp.array([0.0, 0.1, 0.35, 0.4, 1.0])


def slope(h, error):
    return np.polyfit(np.log(h), np.log(error), 1)[0]


def test_weak_order_one_by_exact_moment_recursion():
    """Euler on OU has mean (1 - θh)^n and a variance in closed form: no Monte-Carlo noise to drown in."""
    h = 1.0 / np.array([8, 16, 32, 64])
    factor = 1 - float(OU.theta) * h
    steps = (1 / h).astype(int)
    variance = float(OU.sigma) ** 2 * h * (1 - factor ** (2 * steps)) / (1 - factor**2)
    mean = float(OU.mu) + (2.0 - float(OU.mu)) * factor**steps
    exact_mean, exact_variance = (float(x) for x in OU.transition(2.0, 1.0))
    assert abs(slope(h, np.abs(mean - exact_mean)) - 1) < 0.1
    assert abs(slope(h, np.abs(variance - exact_variance)) - 1) < 0.1


@pytest.mark.parametrize("substeps", [1, 5])
def test_moments_follow_the_euler_recursion(substeps):
    """Mean and variance of the scheme itself, by recursion over the very steps: exact up to Monte-Carlo error."""
    n = 20_000
    ys = jax.jit(jax.vmap(lambda k: sde.simulate(OU.process(), jnp.array(2.0), TS, key=k, substeps=substeps).ys))(
        jax.random.split(KEY, n)
    )
    mean, variance = [2.0], [0.0]
    for gap in np.diff(np.asarray(TS)):
        m, v = mean[-1], variance[-1]
        for _ in range(substeps):
            h = gap / substeps
            m, v = m + h * 1.3 * (0.4 - m), (1 - 1.3 * h) ** 2 * v + 0.49 * h
        mean.append(m)
        variance.append(v)
    sd = np.sqrt(np.array(variance))
    assert np.all(np.abs(ys.mean(0) - np.array(mean)) <= 4.5 * sd / np.sqrt(n) + 1e-6)
    assert np.all(np.abs(ys.std(0) - sd) <= 4.5 * sd / np.sqrt(2 * n) + 1e-6)


def test_moments_converge_to_the_exact_law():
    for law, y0 in ((OU, 2.0), (sde.GBM(0.3, 0.5), 1.0)):
        process = law.process()
        solve = lambda k, p=process, y=y0: sde.simulate(p, y, jnp.array([0.0, 1.0]), key=k, substeps=64).ys  # noqa: E731
        ys = jax.jit(jax.vmap(solve))(jax.random.split(KEY, 10_000))
        mean, variance = law.transition(y0, 1.0)
        assert abs(float(ys[:, -1].mean() - mean)) < 5 * float(jnp.sqrt(variance)) / 100 + 0.01
        assert abs(float(ys[:, -1].var() / variance) - 1) < 0.08


def test_key_means_the_path_of_exactly_this_grid():
    path = sde.BrownianGrid(KEY, TS, substeps=3)
    by_key = sde.simulate(OU.process(), jnp.ones(2), TS, key=KEY, substeps=3)
    by_path = sde.simulate(OU.process(), jnp.ones(2), TS, path=path, substeps=3)
    assert jnp.array_equal(by_key.ys, by_path.ys)
    written_out = sde.BrownianGrid(KEY, sde.subdivide(TS, 3))
    by_times = sde.simulate(OU.process(), jnp.ones(2), TS, path=written_out, substeps=3)
    assert jnp.allclose(by_key.ys, by_times.ys, atol=1e-6)
    other = sde.simulate(OU.process(), jnp.ones(2), TS, key=jax.random.key(8), substeps=3)
    assert not jnp.array_equal(by_key.ys[1:], other.ys[1:])


def test_equal_spellings_of_one_process_agree():
    """Diagonal, General with a diagonal matrix, a pytree, and substeps against finer ts: one path, one answer."""
    with jax.enable_x64(True):
        y0 = jnp.array([1.0, -0.5])
        f = lambda t, y, a: jnp.sin(t) - y**3 * a  # noqa: E731
        g = lambda t, y, a: 0.3 + 0.1 * jnp.cos(y)  # noqa: E731
        times = TS.astype(jnp.float64)
        solve = lambda p, y, ts=times, m=4: sde.simulate(p, y, ts, key=KEY, substeps=m, args=0.7)  # noqa: E731
        base = solve(sde.SDE(f, g), y0)
        matrix = solve(sde.SDE(f, lambda t, y, a: jnp.diag(g(t, y, a)), sde.General(2)), y0)
        tree = solve(sde.SDE(lambda t, y, a: {"u": f(t, y["u"], a)}, lambda t, y, a: {"u": g(t, y["u"], a)}), {"u": y0})
        finer = solve(sde.SDE(f, g), y0, sde.subdivide(times, 4), 1)
        jitted = jax.jit(lambda y: solve(sde.SDE(f, g), y).ys)(y0)
        for ys in (matrix.ys, tree.ys["u"], finer.ys[::4], jitted):
            assert jnp.allclose(ys, base.ys, rtol=0, atol=1e-12)


def test_scalar_noise_is_general_noise_with_one_column():
    with jax.enable_x64(True):
        f = lambda t, y, a: -y  # noqa: E731
        g = lambda t, y, a: 0.5 * y + 0.1  # noqa: E731
        y0 = jnp.arange(6.0).reshape(2, 3)
        # One normal of shape () and one of shape (1,) are the same bits of the same key.
        scalar = sde.simulate(sde.SDE(f, g, sde.Scalar()), y0, TS, key=KEY)
        general = sde.simulate(sde.SDE(f, lambda t, y, a: g(t, y, a)[..., None], sde.General(1)), y0, TS, key=KEY)
        assert scalar.ys.shape == (5, 2, 3)
        assert jnp.allclose(scalar.ys, general.ys, rtol=0, atol=1e-12)


def test_a_batch_by_vmap_equals_its_members():
    keys = jax.random.split(KEY, 4)
    starts = jnp.arange(8.0).reshape(4, 2)
    times = TS * jnp.arange(1.0, 5.0)[:, None]
    solve = lambda y, ts, k: sde.simulate(OU.process(), y, ts, key=k, substeps=2)  # noqa: E731
    batch = jax.vmap(solve)(starts, times, keys)
    for i in range(4):
        assert jnp.allclose(batch.ys[i], solve(starts[i], times[i], keys[i]).ys, atol=1e-6)
    assert batch.raise_if_failed() is batch


def test_the_gradient_is_that_of_the_scheme():
    """d y_n / d y_0 of Euler on OU is (1 - θh)^n, whatever the noise."""
    with jax.enable_x64(True):
        slope_ = jax.grad(lambda y: sde.simulate(OU.process(), y, jnp.linspace(0.0, 1.0, 11), key=KEY).ys[-1])(1.0)
    assert np.isclose(float(slope_), (1 - 0.13) ** 10, rtol=1e-7)


def test_one_gap_inside_a_scan_of_the_caller():
    """How a sequence model calls it: a traced gap of two times, a new key a row; equal to one long solve's law."""
    gaps = jnp.diff(TS)

    def row(y, at):
        i, gap = at
        key = jax.random.fold_in(KEY, i)
        sol = sde.simulate(OU.process(), y, jnp.stack([0.0 * gap, gap]), key=key, substeps=2)
        return sol.ys[-1], (sol.ys[-1], sol.result)

    ys, results = jax.jit(lambda: jax.lax.scan(row, jnp.ones(2), (jnp.arange(4), gaps))[1])()
    assert jnp.all(results == sde.Result.SUCCESSFUL)
    for i, gap in enumerate(gaps):
        start = jnp.ones(2) if i == 0 else ys[i - 1]
        again = sde.simulate(OU.process(), start, jnp.stack([0 * gap, gap]), key=jax.random.fold_in(KEY, i), substeps=2)
        assert jnp.allclose(again.ys[-1], ys[i], atol=1e-6)


def test_the_state_decides_the_dtype_of_everything():
    seen = []

    def drift(t, y, args):
        seen.append((t.dtype, y.dtype))
        return (-y).astype(jnp.bfloat16)

    with jax.enable_x64(True):
        process = sde.SDE(drift, lambda t, y, a: jnp.ones(y.shape, jnp.float64))
        single = sde.simulate(process, jnp.ones(2, jnp.float32), jnp.arange(3.0), key=KEY)
        whole = sde.simulate(process, 1, jnp.arange(3), key=KEY)
        assert single.ys.dtype == jnp.float32
        assert single.ts.dtype == jnp.float64
        assert whole.ys.dtype == jnp.float64
        assert whole.ts.dtype == jnp.float64
        assert set(seen) == {(jnp.dtype("float32"),) * 2, (jnp.dtype("float64"),) * 2}
    assert sde.simulate(OU.process(), np.ones(2), np.arange(3), key=KEY).ys.dtype == jnp.float32


def test_a_solution_starts_at_y0_and_keeps_structure():
    y0 = {"a": jnp.ones(3), "b": (jnp.zeros((2, 2)), jnp.array(4.0))}
    zero = lambda t, y, a: jax.tree.map(jnp.zeros_like, y)  # noqa: E731
    sol = sde.simulate(sde.SDE(zero, zero), y0, TS, key=KEY)
    assert jax.tree.map(lambda leaf: leaf.shape[1:], sol.ys) == jax.tree.map(jnp.shape, y0)
    assert jax.tree.all(jax.tree.map(lambda ys, y: bool((ys == y).all()), sol.ys, y0))


# ---- failures while running


def test_an_explosion_is_a_code_and_raises_once_with_causes_in_order():
    process = sde.SDE(lambda t, y, a: y**3, lambda t, y, a: jnp.ones_like(y))
    solve = jax.jit(jax.vmap(lambda y, k: sde.simulate(process, y, jnp.linspace(0.0, 4.0, 60), key=k)))
    sol = solve(jnp.array([[0.0], [30.0], [30.0]]) * jnp.array([[1.0], [1.0], [1.0]]), jax.random.split(KEY, 3))
    assert sol.result.shape == (3,)
    assert sol.result[1] == sde.Result.NOT_FINITE
    with pytest.raises(RunFailed) as error:
        sol.raise_if_failed()
    text = str(error.value)
    assert "of 3 paths" in text
    assert "substeps" in text
    assert text.index("step too long") < text.index("not finite at a state")


def test_a_coefficient_that_is_not_a_number_is_the_first_suspect_when_nothing_grew():
    process = sde.SDE(lambda t, y, a: jnp.log(-y), lambda t, y, a: jnp.ones_like(y))
    with pytest.raises(RunFailed) as error:
        sde.simulate(process, 1.0, TS, key=KEY).raise_if_failed()
    text = str(error.value)
    assert text.index("logarithm") < text.index("step too long")
    assert "t=0.1" in text


def test_a_start_that_is_not_finite_is_named():
    with pytest.raises(RunFailed, match="y0 itself"):
        sde.simulate(OU.process(), jnp.array([1.0, jnp.nan]), TS, key=KEY).raise_if_failed()


def test_traced_times_that_do_not_increase_are_a_code_and_never_silent():
    sol = jax.jit(lambda ts: sde.simulate(OU.process(), 1.0, ts, key=KEY))(TS[::-1])
    assert sol.result == sde.Result.TIMES_NOT_MONOTONE
    with pytest.raises(InputError, match="not monotone"):
        sol.raise_if_failed()


def test_a_path_of_other_times_is_found_when_only_its_key_is_traced():
    other = np.array([0.0, 0.9, 1.0])
    solve = lambda key, ts: sde.simulate(  # noqa: E731
        OU.process(), 1.0, np.array([0.0, 0.1, 1.0]), path=sde.BrownianGrid(key, ts, 4), substeps=4
    )
    sol = jax.jit(jax.vmap(solve, in_axes=(0, None)))(jax.random.split(KEY, 3), other)
    assert jnp.all(sol.result == sde.Result.TIMES_NOT_MONOTONE)
    assert jnp.isnan(sol.ys[:, 1:]).all()
    with pytest.raises(InputError, match="other times"):
        jax.vmap(lambda key: solve(key, other))(jax.random.split(KEY, 3))


def test_another_number_is_not_another_program():
    """A new value of a float in `args`, and a closed form made anew, run the program that is there."""
    traced = []

    def drift(t, y, args):
        traced.append(1)
        return -args * y

    process = sde.SDE(drift, lambda t, y, a: jnp.ones_like(y))
    sde.simulate(process, 1.0, TS, key=KEY, args=0.5)
    once = len(traced)
    sde.simulate(process, 1.0, TS, key=KEY, args=0.7)
    assert len(traced) == once
    assert jax.tree.structure(sde.OU(1.0).process()) == jax.tree.structure(sde.OU(2.0).process())


def test_raising_inside_a_traced_function_is_refused():
    with pytest.raises(InputError, match="outside"):
        jax.jit(lambda y: sde.simulate(OU.process(), y, TS, key=KEY).raise_if_failed().ys)(1.0)


# ---- refusals


def _solve(process: sde.SDE | None = None, y0: Any = 1.0, ts: Any = TS, **options: Any) -> sde.Solution:
    options = {"key": KEY} | options
    return sde.simulate(process or OU.process(), y0, ts, **options)


ones = lambda t, y, a: jnp.ones_like(y)  # noqa: E731


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: _solve(key=None), "neither key nor path"),
        (lambda: _solve(path=sde.BrownianGrid(KEY, TS)), "both key and path"),
        (lambda: _solve(ts=jnp.array([1.0, 0.0, 0.5])), "strictly decreasing"),
        (lambda: _solve(ts=jnp.array([0.0, 1.0, 1.0])), "ts[1]=1 is followed by ts[2]=1"),
        (lambda: _solve(ts=np.array([1.7e9, 1.7e9 + 1])), "ts - ts[0]"),
        (lambda: _solve(ts=jnp.array([0.0, jnp.nan])), "ts[1] is not finite"),
        (lambda: _solve(ts=jnp.zeros(1)), "at least two times"),
        (lambda: _solve(substeps=0), "integer >= 1"),
        (lambda: _solve(OU.process().to(sde.Stratonovich())), "process.to(sde.Ito())"),
        (lambda: _solve(y0=jnp.ones(2, jnp.bfloat16)), "float32"),
        (lambda: _solve(sde.SDE(ones, lambda t, y, a: jnp.ones((2, 3))), jnp.ones(2)), "sde.General(3)"),
        (lambda: _solve(sde.SDE(lambda t, y, a: y.sum(), ones), jnp.ones(2)), "broadcast_to"),
        (lambda: _solve(sde.SDE(ones, ones, sde.General(2)), jnp.ones(2)), "sde.Diagonal()"),
        (lambda: _solve(sde.SDE(lambda t, y, a: y["a"], ones), {"a": 1.0, "b": 2.0}), "structure"),
        (lambda: _solve(key=None, path=sde.BrownianGrid(KEY, sde.subdivide(TS, 4))), "substeps=4"),
        (lambda: _solve(key=None, path=sde.BrownianGrid(KEY, TS + 1)), "other times"),
    ],
)
def test_refusals_name_the_remedy(call, says):
    with pytest.raises(InputError) as error:
        call()
    assert says in str(error.value)


WRONG_TYPES = """
import jax, jax.numpy as jnp
from neuralsde import sde
from neuralsde.errors import InputError

f = lambda t, y, a: -y
ts, key = jnp.arange(3.0), jax.random.key(0)
solve = lambda **options: sde.simulate(sde.SDE(f, f), 1.0, ts, **({"key": key} | options))
cases = {
    "jax.random.key(0)": lambda: solve(key=0),
    "a key of the old kind": lambda: solve(key=jax.random.PRNGKey(0)),
    "jax.vmap": lambda: solve(key=jax.random.split(key, 2)),
    "Checkpointed()": lambda: solve(gradient="checkpoint"),
    "EulerMaruyama(...) with the brackets": lambda: solve(method=sde.EulerMaruyama),
    "brackets": lambda: sde.SDE(f, f, noise=sde.Diagonal),
    "one of: Ito(), Stratonovich()": lambda: sde.SDE(f, f, calculus="ito"),
    "not a function": lambda: sde.SDE(3.0, f),
    "did you mean 'additive'?": lambda: sde.Diagonal(depends="additiv"),
}
for says, call in cases.items():
    try:
        call()
    except InputError as error:
        assert says in str(error), (says, str(error))
    else:
        raise AssertionError(says)
"""


def test_values_of_a_wrong_type_are_taught_too():
    """In a process of its own: the type checker of the tests would speak first, users do not have it."""
    done = subprocess.run([sys.executable, "-c", WRONG_TYPES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

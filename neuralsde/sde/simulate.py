"""Solve an SDE on given times: one scan, whatever the method, the noise and the gradient.

    y_{i+1} = method.step(process, y_i, cell_i),   cell_i = (t_i, dt_i, W_i) replayed from (key, i),

with `substeps` equal cells in every gap of `ts`. Increments that overflow never become finite again under y + ...,
so one test of the last state finds every failure; it comes back as a result code, costs nothing where nobody reads
it, and is raised once, at the edge, by `Solution.raise_if_failed()`.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Key

from neuralsde.errors import InputError
from neuralsde.sde.brownian import BrownianGrid, BrownianPath, subdivide
from neuralsde.sde.edge import as_floats, take_in
from neuralsde.sde.gradients import Backprop, Checkpointed, Gradient
from neuralsde.sde.methods import EulerMaruyama, Method, check_method
from neuralsde.sde.process import SDE
from neuralsde.sde.solution import Result, Solution


def simulate(
    process: SDE,
    y0: Any,
    ts: Any,
    *,
    key: Key[Array, ""] | None = None,
    path: BrownianPath | None = None,
    method: Method = EulerMaruyama(),  # noqa: B008 (a frozen value)
    substeps: int = 1,
    gradient: Gradient = Checkpointed(),  # noqa: B008 (a frozen value)
    args: Any = None,
) -> Solution:
    """One path of `process` from `y0`, at the times `ts`.

    y0:       an array of any shape, or a pytree of arrays; float32 or float64 (integers become floats). Everything in
              the solve has its dtype; time differences are taken in the dtype of `ts` first.
    ts:       (k,) strictly increasing times, k >= 2, equal gaps not needed.
    key:      a typed key: the path of exactly this grid. Or
    path:     a Brownian path of (k - 1) · substeps cells; its own times are then the steps, every `substeps`-th of
              them the times of `ts`. The same path at another resolution: `path.coarsen(r)`, `path.refine(r)`.
    substeps: equal steps in every gap.
    gradient: how to differentiate; never changes the forward numbers.

    Returns a `Solution` of `ts` (k,), `ys` (k, *y0.shape) with ys[0] == y0, and `result`. Many paths: `jax.vmap`.
    Raises `InputError` for input that cannot be meant; what is only known while running becomes `solution.result`.
    """
    _check_options(process, method, gradient, substeps)
    check_method(method, process)
    times = _checked_times(ts)
    if (key is None) == (path is None):
        raise InputError(
            "neither key nor path" if key is None else "both key and path",
            expected="exactly one of them",
            hint="key=jax.random.key(0), or path=sde.BrownianGrid(key, times) to solve one path several times",
        )
    if path is None:
        path = BrownianGrid(_checked_key(key), subdivide(times, substeps))
    else:
        _check_path(path, times, substeps)
    return _solve(process, as_floats(y0), times, path, method, substeps, gradient, args)


@eqx.filter_jit
def _solve(
    process: SDE,
    y0: Any,
    ts: Array,
    path: BrownianPath,
    method: Method,
    substeps: int,
    gradient: Gradient,
    args: Any,
) -> Solution:
    inside = take_in(process, y0)
    shape = process.noise.brownian_shape(inside.y0.shape)

    def step(y: Array, i: Any) -> Array:
        return method.step(inside.process, y, path.cell(i, shape, y.dtype), args)

    step = gradient.wrap(step)

    def gap(y: Array, k: Any) -> tuple[Array, Array]:
        if substeps == 1:
            y = step(y, k)
        else:
            y, _ = lax.scan(lambda y, j: (step(y, k * substeps + j), None), y, jnp.arange(substeps))
        return y, y

    gaps = ts.shape[0] - 1
    if gaps == 1:  # no outer loop: the sequence model solves one gap inside a scan of its own
        last, _ = gap(inside.y0, 0)
        later = last[None]
    else:
        last, later = lax.scan(gap, inside.y0, jnp.arange(gaps))
    ys = jnp.concatenate([inside.y0[None], later])
    single = isinstance(y0, jax.Array)
    return Solution(ts, ys if single else jax.vmap(inside.restore)(ys), _result(path.ts, last))


def _result(ts: Array, last: Array) -> Array:
    """The code of a finished solve."""
    finite = jnp.where(jnp.isfinite(last).all(), Result.SUCCESSFUL, Result.NOT_FINITE)
    return jnp.where((ts[1:] > ts[:-1]).all(), finite, Result.TIMES_NOT_INCREASING).astype(jnp.int32)


def _check_options(process: SDE, method: Method, gradient: Gradient, substeps: int) -> None:
    if not isinstance(process, SDE):
        raise InputError(f"process={process!r}", "not an SDE", "sde.SDE(drift, diffusion, noise=..., calculus=...)")
    if isinstance(substeps, bool) or not isinstance(substeps, int | np.integer) or substeps < 1:
        raise InputError(f"substeps={substeps!r}", expected="the number of steps in each gap of ts, an integer >= 1")
    if not isinstance(gradient, Gradient):
        raise InputError(
            f"gradient={gradient!r}",
            "not a gradient mode",
            f"one of: {Backprop.__name__}(), {Checkpointed.__name__}()",
        )


def _checked_key(key: Any) -> Key[Array, ""]:
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape == ():
            return key
        raise InputError(
            f"{key.shape} keys",
            "simulate solves one path",
            "one key",
            "jax.vmap(lambda k: sde.simulate(..., key=k))(keys)",
        )
    raise InputError(
        f"key of type {type(key).__name__}", "not a typed random key", "one typed key", "key=jax.random.key(0)"
    )


def _is_traced(array: Any) -> bool:
    return isinstance(array, Tracer)


def _checked_times(ts: Any) -> Array:
    """`ts` as floats; refused when its values are known here and not strictly increasing."""
    dtype = jnp.result_type(float) if _is_integer(ts) else jnp.result_type(ts)
    times = jnp.asarray(ts, dtype)
    if times.ndim != 1 or times.shape[0] < 2:
        raise InputError(
            f"ts of shape {times.shape}",
            "no gap to solve over",
            "a vector of at least two times, shape (k,)",
            "ts=jnp.array([t0, t1])" if times.ndim < 2 else "jax.vmap over the rows of ts",
        )
    if _is_traced(times):  # values are not known: `_result` reports what is wrong with them
        return times
    given, kept = np.asarray(ts, np.float64), np.asarray(times)
    if (np.diff(kept) > 0).all() and np.isfinite(kept).all():
        return times
    if not np.isfinite(given).all():
        raise InputError(f"ts[{int(np.argmin(np.isfinite(given)))}] is not finite", expected="finite times")
    if (np.diff(given) < 0).all():
        raise InputError(
            f"decreasing ts, from {given[0]:g} to {given[-1]:g}",
            f"{EulerMaruyama.__name__} does not return along its path: it needs another drift backward in time",
            "increasing times",
            "ts[::-1] for a solve forward in time",
        )
    at = int(np.argmax(np.diff(kept) <= 0))
    if (np.diff(given) > 0).all():
        raise InputError(
            f"ts[{at}]={given[at]!r} and ts[{at + 1}]={given[at + 1]!r} are equal in {kept.dtype}",
            "the times are too large for their differences",
            "times whose gaps survive rounding",
            "ts - ts[0], or jax.config.update('jax_enable_x64', True)",
        )
    raise InputError(
        f"ts[{at}]={given[at]:g} is followed by ts[{at + 1}]={given[at + 1]:g}",
        "time stands still or goes back",
        "strictly increasing times",
        "np.unique(ts) sorts them and drops the repeated ones",
    )


def _is_integer(ts: Any) -> bool:
    dtype = getattr(ts, "dtype", None)
    return not jnp.issubdtype(dtype if dtype is not None else np.asarray(ts).dtype, jnp.floating)


def _check_path(path: Any, ts: Array, substeps: int) -> None:
    """The path must have the cells that the solve steps over; its times are compared where both are known here."""
    if not isinstance(path, BrownianPath):
        raise InputError(f"path={type(path).__name__}", "not a Brownian path", "sde.BrownianGrid(key, base_ts)")
    wanted = (ts.shape[0] - 1) * substeps
    if path.cells != wanted:
        fits, rest = divmod(path.cells, ts.shape[0] - 1)
        raise InputError(
            f"a path of {path.cells} cells for {ts.shape[0] - 1} gaps of {substeps} substeps",
            "the steps of the solve are not the cells of the path",
            f"a path of {wanted} cells",
            f"substeps={fits}" if fits and not rest else "path.coarsen(r), path.refine(r) or other ts",
        )
    if _is_traced(path.ts) or _is_traced(ts):
        return
    marks, asked = np.asarray(path.ts)[::substeps], np.asarray(ts)
    if not np.allclose(marks, asked, rtol=0, atol=1e-5 * float(np.diff(asked).min())):
        at = int(np.argmax(np.abs(marks - asked)))
        raise InputError(
            f"ts[{at}]={asked[at]:g} where the path has time {marks[at]:g}",
            "the path belongs to other times",
            f"ts equal to path.ts[::{substeps}]",
        )

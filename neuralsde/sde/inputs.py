"""What `simulate` can refuse before it runs: each check names what was given, what that means, and what to try."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from neuralsde.errors import InputError
from neuralsde.sde.brownian import BrownianPath
from neuralsde.sde.gradients import GRADIENTS, Gradient
from neuralsde.sde.methods import Method
from neuralsde.sde.process import SDE


def check_options(process: SDE, method: Method, gradient: Gradient, substeps: int) -> None:
    if not isinstance(process, SDE):
        raise InputError(f"process={process!r}", "not an SDE", "sde.SDE(drift, diffusion, noise=..., calculus=...)")
    if isinstance(substeps, bool) or not isinstance(substeps, int | np.integer) or substeps < 1:
        raise InputError(f"substeps={substeps!r}", expected="the number of steps in each gap of ts, an integer >= 1")
    if not isinstance(gradient, Gradient):
        raise InputError(
            f"gradient={gradient!r}",
            "not a gradient mode",
            "one of: " + ", ".join(mode.__name__ + "()" for mode in GRADIENTS),
        )


def is_traced(values: Any) -> bool:
    """Whether the values are not known while the program is built."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def checked_times(ts: Any) -> tuple[Array | np.ndarray, bool]:
    """`ts` as floats, and whether they decrease. Where their values are known they come as a NumPy array, which stays
    known inside `jax.jit`, and are refused unless strictly monotone; what is wrong with traced ones is found running.
    """
    dtype = _dtype(ts)
    times = jnp.asarray(ts, dtype) if is_traced(ts) else np.asarray(ts, dtype)
    if times.ndim != 1 or times.shape[0] < 2:
        raise InputError(
            f"ts of shape {times.shape}",
            "no gap to solve over",
            "a vector of at least two times, shape (k,)",
            "ts=jnp.array([t0, t1])" if times.ndim < 2 else "jax.vmap over the rows of ts",
        )
    if not isinstance(times, np.ndarray):
        return times, False
    given, kept = np.asarray(ts, np.float64), times
    back = bool(kept[0] > kept[-1])
    steps = np.diff(kept[::-1] if back else kept)
    if (steps > 0).all() and np.isfinite(kept).all():
        return times, back
    if not np.isfinite(given).all():
        raise InputError(f"ts[{int(np.argmin(np.isfinite(given)))}] is not finite", expected="finite times")
    sign = -1 if back else 1
    at = int(np.argmax(sign * np.diff(kept) <= 0))
    if (sign * np.diff(given) > 0).all():
        raise InputError(
            f"ts[{at}]={given[at]!r} and ts[{at + 1}]={given[at + 1]!r} are equal in {kept.dtype}",
            "the times are too large for their differences",
            "times whose gaps survive rounding",
            "ts - ts[0], or jax.config.update('jax_enable_x64', True)",
        )
    raise InputError(
        f"ts[{at}]={given[at]:g} is followed by ts[{at + 1}]={given[at + 1]:g}",
        "time stands still or turns",
        "strictly increasing times, or strictly decreasing ones",
        "np.unique(ts) sorts them and drops the repeated ones",
    )


def _dtype(ts: Any) -> Any:
    """Its own, if it is an array of floats; the default else."""
    given = getattr(ts, "dtype", None)
    return jnp.result_type(ts) if given is not None and jnp.issubdtype(given, jnp.floating) else jnp.result_type(float)


def check_path(path: Any, ts: Array | np.ndarray, substeps: int) -> None:
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
    if is_traced((eqx.filter(path, eqx.is_inexact_array), ts)):  # its key may be traced: times do not depend on it
        return
    marks, asked = _marks(path, substeps), np.asarray(ts)
    if not np.allclose(marks, asked, rtol=0, atol=1e-5 * float(np.diff(asked).min())):
        at = int(np.argmax(np.abs(marks - asked)))
        raise InputError(
            f"ts[{at}]={asked[at]:g} where the path has time {marks[at]:g}",
            "the path belongs to other times",
            f"ts equal to path.ts[::{substeps}]",
        )


def _marks(path: BrownianPath, substeps: int) -> np.ndarray:
    """Every `substeps`-th time of a path whose values are known, computed now even inside `jax.jit`."""
    with jax.ensure_compile_time_eval():
        starts, _, _ = jax.vmap(path.ends)(substeps * jnp.arange(path.cells // substeps))
        return np.append(np.asarray(starts), np.asarray(path.ends(path.cells - 1)[1]))

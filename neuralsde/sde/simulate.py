"""Solve an SDE on given times: one scan, whatever the method, the noise and the gradient.

    y_{i+1} = method.step(process, y_i, cell_i),   cell_i = (t_i, dt_i, W_i) replayed from (key, i),

with `substeps` equal cells in every gap of `ts`. Decreasing times are the pathwise inverse: the same cells from the
last to the first, each with dt and W negated (THEORY 6). Increments that overflow never become finite again under
y + ..., so a test of the last state finds every failure; it comes back as a result code, costs nothing where nobody
reads it, and is raised once, at the edge, by `Solution.raise_if_failed()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from neuralsde.errors import InputError
from neuralsde.sde.brownian import Backward, BrownianGrid, BrownianPath
from neuralsde.sde.edge import as_floats, take_in
from neuralsde.sde.events import Changes, Event, checked_events
from neuralsde.sde.gradients import Checkpointed, Gradient, Loop
from neuralsde.sde.inputs import check_options, check_path, checked_times, is_traced
from neuralsde.sde.keys import checked_key
from neuralsde.sde.methods import EulerMaruyama, Method, check_method
from neuralsde.sde.methods.reversible import ReversibleMethod
from neuralsde.sde.process import SDE, CorrectedDrift
from neuralsde.sde.solution import Result, Solution
from neuralsde.sde.watch import Progress, watcher


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
    events: Event | Sequence[Event] = (),
    progress: Progress | None = None,
) -> Solution:
    """One path of `process` from `y0`, at the times `ts`.

    y0:       an array of any shape, or a pytree of arrays; float32 or float64 (Python numbers are floats). All in
              the solve has its dtype; time differences are taken in the dtype of `ts` first.
    ts:       (k,) strictly increasing times, k >= 2, equal gaps not needed. Strictly decreasing times go back along the
              path that the same key or path has over the increasing ones; inside `jax.jit` they have to be a NumPy
              array, for their direction has to be known.
    key:      a typed key: the path of exactly this grid. Or
    path:     a Brownian path of (k - 1) · substeps cells; its own times are then the steps, every `substeps`-th of
              them the times of `ts`. The same path at another resolution: `path.coarsen(r)`, `path.refine(r)`.
    substeps: equal steps in every gap. Only the states at `ts` are kept: ts=[t0, t1] keeps the end alone.
    gradient: how to differentiate; never changes the forward numbers.
    events:   `Stop(when)`, `Change(when, to)`, or several, tested in order after every step.
    progress: called on the host with (steps done, steps), some 100 times in a solve.

    Returns a `Solution` of `ts` (k,), `ys` (k, *y0.shape) with ys[0] == y0, and `result`. Many paths: `jax.vmap`.
    Raises `InputError` for input that cannot be meant; what is only known while running becomes `solution.result`.
    """
    check_options(process, method, gradient, substeps)
    check_method(method, process)
    times, back = checked_times(ts)
    if back and method.backwards == "refused":
        raise InputError(
            f"decreasing ts with {type(method).__name__}",
            "its step holds roots of dt, a truncation or draws of its own, so it does not return along its path",
            "increasing ts",
            "a Stratonovich method such as Heun(), with process.to(Stratonovich())",
        )
    if (key is None) == (path is None):
        raise InputError(
            "neither key nor path" if key is None else "both key and path",
            expected="exactly one of them",
            hint="key=jax.random.key(0), or path=sde.BrownianGrid(key, times) to solve one path several times",
        )
    if path is None:
        path = BrownianGrid(checked_key(key), times[::-1] if back else times, substeps)
    else:
        check_path(path, times[::-1] if back else times, substeps)
    known = not is_traced((times, () if path is None or key is not None else eqx.filter(path, eqx.is_inexact_array)))
    # A Python number among args would be part of the program, and a new one a new program.
    args = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, float) else leaf, args)
    happen = checked_events(events)
    return _solve(
        process,
        as_floats(y0),
        jnp.asarray(times),
        path,
        method,
        substeps,
        gradient,
        args,
        happen,
        progress,
        back,
        known,
    )


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
    events: tuple[Event, ...],
    progress: Progress | None,
    back: bool,
    known: bool,
) -> Solution:
    inside = take_in(process, y0)
    if back:
        path = Backward(path)
        inside = inside._replace(process=_against_time(inside.process, method))
    carry: Any = method.init(inside.process, ts[0].astype(inside.y0.dtype), inside.y0, args)
    changes = Changes(events, inside.process, method, inside.restore, args, carry) if events else None
    gaps = ts.shape[0] - 1
    brownian = process.noise.brownian_shape(inside.y0.shape)
    loop = Loop(inside.process, method, path, args, brownian, gaps, substeps, changes, None)
    loop = loop._replace(watch=watcher(loop.state, gaps * substeps, substeps > 1, progress))
    if changes is not None:
        carry = changes.start(ts[0])
    ran = gradient.run(loop, carry)
    later = ran.states
    steps = ran.seen if substeps > 1 else jnp.isfinite(later.reshape(gaps, -1)).all(1).sum()
    result = jnp.where(jnp.isfinite(later[-1]).all(), Result.SUCCESSFUL, Result.NOT_FINITE)
    if ran.lost is not None:
        result = jnp.where((result == Result.SUCCESSFUL) & ran.lost, Result.NOT_REVERSIBLE, result)
    if isinstance(method, ReversibleMethod):
        astray = method.astray(ran.last[0] if events else ran.last)
        result = jnp.where((result != Result.NOT_FINITE) & astray, Result.UNSTABLE, result)
    if not known:
        follow = _follows(ts, path, substeps, back)
        result = jnp.where(follow, result, Result.TIMES_NOT_MONOTONE)
        later = jnp.where(
            follow, later, jnp.nan
        )  # states along other times than those asked for must not pass for them
    ys = jnp.concatenate([inside.y0[None], later])
    ys = ys if isinstance(y0, jax.Array) else jax.vmap(inside.restore)(ys)
    return Solution(ts, ys, result.astype(jnp.int32), steps.astype(jnp.int32), ran.last[1] if events else None)


def _against_time(process: SDE, method: Method) -> SDE:
    """What decreasing times solve: a left-point method for Ito ends its cells where it began them forward, so that its
    drift has to be f - Σ_j (∂G_·j) G_·j; the correction is half that sum (THEORY 6).
    """
    if method.backwards != "corrected" or process.noise.depends == "additive":
        return process
    drift = CorrectedDrift(process.drift, process.diffusion, process.noise, -2.0)
    return SDE(drift, process.diffusion, process.noise, process.calculus)


def _follows(ts: Array, path: BrownianPath, substeps: int, back: bool) -> Array:
    """Whether traced times go one way, and the path has a cell that begins at each of them."""
    starts = jax.vmap(lambda k: path.ends(k * substeps)[0])(jnp.arange(ts.shape[0] - 1))
    marks = jnp.append(starts, path.ends(path.cells - 1)[1])
    gaps = jnp.diff(ts)
    one_way = (gaps < 0).all() if back else (gaps > 0).all()
    return one_way & (jnp.abs(marks - ts) <= 1e-3 * jnp.abs(gaps).min()).all()

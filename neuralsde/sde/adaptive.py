"""Adaptive steps: the same process given to diffrax, with a virtual Brownian tree and PID step control.

A step that depends on the path needs W at any time, so the fixed grid does not serve; diffrax's tree (Jelinčič, Foster
& Kidger 2024) gives W and its space-time area at any time as a pure function of (key, t). So one key is one path,
whatever the tolerance or method (another path than that of `simulate` with the same key).

What may be adapted is not free. The step control looks ahead at the path, so that a left-point rule is no longer
left-point: adaptive Euler-Maruyama converges to a wrong answer (Gaines & Lyons 1997) and is refused. Methods that hold
the iterated integrals right are safe: Milstein for commutative noise, Stratonovich methods of Runge-Kutta type, and for
noise that does not commute only if the times of rejected steps are visited again (Foster & Jelinčič 2024).
"""

from __future__ import annotations

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Key

from neuralsde.errors import InputError
from neuralsde.sde.edge import as_floats, take_in
from neuralsde.sde.inputs import checked_times
from neuralsde.sde.keys import checked_key
from neuralsde.sde.methods.base import Method, commutes
from neuralsde.sde.process import SDE, Diagonal, General, Ito, Stratonovich
from neuralsde.sde.solution import Result, Solution

_RESOLUTION = 2.0**-18  # the tree's cells, as a part of ts[-1] - ts[0]
_FIRST = 2.0**-7  # the first step, likewise
_REJECTED_IN_A_ROW = 256

_EVERY = (diffrax.SPaRK, diffrax.GeneralShARK, diffrax.Heun)  # Stratonovich, any noise
_COMMUTATIVE = (diffrax.SlowRK, diffrax.StratonovichMilstein)  # Stratonovich
_ADDITIVE = (diffrax.ShARK, diffrax.SRA1)  # where Ito and Stratonovich agree
_SOLVERS = (
    "SPaRK, GeneralShARK, Heun (Stratonovich); SlowRK, StratonovichMilstein (Stratonovich, commutative); "
    "ItoMilstein (Ito, commutative); ShARK, SRA1 (additive)"
)


def to_diffrax(process: SDE, path: diffrax.AbstractPath) -> diffrax.MultiTerm:
    """The process as diffrax terms: drift dt + diffusion · d(path). It keeps its calculus, which must fit the solver's.

    path: gives increments of the Brownian motion, shaped as `process.noise.brownian_shape(y.shape)` or, for Diagonal
          noise and a pytree state, as the state. Diagonal noise becomes a diagonal operator, never a matrix.
    """
    noise = process.noise

    def diffusion(t: Any, y: Any, args: Any) -> Any:
        g = process.diffusion(t, y, args)
        if isinstance(noise, Diagonal):
            return lineax.DiagonalLinearOperator(g)
        if isinstance(y, jax.Array):
            return g  # one array: diffrax contracts its last axes with dW
        shape = (noise.m,) if isinstance(noise, General) else ()
        dtype = jnp.result_type(*jax.tree.leaves(y))
        control = jax.ShapeDtypeStruct(shape, dtype)
        return lineax.FunctionLinearOperator(lambda dW: jax.tree.map(lambda a: noise.apply(a, dW), g), control)

    return diffrax.MultiTerm(diffrax.ODETerm(process.drift), diffrax.ControlTerm(diffusion, path))


def brownian_tree(
    key: Key[Array, ""], t0: Any, t1: Any, shape: tuple[int, ...], dtype: Any = float
) -> diffrax.VirtualBrownianTree:
    """The Brownian path that `simulate_adaptive` follows for this key from t0 to t1: `.evaluate(t0, t)` is W at t.

    shape: `process.noise.brownian_shape(y.shape)`; dtype: that of the state. Resolved to 2^-18 of t1 - t0. It draws the
    space-time area in every case, so that the path does not depend on the method.
    """
    t0, t1 = jnp.asarray(t0, dtype), jnp.asarray(t1, dtype)
    motion = jax.ShapeDtypeStruct(shape, t0.dtype)
    return diffrax.VirtualBrownianTree(
        t0, t1, (t1 - t0) * _RESOLUTION, motion, key, levy_area=diffrax.SpaceTimeLevyArea
    )


def simulate_adaptive(
    process: SDE,
    y0: Any,
    ts: Any,
    *,
    key: Key[Array, ""],
    method: diffrax.AbstractSolver | None = None,
    rtol: Any = 1e-3,
    atol: Any = 1e-5,
    dt0: Any = None,
    max_steps: int = 16_384,
    gradient: diffrax.AbstractAdjoint | None = None,
    args: Any = None,
) -> Solution:
    """One path of `process` from `y0` at the increasing times `ts`, with steps chosen along the way.

    y0, ts, args: as for `simulate`; the steps end on every time of `ts`, so nothing is interpolated.
    key:       one key is one path, for every tolerance and method.
    method:    None: ShARK for additive noise, SlowRK by step doubling for commutative noise, else SPaRK; an Ito process
               is converted first, exactly. Or a diffrax solver: SPaRK, GeneralShARK, Heun (Stratonovich); SlowRK,
               StratonovichMilstein (Stratonovich, commutative); ItoMilstein (Ito, commutative); ShARK, SRA1 (additive).
               Those without an error estimate are wrapped in HalfSolver.
    rtol, atol: a step of this path is accepted where the root mean square over entries of error/(atol + rtol |y|) is
               at most 1. That is local and pathwise: errors add up over steps, so the global error falls with the
               tolerance but is not equal to it, and a tolerance says nothing about expectations. For stiff additive
               noise the defaults are dear: OU with theta = 50 took about 1,000 steps per unit of time.
    dt0:       first step; default 1/128 of the interval. Steps below 2^-18 of it, which the tree does not resolve,
               would see a path smoother than Brownian motion; `max_steps` ends most solves long before.
    max_steps: accepted and rejected together; at most this many are kept for the gradient.
    gradient:  a diffrax adjoint; default RecursiveCheckpointAdjoint(checkpoints=max_steps), backprop through the steps
               taken. Fewer checkpoints save memory and may give wrong derivatives (measured with diffrax 0.7.2).

    Returns a `Solution`; `result` is STEP_CONTROL_FAILED where `max_steps` was reached; the states from there on are
    then inf and their gradient 0, so that a loss is inf. `jax.jit`, `jax.vmap` and `jax.grad` work; under vmap all
    paths take as many steps as the hardest. Slower per step than `simulate`: the tree costs the log of its resolution.
    """
    if not isinstance(process, SDE):
        raise InputError(f"process={process!r}", "not an SDE", "sde.SDE(drift, diffusion, noise=..., calculus=...)")
    _check_numbers(rtol, atol, dt0, max_steps)
    times, back = checked_times(ts)
    if back:
        raise InputError(
            "decreasing ts",
            "steps are chosen forward in time",
            "increasing ts",
            "ts[::-1]; or simulate, which goes back along a path on a fixed grid",
        )
    times = jnp.asarray(times)
    if gradient is not None and not isinstance(gradient, diffrax.AbstractAdjoint):
        raise InputError(f"gradient={gradient!r}", expected="one of diffrax's adjoints", hint="gradient=None")
    process, solver = _fitting(process, method)
    # A checkpoint for every step: with fewer, diffrax 0.7.2 takes steps again on the way back, and derivatives of
    # solves of 70 to 300 steps came out wrong by up to 0.1; with all of them they were right to 1e-7.
    adjoint = diffrax.RecursiveCheckpointAdjoint(checkpoints=max_steps) if gradient is None else gradient
    tolerances = (jnp.asarray(rtol, times.dtype), jnp.asarray(atol, times.dtype))  # arrays: no program for each value
    return _solve(process, as_floats(y0), times, checked_key(key), solver, tolerances, dt0, max_steps, adjoint, args)


@eqx.filter_jit
def _solve(
    process: SDE,
    y0: Any,
    ts: Array,
    key: Array,
    solver: diffrax.AbstractSolver,
    tolerances: tuple[Array, Array],
    dt0: Any,
    max_steps: int,
    adjoint: diffrax.AbstractAdjoint,
    args: Any,
) -> Solution:
    inside = take_in(process, y0)
    y = inside.y0
    times = ts.astype(y.dtype)
    span = times[-1] - times[0]
    tree = brownian_tree(key, times[0], times[-1], process.noise.brownian_shape(y.shape), y.dtype)
    rtol, atol = (value.astype(y.dtype) for value in tolerances)
    # No dtmin: with it diffrax 0.7.2's checkpointed gradient of a linear SDE came out 4 % wrong, the direct one right.
    pid = diffrax.PIDController(rtol=rtol, atol=atol, pcoeff=0.1, icoeff=0.3, dcoeff=0.0)
    rejected = None if commutes(process.noise) else _REJECTED_IN_A_ROW
    found = diffrax.diffeqsolve(
        to_diffrax(inside.process, tree),
        solver,
        times[0],
        times[-1],
        span * _FIRST if dt0 is None else jnp.asarray(dt0, y.dtype),
        y,
        args,
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.ClipStepSizeController(pid, step_ts=times[1:], store_rejected_steps=rejected),
        max_steps=max_steps,
        adjoint=adjoint,
        throw=False,
    )
    ys = jnp.asarray(found.ys)
    finite = jnp.where(jnp.isfinite(ys).all(), Result.SUCCESSFUL, Result.NOT_FINITE)
    result = jnp.where(diffrax.is_okay(found.result), finite, Result.STEP_CONTROL_FAILED)
    result = jnp.where((jnp.diff(times) > 0).all(), result, Result.TIMES_NOT_MONOTONE)
    steps = jnp.asarray(found.stats["num_accepted_steps"], jnp.int32)
    ys = ys if isinstance(y0, jax.Array) else jax.vmap(inside.restore)(ys)
    return Solution(ts, ys, result.astype(jnp.int32), steps)


def _check_numbers(rtol: Any, atol: Any, dt0: Any, max_steps: Any) -> None:
    """Refuse what is no number, and tolerances and steps that cannot be meant; traced ones pass."""
    given = {"rtol": rtol, "atol": atol} | ({} if dt0 is None else {"dt0": dt0})
    for name, value in given.items():
        number = isinstance(value, int | float | np.number | np.ndarray | jax.Array) and not isinstance(value, bool)
        if not number or jnp.ndim(value) or not jnp.issubdtype(jnp.result_type(value), jnp.number):
            expected = "one number above 0" if name == "dt0" else "one number, at least 0"
            raise InputError(f"{name}={value!r}", expected=expected)
    if isinstance(max_steps, bool) or not isinstance(max_steps, int | np.integer) or max_steps < 1:
        raise InputError(f"max_steps={max_steps!r}", expected="an integer >= 1")
    if not any(isinstance(x, Tracer) for x in (rtol, atol)) and (rtol < 0 or atol < 0 or not rtol + atol > 0):
        raise InputError(f"rtol={rtol!r}, atol={atol!r}", expected="tolerances of at least 0, not both 0")
    if dt0 is not None and not isinstance(dt0, Tracer) and not dt0 > 0:
        raise InputError(f"dt0={dt0!r}", expected="a first step above 0, in units of time")


def _check_solver(inner: Any) -> None:
    """Refuse what is not one of diffrax's solvers, and those whose answer would be biased."""
    if not isinstance(inner, diffrax.AbstractSolver):
        kind = inner if isinstance(inner, type) else type(inner)
        ours, fits = issubclass(kind, Method), kind.__name__ in _SOLVERS.replace(",", " ").split()
        meaning = "a method of simulate" if ours else "a class, not a value" if inner is kind else "not a solver"
        raise InputError(
            f"method={kind.__name__ if ours or inner is kind else repr(inner)}",
            f"{meaning}: one of diffrax's solvers is wanted",
            _SOLVERS,
            f"method=diffrax.{kind.__name__}()" if fits else "method=None",
        )
    if isinstance(inner, diffrax.Euler | diffrax.EulerHeun):
        raise InputError(
            f"method={type(inner).__name__}",
            "steps chosen by looking at the path bias a left-point rule: adaptive Euler converges to a wrong answer",
            "a method of Milstein or Stratonovich Runge-Kutta type",
            "method=None, or EulerMaruyama() on a fixed grid with simulate",
        )


def _fitting(process: SDE, method: diffrax.AbstractSolver | None) -> tuple[SDE, diffrax.AbstractSolver]:
    """The process in the calculus of the solver, and the solver with an error estimate; or a refusal, with reason."""
    noise, ito = process.noise, isinstance(process.calculus, Ito)
    additive = noise.depends == "additive"
    if method is None:
        if additive:
            return process, diffrax.ShARK()
        # On GBM (mu .3, sigma .6) SlowRK in half steps came to an error of 6e-4 in 8 steps; SPaRK took 39 for 9e-3.
        solver = diffrax.HalfSolver(diffrax.SlowRK()) if commutes(noise) else diffrax.SPaRK()
        return process.to(Stratonovich()), solver
    inner = method.solver if isinstance(method, diffrax.HalfSolver) else method
    name = type(inner).__name__
    _check_solver(inner)
    fits = (
        (isinstance(inner, _EVERY) and (additive or not ito))
        or (isinstance(inner, _COMMUTATIVE) and (additive or not ito) and commutes(noise))
        or (isinstance(inner, diffrax.ItoMilstein) and (additive or ito) and commutes(noise))
        or (isinstance(inner, _ADDITIVE) and additive)
    )
    if not fits:
        raise InputError(
            f"method={name} for a {type(process.calculus).__name__} process with {noise}",
            "it would converge to another process, or not at all",
            _SOLVERS,
            "method=None, which converts where it has to"
            + ("; or process.to(sde.Stratonovich())" if ito and isinstance(inner, _EVERY + _COMMUTATIVE) else ""),
        )
    estimates = isinstance(method, diffrax.AbstractAdaptiveSolver)
    return process, method if estimates else diffrax.HalfSolver(method)

"""Steps chosen by their error, in the clock λ = log α/σ, where neither equation is stiff.

    flow          dx/dλ = u / (α'/α - σ'/σ)                            Dormand & Prince 1980, 5(4), last stage kept
    reverse SDE   dx = (a x + (1 + η²) σ² ∇log p) dλ + √2 η σ dW_λ,    a = (α'/α) / (α'/α - σ'/σ),  g² dt = -2σ² dλ

The SDE takes the steps of Jolicoeur-Martineau et al. 2021: Euler-Maruyama, then once more from x with the coefficients
at the end of the step; the mean of both is kept and half their difference is the error. They draw fresh noise after a
rejection, which biases what is accepted; here W is that of one path, bisected from its ends (Lévy), at every trial.

A step is accepted where the root mean square over entries of error / (atol √(α² + σ²) + rtol |x|) is at most 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from neuralsde.errors import InputError
from neuralsde.noising import Schedule
from neuralsde.sampling.ancestral import check_eta
from neuralsde.sampling.levels import clock_rate
from neuralsde.sampling.loop import Cell, Counting, Sampler
from neuralsde.sampling.ode import Tableau, combined, in_log_snr, stages
from neuralsde.sde.brownian import normals

_SAFETY, _LEAST, _MOST = 0.9, 0.2, 5.0
_POWER = 0.9  # of the SDE's step control, as in the paper
_HALVINGS = 20  # of the Brownian path of a gap
_FIRST_STEP = 0.05  # in λ, of which a sampler crosses ten or so
_TOO_SHORT = 1e-6  # likewise: what is refused down to here is no matter of the step

_FIFTH = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
DORMAND_PRINCE = Tableau(
    (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        _FIFTH,
    ),
    (*_FIFTH, 0.0),
)
_FOURTH = (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
_ERROR = tuple(b - other for b, other in zip(DORMAND_PRINCE.b, _FOURTH, strict=True))


class _State(NamedTuple):
    """lam: where, x: the state there, h: the next step, kept: what the method keeps, tried: steps so far."""

    lam: Array
    x: Array
    h: Array
    kept: Any
    tried: Array


Try = Callable[[_State, Array], tuple[Array, Array, Any]]


def _walk(
    attempt: Try, first: _State, end: Array, size: Callable[[Array, Array], Array], power: float, most: int
) -> _State:
    """Steps from `first.lam` to `end`; attempt(state, h) gives (x after h, error, what to keep)."""

    def unfinished(state: _State) -> Array:
        return (state.lam < end) & (state.tried < most) & (state.h > _TOO_SHORT)

    def one(state: _State) -> _State:
        left = end - state.lam
        h = jnp.minimum(state.h, left)
        x, error, kept = attempt(state, h)
        off = jnp.sqrt(jnp.mean(jnp.square(error / size(state.lam + h, jnp.maximum(jnp.abs(x), jnp.abs(state.x))))))
        off = jnp.where(jnp.isfinite(off), jnp.maximum(off, 1e-8), 1e8)  # not a number: a shorter step
        good = off <= 1
        factor = jnp.clip(_SAFETY * off**-power, _LEAST, jnp.where(good, _MOST, 1.0))
        after = jnp.where(good & (h < state.h), jnp.maximum(h * factor, state.h), h * factor)  # cut short, not small
        ahead = _State(jnp.where(h < left, state.lam + h, end), x, after, kept, state.tried)
        state = jax.tree.map(lambda new, old: jnp.where(good, new, old), ahead, state._replace(h=after))
        return state._replace(tried=state.tried + 1)

    last = lax.while_loop(unfinished, one, first)
    return last._replace(x=jnp.where(last.lam < end, jnp.nan, last.x))


def _scale(schedule: Schedule, rtol: Any, atol: Any) -> Callable[[Array, Array], Array]:
    """The error that a step may make, at λ and |x|."""

    def size(lam: Array, x: Array) -> Array:
        t = schedule.time_at(2 * lam)
        return atol * jnp.hypot(schedule.alpha(t), schedule.sigma(t)) + rtol * x

    return size


def _check(rtol: Any, atol: Any, max_steps: int) -> None:
    known = all(isinstance(value, int | float) for value in (rtol, atol))  # arrays may be traced
    if known and not (0 <= rtol < math.inf and 0 <= atol < math.inf and rtol + atol > 0):
        raise InputError(f"rtol={rtol}, atol={atol}", expected="tolerances of at least 0, not both 0")
    if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
        raise InputError(f"max_steps={max_steps!r}", expected="a whole number of at least 1")


def _brownian(key: Any, part: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """W at a part of the way from 0 to 1, of the path of that key: halved towards it, with a normal for every node, and
    straight within the last half. (diffrax's tree draws areas too; with it the sampler took twice as long to compile.)
    """

    def halve(_: Any, at: tuple[Array, ...]) -> tuple[Array, ...]:
        node, low, width, left, right = at
        middle = 0.5 * (left + right) + 0.5 * jnp.sqrt(width) * normals(key, node, shape, dtype)
        upper, width = part >= low + 0.5 * width, 0.5 * width
        low, node = jnp.where(upper, low + width, low), 2 * node + upper
        return node, low, width, jnp.where(upper, middle, left), jnp.where(upper, right, middle)

    start = jnp.zeros(shape, dtype), normals(key, 0, shape, dtype)
    first = jnp.asarray(1), jnp.zeros((), dtype), jnp.ones((), dtype), *start
    _, low, width, left, right = lax.fori_loop(0, _HALVINGS, halve, first)
    return left + (part - low) / width * (right - left)


class AdaptiveODE(Sampler):
    """The probability flow by Dormand-Prince 5(4), six evaluations a tried step and one more for every gap of the grid.

    rtol, atol: relative to x, and to the √(α² + σ²) of the time; arrays, for one program with several tolerances.
    max_steps:  tried in one gap. Beyond them, and where no step is short enough, the state is NaN.
    It asks for a velocity only. Every sample takes its own steps; under vmap all wait for the hardest.
    """

    rtol: Any = 1e-5
    atol: Any = 1e-5
    max_steps: int = eqx.field(static=True, default=1_000)
    adaptive = property(lambda self: True)
    cost = property(lambda self: 6)

    def __check_init__(self) -> None:
        _check(self.rtol, self.atol, self.max_steps)

    def start(self, predict: Counting, ts: Array, x: Array) -> Any:
        return jnp.asarray(_FIRST_STEP, x.dtype)

    def step(self, predict: Counting, cell: Cell, x: Array, memory: Any, *, key: Any) -> tuple[Array, Any]:
        schedule, predictor = predict.schedule, predict.predictor
        start, end = (0.5 * schedule.log_snr(t).astype(x.dtype) for t in (cell.t, cell.s))

        def field(lam: Array, x: Array) -> Array:
            return in_log_snr(predictor, x, schedule.time_at(2 * lam)).astype(x.dtype)

        def attempt(state: _State, h: Array) -> tuple[Array, Array, Any]:
            k = stages(lambda c, y: field(state.lam + c * h, y), DORMAND_PRINCE, state.x, h, first=state.kept)
            return state.x + h * combined(DORMAND_PRINCE.b, k), h * combined(_ERROR, k), k[-1]

        first = _State(start, x, memory, field(start, x), jnp.asarray(0))
        last = _walk(attempt, first, end, _scale(schedule, self.rtol, self.atol), 1 / 5, self.max_steps)
        predict.add(1 + 6 * last.tried)
        return last.x, last.h


class AdaptiveSDE(Sampler):
    """The reverse SDE (or the one with `eta` times its noise) with steps by their error; two evaluations a tried step.

    rtol, atol: relative to x, and to the √(α² + σ²) of the time; coarser than for the flow, the error of a step being
    that of the path. One key is one Brownian path, whatever the tolerances.
    """

    rtol: Any = 0.02
    atol: Any = 0.01
    eta: float = eqx.field(static=True, default=1.0)
    max_steps: int = eqx.field(static=True, default=10_000)
    adaptive = property(lambda self: True)
    stochastic = property(lambda self: self.eta > 0)
    cost = property(lambda self: 2)

    def __check_init__(self) -> None:
        _check(self.rtol, self.atol, self.max_steps)
        check_eta(self.eta)

    def start(self, predict: Counting, ts: Array, x: Array) -> Any:
        return jnp.asarray(_FIRST_STEP, x.dtype)

    def step(self, predict: Counting, cell: Cell, x: Array, memory: Any, *, key: Any) -> tuple[Array, Any]:
        schedule, predictor = predict.schedule, predict.predictor
        start, end = (0.5 * schedule.log_snr(t).astype(x.dtype) for t in (cell.t, cell.s))
        own, root = jax.random.fold_in(key, cell.i), jnp.sqrt(end - start)

        def path(lam: Array) -> Array:
            return root * _brownian(own, (lam - start) / (end - start), x.shape, x.dtype)

        def change(lam: Array, x: Array, h: Array, W: Array) -> Array:
            t = schedule.time_at(2 * lam)
            sigma = schedule.sigma(t)
            pull = (1 + self.eta**2) * sigma**2 * predictor.score(x, t)
            drift = schedule.log_alpha_rate(t) / clock_rate(schedule, t) * x + pull
            return (h * drift + math.sqrt(2) * self.eta * sigma * W).astype(x.dtype)

        def attempt(state: _State, h: Array) -> tuple[Array, Array, Any]:
            ahead = path(state.lam + h)
            first = change(state.lam, state.x, h, ahead - state.kept)
            second = change(state.lam + h, state.x + first, h, ahead - state.kept)
            return state.x + 0.5 * (first + second), 0.5 * (first - second), ahead

        last = _walk(
            attempt,
            _State(start, x, memory, jnp.zeros_like(x), jnp.asarray(0)),
            end,
            _scale(schedule, self.rtol, self.atol),
            _POWER,
            self.max_steps,
        )
        predict.add(2 * last.tried)
        return last.x, last.h

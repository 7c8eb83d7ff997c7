"""Paths of a Gaussian Markov kernel that pass through given observations: guided proposals, exact weights.

The kernel is x_{k+1} | s_k ~ N(m(s_k), diag(sd(s_k)²)), s_{k+1} = advance(s_k, x_{k+1}), for any state s. Some entries
of the path are given. (1) Around a reference (straight lines, then a cloud of guided paths) the kernel is linearised,
in the whole state; backwards along it the linear-Gaussian information filter gives h_k(s), nearly p(later given
entries | s_k = s): a Gaussian in s with precision L. (2) Forwards, every particle draws its free entries from
q ∝ p(x | s_k) h_{k+1}(advance(s_k, x)), a Gaussian with the particle's own m and sd. (3) The weight is Π p/q, so the
paths are exact as n -> ∞ for any kernel, and exact at once (equal weights) for a linear-Gaussian one: h only decides
how many particles are needed. (4) Particles are resampled by weight · h_k, the twisted target, when their effective
number falls below n/2.
Sources: Schauer, van der Meulen & van Zanten 2017 (guided proposals); Guarniero, Johansen & Lee 2017 (twisting).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key

from neuralsde.errors import InputError

State: TypeAlias = Any
Inputs: TypeAlias = Any
Kernel: TypeAlias = Callable[[State, Inputs], tuple[Array, Array]]
Advance: TypeAlias = Callable[[State, Array, Inputs], State]


class ConditionalPaths(eqx.Module):
    """Weighted paths through the observations.

    paths:      (n, K, d); given entries have their given values in every path.
    log_weight: (n,); the logarithm of their mean is an unbiased estimate's logarithm of p(given entries | state0).
    support:    (K,) effective number of distinct states at each step: final weights, shared ancestors merged. What an
                estimate at that step really rests on; small far back in a long stretch with hard observations.
    ess:        () the smallest support of a step that has something to fill in, between 1 and n: the honest one.
    ess_final:  () effective number of the final weights alone; large again after every resampling.
    """

    paths: Float[Array, "n K d"]
    log_weight: Float[Array, " n"]
    support: Float[Array, " K"]
    ess: Float[Array, ""]
    ess_final: Float[Array, ""]

    @property
    def weights(self) -> Float[Array, " n"]:
        """Normalised weights; they sum to 1."""
        return jax.nn.softmax(self.log_weight)

    @property
    def log_likelihood(self) -> Float[Array, ""]:
        """Estimate of log p(given entries | state0)."""
        return jax.nn.logsumexp(self.log_weight) - jnp.log(self.log_weight.shape[0])

    def mean(self) -> Float[Array, "K d"]:
        """Posterior mean."""
        return jnp.tensordot(self.weights, self.paths, 1)

    def sd(self) -> Float[Array, "K d"]:
        """Posterior standard deviation."""
        return jnp.sqrt(jnp.tensordot(self.weights, (self.paths - self.mean()) ** 2, 1))

    def equally_weighted(self, key: Key[Array, ""]) -> Float[Array, "n K d"]:
        """Paths of equal weight, n of them, drawn by systematic resampling."""
        return self.paths[_systematic(jax.random.uniform(key, (), self.log_weight.dtype), self.weights)]


def conditional_paths(
    kernel: Kernel,
    state0: State,
    inputs: Inputs,
    target: Float[Array, "K d"] | Any,
    mask: Bool[Array, "K d"] | Any,
    *,
    key: Key[Array, ""],
    n: int,
    advance: Advance,
    pilots: int = 32,
) -> ConditionalPaths:
    """Weighted draws, n of them, of x_1 ... x_K given the entries `target[mask]`.

    kernel:  (state, input_k) -> (mean (d,), sd (d,) > 0), the law of x_{k+1}; the derivative of its
             mean guides the paths, and never biases them.
    advance: (state, x_{k+1}, input_k) -> the next state, in the same structure, shapes and dtypes.
    state0:  any pytree; its float leaves are what the guidance looks at.
    inputs:  a pytree with leading axis K, or None.
    target:  (K, d); entries where `mask` is False are not read (NaN is fine).
    mask:    (K, d) True where given. With none given these are free samples with equal weights.
    pilots:  guided paths along which the kernel is linearised a second time (the first time along straight lines
             between the given values). 0 saves that pass for a kernel that is nearly linear.

    Cost: (pilots + 1)·K derivatives of the kernel, then n·K calls of it; O(n·K·d) memory.
    Law: mean, spread and `log_likelihood` are exact for n -> ∞. Not differentiable through its resampling.
    """
    _check(target, mask, n)
    mask = jnp.asarray(mask, bool)
    target = jnp.where(mask, target, jnp.zeros((), jnp.result_type(float, target)))
    model = _Flat(kernel, advance, state0)
    reference = _straight_lines(model.kernel(state0, _at(inputs, 0))[0], target, mask)
    guide = _look_back(_linearise(model, inputs, reference), mask)
    draw_key, pilot_key = jax.random.split(key)
    if pilots:
        guide = _look_back(_linearise_cloud(model, inputs, guide, mask, pilot_key, pilots), mask)
    return _draw(model, inputs, guide, mask, draw_key, n)


def _check(target: Any, mask: Any, n: int) -> None:
    if jnp.ndim(target) != 2 or jnp.shape(mask) != jnp.shape(target):
        raise InputError(
            f"target of shape {jnp.shape(target)} and mask of shape {jnp.shape(mask)}",
            expected="both (K, d): K steps of d channels",
            hint="jax.vmap over series",
        )
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"n={n!r}", expected="the number of paths, an integer >= 1")


class _Flat:
    """The model with the float leaves of its state also as one vector: what the guidance is written in."""

    def __init__(self, kernel: Kernel, advance: Advance, state0: State) -> None:
        self.kernel, self.advance = kernel, advance
        self.state0 = jax.tree.map(jnp.asarray, state0)

    def copies(self, n: int) -> State:
        """The start, n times."""
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (n, *leaf.shape)), self.state0)

    def vector(self, state: State) -> Array:
        """Float leaves as one vector (D,)."""
        return ravel_pytree(eqx.filter(state, eqx.is_inexact_array))[0]

    def shifted(self, state: State, delta: Array) -> State:
        """The state with `delta` added to that vector."""
        moving, still = eqx.partition(state, eqx.is_inexact_array)
        flat, restore = ravel_pytree(moving)
        return eqx.combine(restore(flat + delta.astype(flat.dtype)), still)

    def deviation(self, state: State, reference: Array) -> Array:
        """Vector - reference; 0 where both are the same infinity (an age before the first observation)."""
        here = self.vector(state)
        return jnp.where(here == reference, 0.0, here - reference)


class _Linear(NamedTuple):
    """The kernel around the reference: at step k from state `state` (D,) to x = r.

    mean + C δ, sd is the law of x; F δ + B (x - r) is the next state's deviation; δ is this state's. Leading axis K.
    """

    r: Array
    mean: Array
    sd: Array
    next_state: Array
    C: Array
    F: Array
    B: Array


def _linearise(model: _Flat, inputs: Inputs, reference: Array) -> _Linear:
    """One pass along the reference, with D + d directions of derivative a step."""

    def step(state: State, at: tuple[Inputs, Array]) -> tuple[State, _Linear]:
        given, r = at
        C, F, B = _slopes(model, state, r, given)
        mean, sd = model.kernel(state, given)
        state = model.advance(state, r, given)
        return state, _Linear(r, mean, sd, model.vector(state), C, F, B)

    return lax.scan(step, model.state0, (inputs, reference))[1]


def _slopes(model: _Flat, state: State, x: Array, given_input: Inputs) -> tuple[Array, Array, Array]:
    """(C, F, B): derivatives of the mean and of the next state with respect to the state, and of the latter to x."""

    def moved(delta: Array, x: Array) -> tuple[Array, Array]:
        here = model.shifted(state, delta)
        return model.kernel(here, given_input)[0], model.vector(model.advance(here, x, given_input))

    (C, _), (F, B) = jax.jacfwd(moved, (0, 1))(jnp.zeros_like(model.vector(state)), x)
    # A direction without a finite derivative gives no guidance; the weights stay exact all the same.
    C, F, B = (jnp.nan_to_num(slope, posinf=0.0, neginf=0.0) for slope in (C, F, B))
    return C, F, B


class _Guide(NamedTuple):
    """log h_k(δ) = -½ δ'Lδ + l'δ for the state after each step (leading axis K), around the reference r, `state`.

    Gx = B'LB and LB = L B are what a proposal for x needs of it.
    """

    r: Array
    state: Array
    L: Array
    l: Array  # noqa: E741
    Gx: Array
    LB: Array
    B: Array


def _look_back(linear: _Linear, mask: Array) -> _Guide:
    """The information filter, from the last step to the first.

    With u = x - r = e + Cδ + sd ξ on the free entries (e = mean - r) and u = 0 on the given ones, integrate ξ ~ N(0, I)
    out of h_{k+1}(Fδ + Bu) and add the given entries' own likelihood. In Joseph's form, so that L stays positive.
    """

    def step(carry: tuple[Array, Array], at: tuple[_Linear, Array]) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        L, l = carry  # noqa: E741
        here, given = at
        LB = L @ here.B
        out = (L, l, here.B.T @ LB, LB)
        free = here.B * ~given
        e = here.mean - here.r
        R = free * here.sd
        root = jnp.linalg.cholesky(jnp.eye(given.size, dtype=L.dtype) + R.T @ L @ R)
        K = jax.scipy.linalg.cho_solve((root, True), R.T @ L)
        J = jnp.eye(L.shape[0], dtype=L.dtype) - R @ K
        smooth, lin = J.T @ L @ J + K.T @ K, J.T @ l
        closed = here.F + free @ here.C
        precision = jnp.where(given, here.sd**-2, 0.0)
        before = closed.T @ smooth @ closed + (here.C.T * precision) @ here.C
        pull = closed.T @ (lin - smooth @ (free @ e)) - here.C.T @ (precision * e)
        return (0.5 * (before + before.T), pull), out

    size = linear.next_state.shape[1]
    zero = jnp.zeros(size, linear.mean.dtype)
    start = (jnp.zeros((size, size), zero.dtype), zero)
    _, (L, l, Gx, LB) = lax.scan(step, start, (linear, mask), reverse=True)  # noqa: E741
    return _Guide(linear.r, linear.next_state, L, l, Gx, LB, linear.B)


class _Proposal(NamedTuple):
    """x = r + centre + spread' ξ on the free entries; `root` is the Cholesky factor of the precision."""

    mean: Array
    sd: Array
    centre: Array
    root: Array


def _propose(model: _Flat, state: State, given_input: Inputs, guide: _Guide, given: Array) -> _Proposal:
    """Q ∝ p(x | state) h(advance(state, x)), h linearised in x with the reference's B: precision and centre."""
    mean, sd = model.kernel(state, given_input)
    base = model.deviation(model.advance(state, guide.r, given_input), guide.state)
    pull = (mean - guide.r) / sd**2 + guide.B.T @ guide.l - guide.LB.T @ base
    free = ~given
    precision = jnp.where(free[:, None] & free[None, :], jnp.diag(sd**-2) + guide.Gx, jnp.eye(given.size))
    root = jnp.linalg.cholesky(precision.astype(mean.dtype))
    centre = jax.scipy.linalg.cho_solve((root, True), jnp.where(free, pull, 0.0))
    return _Proposal(mean, sd, centre, root)


def _pick(q: _Proposal, xi: Array, here: _Guide, given: Array) -> tuple[Array, Array]:
    """The draw of q for normals ξ (d,), given entries in place, and its log density entry by entry."""
    noise = jax.scipy.linalg.solve_triangular(q.root, xi, lower=True, trans=1)
    log_q = -0.5 * xi**2 + jnp.log(jnp.diagonal(q.root)) - 0.5 * jnp.log(2 * jnp.pi)
    return here.r + jnp.where(given, 0.0, q.centre + noise), jnp.where(given, 0.0, log_q)


def _linearise_cloud(
    model: _Flat, inputs: Inputs, guide: _Guide, mask: Array, key: Key[Array, ""], size: int
) -> _Linear:
    """The kernel around a cloud of guided paths: mean Jacobians, mean variance plus what the line does not explain.

    With a Gaussian cloud this is the linear regression of the kernel over it (Stein's identity): where the kernel
    bends within the spread of the paths it gives a flatter, safer look-ahead than the derivative at one point.
    """

    def one(state: State, xi: Array, given_input: Inputs, here: _Guide, given: Array) -> tuple[Any, ...]:
        x, _ = _pick(_propose(model, state, given_input, here, given), xi, here, given)
        x = jnp.where(jnp.isfinite(x).all(), x, here.r)  # a poor look-ahead must not spoil the next one
        mean, sd = model.kernel(state, given_input)
        after = model.advance(state, x, given_input)
        return after, x, mean, sd, model.vector(state), model.vector(after), *_slopes(model, state, x, given_input)

    def step(states: State, at: tuple[Array, Inputs, _Guide, Array]) -> tuple[State, _Linear]:
        xi, given_input, here, given = at
        states, x, mean, sd, before, after, *slopes = jax.vmap(one, (0, 0, None, None, None))(
            states, xi, given_input, here, given
        )
        C, F, B = (slope.mean(0) for slope in slopes)
        delta = jnp.where(before == before.mean(0), 0.0, before - before.mean(0))
        bend = mean - mean.mean(0) - delta @ C.T
        spread = jnp.sqrt((sd**2).mean(0) + (bend**2).mean(0))
        centre = jnp.where(given, here.r, x.mean(0))
        return states, _Linear(centre, mean.mean(0), spread, after.mean(0), C, F, B)

    normals = jax.random.normal(key, (mask.shape[0], size, mask.shape[1]), guide.r.dtype)
    return lax.scan(step, model.copies(size), (normals, inputs, guide, mask))[1]


class _Cloud(NamedTuple):
    """The particles: their states, log h at them, log weights (Σ log p - log q)."""

    state: State
    log_h: Array
    log_weight: Array


def _draw(model: _Flat, inputs: Inputs, guide: _Guide, mask: Array, key: Key[Array, ""], n: int) -> ConditionalPaths:
    """Sequential Monte Carlo with the guide; states are kept with the index of their parent, not as whole paths."""
    steps, d = mask.shape

    def one(
        state: State, xi: Array, given_input: Inputs, here: _Guide, given: Array
    ) -> tuple[State, Array, Array, Array]:
        q = _propose(model, state, given_input, here, given)
        x, log_q = _pick(q, xi, here, given)
        log_p = -0.5 * ((x - q.mean) / q.sd) ** 2 - jnp.log(q.sd) - 0.5 * jnp.log(2 * jnp.pi)
        state = model.advance(state, x, given_input)
        delta = model.deviation(state, here.state)
        return state, x, (log_p - log_q).sum(), here.l @ delta - 0.5 * delta @ here.L @ delta

    def step(cloud: _Cloud, at: tuple[Array, Array, Inputs, _Guide, Array]) -> tuple[_Cloud, tuple[Array, Array]]:
        xi, u, given_input, here, given = at
        state, x, gain, log_h = jax.vmap(one, (0, 0, None, None, None))(cloud.state, xi, given_input, here, given)
        return _resample(_Cloud(state, log_h, cloud.log_weight + gain), x, u)

    zeros = jnp.zeros(n, guide.r.dtype)
    start = _Cloud(model.copies(n), zeros, zeros)
    # Random numbers are drawn before the scans: one generator in the program, which is most of its compile time.
    draw_key, choose_key = jax.random.split(key)
    normals = jax.random.normal(draw_key, (steps, n, d), zeros.dtype)
    uniforms = jax.random.uniform(choose_key, (steps,), zeros.dtype)
    end, (xs, parents) = lax.scan(step, start, (normals, uniforms, inputs, guide, mask))
    weights = jax.nn.softmax(end.log_weight)
    paths, support = _trace_back(xs, parents, weights)
    ess = jnp.where(mask.all(axis=1), jnp.inf, support).min()
    return ConditionalPaths(paths, end.log_weight, support, jnp.minimum(ess, float(n)), 1 / (weights**2).sum())


def _resample(cloud: _Cloud, x: Array, u: Array) -> tuple[_Cloud, tuple[Array, Array]]:
    """Resample by weight · h when the effective number of these falls below n/2; keep the normalisation."""
    n = x.shape[0]
    twisted = cloud.log_weight + cloud.log_h
    weights = jax.nn.softmax(twisted)
    low = 1 / (weights**2).sum() < 0.5 * n
    parents = jnp.where(low, _systematic(u, weights), jnp.arange(n))
    state, log_h = jax.tree.map(lambda leaf: leaf[parents], (cloud.state, cloud.log_h))
    # Equal twisted weights after a resampling: weight · h = the mean of what it was.
    level = jax.nn.logsumexp(twisted) - jnp.log(n)
    log_weight = jnp.where(low, level - log_h, cloud.log_weight)
    return _Cloud(state, log_h, log_weight), (x, parents)


def _systematic(u: Float[Array, ""], weights: Float[Array, " n"]) -> Int[Array, " n"]:
    """Indices of n equal draws: one uniform u, n evenly spaced points (Kitagawa 1996)."""
    n = weights.shape[0]
    # Index i is drawn for the points in (sum of the weights before it, sum with it]: count points instead of searching.
    below = jnp.ceil(jnp.cumsum(weights) * n - u).astype(jnp.int32)
    marks = jnp.zeros(n, jnp.int32).at[jnp.clip(below, 0, n)].add(1, mode="drop")
    return jnp.minimum(jnp.cumsum(marks), n - 1)


def _trace_back(xs: Array, parents: Array, weights: Array) -> tuple[Array, Array]:
    """Whole paths from states (K, n, d) and the parents chosen after each step; support of each step."""
    n = weights.shape[0]

    def step(line: Array, at: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        x, parent = at
        line = parent[line]
        mass = jnp.zeros(n, weights.dtype).at[line].add(weights)
        return line, (x[line], 1 / (mass**2).sum())

    _, (paths, support) = lax.scan(step, jnp.arange(n), (xs, parents), reverse=True)
    return jnp.swapaxes(paths, 0, 1), support


def _straight_lines(first: Array, target: Array, mask: Array) -> Array:
    """Each channel linear in the step number between given values; from the first mean on, flat after the last."""
    steps = mask.shape[0]
    index = jnp.arange(1, steps + 1)[:, None]
    values = jnp.concatenate([first[None], target])
    last = lax.cummax(jnp.where(mask, index, 0), axis=0)
    following = lax.cummin(jnp.where(mask, index, steps + 1), axis=0, reverse=True)
    left = jnp.take_along_axis(values, last, axis=0)
    right = jnp.take_along_axis(values, jnp.minimum(following, steps), axis=0)
    part = (index - last) / jnp.maximum(following - last, 1)
    return jnp.where(following > steps, left, left + part * (right - left)).astype(target.dtype)


def _at(inputs: Inputs, k: int) -> Inputs:
    return jax.tree.map(lambda leaf: leaf[k], inputs)

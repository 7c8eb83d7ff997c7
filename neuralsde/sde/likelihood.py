"""How likely a process is to go from y0 to y1 in a time dt, for a gap too long for one step: simulated likelihood.

The law is that of m Euler-Maruyama steps of h = dt/m, x' = x + f h + √h G ξ, ξ ~ N(0, I) (G may be of any shape):

    p(y1 | y0) = E_q[w],    w = Π_{k < m-1} N(ξ_k; 0, I)/q(ξ_k) · p(y1 | x_{m-1})       (Pedersen 1995)

q decides how many paths that takes. `_look_ahead`: around a reference r the steps are linear, so that y1 | x_k is
Gaussian with mean c + F (x_k - r_k), a guided proposal (Schauer, van der Meulen & van Zanten 2017). `_propose`:
q(ξ) ∝ N(ξ; 0, I) N(y1; c' + F' (x' - r'), C); C mixes the reference's noise with that at the path's own state, which
the modified diffusion bridge (Durham & Gallant 2002) uses alone. The reference is a straight line, then a cloud of
guided paths: their mean, mean Jacobians, mean G Gᵀ. For linear drift and additive noise all weights are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float, Key

from neuralsde.errors import InputError
from neuralsde.sde.edge import as_floats, take_in
from neuralsde.sde.keys import checked_key
from neuralsde.sde.process import SDE, Diagonal, General, Ito, Scalar

_LARGEST_RATIO = 100.0
"""The proposal takes a path's own noise for at most this many times the reference's, and at least this part of it."""


class TransitionDensity(eqx.Module):
    """An estimate of log p(y1 | y0) under the law of m Euler-Maruyama steps.

    log_density:    () nats; the log of an unbiased estimate of p, hence low by about ½ standard_error² on average.
    standard_error: () of it, by the spread of the weights (delta method); 0 when they are equal.
    ess:            () effective number of paths, between 1 and n. Below some 50 neither of the two others is to be
                    believed: a proposal that misses the paths that matter looks certain.
    """

    log_density: Array
    standard_error: Array
    ess: Array

    @property
    def corrected(self) -> Array:
        """log_density + ½ standard_error²: the bias of the logarithm removed to second order."""
        return self.log_density + 0.5 * self.standard_error**2


def transition_log_density(
    process: SDE,
    y0: Any,
    y1: Any,
    dt: Any,
    *,
    steps: int,
    n: int,
    key: Key[Array, ""],
    t0: Any = 0.0,
    args: Any = None,
    mask: Any = None,
    pilots: int = 32,
) -> TransitionDensity:
    """Log p(y_{t0 + dt} = y1 | y_t0 = y0) under `steps` Euler-Maruyama steps, by n weighted guided paths.

    process: Ito, or Stratonovich and converted; any noise. One step must have a density in the entries of y1 that are
             given: `Scalar` noise, or `General(w)` with w < d, needs a mask to match.
    y0, y1:  arrays of one shape, or pytrees of one structure. dt: > 0. Many transitions: `jax.vmap`.
    steps:   m. One step is the Gaussian in closed form. The Euler law is off the exact one by O(dt/m) nats: repeat with
             2 m to see by how much.
    n:       paths; the standard error falls as 1/√n.
    mask:    in the structure of y1; True where it is given. The density is then that of these entries, and the
             others are not read (NaN is fine). None: all of them.
    pilots:  paths of the cloud that shapes the proposal; 0 keeps the straight line and saves the second pass.

    Cost: (pilots + 1)·m Jacobians of the drift and n·m steps, of O(d³) beside drift and diffusion; no path is stored.
    Law: exp(log_density) is unbiased for any process and any n; consistent as n -> ∞. Exact, with ess = n, for linear
    drift and additive noise. Differentiable in the leaves of `process`, y0, y1, dt and args: the normals are held
    fixed, so the derivative is that of the estimate itself, and exp(log_density) times it is unbiased for ∇p. (The
    places where the proposal is linearised are held fixed too: a proposal may be any, so this biases nothing.) In the
    linear case the derivative is exact too.

    The proposal has one mode. Where paths come to y1 by several ways (a long gap over a barrier) a share of the
    density is found late, `ess` is small, and the estimate is low by more than its standard error says.
    """
    _check_options(process, steps, n, pilots)
    start, end = as_floats(y0), as_floats(y1)
    given = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), end) if mask is None else mask
    given = jnp.asarray(given) if isinstance(end, jax.Array) else given
    _check_states(process, start, end, given)
    if not isinstance(dt, Tracer) and not np.all(np.asarray(dt) > 0):
        raise InputError(f"dt={dt!r}", "no time passes", "a positive time")
    # A Python number would be part of the program, and a new one a new program.
    dt, t0, args = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, float) else leaf, (dt, t0, args))
    return _solve(process, start, end, given, dt, t0, args, checked_key(key), steps, n, pilots)


def _check_options(process: Any, steps: Any, n: Any, pilots: Any) -> None:
    if not isinstance(process, SDE):
        raise InputError(f"process={process!r}", "not an SDE", "sde.SDE(drift, diffusion, noise=..., calculus=...)")
    for name, value, least in (("steps", steps, 1), ("n", n, 2), ("pilots", pilots, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"{name}={value!r}", expected=f"a whole number of at least {least}")


def _check_states(process: SDE, y0: Any, y1: Any, mask: Any) -> None:
    """One structure and one shape; enough Brownian motions where that can be known now."""
    shapes = [jax.tree.map(jnp.shape, state) for state in (y0, y1, mask)]
    if len({str(found) for found in shapes}) > 1:
        raise InputError(
            f"y0, y1 and mask of shapes {shapes[0]}, {shapes[1]} and {shapes[2]}",
            expected="one shape for all three, one transition a call",
            hint="jax.vmap over transitions",
        )
    d = sum(leaf.size for leaf in jax.tree.leaves(y0))
    motions = {Scalar: 1, General: getattr(process.noise, "m", d)}.get(type(process.noise), d)
    known = not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(mask))
    asked = sum(int(np.asarray(leaf).sum()) for leaf in jax.tree.leaves(mask)) if known else 0
    if motions < asked:
        raise InputError(
            f"{asked} given entries and {process.noise}",
            f"one step of {motions} Brownian motion(s) has no density in {asked} entries",
            f"at most {motions} given entries",
            "mask=..., with the entries that the noise enters; or a diffusion that reaches all of them",
        )


@eqx.filter_jit
def _solve(
    process: SDE,
    y0: Any,
    y1: Any,
    mask: Any,
    dt: Any,
    t0: Any,
    args: Any,
    key: Key[Array, ""],
    steps: int,
    n: int,
    pilots: int,
) -> TransitionDensity:
    start, given = ravel_pytree(y0)[0], ravel_pytree(mask)[0].astype(bool)
    end = jnp.where(given, ravel_pytree(y1)[0].astype(start.dtype), start)
    h = jnp.asarray(dt, start.dtype) / steps
    euler = _Euler.of(process, y0, args, jnp.asarray(t0, start.dtype) + h * jnp.arange(steps), h)
    # One draw for cloud and paths: a random generator is a good part of the program's compile time.
    normals = jax.random.normal(key, (steps - 1, pilots + n, euler.motions), start.dtype)
    guide = _look_ahead(euler, lax.stop_gradient(_line(start, end, steps))[:, None], end, given)
    if pilots and steps > 1:
        cloud = _draw(euler, guide, start, end, given, normals[:, :pilots]).paths
        # A poor proposal must not spoil the next one.
        cloud = jnp.where(jnp.isfinite(cloud).all((1, 2), keepdims=True), cloud, guide.r[:, None])
        guide = _look_ahead(euler, lax.stop_gradient(cloud), end, given)
    return _estimate(_draw(euler, guide, start, end, given, normals[:, pilots:]).log_weight)


def _estimate(log_weight: Float[Array, " n"]) -> TransitionDensity:
    """Mean of the weights, its relative standard error, and (Σw)²/Σw²."""
    n = log_weight.shape[0]
    total = jax.nn.logsumexp(log_weight)
    share = jnp.exp(log_weight - jnp.where(jnp.isfinite(total), total, 0.0))
    squares = (share**2).sum()
    ess = jnp.where(squares > 0, 1 / jnp.where(squares > 0, squares, 1.0), 0.0)
    variance = jnp.maximum(squares - 1 / n, 0.0) * n / max(n - 1, 1)
    spread = variance > 0
    error = jnp.where(spread, jnp.sqrt(jnp.where(spread, variance, 1.0)), 0.0)
    return TransitionDensity(total - math.log(n), error, jnp.minimum(ess, float(n)))


class _Euler(NamedTuple):
    """The steps on a flat state: x' = x + h drift + √h noise ξ, at the times t (m,)."""

    drift: Callable[[Array, Array], Array]
    noise: Callable[[Array, Array], Array]
    motions: int
    t: Array
    h: Array

    @classmethod
    def of(cls, process: SDE, y0: Any, args: Any, t: Array, h: Array) -> _Euler:
        """The coefficients of a process on y0's structure, as (t, x (d,)) -> (d,) and (d, motions)."""
        inside = take_in(process.to(Ito()), y0)
        shape, d = inside.y0.shape, inside.y0.size
        coefficients, noise = inside.process, process.noise

        def diffusion(t: Array, x: Array) -> Array:
            g = coefficients.diffusion(t, x.reshape(shape), args)
            return jnp.diag(g.ravel()) if isinstance(noise, Diagonal) else g.reshape(d, -1)

        motions = noise.m if isinstance(noise, General) else 1 if isinstance(noise, Scalar) else d
        return cls(lambda t, x: coefficients.drift(t, x.reshape(shape), args).ravel(), diffusion, motions, t, h)

    def mean(self, t: Array, x: Array) -> Array:
        return x + self.h * self.drift(t, x)


def _line(start: Array, end: Array, steps: int) -> Float[Array, "k d"]:
    """States at the times t: straight towards the given values, flat in the other entries."""
    part = jnp.arange(steps) / steps
    return start + part[:, None].astype(start.dtype) * (end - start)


class _Guide(NamedTuple):
    """What `_look_ahead` finds, by leading axis k = 0 ... m - 1: Y1 | x_k ~ N(c + F (x - r), own D P D + R).

    D scales the noise of the state at the end, `scale` (d,), to the noise where the path is.
    """

    r: Array
    c: Array
    F: Array
    P: Array
    R: Array
    scale: Array


def _look_ahead(euler: _Euler, cloud: Float[Array, "k p d"], end: Array, given: Bool[Array, " d"]) -> _Guide:
    """The moments of y1 given x_k, for steps linearised along a cloud of p paths, from the last step to the first.

    F_k = F_{k+1} A_k,  c_k = c_{k+1} + F_{k+1} e_k,  P_k = Σ_{j>=k} w h F_{j+1} a(t_j, y1) F_{j+1}ᵀ,
    R_k = Σ_{j>=k} h F_{j+1} ((1 - w) a_j + b_j) F_{j+1}ᵀ,  w = 1 - ((j - k)/(m - k))². On the reference that weighs the
    noise at x with ¾ and that at y1 with ¼, as the gradient of the squared distance between them does, to second
    order. With a Gaussian cloud the mean Jacobian A is the regression of the step on the state (Stein's identity),
    and b is what it leaves unexplained.
    """
    m, _, d = cloud.shape
    r = cloud.mean(1)

    def at(t: Array, states: Array) -> tuple[Array, ...]:
        slope = jax.vmap(jax.jacfwd(lambda x: euler.mean(t, x)))(states)
        # A direction without a finite derivative gives no guidance; the weights are right all the same.
        A = jnp.nan_to_num(slope, posinf=0.0, neginf=0.0).mean(0)
        means, G = jax.vmap(euler.mean, (None, 0))(t, states), jax.vmap(euler.noise, (None, 0))(t, states)
        bend = means - means.mean(0) - (states - states.mean(0)) @ A.T
        a, b = jnp.einsum("pij,pkj->ik", G, G), bend.T @ bend / euler.h
        return means.mean(0), A, jnp.stack([a, b]) / G.shape[0]

    means, A, ab = lax.map(lambda here: at(*here), (euler.t, cloud))
    last = jnp.where(given, end, means[-1])
    noise = jax.vmap(lambda t: euler.noise(t, last))(euler.t)
    at_end = noise @ jnp.swapaxes(noise, 1, 2)

    def back(carry: tuple[Array, ...], here: tuple[Array, ...]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        c, F, own, rest = carry
        A, ab, at_end, e, left = here
        v, b, v_end = (euler.h * F @ part @ F.T for part in (ab[0], ab[1], at_end))
        own = own + jnp.stack([left * v_end, left**2 * v_end])
        rest = rest + jnp.stack([v + b, left * v, left**2 * v])
        c, F = c + F @ e, F @ A
        P = 2 * own[0] / left - own[1] / left**2
        return (c, F, own, rest), (c, F, P, rest[0] - 2 * rest[1] / left + rest[2] / left**2)

    eye, zeros = jnp.eye(d, dtype=r.dtype), jnp.zeros((3, d, d), r.dtype)
    start = (jnp.where(given, last, 0.0), jnp.where(given[:, None], eye, 0.0), zeros[:2], zeros)
    left = m - jnp.arange(m, dtype=r.dtype)
    e = means - jnp.concatenate([r[1:], last[None]])
    _, (c, F, P, R) = lax.scan(back, start, (A, ab, at_end, e, left), reverse=True)
    # An entry that is not given has unit variance and no innovation: it pulls nothing.
    R = jnp.where(given[:, None] & given[None, :], R, eye)
    return _Guide(r, c, F, P, R, jnp.sqrt((noise**2).sum(2)))


class _Drawn(NamedTuple):
    """log_weight (n,); paths (m, n, d) at the times t, the start first."""

    log_weight: Array
    paths: Array


def _draw(
    euler: _Euler, guide: _Guide, start: Array, end: Array, given: Array, normals: Float[Array, "k n w"]
) -> _Drawn:
    """Guided paths from q, and their weights; the last step is not drawn but weighed, by its density at y1."""

    @jax.checkpoint  # one backward pass then stores the states and not what is inside a step
    def step(carry: tuple[Array, Array], at: tuple[Array, Array, Array, _Guide]) -> tuple[tuple[Array, Array], Array]:
        x, log_weight = carry
        t, z, scale, ahead = at
        moved, gain = jax.vmap(lambda x, z: _propose(euler, t, x, z, scale, ahead, end, given))(x, z)
        return (moved, log_weight + gain), x

    n = normals.shape[1]
    first = (jnp.broadcast_to(start, (n, start.size)), jnp.zeros(n, start.dtype))
    ahead = jax.tree.map(lambda leaf: leaf[1:], guide)
    (x, log_weight), xs = lax.scan(step, first, (euler.t[:-1], normals, guide.scale[:-1], ahead))
    last = jax.vmap(lambda x: _last_step(euler, x, end, given))(x)
    return _Drawn(log_weight + last, jnp.concatenate([xs, x[None]]))


def _propose(
    euler: _Euler, t: Array, x: Array, z: Array, scale: Array, ahead: _Guide, end: Array, given: Array
) -> tuple[Array, Array]:
    """One step of q: the next state, and log N(ξ; 0, I)/q(ξ).

    q(ξ) ∝ N(ξ; 0, I) N(ε; B ξ, C), ε = y1 - c' - F' (mean - r'), B = √h F' G: precision I + Bᵀ C⁻¹ B, never small.
    """
    mean, step = euler.mean(t, x), jnp.sqrt(euler.h) * euler.noise(t, x)
    own = jnp.sqrt((step**2).sum(1) / euler.h)
    ratio = jnp.where(scale > 0, own / jnp.where(scale > 0, scale, 1.0), 1.0)
    ratio = jnp.clip(ratio, 1 / _LARGEST_RATIO, _LARGEST_RATIO)
    C = ahead.R + ratio[:, None] * ahead.P * ratio[None, :]
    root = _root(C)
    innovation = jnp.where(given, end - ahead.c - ahead.F @ (mean - ahead.r), 0.0)
    both = _solved(root, jnp.concatenate([ahead.F @ step, innovation[:, None]], 1))
    B, pull = both[:, :-1], both[:, -1]
    factor = _root(jnp.eye(z.size, dtype=z.dtype) + B.T @ B)
    centre = _solved(factor, B.T @ pull)
    xi = _solved(factor, centre + z, trans=1)
    gain = 0.5 * (z @ z - xi @ xi) - jnp.log(jnp.diagonal(factor)).sum()
    return mean + step @ xi, gain


def _last_step(euler: _Euler, x: Array, end: Array, given: Array) -> Array:
    """Log density of the given entries of y1 after one step from x; -inf where the noise does not reach one."""
    mean, step = euler.mean(euler.t[-1], x), jnp.sqrt(euler.h) * euler.noise(euler.t[-1], x)
    eye = jnp.eye(x.size, dtype=x.dtype)
    cov = jnp.where(given[:, None] & given[None, :], step @ step.T, eye)
    reached = (jnp.diagonal(cov) > 0).all()
    root = _root(jnp.where(reached, cov, eye))
    off = _solved(root, jnp.where(given, end - mean, 0.0))
    value = -0.5 * (off @ off) - jnp.log(jnp.diagonal(root)).sum() - 0.5 * given.sum() * math.log(2 * math.pi)
    return jnp.where(reached, value, -jnp.inf)


def _root(C: Array) -> Array:
    """Lower Cholesky factor; the root of one number where there is only one, several times as fast."""
    return jnp.sqrt(C) if C.shape == (1, 1) else jnp.linalg.cholesky(C)


def _solved(root: Array, b: Array, trans: int = 0) -> Array:
    """root⁻¹ b, or root⁻ᵀ b."""
    return b / root[0, 0] if root.shape == (1, 1) else solve_triangular(root, b, lower=True, trans=trans)

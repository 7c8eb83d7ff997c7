"""What incomplete observations say of an SDE: a continuous-discrete Gaussian filter, and its likelihood.

Between rows the first two moments of dy = f dt + G dW run on (A = G Gᵀ, J = ∂f; Jazwinski 1970, §9.3, second order):

    dm/dt = f + ½ Σ_jk P_jk ∂_jk f,      dP/dt = J P + P Jᵀ + A + ½ Σ_jk P_jk ∂_jk A           (all at m)

A step h of order 2 takes the coefficients (f̄, J, Ā) at its middle and keeps P a covariance by its form:

    m' = m + h f̄,   P' = M P Mᵀ + h N Ā Nᵀ,   M = I + hJ + ½h²J²,  N = I + ½hJ

Exact moments as h -> 0 for a linear drift, whatever linear multiplicative noise; else up to the third moments. One step
of order 1 from a known state is the Euler law. A row is taken in entry by entry: an observed one conditions the rest,
a missing one stays latent; the product of the entries' densities is the likelihood (Kalman's for a linear SDE).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from neuralsde.errors import InputError
from neuralsde.sde.exact.parts import gaussian_log_density
from neuralsde.sde.process import SDE, Diagonal, Ito, Scalar

Order = Literal[1, 2]
Closure = Literal["first", "second"]


class Belief(eqx.Module):
    """What is known of a state: N(mean, cov)."""

    mean: Float[Array, "*rows d"]
    cov: Float[Array, "*rows d d"]


class Filtered(eqx.Module):
    """The course of a filter over n rows.

    off, var: (n, d) of each observed entry: its distance from what the rows before and the entries before it in its row
            let expect, and the variance of that; 0 and 1 where nothing was observed.
    seen:   (n, d) which entries were.
    before: the belief at each row from the rows before it; after: with the row taken in.
    """

    off: Float[Array, "*rows d"]
    var: Float[Array, "*rows d"]
    seen: Bool[Array, "*rows d"]
    before: Belief
    after: Belief

    @property
    def nats(self) -> Float[Array, "*rows d"]:
        """Log density of each observed entry given all before it, 0 elsewhere. Their sum is the log-likelihood."""
        return jnp.where(self.seen, gaussian_log_density(self.off, jnp.zeros_like(self.off), self.var), 0.0)


class Coefficients(NamedTuple):
    """f̄ (d,), J (d, d) and Ā (d, d) of a belief."""

    velocity: Array
    slope: Array
    spread: Array


def gaussian_filter(
    process: SDE,
    start: Belief,
    ts: Float[Array, " n"],
    ys: Float[Array, "n d"],
    seen: Bool[Array, "n d"],
    *,
    noise_sd: Float[Array, " d"] | None = None,
    substeps: int = 4,
    order: Order = 2,
    closure: Closure = "second",
    args: object = None,
) -> Filtered:
    """Filter the rows `ys[seen]`, read at `ts`, of a path of `process` that starts in `start` at ts[0].

    ys:       anything where `seen` is False.
    noise_sd: s.d. of the error of a reading; without it observed entries are exact.
    substeps: moment steps between two rows; each of `order` 1 (Euler) or 2.
    closure:  "first" leaves out the terms in ∂²: cheaper, and biased where a state is uncertain.

    A row at the time of the row before it moves nothing, so series can be padded with their last time. Observed entries
    need a variance before they are read: noise that reaches an entry only through the drift does so at order 2, or
    from the second substep of order 1 on. Raises InputError for a process that is not Ito.
    """
    if not isinstance(process.calculus, Ito):
        raise InputError("a Stratonovich process", "moments are those of Ito's form", hint="process.to(Ito())")
    error = jnp.zeros_like(start.mean) if noise_sd is None else jnp.asarray(noise_sd, start.mean.dtype)

    def row(belief: Belief, at: tuple[Array, Array, Array, Array]) -> tuple[Belief, Filtered]:
        t0, dt, y, here = at
        before = predict(process, belief, t0, dt, args, substeps=substeps, order=order, closure=closure)
        after, off, var = observe(before, y, here, error)
        return after, Filtered(off, var, here, before, after)

    earlier = jnp.concatenate([ts[:1], ts[:-1]])
    gaps = (ts - earlier).astype(start.mean.dtype)
    return lax.scan(row, start, (earlier.astype(start.mean.dtype), gaps, ys, seen))[1]


def predict(
    process: SDE,
    belief: Belief,
    t0: Float[Array, ""],
    dt: Float[Array, ""],
    args: object = None,
    *,
    substeps: int = 4,
    order: Order = 2,
    closure: Closure = "second",
) -> Belief:
    """The belief a time `dt` after `t0`, by `substeps` steps of the moment equations."""
    h = dt / substeps

    def step(now: Belief, k: Array) -> tuple[Belief, None]:
        t = t0 + k * h
        return (_euler if order == 1 else _midpoint)(process, now, t, h, args, closure), None

    return lax.scan(step, belief, jnp.arange(substeps))[0]


def observe(
    belief: Belief, y: Float[Array, " d"], seen: Bool[Array, " d"], noise_sd: Float[Array, " d"]
) -> tuple[Belief, Float[Array, " d"], Float[Array, " d"]]:
    """The belief after the readings `y[seen]`, and of each the distance from its mean, and its variance, before it."""

    def entry(now: Belief, at: tuple[Array, Array, Array, Array]) -> tuple[Belief, tuple[Array, Array]]:
        i, value, here, sd = at
        var = jnp.where(here, now.cov[i, i] + sd**2, 1.0)
        off = jnp.where(here, value - now.mean[i], 0.0)
        gain = jnp.where(here, now.cov[i] / var, 0.0)
        return Belief(now.mean + gain * off, now.cov - gain[:, None] * now.cov[i]), (off, var)

    after, (off, var) = lax.scan(entry, belief, (jnp.arange(len(y)), y, seen, noise_sd))
    return after, off, var


def _euler(process: SDE, now: Belief, t: Array, h: Array, args: object, closure: Closure) -> Belief:
    velocity, slope, spread = coefficients(process, now, t, args, closure)
    carry = jnp.eye(len(velocity), dtype=slope.dtype) + h * slope
    return Belief(now.mean + h * velocity, carry @ now.cov @ carry.T + h * spread)


def _midpoint(process: SDE, now: Belief, t: Array, h: Array, args: object, closure: Closure) -> Belief:
    """First half an Euler step to the middle, then the whole step: two rounds of one compiled stage."""

    def stage(at: Belief, late: Array) -> tuple[Belief, None]:
        velocity, slope, spread = coefficients(process, at, t + jnp.where(late, h / 2, 0.0), args, closure)
        eye = jnp.eye(len(velocity), dtype=slope.dtype)
        half = eye + h / 2 * slope
        carry = jnp.where(late, eye + h * slope @ half, half)
        noise = jnp.where(late, h * half @ spread @ half.T, h / 2 * spread)
        mean = now.mean + jnp.where(late, h, h / 2) * velocity
        return Belief(mean, carry @ now.cov @ carry.T + noise), None

    return lax.scan(stage, now, jnp.array([False, True]))[0]


def coefficients(
    process: SDE, belief: Belief, t: Float[Array, ""], args: object = None, closure: Closure = "second"
) -> Coefficients:
    """Averages of drift and G Gᵀ over a belief, to first or second order, and the slope of the drift at its mean."""
    d = len(belief.mean)

    def both(y: Array) -> Array:
        f = process.drift(t, y, args)
        return jnp.concatenate([jnp.asarray(f, y.dtype), _packed(process, process.diffusion(t, y, args), y)])

    def slopes(y: Array) -> tuple[Array, tuple[Array, Array]]:
        J, value = jax.jacfwd(lambda x: (both(x),) * 2, has_aux=True)(y)
        return J, (J, value)

    if closure == "first":
        _, (J, value) = slopes(belief.mean)
    else:
        curvature, (J, value) = jax.jacfwd(slopes, has_aux=True)(belief.mean)
        value = value + 0.5 * (curvature * belief.cov).sum((1, 2))
    packed = value[d:]
    spread = jnp.diag(packed) if isinstance(process.noise, Diagonal) else packed.reshape(d, d)
    return Coefficients(value[:d], J[:d], spread)


def _packed(process: SDE, g: Array, y: Array) -> Array:
    """G Gᵀ, flat; of diagonal noise only its diagonal."""
    g = jnp.asarray(g, y.dtype)
    if isinstance(process.noise, Diagonal):
        return g**2
    matrix = g[:, None] if isinstance(process.noise, Scalar) else g
    return (matrix @ matrix.T).ravel()

"""The law of the experiment with its exact score, the paths that samplers should follow, and a score that errs.

    p_0 = eight Gaussians on radius 4, s.d. 0.3, weights ∝ 1..8,   noised by VP with β from 0.1 to 20, t from 1 to 10⁻³
    u(x, t) = f x - ½ g² ∇log p_t                                  the probability flow; solved by 6,000 steps of RK4
    s̃ = s + 0.05 ‖s‖ e,   ‖e‖ = 1                                  an error of 5 % of the score's own length everywhere

The direction e is either a smooth function of (x, log SNR), the same for all, as the error of a trained network is; or
another one at every point, as noise that is drawn anew at every evaluation (a hash of the point, so still a function).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Key

from neuralsde.noising import VP, Mixture, Predictor, Schedule, Spacing, eight_gaussians, times

SCHEDULE = VP(0.1, 20.0)
T0, T1 = 1e-3, 1.0
ENTROPY = 2.3625
"""Of the law at T0, in nats (TABLES 2.4); `entropy` checks it."""


def law() -> Mixture:
    """The law of the data."""
    return eight_gaussians()


class Score(eqx.Module):
    """The score of a planar mixture of one s.d.: `Mixture.score`, several times as fast for many points at one time.

    Under vmap the points lie along the last axis, where compiled loops are long, and not components and coordinates.
    """

    law: Mixture
    schedule: Schedule

    def parts(self, t: Any) -> tuple[Array, Array, Array]:
        """What the score needs of a time: each component's level (k,) at the origin, its mean (k, 2), the variance."""
        noised = self.law.at(self.schedule, t)
        v = noised.sds[0] ** 2
        return jnp.log(noised.weights) - 0.5 * jnp.square(noised.means).sum(1) / v, noised.means, v

    def __call__(self, x: Float[Array, " d"], t: Any) -> Float[Array, " d"]:
        level, means, v = self.parts(t)
        return (_pull(level, means, v, x) - x) / v


@custom_vmap
def _pull(level: Array, means: Array, v: Array, x: Array) -> Array:
    """Mean of the components' means (k, 2) at x (2,), by their shares there."""
    return _pulls(level[:, None], means[..., None], v[None], x[:, None])[:, 0]


@_pull.def_vmap
def _(n: int, batched: Any, *given: Array) -> tuple[Array, bool]:
    last = [jnp.moveaxis(one, 0, -1) if many else one[..., None] for one, many in zip(given, batched, strict=True)]
    return jnp.broadcast_to(_pulls(*last), (2, n)).T, True


def _pulls(level: Array, means: Array, v: Array, x: Array) -> Array:
    """The same for points along the last axis, (2, n); the others have as many entries there, or one."""
    terms = level + (means[:, 0] * x[0] + means[:, 1] * x[1]) / v
    shares = jnp.exp(terms - terms.max(0))
    return jnp.stack([(means[:, j] * shares).sum(0) for j in range(2)]) / shares.sum(0)


def grid(steps: int, spacing: Spacing) -> Float[Array, " k"]:
    """Times from T1 to T0."""
    return times(SCHEDULE, steps, spacing, t0=T0, t1=T1)


def exact() -> Predictor:
    """The predictor that knows the score."""
    return Predictor(Score(law(), SCHEDULE), "score", SCHEDULE)


def starts(n: int, *, key: Key[Array, ""]) -> Float[Array, "n 2"]:
    """Draws of the law at T1, exactly."""
    return law().at(SCHEDULE, T1).sample(n, key=key)


def truth(n: int, *, key: Key[Array, ""]) -> Float[Array, "n 2"]:
    """Draws of the law at T0, at which samplers stop."""
    return law().at(SCHEDULE, T0).sample(n, key=key)


# -- where a path should end -----------------------------------------------------------------------------------------


def reference(x: Float[Array, "n 2"], steps: int) -> Float[Array, "n 2"]:
    """Where the probability flow takes every x from T1 to T0: RK4 in log SNR on z = x/α, for which dz = ε dσ̃."""
    return _reference(Score(law(), SCHEDULE), jnp.asarray(x, float), steps)


@eqx.filter_jit
def _reference(score: Score, x: Array, steps: int) -> Array:
    first, last = SCHEDULE.log_snr(T1), SCHEDULE.log_snr(T0)
    h = (last - first) / steps
    clock = jnp.linspace(first, last, 2 * steps + 1)  # both ends and the middle of every step
    ts = SCHEDULE.time_at(clock)
    every = jax.vmap(score.parts)(ts), SCHEDULE.alpha(ts), SCHEDULE.sigma(ts)

    def slope(z: Array, at: Any) -> Array:
        """dz/dlog SNR = -½ σ̃ ε̂, ε̂ = -σ score; z (2, n)."""
        (level, means, v), alpha, sigma = at
        pull = _pulls(level[:, None], means[..., None], v[None], alpha * z)
        return 0.5 * sigma**2 / (alpha * v) * (pull - alpha * z)

    def step(z: Array, i: Array) -> tuple[Array, None]:
        start, middle, end = (jax.tree.map(lambda leaf, k=k: leaf[2 * i + k], every) for k in range(3))
        a = slope(z, start)
        b = slope(z + 0.5 * h * a, middle)
        c = slope(z + 0.5 * h * b, middle)
        d = slope(z + h * c, end)
        return z + h / 6 * (a + 2 * b + 2 * c + d), None

    z = lax.scan(step, x.T / SCHEDULE.alpha(T1), jnp.arange(steps))[0]
    return SCHEDULE.alpha(T0) * z.T


# -- a score that errs -----------------------------------------------------------------------------------------------

_WAVES = 6


class Erring(eqx.Module):
    """A score with an error of the relative size `smooth` in a fixed smooth direction, and `white` in a fresh one."""

    net: Callable[[Any, Any], Any]
    schedule: Schedule
    smooth: Float[Array, ""]
    white: Float[Array, ""]
    waves: Float[Array, "w 3"]
    phases: Float[Array, " w"]

    def __init__(self, net: Any, schedule: Schedule, *, smooth: float = 0.0, white: float = 0.0) -> None:
        self.net, self.schedule = net, schedule
        self.smooth, self.white = jnp.asarray(smooth, float), jnp.asarray(white, float)
        rng = np.random.default_rng(0)
        # Lengths of about one in x, where the law has an s.d. of 0.3 to 4, and of two in log SNR, which goes over 19.
        self.waves = jnp.asarray(rng.standard_normal((_WAVES, 3)) * [1.0, 1.0, 0.5], float)
        self.phases = jnp.asarray(rng.uniform(0, 2 * np.pi, _WAVES), float)

    def __call__(self, x: Float[Array, " d"], t: Any) -> Float[Array, " d"]:
        score = self.net(x, t)
        length = jnp.sqrt(jnp.square(score).sum())
        return score + length * (self.smooth * self.direction(x, t) + self.white * _scattered(x, t))

    def direction(self, x: Float[Array, " d"], t: Any) -> Float[Array, " d"]:
        """The unit vector that turns smoothly from point to point."""
        clock, turn = self.schedule.log_snr(t), jnp.zeros((), x.dtype)
        for (p, q, r), phase in zip(self.waves, self.phases, strict=True):  # written out: one loop over points
            turn = turn + jnp.sin(p * x[0] + q * x[1] + r * clock + phase)
        angle = math.pi * math.sqrt(2 / _WAVES) * turn
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def _scattered(x: Array, t: Any) -> Array:
    """A unit vector whose direction is a hash of the point and the time, bits mixed by multiplications and shifts."""
    bits = jnp.zeros((), jnp.uint32)
    for number in (x[0], x[1], jnp.asarray(t, x.dtype)):
        bits = (bits ^ lax.bitcast_convert_type(number.astype(jnp.float32), jnp.uint32)) * np.uint32(0x9E3779B1)
        bits = (bits ^ (bits >> 15)) * np.uint32(0x85EBCA77)
        bits = bits ^ (bits >> 13)
    angle = bits.astype(x.dtype) * (2 * np.pi / 2**32)
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def erring(*, smooth: float = 0.0, white: float = 0.0) -> Predictor:
    """The predictor that errs; its two sizes are arrays, so that one program serves both kinds of error."""
    return Predictor(Erring(exact().net, SCHEDULE, smooth=smooth, white=white), "score", SCHEDULE)

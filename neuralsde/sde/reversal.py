"""A process run backward in law, the SDE of the reversed time; and the ODE with its marginals in either direction.

For dy = f dt + G dW (Ito) with density p_t, the process x_s = y_{T - s}, s = T - t, solves (Anderson 1982)

    dx = (-f + ∇·(G Gᵀ) + G Gᵀ ∇log p_{T-s}) ds + G dW̄,    all at (T - s, x),    (∇·D)_i = Σ_j ∂_j D_ij,

with a Brownian motion W̄ of its own: a new process with a new key, whose *laws* are those of y in reverse order. It is
not the pathwise inverse (decreasing `ts`: the same path back to the same start; no score), and not the continuous
adjoint, which needs that inverse. The score belongs to the start law: p_t is the marginal of y from its own start.
Half of the way between f and the reversed drift lies the probability flow (Song et al. 2021), without any noise:

    dy/dt = f - ½ ∇·(G Gᵀ) - ½ G Gᵀ ∇log p_t        the same law at every time, and other laws of pairs of times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from neuralsde.errors import InputError
from neuralsde.sde.edge import AtEdge, take_in
from neuralsde.sde.process import SDE, Diagonal, General, Ito, Scalar, Stratonovich

Score = Callable[[Any, Any, Any], Any]


def time_reversal(process: SDE, score: Score, t0: float, t1: float) -> SDE:
    """The Ito process of the time s = t1 - t, from the law of y at t1 (s = 0) to that at t0 (s = t1 - t0).

    process: of an array state or a pytree; a Stratonovich one is converted first.
    score:   (t, y, args) -> ∇log p_t(y), in the shape and structure of y, in the forward time t.
    t0, t1:  the forward interval; solve the reversal over s in [0, t1 - t0], e.g. ts = t1 - forward_ts[::-1].

    The noise has the shape of the forward one and the same dependence on y. Cost of the divergence beside f, G and the
    score: none for additive noise; one JVP for Diagonal noise that is separable or commutative; one per entry of y for
    any other. Accuracy is that of the score: where p_t is nearly a point the score is stiff, so that s should stop
    short of a start that is known exactly.
    """
    if not isinstance(process, SDE):
        raise InputError(f"process={process!r}", "not an SDE", "sde.SDE(drift, diffusion, noise=..., calculus=...)")
    if not callable(score):
        raise InputError(f"score={score!r}", "not a function", "score(t, y, args), the gradient of log p_t at y")
    if not t0 < t1:
        raise InputError(f"t0={t0!r}, t1={t1!r}", expected="the forward interval, t0 < t1")
    forward = process.to(Ito())
    return SDE(ReversedDrift(forward, score, t1), ReversedDiffusion(forward, t1), process.noise, Ito())


class ReversedDrift(eqx.Module):
    """-f + ∇·(G Gᵀ) + G Gᵀ score, as a function of s; made by `time_reversal`."""

    process: SDE
    score: Score
    t1: Any

    def __call__(self, s: Any, y: Any, args: Any) -> Any:
        t = jnp.asarray(self.t1 - s)
        process, x, restore = take_in(self.process, y)  # a pytree becomes one vector, while tracing
        score = AtEdge(self.score, "score", process.noise, restore, isinstance(y, jax.Array))
        f, g = process.drift(t, x, args), process.diffusion(t, x, args)
        return restore(-f + _squared(process, g, score(t, x, args)) + covariance_divergence(process, t, x, args))


class ReversedDiffusion(eqx.Module):
    """G at t1 - s; made by `time_reversal`."""

    process: SDE
    t1: Any

    def __call__(self, s: Any, y: Any, args: Any) -> Any:
        return self.process.diffusion(self.t1 - s, y, args)


def probability_flow(process: SDE, score: Score) -> SDE:
    """The ordinary equation with the marginals of `process`: v = f - ½ ∇·(G Gᵀ) - ½ G Gᵀ ∇log p_t, noise zero.

    process: of an array state or a pytree; a Stratonovich one is converted first.
    score:   (t, y, args) -> ∇log p_t(y), such as a `models.marginal_score.MarginalScore`.

    Solve it as any process, for example by `sde.simulate(..., method=sde.Heun())`, of second order here; the key is not
    read. It has the one-time laws of the process and none of its other laws. From a point start it has to begin at the
    first time that has a score. Source: Song et al. 2021, in this form for any G.
    """
    # The reversal around t1 = 0 runs in s = -t, exactly; its drift is -f + ∇·(G Gᵀ) + G Gᵀ ∇log p.
    reverse = time_reversal(process, score, -1.0, 0.0)
    drift = FlowDrift(process.to(Ito()), reverse)
    return SDE(drift, lambda t, y, args: jax.tree.map(jnp.zeros_like, y), Diagonal("additive"), Stratonovich())


class FlowDrift(eqx.Module):
    """½ (f - reversed drift): made by `probability_flow`."""

    process: SDE
    reverse: SDE

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        f, r = self.process.drift(t, y, args), self.reverse.drift(-jnp.asarray(t), y, args)
        return jax.tree.map(lambda f, r: 0.5 * (f - r), f, r)


def _squared(process: SDE, g: Any, v: Any) -> Array:
    """G Gᵀ v."""
    if isinstance(process.noise, Diagonal):
        return g**2 * v
    if isinstance(process.noise, Scalar):
        return g * (g * v).sum()
    return g @ jnp.tensordot(v, g, axes=jnp.ndim(v))


def covariance_divergence(process: SDE, t: Any, y: Any, args: Any = None) -> Array:
    """∇·(G Gᵀ), (∇·D)_i = Σ_j ∂_j D_ij, exactly, in the shape of y; of an Ito or Stratonovich process alike.

    Diagonal: 2 g_i ∂_i g_i. One column g (Scalar): (∂g) g + g ∇·g. General: the sum of that over columns.
    """
    noise = process.noise
    if noise.depends == "additive":
        return jnp.zeros_like(y)
    if isinstance(noise, Diagonal):
        return 4 * process.correction(t, y, args)  # the correction is half of g_i ∂_i g_i, at its own least cost

    def g_of(state: Array) -> Array:
        return jnp.asarray(process.diffusion(t, state, args), y.dtype)

    columns = jnp.moveaxis(g_of(y), -1, 0) if isinstance(noise, General) else g_of(y)[None]
    J = jax.jacfwd(g_of)(y)
    J = jnp.moveaxis(J, jnp.ndim(y), 0) if isinstance(noise, General) else J[None]
    d = jnp.size(y)
    J, flat = J.reshape(-1, d, d), columns.reshape(-1, d)
    moved = jnp.einsum("kij,kj->i", J, flat) + jnp.einsum("kjj,ki->i", J, flat)
    return moved.reshape(jnp.shape(y))

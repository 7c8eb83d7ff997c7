"""The law of a whole gap, from the coefficients: what a likelihood is made of.

    one step        x' ~ N(x + f s, G Gᵀ s)                                                     Euler-Maruyama
    m steps of s/m  mean ← E[x + f h],  P ← Cov[x + f h] + E[G Gᵀ] h,  h = s/m, x ~ N(mean, P)   moments by cubature
    local linear    the law of dx = (f + J (x - x0) + M t) dt + G dW over s, J = ∂f/∂x          Shoji & Ozaki 1998

with f, G, J and M = ½ Σ (G Gᵀ)_jk ∂_j ∂_k f at x0. In the mean and the variance of a gap s one step leaves errors of
order s², m steps s²/m + s³, local linearisation s³ where the noise is constant: so the bias of fitted coefficients
(THEORY 15) is of order s, s/m and s². s is the time span of each channel, its gap and its age: in units of it the
gap is [0, 1] with drift f s and noise G √s.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from neuralsde.models.sequence_sde.law import StepLaw
from neuralsde.models.sequence_sde.window import Window
from neuralsde.sde import LinearSDE

Drift = Callable[[Window], Array]
Noise = Callable[[Window], tuple[Array, Array]]

_ROUNDING = 8
"""Share of the diagonal that is added to a covariance before its Cholesky factor, in units of the machine epsilon."""


def one_step(
    drift: Float[Array, " d"],
    noise: tuple[Float[Array, " d"], Float[Array, "d r"]],
    window: Window,
    span: Float[Array, " d"],
    dof: Float[Array, " d"] | None = None,
) -> StepLaw:
    """One Euler-Maruyama step over `span` (d,)."""
    root = jnp.sqrt(span)
    return StepLaw(window.present + drift * span, noise[0] * root, noise[1] * root[:, None], dof)


def several_steps(drift: Drift, noise: Noise, window: Window, span: Float[Array, " d"], steps: int) -> StepLaw:
    """Mean and covariance of the chain of `steps` Euler-Maruyama steps, as a Gaussian.

    Means over a state x ~ N(mean, P) are those over 2 d points mean ± √d times a column of √P, right for polynomials
    up to degree three (the cubature of Arasaratnam & Haykin 2009); no derivative of the networks is taken. The moments
    are exact for a linear drift with G Gᵀ at most quadratic in the state, and with constant noise so is the law.
    """
    h, d = span / steps, len(span)

    def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        mean, P = carry
        columns = jnp.sqrt(d) * _root(P).T

        def from_point(off: Array) -> tuple[Array, tuple[Array, Array]]:
            here = window.moved(mean + off)
            return off + drift(here) * h, noise(here)

        off, (sd, loading) = jax.vmap(from_point)(jnp.concatenate([columns, -columns]))
        move = off.mean(0)
        spread = (off - move).T @ (off - move) + jax.vmap(lambda *G: _covariance(G, h))(sd, loading).sum(0)
        return (mean + move, spread / (2 * d)), None

    first = window.present + drift(window) * h, _covariance(noise(window), h)
    return _gaussian(*lax.scan(step, first, None, length=steps - 1)[0])


def local_linear(drift: Drift, noise: Noise, window: Window, span: Float[Array, " d"]) -> StepLaw:
    """The drift replaced by its Ito expansion at the start, the noise by its value there; exact for a linear SDE."""
    x0, d = window.present, len(span)
    (sd, loading), root = noise(window), jnp.sqrt(span)
    columns = jnp.concatenate([jnp.diag(sd * root), loading * root[:, None]], axis=1)

    def move(x: Array) -> Array:
        return drift(window.moved(x)) * span

    def bend(v: Array) -> Array:
        return jax.jvp(lambda x: jax.jvp(move, (x,), (v,))[1], (x0,), (v,))[1]

    value, slope = move(x0), jax.jacfwd(move)(x0)
    over_time = 0.5 * jax.vmap(bend, in_axes=1)(columns).sum(0)
    # time is one more state, so that the drift is linear in (x - x0, t)
    A = jnp.zeros((d + 1, d + 1), x0.dtype).at[:d, :d].set(slope).at[:d, d].set(over_time)
    tangent = LinearSDE(A, jnp.append(value, 1.0), jnp.pad(columns, ((0, 1), (0, 0))))
    _, shift, P = tangent.kernel(1.0)
    return _gaussian(x0 + shift[:d], P[:d, :d])


def _root(P: Array) -> Array:
    """√P, a Cholesky factor."""
    eps = _ROUNDING * jnp.finfo(P.dtype).eps
    return jnp.sqrt(P) if len(P) == 1 else jnp.linalg.cholesky(P + eps * jnp.diag(jnp.diagonal(P)))


def _covariance(noise: tuple[Array, Array], span: Array) -> Array:
    root = jnp.sqrt(span)
    sd, loading = noise[0] * root, noise[1] * root[:, None]
    return jnp.diag(jnp.square(sd)) + loading @ loading.T


def _gaussian(mean: Array, P: Array) -> StepLaw:
    if len(mean) == 1:
        return StepLaw(mean, jnp.sqrt(P[0]), jnp.zeros((1, 0), mean.dtype))
    return StepLaw(mean, jnp.zeros_like(mean), _root(P))

"""The law of a whole gap, from the coefficients: what a likelihood is made of.

    one step        x' ~ N(x + f s, G Gᵀ s)                                                 Euler-Maruyama
    m steps of s/m  mean ← mean + f h,  P ← (I + J h) P (I + J h)ᵀ + G Gᵀ h,  J = ∂f/∂x     moments, f linearised
    local linear    the exact law of dx = (f + J (x - x0)) dt + G dW over s                 (Ozaki 1992, Shoji & Ozaki 1998)

The last two are of weak order two in the gap where the noise is constant, so f and G are those of the process itself
and not effective ones for the gap (THEORY 15). s is the time span of each channel, its gap and its age: in units of
it the gap is [0, 1] with drift f s and noise G √s.
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

_ROUNDING = 1e-6
"""Share of the diagonal that is added to a covariance before its Cholesky factor, against rounding in float32."""


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
    """Mean and covariance after `steps` steps, the drift linear and the noise constant over each step's spread.

    Exact for a linear drift and noise that does not depend on the state: there it is the law of the Euler-Maruyama
    chain itself.
    """
    h = span / steps

    def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        mean, P = carry
        here = window.moved(mean)
        move, slope = _with_slope(drift, here, h)
        push = jnp.eye(len(mean), dtype=mean.dtype) + slope
        return (mean + move, push @ P @ push.T + _covariance(noise(here), h)), None

    zero = jnp.zeros((len(span), len(span)), span.dtype)
    mean, P = lax.scan(step, (window.present, zero), None, length=steps)[0]
    return _gaussian(mean, P)


def local_linear(drift: Drift, noise: Noise, window: Window, span: Float[Array, " d"]) -> StepLaw:
    """The drift replaced by its tangent at the start, the noise by its value there; exact for a linear SDE."""
    move, slope = _with_slope(drift, window, span)
    sd, loading = noise(window)
    root = jnp.sqrt(span)
    tangent = LinearSDE(slope, move, jnp.concatenate([jnp.diag(sd * root), loading * root[:, None]], axis=1))
    _, shift, P = tangent.kernel(1.0)
    return _gaussian(window.present + shift, P)


def _with_slope(drift: Drift, window: Window, span: Array) -> tuple[Array, Array]:
    """F(x) s (d,) and its Jacobian (d, d)."""

    def move(x: Array) -> tuple[Array, Array]:
        value = drift(window.moved(x)) * span
        return value, value

    slope, value = jax.jacfwd(move, has_aux=True)(window.present)
    return value, slope


def _covariance(noise: tuple[Array, Array], span: Array) -> Array:
    root = jnp.sqrt(span)
    sd, loading = noise[0] * root, noise[1] * root[:, None]
    return jnp.diag(jnp.square(sd)) + loading @ loading.T


def _gaussian(mean: Array, P: Array) -> StepLaw:
    if len(mean) == 1:
        return StepLaw(mean, jnp.sqrt(P[0]), jnp.zeros((1, 0), mean.dtype))
    P = P + jnp.diag(_ROUNDING * jnp.diagonal(P))
    return StepLaw(mean, jnp.zeros_like(mean), jnp.linalg.cholesky(P))

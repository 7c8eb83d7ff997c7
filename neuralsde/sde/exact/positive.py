"""Processes on the half line: geometric Brownian motion and the square-root process of Cox, Ingersoll & Ross (1985).

    GBM   dy = mu y dt + sigma y dW                     log y_t | y_0 ~ N(log y_0 + (mu - sigma²/2) t, sigma² t)
    CIR   dy = kappa (theta - y) dt + sigma √y dW       2 c y_t | y_0 ~ χ'² of 2(q + 1) degrees, non-centrality 2u

    D = (1 - e^{-kappa t})/kappa, c = 2/(sigma² D), u = c y_0 e^{-kappa t}, v = c y_t, q = 2 kappa theta/sigma² - 1:
    p(y_t | y_0) = c e^{-u-v} (v/u)^{q/2} I_q(2√(uv)) = Σ_n Poisson(n; u) Gamma(y_t; n + q + 1, rate c).

The Feller index q + 1 = 2 kappa theta/sigma² decides what happens at 0: never reached from 1 on, touched below 1. √y is
not Lipschitz there, so existence and uniqueness come from Yamada & Watanabe (1971) and not from the usual theorem.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.sde.exact.parts import chain, decay, floats, gaussian_log_density, rates
from neuralsde.sde.process import SDE, Diagonal

_LARGE = 30.0  # from here on the expansion in 1/√(q² + z²) holds to rounding; below, the series in z² does
_SERIES_TERMS = 90
_EXPANSION_TERMS = 10


class GBM(eqx.Module):
    """Geometric Brownian motion, entry by entry: growth mu (per time), volatility sigma (per root of time), y0 > 0."""

    mu: Array = eqx.field(converter=rates)
    sigma: Array = eqx.field(converter=rates)

    def process(self) -> SDE:
        """The Ito SDE, with separable diagonal noise."""
        return SDE(self._drift, self._diffusion, Diagonal(depends="separable"))

    def _drift(self, t: Any, y: Any, args: Any) -> Array:
        return self.mu * y

    def _diffusion(self, t: Any, y: Any, args: Any) -> Array:
        return self.sigma * y

    def solution(self, y0: Any, t: Any, W: Any) -> Array:
        """The path itself: y_t as a function of the Brownian motion at t. The oracle of strong orders."""
        y0, t, W = floats(y0, t, W)
        return y0 * jnp.exp((self.mu - 0.5 * self.sigma**2) * t + self.sigma * W)

    def transition(self, y0: Any, dt: Any) -> tuple[Array, Array]:
        """Mean and variance of y_dt given y_0 = y0 (the law is log-normal, not Gaussian)."""
        y0, dt = floats(y0, dt)
        mean = y0 * jnp.exp(self.mu * dt)
        return mean, mean**2 * jnp.expm1(self.sigma**2 * dt)

    def covariance(self, y0: Any, s: Any, t: Any) -> Array:
        """Cov(y_s, y_t) given y_0 = y0."""
        y0, s, t = floats(y0, s, t)
        return y0**2 * jnp.exp(self.mu * (s + t)) * jnp.expm1(self.sigma**2 * jnp.minimum(s, t))

    def sample(self, y0: Any, ts: Any, *, key: Key[Array, ""]) -> Float[Array, "k ..."]:
        """An exact path at increasing times ts (k,), (k, *y0.shape); the first is y0."""
        return jnp.exp(chain(self._log_transition, jnp.log(floats(y0)[0]), ts, key))

    def log_density(self, y1: Any, y0: Any, dt: Any) -> Array:
        """Log p(y_dt = y1 | y_0 = y0), entry by entry."""
        y1, y0, dt = floats(y1, y0, dt)
        return gaussian_log_density(jnp.log(y1), *self._log_transition(jnp.log(y0), dt)) - jnp.log(y1)

    def _log_transition(self, log_y0: Array, dt: Array) -> tuple[Array, Array]:
        mean = log_y0 + (self.mu - 0.5 * self.sigma**2) * dt
        return mean, jnp.broadcast_to(self.sigma**2 * dt, mean.shape)


class CIR(eqx.Module):
    """The square-root process, entry by entry: speed kappa > 0, level theta > 0, volatility sigma > 0; y0 >= 0.

    kappa per time; theta in units of y; sigma in root of y per root of time.
    """

    kappa: Array = eqx.field(converter=rates)
    theta: Array = eqx.field(converter=rates)
    sigma: Array = eqx.field(converter=rates)

    @property
    def feller_index(self) -> Array:
        """2 kappa theta/sigma²; at least 1: the path stays positive; below 1: it touches 0 and is reflected."""
        return 2 * self.kappa * self.theta / self.sigma**2

    def process(self) -> SDE:
        """The Ito SDE, with separable diagonal noise; below 0, where a step may land, the diffusion is 0."""
        return SDE(self._drift, self._diffusion, Diagonal(depends="separable"))

    def _drift(self, t: Any, y: Any, args: Any) -> Array:
        return self.kappa * (self.theta - y)

    def _diffusion(self, t: Any, y: Any, args: Any) -> Array:
        return self.sigma * _root(y)

    def transition(self, y0: Any, dt: Any) -> tuple[Array, Array]:
        """Mean and variance of y_dt given y_0 = y0 (the law is a non-central chi-square, not Gaussian)."""
        y0, dt = floats(y0, dt)
        left, D = jnp.exp(-self.kappa * dt), decay(self.kappa, dt)
        mean = self.theta + (y0 - self.theta) * left
        return mean, self.sigma**2 * D * (y0 * left + 0.5 * self.kappa * self.theta * D)

    def covariance(self, y0: Any, s: Any, t: Any) -> Array:
        """Cov(y_s, y_t) given y_0 = y0: the variance at the earlier time, e^{-kappa |t - s|} of it."""
        s, t = floats(s, t)
        return self.transition(y0, jnp.minimum(s, t))[1] * jnp.exp(-self.kappa * jnp.abs(t - s))

    def stationary(self) -> tuple[Array, Array]:
        """Mean and variance of the law that stays, a gamma law of shape `feller_index` and rate 2 kappa/sigma²."""
        var = 0.5 * self.theta * self.sigma**2 / self.kappa
        return jnp.broadcast_to(self.theta, var.shape), var

    def stationary_log_density(self, y: Any) -> Array:
        """Log density of that law; -inf below 0."""
        (y,) = floats(y)
        rate, shape = 2 * self.kappa / self.sigma**2, self.feller_index
        safe = jnp.where(y > 0, y, 1.0)
        value = shape * jnp.log(rate) + (shape - 1) * jnp.log(safe) - rate * safe - jax.scipy.special.gammaln(shape)
        return jnp.where(y > 0, value, -jnp.inf)

    def sample(self, y0: Any, ts: Any, *, key: Key[Array, ""]) -> Float[Array, "k ..."]:
        """An exact path at increasing times ts (k,), (k, *y0.shape); the first is y0.

        A gamma variable whose shape has a Poisson number of extra halves, for any Feller index. Not differentiable in
        y0 or the parameters, since the Poisson number jumps.
        """
        y0, ts = floats(y0, ts)

        def step(y: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
            i, dt = at
            extra, size = jax.random.split(jax.random.fold_in(key, i))
            c, u, q = self._scales(y, dt)
            n = jax.random.poisson(extra, jnp.broadcast_to(u, y.shape)).astype(y.dtype)
            y = (jax.random.gamma(size, n + q + 1) / c).astype(y.dtype)
            return y, y

        gaps = jnp.diff(ts)
        _, later = lax.scan(step, y0, (jnp.arange(gaps.size), gaps.astype(y0.dtype)))
        return jnp.concatenate([y0[None], later])

    def log_density(self, y1: Any, y0: Any, dt: Any) -> Array:
        """Log p(y_dt = y1 | y_0 = y0), entry by entry; -inf for y1 <= 0. Differentiable in everything."""
        y1, y0, dt = floats(y1, y0, dt)
        c, u, q = self._scales(y0, dt)
        v = c * jnp.where(y1 > 0, y1, 1.0)
        return jnp.where(y1 > 0, jnp.log(c) + _log_mixture(u, v, q), -jnp.inf)

    def _scales(self, y0: Array, dt: Array) -> tuple[Array, Array, Array]:
        """(c, u, q) of the module's head."""
        c = 2 / (self.sigma**2 * decay(self.kappa, dt))
        return c, c * y0 * jnp.exp(-self.kappa * dt), self.feller_index - 1


def _root(y: Array) -> Array:
    """√y, and 0 with derivative 0 from 0 down."""
    return jnp.where(y > 0, jnp.sqrt(jnp.where(y > 0, y, 1.0)), 0.0)


def _log_mixture(u: Array, v: Array, q: Array) -> Array:
    """Log of e^{-u-v} (v/u)^{q/2} I_q(2√(uv)), for u >= 0, v > 0, q > -1; no overflow, no cancellation, u = 0 allowed.

    With s = √(q² + 4uv): below s = 30 the series (v/u)^{q/2} I_q(2√(uv)) = v^q Σ_k (uv)^k / (k! Γ(k + q + 1)); above,
    Debye's expansion I_q(z) ≈ e^s (z/(q+s))^q / √(2πs) Σ_k U_k(q/s)/q^k (DLMF 10.41.3), in which U_k(p)/q^k is a
    polynomial in p² over s^k and so holds at q = 0 and below too; and s - u - v = (q² - (u - v)²)/(s + u + v).
    """
    square = q**2 + 4 * u * v
    large = square >= _LARGE**2
    s = jnp.sqrt(jnp.where(large, square, _LARGE**2))
    expanded = (q**2 - (u - v) ** 2) / (s + u + v) + q * jnp.log(2 * v / (q + s)) - 0.5 * jnp.log(2 * jnp.pi * s)
    expanded = expanded + jnp.log(_debye((q / s) ** 2, 1 / s))
    series = _series(jnp.where(large, 1.0, u * v), q)
    summed = -u - v + q * jnp.log(v) + jnp.log(series) - jax.scipy.special.gammaln(q + 1)
    return jnp.where(large, expanded, summed)


def _series(x: Array, q: Array) -> Array:
    """Γ(q + 1) Σ_k x^k / (k! Γ(k + q + 1)) by Horner's rule; every term is positive."""
    x, q = jnp.broadcast_arrays(x, q)
    total, _ = lax.scan(
        lambda total, k: (1 + total * (x / (k * (k + q))), None),
        jnp.ones_like(x),
        jnp.arange(_SERIES_TERMS, 0, -1, dtype=x.dtype),
    )
    return total


def _debye_polynomials(terms: int) -> np.ndarray:
    """Row j, column k: coefficient of p^{2j} in U_k(p)/p^k.

    U_{k+1} = ½ p²(1 - p²) U_k' + ⅛ ∫_0^p (1 - 5t²) U_k dt (DLMF 10.41.9).
    """
    p = np.polynomial.Polynomial([0.0, 1.0])
    U, found = np.polynomial.Polynomial([1.0]), np.zeros((terms, terms))
    for k in range(terms):
        found[: k + 1, k] = U.coef[k : 3 * k + 1 : 2]
        U = 0.5 * p**2 * (1 - p**2) * U.deriv() + ((1 - 5 * p**2) * U).integ() / 8
    return found


_DEBYE = _debye_polynomials(_EXPANSION_TERMS)


def _debye(p_squared: Array, inverse: Array) -> Array:
    """Σ_k U_k(p) q^{-k} = Σ_k inverse^k · (U_k(p)/p^k), with inverse = 1/s and p = q/s; Horner's rule in both."""
    of_p = jnp.zeros((*p_squared.shape, _EXPANSION_TERMS), p_squared.dtype)
    for row in reversed(jnp.asarray(_DEBYE, p_squared.dtype)):
        of_p = of_p * p_squared[..., None] + row
    total = jnp.zeros_like(p_squared)
    for k in reversed(range(_EXPANSION_TERMS)):
        total = total * inverse + of_p[..., k]
    return total

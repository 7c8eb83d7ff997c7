"""Gaussian processes in closed form: Ornstein-Uhlenbeck, Brownian bridge, linear systems with constant coefficients.

OU               dy = theta (mu - y) dt + sigma dW        y_t | y_0 ~ N(mu + (y_0 - mu) e^{-theta t}, V(t)),
                                                          V(t) = sigma² (1 - e^{-2 theta t}) / (2 theta)
BrownianBridge   dy = (b - y)/(t1 - t) dt + sigma dW      pinned at (t0, a) and (t1, b)
LinearSDE        dy = (A y + b) dt + S dW                 Gaussian; moments by series and doubling
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.sde.exact.parts import chain, decay, floats, gaussian_log_density, kernel_joint, kernel_path, rates
from neuralsde.sde.process import SDE, Diagonal, General

_DOUBLINGS, _TERMS = 16, 5
"""Of a kernel: doublings of the gap, and terms of the series before them."""


class OU(eqx.Module):
    """Ornstein-Uhlenbeck process, entry by entry: theta >= 0 (per time), mu (units of y), sigma (per root of time)."""

    theta: Array = eqx.field(converter=rates)
    mu: Array = eqx.field(converter=rates, default=0.0)
    sigma: Array = eqx.field(converter=rates, default=1.0)

    def process(self) -> SDE:
        """The Ito SDE, with additive diagonal noise."""
        return SDE(self._drift, self._diffusion, Diagonal(depends="additive"))

    def _drift(self, t: Any, y: Any, args: Any) -> Array:
        return self.theta * (self.mu - y)

    def _diffusion(self, t: Any, y: Any, args: Any) -> Array:
        return jnp.broadcast_to(self.sigma, jnp.shape(y))

    def transition(self, y0: Any, dt: Any) -> tuple[Array, Array]:
        """Mean and variance of y_dt given y_0 = y0, in the broadcast shape of both."""
        y0, dt = floats(y0, dt)
        mean = self.mu + (y0 - self.mu) * jnp.exp(-self.theta * dt)
        return mean, jnp.broadcast_to(self.sigma**2 * decay(2 * self.theta, dt), mean.shape)

    def covariance(self, s: Any, t: Any) -> Array:
        """Cov(y_s, y_t) given a fixed y_0."""
        s, t = floats(s, t)
        early = jnp.minimum(s, t)
        return self.sigma**2 * decay(2 * self.theta, early) * jnp.exp(-self.theta * jnp.abs(t - s))

    def stationary(self) -> tuple[Array, Array]:
        """Mean and variance of the law that stays (theta > 0)."""
        var = self.sigma**2 / (2 * self.theta)
        return jnp.broadcast_to(self.mu, var.shape), var

    def bridge(self, y0: Any, y1: Any, t: Any, dt: Any) -> tuple[Array, Array]:
        """Mean and variance of y_t given y_0 = y0 and y_dt = y1, for 0 < t < dt."""
        y0, y1, t, dt = floats(y0, y1, t, dt)
        mean_t, var_t = self.transition(y0, t)
        mean_1, var_1 = self.transition(y0, dt)
        gain = var_t * jnp.exp(-self.theta * (dt - t)) / var_1
        _, var_rest = self.transition(y0, dt - t)
        return mean_t + gain * (y1 - mean_1), var_t * var_rest / var_1

    def sample(self, y0: Any, ts: Any, *, key: Key[Array, ""]) -> Float[Array, "k ..."]:
        """An exact path at increasing times ts (k,), (k, *y0.shape); the first is y0."""
        return chain(self.transition, y0, ts, key)

    def log_density(self, y1: Any, y0: Any, dt: Any) -> Array:
        """Log p(y_dt = y1 | y_0 = y0), entry by entry."""
        y1, y0, dt = floats(y1, y0, dt)
        return gaussian_log_density(y1, *self.transition(y0, dt))


class BrownianBridge(eqx.Module):
    """Brownian motion of volatility sigma, pinned at y_t0 = a and y_t1 = b."""

    a: Array = eqx.field(converter=rates)
    b: Array = eqx.field(converter=rates)
    t0: Array = eqx.field(converter=rates, default=0.0)
    t1: Array = eqx.field(converter=rates, default=1.0)
    sigma: Array = eqx.field(converter=rates, default=1.0)

    def process(self) -> SDE:
        """The Ito SDE for t0 <= t < t1; its drift is singular at t1."""
        return SDE(self._drift, self._diffusion, Diagonal(depends="additive"))

    def _drift(self, t: Any, y: Any, args: Any) -> Array:
        return (self.b - y) / (self.t1 - t)

    def _diffusion(self, t: Any, y: Any, args: Any) -> Array:
        return jnp.broadcast_to(self.sigma, jnp.shape(y))

    def marginal(self, t: Any) -> tuple[Array, Array]:
        """Mean and variance of y_t."""
        (t,) = floats(t)
        part = (t - self.t0) / (self.t1 - self.t0)
        mean = self.a + part * (self.b - self.a)
        return mean, jnp.broadcast_to(self.sigma**2 * (t - self.t0) * (1 - part), mean.shape)

    def covariance(self, s: Any, t: Any) -> Array:
        """Cov(y_s, y_t)."""
        s, t = floats(s, t)
        early, late = jnp.minimum(s, t), jnp.maximum(s, t)
        return self.sigma**2 * (early - self.t0) * (self.t1 - late) / (self.t1 - self.t0)

    def sample(self, ts: Any, *, key: Key[Array, ""]) -> Float[Array, "k ..."]:
        """An exact path at increasing times ts (k,) in [t0, t1], (k, *shape of a and b)."""
        (ts,) = floats(ts)
        shape = jnp.broadcast_shapes(self.a.shape, self.b.shape, self.sigma.shape)
        normals = jax.random.normal(key, (*ts.shape, *shape), ts.dtype)
        column = (-1,) + (1,) * len(shape)
        gaps = jnp.diff(ts, prepend=self.t0).reshape(column)
        left = (self.t1 - ts).reshape(column)
        # (y_t - line)/(t1 - t) has independent increments of variance sigma² dt / ((t1 - s)(t1 - t)).
        parts = jnp.where(left > 0, self.sigma * jnp.sqrt(gaps / ((left + gaps) * jnp.where(left > 0, left, 1.0))), 0.0)
        swing = left * jnp.cumsum(parts * normals, axis=0)
        return self.marginal(ts.reshape(column))[0] + swing


class LinearSDE(eqx.Module):
    """dy = (A y + b) dt + S dW with A (d, d), b (d,), S (d, m): Gaussian at every time."""

    A: Float[Array, "d d"] = eqx.field(converter=rates)
    b: Float[Array, " d"] = eqx.field(converter=rates)
    S: Float[Array, "d m"] = eqx.field(converter=rates)

    def process(self) -> SDE:
        """The Ito SDE, with additive noise of shape General(m)."""
        return SDE(self._drift, self._diffusion, General(self.S.shape[1], depends="additive"))

    def _drift(self, t: Any, y: Any, args: Any) -> Array:
        return self.A @ y + self.b

    def _diffusion(self, t: Any, y: Any, args: Any) -> Array:
        return self.S

    def kernel(self, dt: Any) -> tuple[Array, Array, Array]:
        """(F, c, Q): y_dt | y_0 ~ N(F y_0 + c, Q) for one gap dt.

        Taylor's series over h = dt/65536, then sixteen doublings of the gap; no e^{-A h}, which a strongly contracting
        A would let swallow Q, and E = F - I is what is doubled, so that a short gap keeps its digits. The relative
        error of E, c and Q is (|A| h)^5/720 as long as |A| h < 2, that of rounding some units in the last place.
        """
        h = dt / 2**_DOUBLINGS
        E, C, Q = e, c, q = self.A * h, self.b * h, self.S @ self.S.T * h
        for n in range(2, _TERMS + 1):  # h^n/n! times A^n, A^(n-1) b and the n-th derivative of Q at 0
            e, c, q = (part * (h / n) for part in (self.A @ e, self.A @ c, self.A @ q + q @ self.A.T))
            E, C, Q = E + e, C + c, Q + q

        def double(_: Any, kernel: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            E, C, Q = kernel
            moved = E @ Q
            return 2 * E + E @ E, 2 * C + E @ C, 2 * Q + moved + moved.T + moved @ E.T

        E, C, Q = lax.fori_loop(0, _DOUBLINGS, double, (E, C, Q))
        return E + jnp.eye(len(self.b), dtype=E.dtype), C, 0.5 * (Q + Q.T)

    def transition(self, y0: Any, dt: Any) -> tuple[Array, Array]:
        """Mean (d,) and covariance (d, d) of y_dt given y_0 = y0."""
        F, c, Q = self.kernel(dt)
        return F @ jnp.asarray(y0) + c, Q

    def joint(self, y0: Any, ts: Any) -> tuple[Float[Array, "k d"], Float[Array, "k d k d"]]:
        """Mean and covariance of (y_ts[1], ..., y_ts[k]) given y_ts[0] = y0; k = len(ts) - 1."""
        gaps = jnp.diff(floats(ts)[0])
        return kernel_joint(self.kernel, jnp.asarray(y0, gaps.dtype), gaps)

    def sample(self, y0: Any, ts: Any, *, key: Key[Array, ""]) -> Float[Array, "k d"]:
        """An exact path at increasing times ts (k,), (k, d); the first is y0. Needs Q of full rank."""
        ts, y0 = floats(ts, y0)
        return kernel_path(self.kernel, y0, jnp.diff(ts), key)

    def log_density(self, y1: Any, y0: Any, dt: Any) -> Float[Array, ""]:
        """Log p(y_dt = y1 | y_0 = y0)."""
        mean, cov = self.transition(y0, dt)
        return jnp.asarray(jax.scipy.stats.multivariate_normal.logpdf(jnp.asarray(y1), mean, cov))


def condition(mean: Any, cov: Any, values: Any, mask: Any) -> tuple[Array, Array, Array]:
    """A joint Gaussian given some of its entries, by dense algebra: smoother and Kalman likelihood of small problems.

    mean:   any shape; cov: that shape twice; values: that shape; mask: which entries of `values` are given.
    Returns the posterior mean, its covariance (zero where given), and the log density of the given entries.
    """
    shape = jnp.shape(mean)
    m, known = jnp.ravel(mean), jnp.ravel(mask)
    P = jnp.reshape(cov, (m.size, m.size))
    off = jnp.where(known, jnp.ravel(jnp.nan_to_num(values)) - m, 0.0)
    both = known[:, None] & known[None, :]
    block = jnp.where(both, P, jnp.eye(m.size, dtype=P.dtype))
    factor = jsl.cho_factor(block, lower=True)
    cross = jnp.where(known[None, :], P, 0.0)
    gain = jsl.cho_solve(factor, cross.T).T
    given = known.sum()
    fit = -0.5 * off @ jsl.cho_solve(factor, off) - jnp.log(jnp.diagonal(factor[0])).sum()
    mean_after = jnp.where(known, m + off, m + gain @ off)
    after = jnp.where(known[:, None] | known[None, :], 0.0, P - gain @ cross.T)
    return mean_after.reshape(shape), after.reshape(shape + shape), fit - 0.5 * given * jnp.log(2 * jnp.pi)

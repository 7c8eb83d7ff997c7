"""Linear systems whose coefficients depend on time: Gaussian, with moments from an equation of their own.

    dy = (A(t) y + b(t)) dt + S(t) dW,       y_t1 | y_t0 ~ N(F y_t0 + c, Q),
    F' = A F,   c' = A c + b,   Q' = A Q + Q A' + S S'      (Kalman & Bucy 1961; Särkkä & Solin 2019, §6)

All three are blocks of one linear equation Z' = [[A, b, S S'], [0, 0, 0], [0, 0, -A']] Z, Z = I at t0: Q = Z_13 F'.
Each gap takes `steps` Gauss-Legendre collocation steps of order 6 (three stages, one linear solve), composed by
(F, c, Q) -> (F₂F₁, F₂c₁ + c₂, F₂Q₁F₂' + Q₂), so that Q stays a covariance. The error falls like (gap/steps)^6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.sde.exact.parts import floats, kernel_joint, kernel_path
from neuralsde.sde.process import SDE, General

_ROOT = 15.0**0.5
_NODES = np.array([0.5 - _ROOT / 10, 0.5, 0.5 + _ROOT / 10])
_WEIGHTS = np.array([5 / 18, 4 / 9, 5 / 18])
_STAGES = np.array(
    [
        [5 / 36, 2 / 9 - _ROOT / 15, 5 / 36 - _ROOT / 30],
        [5 / 36 + _ROOT / 24, 2 / 9, 5 / 36 - _ROOT / 24],
        [5 / 36 + _ROOT / 30, 2 / 9 + _ROOT / 15, 5 / 36],
    ]
)


class LinearTimeVarying(eqx.Module):
    """dy = (A(t) y + b(t)) dt + S(t) dW with A(t) (d, d), b(t) (d,), S(t) (d, m), smooth in t: Gaussian at every time.

    steps: collocation steps in every gap; `error(t0, t1)` measures what they leave. Differentiable in the parameters
           of A, b and S, which may be equinox modules.
    """

    A: Callable[[Any], Any]
    b: Callable[[Any], Any]
    S: Callable[[Any], Any]
    steps: int = eqx.field(static=True, default=16)

    def __check_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 2:
            raise InputError(f"steps={self.steps!r}", expected="collocation steps in every gap, an integer >= 2")

    def process(self, m: int) -> SDE:
        """The Ito SDE, with additive noise of shape General(m); m is the number of columns of S."""
        return SDE(self._drift, self._diffusion, General(m, depends="additive"))

    def _drift(self, t: Any, y: Any, args: Any) -> Array:
        return self.A(t) @ y + self.b(t)

    def _diffusion(self, t: Any, y: Any, args: Any) -> Array:
        return self.S(t)

    def kernel(self, t0: Any, t1: Any) -> tuple[Array, Array, Array]:
        """(F, c, Q): y_t1 | y_t0 ~ N(F y_t0 + c, Q)."""
        t0, t1 = floats(t0, t1)
        return self._kernel(t0, t1, self.steps)

    def error(self, t0: Any, t1: Any) -> Float[Array, ""]:
        """Largest error of an entry of (F, c, Q) over its block's largest entry, seen against half as many steps.

        The difference of the two results over 2^6 - 1, as an order of 6 has it; with an odd number of steps a little
        less. Errors of rounding (some 1e-7 in float32, 1e-15 in float64) are the floor.
        """
        t0, t1 = floats(t0, t1)
        fine, half = self._kernel(t0, t1, self.steps), self._kernel(t0, t1, self.steps // 2)
        scale = [jnp.maximum(jnp.abs(x).max(), jnp.finfo(x.dtype).tiny) for x in fine]
        gaps = [jnp.abs(a - b).max() / s for a, b, s in zip(fine, half, scale, strict=True)]
        return jnp.stack(gaps).max() / 63

    def _kernel(self, t0: Array, t1: Array, steps: int) -> tuple[Array, Array, Array]:
        h = (t1 - t0) / steps
        d = jax.eval_shape(self.b, t0).shape[0]

        def step(carry: tuple[Array, Array, Array], i: Array) -> tuple[tuple[Array, Array, Array], None]:
            F, c, Q = carry
            F2, c2, Q2 = self._collocation(t0 + i * h, h, d)
            return (F2 @ F, F2 @ c + c2, F2 @ Q @ F2.T + Q2), None

        start = (jnp.eye(d, dtype=h.dtype), jnp.zeros(d, h.dtype), jnp.zeros((d, d), h.dtype))
        (F, c, Q), _ = lax.scan(step, start, jnp.arange(steps))
        return F, c, 0.5 * (Q + Q.T)

    def _collocation(self, t: Array, h: Array, d: int) -> tuple[Array, Array, Array]:
        """(F, c, Q) over one step h: stages K_i = M(t_i) (I + h Σ_j a_ij K_j), Z = I + h Σ_i w_i K_i."""
        n = 2 * d + 1
        M = jax.vmap(lambda node: self._blocks(t + node * h, d))(jnp.asarray(_NODES, h.dtype))
        coupled = jnp.einsum("ij,iab->iajb", jnp.asarray(_STAGES, h.dtype), M).reshape(3 * n, 3 * n)
        K = jnp.linalg.solve(jnp.eye(3 * n, dtype=h.dtype) - h * coupled, M.reshape(3 * n, n)).reshape(3, n, n)
        Z = jnp.eye(n, dtype=h.dtype) + h * jnp.einsum("i,iab->ab", jnp.asarray(_WEIGHTS, h.dtype), K)
        F = Z[:d, :d]
        return F, Z[:d, d], Z[:d, d + 1 :] @ F.T

    def _blocks(self, t: Array, d: int) -> Array:
        """M(t), (2d+1, 2d+1)."""
        A, b, S = (jnp.asarray(of(t), t.dtype) for of in (self.A, self.b, self.S))
        zero = jnp.zeros((d, d), t.dtype)
        top = jnp.concatenate([A, b[:, None], S @ S.T], axis=1)
        bottom = jnp.concatenate([zero, jnp.zeros((d, 1), t.dtype), -A.T], axis=1)
        return jnp.concatenate([top, jnp.zeros((1, 2 * d + 1), t.dtype), bottom])

    def transition(self, y0: Any, t0: Any, t1: Any) -> tuple[Array, Array]:
        """Mean (d,) and covariance (d, d) of y_t1 given y_t0 = y0."""
        F, c, Q = self.kernel(t0, t1)
        return F @ jnp.asarray(y0) + c, Q

    def joint(self, y0: Any, ts: Any) -> tuple[Float[Array, "k d"], Float[Array, "k d k d"]]:
        """Mean and covariance of (y_ts[1], ..., y_ts[k]) given y_ts[0] = y0; k = len(ts) - 1."""
        (ts,) = floats(ts)
        return kernel_joint(lambda gap: self.kernel(gap[0], gap[1]), jnp.asarray(y0, ts.dtype), _gaps(ts))

    def sample(self, y0: Any, ts: Any, *, key: Key[Array, ""]) -> Float[Array, "k d"]:
        """A path at increasing times ts (k,), (k, d); the first is y0. Needs Q of full rank."""
        ts, y0 = floats(ts, y0)
        return kernel_path(lambda gap: self.kernel(gap[0], gap[1]), y0, _gaps(ts), key)

    def log_density(self, y1: Any, y0: Any, t0: Any, t1: Any) -> Float[Array, ""]:
        """Log p(y_t1 = y1 | y_t0 = y0)."""
        mean, cov = self.transition(y0, t0, t1)
        return jnp.asarray(jax.scipy.stats.multivariate_normal.logpdf(jnp.asarray(y1), mean, cov))

    def log_likelihood(
        self, values: Any, ts: Any, *, mean: Any, cov: Any, observe: Any, noise: Any
    ) -> Float[Array, ""]:
        """Log p of observations z_i = observe · y_ts[i] + N(0, noise), by the Kalman filter; NaN entries are missing.

        values:    (k, r) observations at increasing ts (k,).
        mean, cov: (d,), (d, d) law of y at ts[0], before any observation.
        observe:   (r, d); noise: (r, r) covariance, positive definite.
        """
        ts, values, mean, cov, H, R = floats(ts, values, mean, cov, observe, noise)

        def update(m: Array, P: Array, z: Array) -> tuple[Array, Array, Array]:
            given = ~jnp.isnan(z)
            H_given = jnp.where(given[:, None], H, 0.0)
            off = jnp.where(given, jnp.where(given, z, 0.0) - H @ m, 0.0)
            both = given[:, None] & given[None, :]
            spread = H_given @ P @ H_given.T + jnp.where(both, R, jnp.eye(R.shape[0], dtype=R.dtype))
            gain = jnp.linalg.solve(spread, H_given @ P).T
            fit = -0.5 * off @ jnp.linalg.solve(spread, off) - 0.5 * jnp.linalg.slogdet(spread)[1]
            fit = fit - 0.5 * given.sum() * jnp.log(2 * jnp.pi)
            keep = jnp.eye(m.size, dtype=P.dtype) - gain @ H_given  # Joseph's form keeps P a covariance
            return m + gain @ off, keep @ P @ keep.T + gain @ jnp.where(both, R, 0.0) @ gain.T, fit

        def step(carry: tuple[Array, Array], at: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
            gap, z = at
            F, c, Q = self.kernel(gap[0], gap[1])
            m, P, fit = update(F @ carry[0] + c, F @ carry[1] @ F.T + Q, z)
            return (m, P), fit

        m, P, first = update(mean, cov, values[0])
        _, fits = lax.scan(step, (m, P), (_gaps(ts), values[1:]))
        return first + fits.sum()


def _gaps(ts: Array) -> Float[Array, "k 2"]:
    return jnp.stack([ts[:-1], ts[1:]], axis=1)

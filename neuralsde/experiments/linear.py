"""Linear SDEs seen at random times: data whose law is known, and what the best estimators make of them.

    dy = (A y + b) dt + S dW,   S diagonal;      y(t + Δ) | y(t) ~ N(F y + c, Q),  F, c, Q by `sde.exact`

Gaps come from a list of K values, spread evenly over U(.02, .2) / rate with rate = |λ(A)|, so exact kernels are K
kernels, and all that 200,000 transitions say about (A, b, S) is K matrices M_k = Σ z zᵀ with z = (y0, 1, y1):

    -log L = ½ Σ_k tr(Q_k⁻¹ G_k M_k G_kᵀ) + n_k log det 2πQ_k,   G = (-F, -c, I).

Its minimum, by Newton steps from the Euler estimate, is the exact parametric maximum-likelihood estimate. For tables
with missing entries the law of what was observed is that of a Kalman filter (THEORY 20). All in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralsde.data import Trajectories, from_arrays
from neuralsde.sde import LinearSDE

GAP_RANGE = (0.02, 0.2)
"""Gaps in relaxation times 1/rate (THEORY 19)."""
_GAPS = 181
_NEWTON_STEPS, _NEWTON_STOP, _WIDTH = 10, 1e-7, 1e-4


@dataclass(frozen=True)
class Process:
    """dy = A (y - mean) dt + diag(sigma) dW, stable; `rate` is the largest |λ(A)|, the unit of all gaps."""

    name: str
    A: np.ndarray
    mean: np.ndarray
    sigma: np.ndarray

    @property
    def dim(self) -> int:
        return len(self.mean)

    @cached_property
    def rate(self) -> float:
        return float(np.abs(np.linalg.eigvals(self.A)).max())

    @cached_property
    def gaps(self) -> np.ndarray:
        """The K gaps that occur, in clock units."""
        return np.linspace(*GAP_RANGE, _GAPS) / self.rate

    @cached_property
    def kernels(self) -> Kernels:
        """Exact transitions of every gap."""
        return kernels(self.A, -self.A @ self.mean, self.sigma, self.gaps)

    @cached_property
    def covariance(self) -> np.ndarray:
        """Stationary covariance (d, d): A P + P Aᵀ + S Sᵀ = 0."""
        eye = np.eye(self.dim)
        flat = np.linalg.solve(np.kron(self.A, eye) + np.kron(eye, self.A), -np.diag(self.sigma**2).ravel())
        return flat.reshape(self.dim, self.dim)

    def drift(self, y: np.ndarray) -> np.ndarray:
        """True drift (n, d) at states (n, d)."""
        return (y - self.mean) @ self.A.T

    def states(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Stationary states (n, d)."""
        return self.mean + rng.standard_normal((n, self.dim)) @ np.linalg.cholesky(self.covariance).T


@dataclass(frozen=True)
class Kernels:
    """F (K, d, d), c (K, d), Q (K, d, d) of K gaps."""

    F: np.ndarray
    c: np.ndarray
    Q: np.ndarray


def ornstein_uhlenbeck() -> Process:
    """One dimension, in units of its own: relaxation time 2, mean 20, stationary s.d. 3."""
    return Process("OU", np.array([[-0.5]]), np.array([20.0]), np.array([3.0]))


def rotating() -> Process:
    """Two dimensions that turn while they decay, λ = -.8 ± .6i, with unequal noise and units that are 40 apart."""
    units = np.diag([1.0, 40.0])
    turn = np.array([[-0.8, -0.6], [0.6, -0.8]])
    return Process("rotating", units @ turn @ np.linalg.inv(units), np.array([5.0, -100.0]), np.array([1.0, 28.0]))


# -- data ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """S stationary series of n + 1 rows: `values (S, n + 1, d)`, and `gap (S, n)`, the number of each gap in `gaps`."""

    process: Process
    values: np.ndarray
    gap: np.ndarray

    @cached_property
    def times(self) -> np.ndarray:
        """(S, n + 1) clock times, from 0."""
        steps = self.process.gaps[self.gap]
        return np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)

    @property
    def transitions(self) -> int:
        return self.gap.size

    def table(self, keep: np.ndarray | None = None, *, complete_rows: bool = False) -> Trajectories:
        """As a table; entries outside the mask `keep (S, n + 1, d)` are missing, or their rows are left out."""
        values = self.values if keep is None else np.where(keep, self.values, np.nan)
        if not complete_rows:
            return from_arrays(list(self.times), list(values))
        whole = [~np.isnan(v).any(1) for v in values]
        return from_arrays(*([part[w] for part, w in zip(parts, whole, strict=True)] for parts in (self.times, values)))


def draw(process: Process, series: int, steps: int, rng: np.random.Generator) -> Sample:
    """Exact paths: every step is drawn from the transition law of its gap."""
    gap = rng.integers(0, len(process.gaps), (series, steps))
    law = process.kernels
    root = np.linalg.cholesky(law.Q)
    y = process.states(series, rng)
    path = [y]
    for k in gap.T:
        noise = np.einsum("sij,sj->si", root[k], rng.standard_normal(y.shape))
        y = np.einsum("sij,sj->si", law.F[k], y) + law.c[k] + noise
        path.append(y)
    return Sample(process, np.stack(path, axis=1), gap)


# -- what is known of the truth ------------------------------------------------------------------------------------


def log_density(law: Kernels, sample: Sample) -> np.ndarray:
    """Log p(y1 | y0, Δ) (S, n) of every transition of a sample."""
    y0, y1, k = sample.values[:, :-1], sample.values[:, 1:], sample.gap
    r = y1 - np.einsum("snij,snj->sni", law.F[k], y0) - law.c[k]
    return _gaussian(r, law.Q[k])


def _gaussian(r: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Log N(r; 0, Q), leading axes shared."""
    fit = (r * np.linalg.solve(Q, r[..., None])[..., 0]).sum(-1)
    return -0.5 * (fit + np.linalg.slogdet(2 * np.pi * Q)[1])


def kalman(sample: Sample, keep: np.ndarray) -> tuple[float, int]:
    """Log-likelihood of the observed entries given those before them, and their number.

    Counted are entries of a channel that has been observed before, as a model without a prior counts them.
    """
    law, d = sample.process.kernels, sample.process.dim
    mean = np.broadcast_to(sample.process.mean, sample.values[:, 0].shape)
    cov = np.broadcast_to(sample.process.covariance, (len(mean), d, d))
    seen_before = np.zeros(mean.shape, bool)
    total, count = 0.0, 0
    for row in range(sample.values.shape[1]):
        if row:
            k = sample.gap[:, row - 1]
            mean = np.einsum("sij,sj->si", law.F[k], mean) + law.c[k]
            cov = law.F[k] @ cov @ law.F[k].swapaxes(1, 2) + law.Q[k]
        # one channel after the other: each is conditioned on those already taken in
        order = np.argsort(seen_before, axis=1, kind="stable")
        for position in range(d):
            series, channel = np.arange(len(mean)), order[:, position]
            here = keep[series, row, channel]
            var = cov[series, channel, channel]
            off = np.where(here, sample.values[series, row, channel] - mean[series, channel], 0.0)
            counted = here & seen_before[series, channel]
            total += float(np.where(counted, -0.5 * (off**2 / var + np.log(2 * np.pi * var)), 0.0).sum())
            count += int(counted.sum())
            gain = np.where(here[:, None], cov[series, :, channel] / var[:, None], 0.0)
            mean = mean + gain * off[:, None]
            cov = cov - gain[:, :, None] * cov[series, channel][:, None, :]
        seen_before = seen_before | keep[:, row]
    return total, count


def one_step_sigma(process: Process) -> np.ndarray:
    """The best constant diffusion (d,) of a one-step transition: √E[Q_ii / Δ]."""
    variance = np.einsum("kii->ki", process.kernels.Q) / process.gaps[:, None]
    return np.sqrt(variance.mean(0))


def euler_bias(process: Process) -> tuple[float, float]:
    """Relative drift error of a perfect one-step fit: |λ| E[Δ] / 2, and exactly, with the loss's weights.

    That is B = E[F(Δ) - I] / E[Δ] in place of A, since the loss weighs a transition by its gap.
    """
    B = (process.kernels.F - np.eye(process.dim)).mean(0) / process.gaps.mean()
    root = np.linalg.cholesky(process.covariance)
    error, size = (np.linalg.norm((part @ root) / process.sigma[:, None]) for part in (B - process.A, process.A))
    return process.rate * float(process.gaps.mean()) / 2, float(error / size)


# -- estimators ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A linear drift A y + b and a diffusion sigma."""

    A: np.ndarray
    b: np.ndarray
    sigma: np.ndarray

    def drift(self, y: np.ndarray) -> np.ndarray:
        return y @ self.A.T + self.b


def kernels(A: np.ndarray, b: np.ndarray, sigma: np.ndarray, gaps: np.ndarray) -> Kernels:
    """Exact F, c, Q of dy = (A y + b) dt + diag(sigma) dW."""
    with jax.enable_x64(True):
        F, c, Q = _exact(*map(jnp.asarray, (A, b, sigma, gaps)))
        return Kernels(np.asarray(F), np.asarray(c), np.asarray(Q))


@jax.jit
def _exact(A: Array, b: Array, sigma: Array, gaps: Array) -> tuple[Array, Array, Array]:
    return jax.vmap(LinearSDE(A, b, jnp.diag(sigma)).kernel)(gaps)


def euler_kernels(estimate: Estimate, gaps: np.ndarray) -> Kernels:
    """One Euler-Maruyama step for each gap."""
    dt = gaps[:, None, None]
    eye = np.eye(len(estimate.b))
    return Kernels(eye + estimate.A * dt, estimate.b * gaps[:, None], np.diag(estimate.sigma**2) * dt)


def euler_estimate(sample: Sample) -> Estimate:
    """Least squares weighted by the gap, then σ² = mean r² Δ: what the sequence SDE's losses ask of a linear model."""
    d, M, gaps = sample.process.dim, _moments(sample), sample.process.gaps[:, None, None]
    inputs, outputs = M[:, : d + 1, : d + 1], M[:, d + 1 :, : d + 1] - M[:, :d, : d + 1]
    Ab = np.linalg.solve((inputs * gaps).sum(0), outputs.sum(0).T).T
    G = np.concatenate(
        [-np.eye(d) - gaps * Ab[:, :d], -gaps * Ab[:, d:], np.broadcast_to(np.eye(d), (len(M), d, d))], 2
    )
    variance = np.einsum("kij,kjl,kil->i", G, M / gaps, G) / sample.transitions
    return Estimate(Ab[:, :d], Ab[:, d], np.sqrt(variance))


def exact_estimate(sample: Sample) -> Estimate:
    """The maximum of the exact likelihood over A, b and sigma.

    Newton steps with central differences, in units in which every parameter is about one: the stationary covariance
    of the data, and 1/rate.
    """
    process, d, start = sample.process, sample.process.dim, euler_estimate(sample)
    flat = sample.values.reshape(-1, d)
    centre, unit = flat.mean(0), flat.std(0)
    T = np.zeros((2 * d + 1, 2 * d + 1))  # z in those units is T z
    T[:d, :d] = T[d + 1 :, d + 1 :] = np.diag(1 / unit)
    T[:d, d] = T[d + 1 :, d] = -centre / unit
    T[d, d] = 1.0
    M, gaps, rate = T @ _moments(sample) @ T.T, process.gaps * process.rate, process.rate
    A = start.A * unit / unit[:, None] / rate
    b = start.drift(centre) / unit / rate
    p = np.concatenate([A.ravel(), b, np.log(start.sigma / unit / np.sqrt(rate))])
    for _ in range(_NEWTON_STEPS):
        slope, curvature = _derivatives(lambda at: _negative_log_likelihood(at, M, gaps), p)
        step = np.linalg.solve(curvature, slope)
        p = p - step
        if np.abs(step).max() < _NEWTON_STOP:
            break
    A, b, log_sigma = _unpack(p, d)
    A = A * unit[:, None] / unit * rate
    return Estimate(A, b * unit * rate - A @ centre, np.exp(log_sigma) * unit * np.sqrt(rate))


def _derivatives(f: Callable[[np.ndarray], float], p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and Hessian by central differences of width `_WIDTH`."""
    step = _WIDTH * np.eye(len(p))
    up, down, here = [f(p + e) for e in step], [f(p - e) for e in step], f(p)
    slope = (np.array(up) - down) / (2 * _WIDTH)
    curvature = np.diag((np.array(up) - 2 * here + down) / _WIDTH**2)
    for i, j in zip(*np.triu_indices(len(p), 1), strict=True):
        both = f(p + step[i] + step[j]) + f(p - step[i] - step[j])
        curvature[i, j] = curvature[j, i] = (both - up[i] - up[j] - down[i] - down[j] + 2 * here) / (2 * _WIDTH**2)
    return slope, curvature


def _moments(sample: Sample) -> np.ndarray:
    """M (K, 2d + 1, 2d + 1): Σ z zᵀ over the transitions of each gap, z = (y0, 1, y1)."""
    y0, y1 = (part.reshape(sample.transitions, -1) for part in (sample.values[:, :-1], sample.values[:, 1:]))
    z = np.concatenate([y0, np.ones((len(y0), 1)), y1], axis=1)[np.argsort(sample.gap.ravel(), kind="stable")]
    ends = np.cumsum(np.bincount(sample.gap.ravel(), minlength=_GAPS))
    return np.stack([part.T @ part for part in np.split(z, ends[:-1])])


def _unpack(p: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return p[: d * d].reshape(d, d), p[d * d : d * d + d], p[d * d + d :]


def _negative_log_likelihood(p: np.ndarray, M: np.ndarray, gaps: np.ndarray) -> float:
    """Per transition."""
    d = (M.shape[1] - 1) // 2
    A, b, log_sigma = _unpack(p, d)
    law = kernels(A, b, np.exp(log_sigma), gaps)
    G = np.concatenate([-law.F, -law.c[:, :, None], np.broadcast_to(np.eye(d), law.F.shape)], axis=2)
    fit = np.trace(np.linalg.solve(law.Q, G @ M @ G.swapaxes(1, 2)), axis1=1, axis2=2)
    count = M[:, d, d]
    return float(0.5 * (fit + count * np.linalg.slogdet(2 * np.pi * law.Q)[1]).sum() / count.sum())

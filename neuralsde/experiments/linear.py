"""Known linear SDEs: one, two and ten dimensions, noise of every channel alone or correlated (`known.Process`).

    dy = A (y - mean) dt + S dW;      y(t + Δ) | y(t) ~ N(F y + c, Q),  F, c, Q in closed form

All gaps are multiples of one, so F, c, Q of all come from one kernel. All that N transitions say about (A, b, S) is one
matrix M_k = Σ z zᵀ a gap, with z = (y0, 1, y1):

    -log L = ½ Σ_k tr(Q_k⁻¹ G_k M_k G_kᵀ) + n_k log det 2πQ_k,   G = (-F, -c, I).

Its minimum, by Fisher scoring from the truth, is the exact parametric maximum-likelihood estimate. For tables with
missing entries the law of what was observed is that of a Kalman filter (THEORY 20). All in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import expm

from neuralsde.experiments.known import COUNTS, Sample, gaps

_SCORING_STEPS, _WIDTH, _AT_ONCE = 2, 1e-4, 32


@dataclass(frozen=True)
class Linear:
    """dy = A (y - mean) dt + root dW, stable, root (d, d) lower triangular; `rate` is the largest |λ(A)|."""

    name: str
    A: np.ndarray
    mean: np.ndarray
    root: np.ndarray
    rate: float

    @classmethod
    def of(cls, name: str, A: Any, mean: Any, root: Any) -> Linear:
        """From A (d, d), mean (d,), S (d, d)."""
        A, mean, root = (np.array(part, np.float64) for part in (A, mean, root))
        return cls(name, A, mean, root, float(np.abs(np.linalg.eigvals(A)).max()))

    @property
    def dim(self) -> int:
        """Channels d."""
        return len(self.mean)

    @property
    def correlated(self) -> bool:
        """Whether channels share noise."""
        return bool(np.any(self.root != np.diag(np.diag(self.root))))

    @property
    def noise(self) -> np.ndarray:
        """S Sᵀ (d, d)."""
        return self.root @ self.root.T

    @cached_property
    def kernels(self) -> Kernels:
        """Exact transitions of every gap."""
        return kernels(self.A, -self.A @ self.mean, self.root, gaps(self)[0] / COUNTS[0])

    @cached_property
    def covariance(self) -> np.ndarray:
        """Stationary covariance (d, d): A P + P Aᵀ + S Sᵀ = 0."""
        eye = np.eye(self.dim)
        flat = np.linalg.solve(np.kron(self.A, eye) + np.kron(eye, self.A), -self.noise.ravel())
        return flat.reshape(self.dim, self.dim)

    def drift(self, y: np.ndarray) -> np.ndarray:
        """A (y - mean)."""
        return (y - self.mean) @ self.A.T

    def spread(self, y: np.ndarray) -> np.ndarray:
        """√(S Sᵀ)_ii."""
        return np.broadcast_to(np.sqrt(np.diag(self.noise)), y.shape)

    def features(self, y: np.ndarray) -> np.ndarray:
        """1, y."""
        return np.concatenate([np.ones((len(y), 1)), y], axis=1)

    def shape(self, y: np.ndarray) -> np.ndarray:
        """One."""
        return np.ones_like(y)

    def states(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Of the stationary law."""
        return self.mean + rng.standard_normal((n, self.dim)) @ np.linalg.cholesky(self.covariance).T

    def step(self, y: np.ndarray, k: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Exact draws."""
        law = self.kernels
        noise = np.einsum("sij,sj->si", law.root[k], rng.standard_normal(y.shape))
        return np.einsum("sij,sj->si", law.F[k], y) + law.c[k] + noise

    def log_density(self, y1: np.ndarray, y0: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Exact."""
        law, found = self.kernels, np.empty(len(k))
        for number in range(len(COUNTS)):
            here = np.flatnonzero(k == number)
            off = y1[here] - y0[here] @ law.F[number].T - law.c[number]
            fit = (off * np.linalg.solve(law.Q[number], off.T).T).sum(1)
            found[here] = -0.5 * (fit + np.linalg.slogdet(2 * np.pi * law.Q[number])[1])
        return found

    def one_step(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """E[F - I] / E[Δ] for A and √E[Q_ii / Δ] for S (what the varying gaps add to it is of order Δ²)."""
        B = (self.kernels.F - np.eye(self.dim)).mean(0) / gaps(self).mean()
        return (y - self.mean) @ B.T, np.broadcast_to(np.sqrt(np.diag(self.one_step_noise)), y.shape)

    @property
    def one_step_noise(self) -> np.ndarray:
        """E[Q / Δ] (d, d)."""
        return (self.kernels.Q / gaps(self)[:, None, None]).mean(0)

    def exact(self, sample: Sample) -> Linear:
        """The maximum of the exact likelihood over A, mean and S (its diagonal, or all of it), by Fisher scoring.

        In units in which every parameter is about one: the truth's stationary s.d. and 1 / rate.
        """
        unit, rate, d = np.sqrt(np.diag(self.covariance)), self.rate, self.dim
        A = self.A * unit / unit[:, None] / rate
        S = self.root / unit[:, None] / np.sqrt(rate)
        own = np.diag(np.log(np.diag(S))) + np.tril(S, -1)
        which = np.tril_indices(d) if self.correlated else np.diag_indices(d)
        p = np.concatenate([A.ravel(), np.zeros(d), own[which]])
        M = _moments(sample, self.mean, unit)
        for _ in range(_SCORING_STEPS):
            slope, information = _score(p, M, which)
            p = p + np.linalg.solve(information, slope)
        A, b, S = _unpack(p, d, which)
        A, S = A * unit[:, None] / unit * rate, S * unit[:, None] * np.sqrt(rate)
        return Linear(self.name, A, self.mean - np.linalg.solve(A, b * unit * rate), S, rate)


def ornstein_uhlenbeck() -> Linear:
    """One dimension, in units of its own: relaxation time 2, mean 20, stationary s.d. 3."""
    return Linear.of("OU", [[-0.5]], [20.0], [[3.0]])


def rotating() -> Linear:
    """Two dimensions that turn while they decay, λ = -.8 ± .6i, with unequal noise and units that are 40 apart."""
    units = np.diag([1.0, 40.0])
    turn = np.array([[-0.8, -0.6], [0.6, -0.8]])
    return Linear.of("rotating", units @ turn @ np.linalg.inv(units), [5.0, -100.0], np.diag([1.0, 28.0]))


def ten() -> Linear:
    """Ten coupled channels with |λ| between .6 and 1, noise correlated by up to about .7, units from 1 to 30."""
    rng, d = np.random.default_rng(7), 10
    units = np.diag(10 ** rng.uniform(0.0, 1.5, d))
    A = -0.8 * np.eye(d) + 0.05 * rng.standard_normal((d, d))
    S = np.eye(d) + 0.35 * np.tril(rng.standard_normal((d, d)), -1)
    return Linear.of("ten-dimensional", units @ A @ np.linalg.inv(units), 10 * rng.standard_normal(d), units @ S)


# -- kernels -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kernels:
    """F (K, d, d), c (K, d), Q (K, d, d) of K gaps, with an axis in front where there are several processes."""

    F: np.ndarray
    c: np.ndarray
    Q: np.ndarray

    @cached_property
    def root(self) -> np.ndarray:
        """Cholesky factors of Q."""
        return np.linalg.cholesky(self.Q)


def kernels(A: np.ndarray, b: np.ndarray, S: np.ndarray, unit: float) -> Kernels:
    """Exact F, c, Q of dy = (A y + b) dt + S dW over `COUNTS` units of time; also of several, along a first axis.

    One unit by a matrix exponential (Van Loan 1978; short against 1 / rate, so nothing is lost in e^(-A h)), and from n
    units those of n + 1. Written in numpy, as `sde.LinearSDE` would take longer to compile than all of this to run.
    """
    d, shape = A.shape[-1], A.shape[:-2]
    block = np.zeros((*shape, 2 * d, 2 * d))
    block[..., :d, :d], block[..., :d, d:], block[..., d:, d:] = -A, S @ S.swapaxes(-1, -2), A.swapaxes(-1, -2)
    pushed = np.zeros((*shape, d + 1, d + 1))
    pushed[..., :d, :d], pushed[..., :d, d] = A, b
    moved, pushed = expm(block * unit), expm(pushed * unit)
    F1, c1 = pushed[..., :d, :d], pushed[..., :d, d]
    Q1, F1T = F1 @ moved[..., :d, d:], F1.swapaxes(-1, -2)
    law, found = (F1, c1, Q1), []
    for _ in range(int(COUNTS[-1]) - 1):
        F, c, Q = law
        Q = F1 @ Q @ F1T + Q1
        law = F1 @ F, (F1 @ c[..., None])[..., 0] + c1, 0.5 * (Q + Q.swapaxes(-1, -2))
        found.append(law)
    return Kernels(*(np.stack(parts, axis=len(shape)) for parts in zip(*found, strict=True)))


# -- missing entries ---------------------------------------------------------------------------------------------------


def kalman(process: Linear, sample: Sample, keep: np.ndarray) -> tuple[float, int]:
    """Log-likelihood of the observed entries given those before them, and their number.

    Counted are entries of a channel that has been observed before, as a model without a prior counts them.
    """
    law, d = process.kernels, process.dim
    mean = np.broadcast_to(process.mean, sample.values[:, 0].shape)
    cov = np.broadcast_to(process.covariance, (len(mean), d, d))
    seen_before = np.zeros(mean.shape, bool)
    total, count, series = 0.0, 0, np.arange(len(mean))
    for row in range(sample.values.shape[1]):
        if row:
            k = sample.gap[:, row - 1]
            mean = np.einsum("sij,sj->si", law.F[k], mean) + law.c[k]
            cov = law.F[k] @ cov @ law.F[k].swapaxes(1, 2) + law.Q[k]
        # one channel after the other: each is conditioned on those already taken in
        order = np.argsort(seen_before, axis=1, kind="stable")
        for position in range(d):
            channel = order[:, position]
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


# -- the exact estimate ------------------------------------------------------------------------------------------------


def _moments(sample: Sample, centre: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """M (K, 2d + 1, 2d + 1): Σ z zᵀ over the transitions of each gap, z = (y0, 1, y1) in those units."""
    y1, y0, k = sample.pairs
    z = np.concatenate([(y0 - centre) / unit, np.ones((len(y0), 1)), (y1 - centre) / unit], axis=1)
    return np.stack([z[k == number].T @ z[k == number] for number in range(len(COUNTS))])


def _unpack(p: np.ndarray, d: int, which: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (..., d, d), b (..., d) and S (..., d, d), whose diagonal is kept as logarithms."""
    S = np.zeros((*p.shape[:-1], d, d))
    S[..., which[0], which[1]] = p[..., d * d + d :]
    diagonal = np.arange(d)
    S[..., diagonal, diagonal] = np.exp(S[..., diagonal, diagonal])
    return p[..., : d * d].reshape(*p.shape[:-1], d, d), p[..., d * d : d * d + d], S


def _score(p: np.ndarray, M: np.ndarray, which: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Slope (P,) of the log-likelihood and the information (P, P), from central differences of F, c and Q.

    Of N(F y + c, Q): Σ_k tr(Q⁻¹ dG M Gᵀ..) as in the head, and n_k (½ tr(Q⁻¹ ∂Q Q⁻¹ ∂'Q) + E[∂m ᵀQ⁻¹ ∂'m]).
    """
    d, unit = (M.shape[1] - 1) // 2, 0.01
    here = kernels(*_unpack(p, d, which), unit)
    inverse, count, inner = np.linalg.inv(here.Q), M[:, d, d], M[:, : d + 1, : d + 1]
    residual = M[:, d + 1 :, : d + 1] - np.concatenate([here.F, here.c[..., None]], 2) @ inner  # Σ r (y0, 1)ᵀ
    G = np.concatenate([-here.F, -here.c[..., None], np.broadcast_to(np.eye(d), here.F.shape)], 2)
    second = inverse @ (G @ M @ G.swapaxes(1, 2)) @ inverse - count[:, None, None] * inverse
    whiten = np.linalg.cholesky(inverse).swapaxes(1, 2)
    spread = np.linalg.cholesky(inner)
    slopes, means, noises = [], [], []
    for first in range(0, len(p), _AT_ONCE):
        moves = _WIDTH * np.eye(len(p))[first : first + _AT_ONCE]
        up, down = (kernels(*_unpack(p + sign * moves, d, which), unit) for sign in (1, -1))
        dF, dc, dQ = ((getattr(up, n) - getattr(down, n)) / (2 * _WIDTH) for n in ("F", "c", "Q"))
        dm = np.concatenate([dF, dc[..., None]], 3)
        slopes.append(((inverse @ residual) * dm).sum((1, 2, 3)) + 0.5 * (second * dQ).sum((1, 2, 3)))
        means.append((whiten @ dm @ spread).reshape(len(moves), -1))
        scaled = whiten @ dQ @ whiten.swapaxes(1, 2) * np.sqrt(0.5 * count)[:, None, None]
        noises.append(scaled.reshape(len(moves), -1))
    means, noises = np.concatenate(means), np.concatenate(noises)
    return np.concatenate(slopes), means @ means.T + noises @ noises.T

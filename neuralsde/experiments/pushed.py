"""Series that are pushed by a slow velocity which nobody sees, and where each way of training must lead on them.

    x_(k+1) = a x_k + m_k + e_k,    m_(k+1) = b m_k + s √(1 - b²) w_k,    e, w ~ N(0, 1)

One move is nearly all noise, so a model of single steps takes the push for noise and is over-confident far ahead. All
is Gaussian, so the exact law given the whole past is known (a Kalman filter), and so is what a linear model that reads
n rows becomes, given endless data: x_(k+1) ~ N(w·X, v), X the last n rows, Γ and γ their autocovariances,

    one step             w = Γ⁻¹ (γ_1 ... γ_n),      v = γ_0 - w·(γ_1 ... γ_n)
    gaps of 1 to R rows  x_(k+h) ~ N(x_k + h u·X, h v):   u = Γ⁻¹ Σ_h Cov(X, x_(k+h) - x_k) / Σ_h h
    through simulation   the w and v with the least mean over leads h <= H of CRPS / typical move over h
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_discrete_lyapunov, toeplitz
from scipy.optimize import minimize
from scipy.special import ndtr, ndtri

KEEP, PUSH_KEEP, PUSH = 0.98, 0.95, 0.5
"""a, b and s: the push is remembered for about 20 rows, and has half the s.d. of the noise of a move."""
_STEP = np.array([[KEEP, 1.0], [0.0, PUSH_KEEP]])
_NOISE = np.diag([1.0, PUSH**2 * (1 - PUSH_KEEP**2)])
_STATIONARY = solve_discrete_lyapunov(_STEP, _NOISE)


def draw(rng: np.random.Generator, series: int, rows: int) -> np.ndarray:
    """Stationary series (series, rows)."""
    state = rng.standard_normal((series, 2)) @ np.linalg.cholesky(_STATIONARY).T
    found = np.empty((rows, series))
    for k in range(rows):
        found[k] = state[:, 0]
        state = state @ _STEP.T + rng.standard_normal((series, 2)) * np.sqrt(np.diagonal(_NOISE))
    return found.T


def covariances(count: int) -> np.ndarray:
    """Autocovariances γ_0 ... γ_(count - 1): the first entry of Fʰ P."""
    found, power = np.empty(count), _STATIONARY
    for k in range(count):
        found[k], power = power[0, 0], _STEP @ power
    return found


def exact(values: np.ndarray, leads: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The law given all rows so far of series (series, rows): mean (series, rows, leads) and sd (rows, leads)."""
    push, variance = np.zeros(len(values)), PUSH**2  # less than is known from a stationary x_0; forgotten soon
    mean, sd = np.empty((*values.shape, len(leads))), np.empty((values.shape[1], len(leads)))
    powers = [np.linalg.matrix_power(_STEP, k) for k in range(max(leads) + 1)]
    for k in range(values.shape[1]):
        if k:
            gain = variance / (variance + 1.0)
            push = PUSH_KEEP * (push + gain * (values[:, k] - KEEP * values[:, k - 1] - push))
            variance = PUSH_KEEP**2 * (1 - gain) * variance + _NOISE[1, 1]
        for j, lead in enumerate(leads):
            mean[:, k, j] = powers[lead][0, 0] * values[:, k] + powers[lead][0, 1] * push
            spread = sum(powers[i][0] @ _NOISE @ powers[i][0] for i in range(lead))
            sd[k, j] = np.sqrt(powers[lead][0, 1] ** 2 * variance + spread)
    return mean, sd


@dataclass(frozen=True)
class Linear:
    """x_(k+1) ~ N(w·X, v): weights w (n,), the present first, and variance v."""

    weights: np.ndarray
    variance: float

    def far(self, leads: int) -> tuple[np.ndarray, np.ndarray]:
        """s.d. (leads,) of its paths at leads 1, 2, ..., and of the error of their mean, over endless data."""
        n, gamma = len(self.weights), covariances(len(self.weights) + leads)
        companion, power = np.vstack([self.weights, np.eye(n)[:-1]]), np.eye(n)
        spread, error, own = 0.0, np.empty(leads), np.empty(leads)
        for h in range(leads):
            spread, power = spread + power[0, 0] ** 2, companion @ power
            w, cross = power[0], gamma[h + 1 : h + 1 + n]
            error[h] = gamma[0] - 2 * w @ cross + w @ toeplitz(gamma[:n]) @ w
            own[h] = self.variance * spread
        return np.sqrt(own), np.sqrt(error)

    def crps(self, leads: int) -> np.ndarray:
        """Mean CRPS (leads,)."""
        return crps(*self.far(leads))

    def coverage(self, leads: int, level: int) -> np.ndarray:
        """Share (leads,) of truths in its central interval of `level` per cent."""
        own, error = self.far(leads)
        return 2 * ndtr(ndtri(0.5 + level / 200) * own / error) - 1


def crps(own: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Mean CRPS of N(·, own²) when its mean is off by N(0, error²): √(2 (own² + error²) / π) - own / √π."""
    return np.sqrt(2 * (own**2 + error**2) / np.pi) - own / np.sqrt(np.pi)


def one_step(n: int) -> Linear:
    """The best law of one step from n rows."""
    gamma = covariances(n + 1)
    weights = np.linalg.solve(toeplitz(gamma[:n]), gamma[1:])
    return Linear(weights, float(gamma[0] - weights @ gamma[1:]))


def over_gaps(n: int, most: int) -> Linear:
    """What transitions of 1 to `most` rows, each in one step of the law, make of a model that reads n rows.

    Their mean -log N(x_k + h u·X, h v) is quadratic in u, weighted by 1 / h, whatever v is.
    """
    gamma, gaps = covariances(n + most), np.arange(1, most + 1)
    cross = np.array([gamma[h : h + n] - gamma[:n] for h in gaps])
    u = np.linalg.solve(toeplitz(gamma[:n]), cross.sum(0)) / gaps.sum()
    error = 2 * (gamma[0] - gamma[gaps]) - 2 * gaps * (cross @ u) + gaps**2 * (u @ toeplitz(gamma[:n]) @ u)
    return Linear(u + np.eye(n)[0], float(np.mean(error / gaps)))


def through_simulation(n: int, leads: int) -> Linear:
    """The model that reads n rows whose paths have the least mean CRPS, in units of the typical move over each lead."""
    gamma, first = covariances(leads + 1), one_step(n)
    move = np.sqrt(2 * (gamma[0] - gamma[1:]))

    def model(at: np.ndarray) -> Linear:
        return Linear(first.weights + at[:-1], first.variance * float(np.exp(at[-1])))

    found = minimize(lambda at: float(np.mean(model(at).crps(leads) / move)), np.zeros(n + 1), method="BFGS")
    return model(found.x)

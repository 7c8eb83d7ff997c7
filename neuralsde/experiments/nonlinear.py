"""Two known processes on the line that are not linear and Gaussian: a square-root process, a double well.

    CIR           dy = κ (θ - y) dt + σ √y dW            non-central χ² transitions (`sde.CIR`)
    double well   dy = (a y - b y³ + c) dt + σ dW        V = -a y²/2 + b y⁴/4 - c y,  p(y) ∝ e^(-2V/σ²)

The law of the well is that of a chain on a grid of width h with rates q(i, i±1) = σ²/2h² e^(-(V(i±1) - V(i))/σ²), which
has p as its stationary law and tends to the SDE as h² (here 5e-4 of the variance of a step). Its symmetric form is
tridiagonal, so all gaps come from one set of eigenvectors; between grid points what differs from an Euler step is
interpolated. It is drawn by Heun steps (weak order two for additive noise). All in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.linalg import eigh_tridiagonal

from neuralsde import sde
from neuralsde.experiments.known import Sample, gaps, scored

_POINTS, _EDGE = 321, 2.4
_SUBSTEPS = 20
_FAINTEST = 40.0
"""Modes that have decayed by e^-40 in the shortest gap are left out."""
_REACH = 9.0
"""Standard deviations of a step within which the law of the well is tabulated."""


@dataclass(frozen=True)
class CIR:
    """The square-root process; stays positive for 2 κ θ ≥ σ².

    clock: the rate that the gaps are counted in, κ of the truth.
    """

    kappa: float = 0.5
    theta: float = 4.0
    sigma: float = 0.4
    clock: float = 0.5
    name: str = "CIR"
    dim: int = 1
    correlated: bool = False

    @property
    def rate(self) -> float:
        """Of the gaps."""
        return self.clock

    def drift(self, y: np.ndarray) -> np.ndarray:
        """κ (θ - y)."""
        return self.kappa * (self.theta - y)

    def spread(self, y: np.ndarray) -> np.ndarray:
        """σ √y."""
        return self.sigma * np.sqrt(y)

    def features(self, y: np.ndarray) -> np.ndarray:
        """1, y."""
        return np.concatenate([np.ones_like(y), y], axis=1)

    def shape(self, y: np.ndarray) -> np.ndarray:
        """√y."""
        return np.sqrt(y)

    def states(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Of the stationary gamma law."""
        unit = self.sigma**2 / (2 * self.kappa)
        return unit * rng.gamma(self.theta / unit, size=(n, 1))

    def step(self, y: np.ndarray, k: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Exact draws."""
        dt = gaps(self)[k][:, None]
        twice_c = 4 * self.kappa / (self.sigma**2 * -np.expm1(-self.kappa * dt))
        degrees = 4 * self.kappa * self.theta / self.sigma**2
        return rng.noncentral_chisquare(degrees, twice_c * y * np.exp(-self.kappa * dt)) / twice_c

    def log_density(self, y1: np.ndarray, y0: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Exact."""
        return self._density(np.array([self.kappa, self.theta, self.sigma]), y1, y0, gaps(self)[k])

    def _density(self, p: np.ndarray, y1: np.ndarray, y0: np.ndarray, dt: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(_cir(*map(jnp.asarray, (p, y1[:, 0], y0[:, 0], dt))))

    def one_step(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From the first two moments of a transition."""
        dt, kappa, y = gaps(self), self.kappa, y[:, 0]
        left = np.exp(-kappa * dt)
        drift = (self.theta - y) * kappa * (-np.expm1(-kappa * dt) / kappa).mean() / dt.mean()
        D = -np.expm1(-kappa * dt) / kappa
        variance = self.sigma**2 * D * (y[:, None] * left + 0.5 * kappa * self.theta * D)
        off = (self.theta - y[:, None]) * -np.expm1(-kappa * dt) - drift[:, None] * dt
        return drift[:, None], np.sqrt(((variance + off**2) / dt).mean(1))[:, None]

    def exact(self, sample: Sample) -> CIR:
        """The maximum of the χ² likelihood."""
        y1, y0, k = sample.pairs
        dt = gaps(self)[k]
        start = np.log([self.kappa, self.theta, self.sigma])
        found = scored(lambda p: self._density(np.exp(p), y1, y0, dt), start)
        return CIR(*np.exp(found).tolist(), clock=self.clock)


@jax.jit
def _cir(p: Array, y1: Array, y0: Array, dt: Array) -> Array:
    return sde.CIR(p[0], p[1], p[2]).log_density(y1, y0, dt)


@dataclass(frozen=True)
class DoubleWell:
    """Two wells, the right one deeper.

    clock: the rate that the gaps are counted in: the steepest slope of the truth's drift within one s.d. of a bottom.
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.1
    sigma: float = 0.5
    clock: float = 4.0
    name: str = "double well"
    dim: int = 1
    correlated: bool = False

    @property
    def rate(self) -> float:
        """Of the gaps."""
        return self.clock

    def drift(self, y: np.ndarray) -> np.ndarray:
        """-V'."""
        return self.a * y - self.b * y**3 + self.c

    def spread(self, y: np.ndarray) -> np.ndarray:
        """σ."""
        return np.full_like(y, self.sigma)

    def features(self, y: np.ndarray) -> np.ndarray:
        """1, y, y³."""
        return np.concatenate([np.ones_like(y), y, y**3], axis=1)

    def shape(self, y: np.ndarray) -> np.ndarray:
        """One."""
        return np.ones_like(y)

    @cached_property
    def law(self) -> Grid:
        """Its transitions."""
        return Grid.of(self)

    def states(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """By the inverse of the distribution function."""
        grid = self.law
        return np.interp(rng.random((n, 1)), np.cumsum(grid.stationary), grid.x + grid.h / 2)

    def step(self, y: np.ndarray, k: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """By Heun steps."""
        h = gaps(self)[k][:, None] / _SUBSTEPS
        for _ in range(_SUBSTEPS):
            first, noise = self.drift(y), self.sigma * np.sqrt(h) * rng.standard_normal(y.shape)
            y = y + 0.5 * (first + self.drift(y + first * h + noise)) * h + noise
        return y

    def log_density(self, y1: np.ndarray, y0: np.ndarray, k: np.ndarray) -> np.ndarray:
        """From the grid."""
        return self.law.log_density(y1[:, 0], y0[:, 0], k)

    def one_step(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From the first two moments of the grid's transitions."""
        drift, variance = self.law.one_step
        found = (np.interp(y[:, 0], self.law.x, part)[:, None] for part in (drift, np.sqrt(variance)))
        return next(found), next(found)

    def exact(self, sample: Sample) -> DoubleWell:
        """The maximum of the likelihood over a, b, c and σ."""
        y1, y0, k = sample.pairs

        def at(p: np.ndarray) -> DoubleWell:
            return DoubleWell(*p[:3].tolist(), sigma=float(np.exp(p[3])), clock=self.clock)

        start = np.array([self.a, self.b, self.c, np.log(self.sigma)])
        return at(scored(lambda p: at(p).log_density(y1, y0, k), start))


@dataclass(frozen=True)
class Grid:
    """Transition laws on points x (n,) of width h, for gaps dt (K,): probabilities (K, n, n)."""

    x: np.ndarray
    h: float
    dt: np.ndarray
    sigma: float
    stationary: np.ndarray
    probability: np.ndarray

    @classmethod
    def of(cls, well: DoubleWell) -> Grid:
        """Of a double well."""
        x, h = np.linspace(-_EDGE, _EDGE, _POINTS, retstep=True)
        V = -well.a * x**2 / 2 + well.b * x**4 / 4 - well.c * x
        dt, speed = gaps(well), well.sigma**2 / (2 * h**2)
        up = speed * np.exp(-np.diff(V) / well.sigma**2)
        down = speed**2 / up
        diagonal = -(np.append(up, 0.0) + np.insert(down, 0, 0.0))
        rates, modes = eigh_tridiagonal(diagonal, np.full(_POINTS - 1, speed))
        slow = rates * dt.min() > -_FAINTEST
        rates, modes = np.minimum(rates[slow], 0.0), modes[:, slow]
        root = np.exp(-(V - V.min()) / well.sigma**2)
        symmetric = np.stack([(modes * np.exp(rates * t)) @ modes.T for t in dt])
        stationary = root**2 / (root**2).sum()
        return cls(x, float(h), dt, well.sigma, stationary, symmetric * (root / root[:, None]))

    @cached_property
    def one_step(self) -> tuple[np.ndarray, np.ndarray]:
        """Drift and variance (n,) that one Euler step a gap finds."""
        mean = self.probability @ self.x - self.x
        square = self.probability @ self.x**2 - 2 * self.x * (self.probability @ self.x) + self.x**2
        drift = mean.mean(0) / self.dt.mean()
        dt = self.dt[:, None]
        return drift, ((square - 2 * drift * dt * mean + (drift * dt) ** 2) / dt).mean(0)

    @cached_property
    def _beside_walk(self) -> np.ndarray:
        """Log density less that of a step without drift (K, n, n): smooth, so it can be interpolated."""
        move, variance = self.x - self.x[:, None], self.sigma**2 * self.dt[:, None, None]
        near = np.abs(move) < _REACH * np.sqrt(variance)
        density = np.where(near & (self.probability > 0), self.probability / self.h, 1.0)
        walk = -0.5 * (move**2 / variance + np.log(2 * np.pi * variance))
        return np.where(near, np.log(density) - walk, 0.0)

    def log_density(self, y1: np.ndarray, y0: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Of transitions y0 -> y1 (N,) over the gaps numbered k, by bilinear interpolation."""
        i, u = self._cell(y0)
        j, v = self._cell(y1)
        part = self._beside_walk
        smooth = (1 - u) * ((1 - v) * part[k, i, j] + v * part[k, i, j + 1])
        smooth = smooth + u * ((1 - v) * part[k, i + 1, j] + v * part[k, i + 1, j + 1])
        variance = self.sigma**2 * self.dt[k]
        return smooth - 0.5 * ((y1 - y0) ** 2 / variance + np.log(2 * np.pi * variance))

    def _cell(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = np.clip((y - self.x[0]) / self.h, 0, _POINTS - 1.001)
        below = place.astype(np.int64)
        return below, place - below

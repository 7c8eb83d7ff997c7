"""Two processes on the line whose laws are known: an Ornstein-Uhlenbeck process and a double well with two depths.

    dx = -V'(x) dt + σ dW,    p(x) ∝ exp(-2 V(x) / σ²),    V = x² / 2   or   (x² - 1)² / 4 - c x

Time is in gaps: a gap Δ is one, so the drift is -V' Δ and the noise σ √Δ. Stationary draws are by the inverse of the
distribution function on a grid; transitions of the OU process are exact, those of the well Euler-Maruyama in many
steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

TILT = 0.1
_GRID = np.linspace(-6.0, 6.0, 24_001)
_FINE = 200
"""Euler-Maruyama steps of the well in one unit of its own time."""


@dataclass(frozen=True)
class Line:
    """One of the processes, seen every `gap` of its own time."""

    name: str
    sigma: float
    gap: float

    @property
    def linear(self) -> bool:
        """Whether it is the OU process."""
        return self.name == "OU"

    def drift(self, x: np.ndarray) -> np.ndarray:
        """-V'(x) Δ: per gap."""
        return self.gap * (-x if self.linear else x - x**3 + TILT)

    @property
    def noise(self) -> float:
        """σ √Δ: per root of a gap."""
        return self.sigma * self.gap**0.5

    @cached_property
    def density(self) -> np.ndarray:
        """Stationary probabilities of the points of the grid."""
        V = _GRID**2 / 2 if self.linear else (_GRID**2 - 1) ** 2 / 4 - TILT * _GRID
        weight = np.exp(-2 * (V - V.min()) / self.sigma**2)
        return weight / weight.sum()

    @property
    def variance(self) -> float:
        """Of the stationary law."""
        return float(self.density @ _GRID**2 - (self.density @ _GRID) ** 2)

    @property
    def right(self) -> float:
        """Stationary probability of x > 0."""
        return float(self.density[_GRID > 0].sum())

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """Of the stationary law."""
        return np.interp(u, np.cumsum(self.density), _GRID)

    def states(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Stationary draws."""
        return self.quantile(rng.random(shape))

    def path(self, x: np.ndarray, points: int, rng: np.random.Generator) -> np.ndarray:
        """States (points, ...) at 1/points, 2/points, ..., 1 of a gap after x (...)."""
        h = self.gap / points
        found = []
        for _ in range(points):
            if self.linear:
                x = np.exp(-h) * x + self.sigma * np.sqrt(-np.expm1(-2 * h) / 2) * rng.standard_normal(x.shape)
            else:
                steps = max(int(np.ceil(_FINE * h)), 1)
                for _ in range(steps):
                    drift = x - x**3 + TILT
                    x = x + drift * h / steps + self.sigma * np.sqrt(h / steps) * rng.standard_normal(x.shape)
            found.append(x)
        return np.stack(found)


def ornstein_uhlenbeck(gap: float) -> Line:
    """Of rate one and variance one."""
    return Line("OU", 2**0.5, gap)


def double_well(gap: float) -> Line:
    """Wells at about -1 and 1, the right one deeper; rate 2 in a well, noise .7."""
    return Line("double well", 0.7, gap)

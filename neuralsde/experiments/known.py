"""SDEs whose transition law is known, seen at random times: what recovery is measured against.

    dy = f(y) dt + G(y) dW,   gaps Δ spread evenly over U(.02, .2) / rate, the rate that of the fastest motion.

Beside the truth stand two estimates that use no network. The *exact* one maximises the true likelihood over the
parameters of the process. The *Euler* one is what a sequence SDE's losses ask of the right parametric form
f = φ(y)ᵀ β, G Gᵀ = shape(y) C shape(y), in one step a gap:

    β = argmin Σ |Δy - φᵀβ Δ|² / Δ,    C = mean of u uᵀ,  u = (Δy - φᵀβ Δ) / (shape √Δ)

so it has the bias of one step (THEORY 15) and no other. Without φ it is the fitted random walk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from neuralsde.data import Trajectories, from_arrays

COUNTS = np.arange(2, 21)
"""Gaps in units of .01 relaxation times 1/rate: .02 to .2 (THEORY 19)."""
_UNIT = 0.01
_SCORING_STEPS, _WIDTH = 2, 1e-3


@runtime_checkable
class Process(Protocol):
    """A known SDE, and also an estimate of one; states (n, d), gaps by their number k (n,) in `gaps`."""

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def rate(self) -> float: ...
    @property
    def correlated(self) -> bool: ...
    def drift(self, y: np.ndarray) -> np.ndarray: ...
    def spread(self, y: np.ndarray) -> np.ndarray:
        """√(G Gᵀ)_ii (n, d)."""
        ...

    def states(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Stationary draws."""
        ...

    def step(self, y: np.ndarray, k: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A draw of the state a gap later."""
        ...

    def log_density(self, y1: np.ndarray, y0: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Nats of the whole row (n,)."""
        ...

    def one_step(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Drift and spread (n, d) that one Euler step a gap finds in endless data: E[Δy] / E[Δ], √E[r² / Δ]."""
        ...

    def features(self, y: np.ndarray) -> np.ndarray:
        """φ (n, p): the drift is linear in them."""
        ...

    def shape(self, y: np.ndarray) -> np.ndarray:
        """The noise of each channel (n, d), up to a constant."""
        ...

    def exact(self, sample: Sample) -> Process:
        """The maximum-likelihood estimate of its parameters."""
        ...


def gaps(process: Process) -> np.ndarray:
    """The gaps (K,) that occur, in clock units."""
    return _UNIT * COUNTS / process.rate


@dataclass(frozen=True)
class Sample:
    """S stationary series of n + 1 rows: `values (S, n + 1, d)`, and `gap (S, n)`, the number of each gap in `gaps`."""

    process: Process
    values: np.ndarray
    gap: np.ndarray

    @cached_property
    def times(self) -> np.ndarray:
        """(S, n + 1) clock times, from 0."""
        steps = gaps(self.process)[self.gap]
        return np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)

    @property
    def transitions(self) -> int:
        """Their number N."""
        return self.gap.size

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The transitions: y1 (N, d), y0 (N, d), the number of the gap (N,)."""
        y0, y1 = (part.reshape(self.transitions, -1) for part in (self.values[:, :-1], self.values[:, 1:]))
        return y1, y0, self.gap.ravel()

    def nats(self, law: Process | Euler) -> float:
        """Mean log-likelihood a dimension and step."""
        return float(law.log_density(*self.pairs).mean()) / self.process.dim

    def table(self, keep: np.ndarray | None = None, *, complete_rows: bool = False) -> Trajectories:
        """As a table; entries outside the mask `keep (S, n + 1, d)` are missing, or their rows are left out."""
        values = self.values if keep is None else np.where(keep, self.values, np.nan)
        if not complete_rows:
            return from_arrays(list(self.times), list(values))
        whole = [~np.isnan(v).any(1) for v in values]
        return from_arrays(*([part[w] for part, w in zip(parts, whole, strict=True)] for parts in (self.times, values)))


def draw(process: Process, series: int, steps: int, rng: np.random.Generator) -> Sample:
    """Paths of the process, stationary from their first row."""
    gap = rng.integers(0, len(COUNTS), (series, steps))
    y = process.states(series, rng)
    path = [y]
    for k in gap.T:
        y = process.step(y, k, rng)
        path.append(y)
    return Sample(process, np.stack(path, axis=1), gap)


# -- estimates ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Euler:
    """One Euler step a gap in the right parametric form; no `beta` (p, d): a random walk. C is (d, d)."""

    process: Process
    beta: np.ndarray | None
    C: np.ndarray

    @classmethod
    def of(cls, sample: Sample, *, walk: bool = False) -> Euler:
        """Fitted to a sample."""
        process, (y1, y0, k) = sample.process, sample.pairs
        dt, move, beta = gaps(process)[k][:, None], y1 - y0, None
        if not walk:
            phi = process.features(y0)
            beta = np.linalg.solve(phi.T @ (phi * dt), phi.T @ move)
            move = move - phi @ beta * dt
        u = move / (process.shape(y0) * np.sqrt(dt))
        C = u.T @ u / len(u)
        return cls(process, beta, C if process.correlated else np.diag(np.diag(C)))

    def drift(self, y: np.ndarray) -> np.ndarray:
        """(n, d)."""
        return np.zeros_like(y) if self.beta is None else self.process.features(y) @ self.beta

    def spread(self, y: np.ndarray) -> np.ndarray:
        """(n, d)."""
        return self.process.shape(y) * np.sqrt(np.diag(self.C))

    def log_density(self, y1: np.ndarray, y0: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Nats of the row (n,)."""
        dt = gaps(self.process)[k][:, None]
        scale = self.process.shape(y0) * np.sqrt(dt)
        u = (y1 - y0 - self.drift(y0) * dt) / scale
        fit = (u * np.linalg.solve(self.C, u.T).T).sum(1)
        return -0.5 * (fit + np.linalg.slogdet(2 * np.pi * self.C)[1]) - np.log(scale).sum(1)


def scored(density: Callable[[np.ndarray], np.ndarray], start: np.ndarray) -> np.ndarray:
    """The maximum of Σ density(p) over the parameters p, density (N,), by scoring (Berndt, Hall, Hall & Hausman 1974).

    p ← p + (Σ s sᵀ)⁻¹ Σ s with the scores s by central differences. Each step takes the distance to the maximum down
    by a factor of about √N. Parameters about one in size, or logarithms.
    """
    p = np.array(start, np.float64)
    for _ in range(_SCORING_STEPS):
        moves = _WIDTH * np.eye(len(p))
        scores = np.stack([(density(p + e) - density(p - e)) / (2 * _WIDTH) for e in moves], axis=1)
        p = p + np.linalg.solve(scores.T @ scores, scores.sum(0))
    return p

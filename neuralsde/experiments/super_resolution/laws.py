"""The law of the points of a gap: of draws, of a Gaussian chain in closed form, of any process on the line by sums.

chain   x_k = a x_(k-1) + s Z:   mean a^k x0,   covariances s² a^(k-j) (1 - a^2j) / (1 - a²) for j <= k
given its last point x1:         mean + g (x1 - mean of x1), covariance - g gᵀ Var x1, g = covariance with x1 / Var x1
grid    p(x_k | x0, x1) ∝ α_k β_k, p(x_j, x_k | x0, x1) ∝ α_j K β_k      forward-backward recursion
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtri

from neuralsde.experiments.one_dimension import Line

POINTS = 5
LEVELS = (np.arange(500) + 0.5) / 500
"""Probabilities of the quantiles of a law."""


@dataclass(frozen=True)
class Law:
    """Of k points in some gaps: mean and s.d. (gaps, k), covariance (gaps, k, k), quantiles (gaps, k, levels)."""

    mean: np.ndarray
    sd: np.ndarray
    covariance: np.ndarray
    quantiles: np.ndarray

    @classmethod
    def of(cls, draws: np.ndarray) -> Law:
        """Of draws (gaps, n, k)."""
        covariance = np.stack([np.atleast_2d(np.cov(some.T)) for some in draws])
        return cls(draws.mean(1), draws.std(1), covariance, np.moveaxis(np.quantile(draws, LEVELS, axis=1), 0, -1))

    @classmethod
    def gaussian(cls, mean: np.ndarray, covariance: np.ndarray) -> Law:
        """With means (gaps, k) and one covariance (k, k)."""
        sd = np.broadcast_to(np.sqrt(np.diagonal(covariance)), mean.shape)
        quantiles = mean[..., None] + sd[..., None] * ndtri(LEVELS)
        return cls(mean, sd, np.broadcast_to(covariance, (*mean.shape, mean.shape[1])), quantiles)

    def errors(self, exact: Law) -> dict[str, float]:
        """Root mean squares over gaps and points, in units of the exact s.d.; W1 and KS are means over them.

        bias of s.d.: the mean of its relative errors, with their sign. covariance: of pairs of points.
        """
        mean, ratio = (self.mean - exact.mean) / exact.sd, self.sd / exact.sd - 1
        off = (self.covariance - exact.covariance) / (exact.sd[:, :, None] * exact.sd[:, None, :])
        far = [_ks(*pair) for pair in zip(_flat(self.quantiles), _flat(exact.quantiles), strict=True)]
        upper = np.triu_indices(mean.shape[1], 1)
        return {
            "mean": _rms(mean),
            "s.d.": _rms(ratio),
            "bias of s.d.": float(ratio.mean()),
            "covariance": _rms(off[:, upper[0], upper[1]]) if len(upper[0]) else 0.0,
            "W1": float((np.abs(self.quantiles - exact.quantiles).mean(-1) / exact.sd).mean()),
            "KS": float(np.mean(far)),
        }

    def split(self) -> tuple[Law, Law]:
        """The points in between, and the end of the gap."""
        between, end = slice(0, POINTS - 1), slice(POINTS - 1, POINTS)
        return self._at(between), self._at(end)

    def _at(self, part: slice) -> Law:
        return Law(self.mean[:, part], self.sd[:, part], self.covariance[:, part, part], self.quantiles[:, part])


def free_errors(law: Law, exact: Law) -> dict[str, float]:
    """Errors of the points in between, and of mean and s.d. at the end of the gap."""
    (between, end), (exact_between, exact_end) = law.split(), exact.split()
    at_end = end.errors(exact_end)
    return {
        **between.errors(exact_between),
        "mean at the end": at_end["mean"],
        "s.d. at the end": at_end["bias of s.d."],
    }


def _flat(quantiles: np.ndarray) -> np.ndarray:
    return quantiles.reshape(-1, quantiles.shape[-1])


def _ks(quantiles: np.ndarray, exact: np.ndarray) -> float:
    """Largest difference of the distribution functions, both given by their quantiles."""
    return float(np.abs(np.interp(quantiles, exact, LEVELS, left=0.0, right=1.0) - LEVELS).max())


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


# -- the OU process: everything in closed form ---------------------------------------------------------------------


@dataclass(frozen=True)
class Chain:
    """Points x_k = slope_k x0 + noise of covariance (k, k), whatever x0 is."""

    slope: np.ndarray
    covariance: np.ndarray

    def free(self, x0: np.ndarray) -> Law:
        """Of all points, given starts (gaps,)."""
        return Law.gaussian(x0[:, None] * self.slope, self.covariance)

    def between(self, x0: np.ndarray, x1: np.ndarray) -> Law:
        """Of all points but the last, given starts and the last (gaps,)."""
        gain = self.covariance[:-1, -1] / self.covariance[-1, -1]
        mean = x0[:, None] * self.slope[:-1] + gain * (x1 - x0 * self.slope[-1])[:, None]
        return Law.gaussian(mean, self.covariance[:-1, :-1] - np.outer(gain, self.covariance[:-1, -1]))


def chain(a: float, s: float, finer: int = 1) -> Chain:
    """Every `finer`-th of the points x' = a x + s Z."""
    k = finer * np.arange(1, POINTS + 1)
    first = np.minimum(k[:, None], k)
    return Chain(a**k, s**2 * a ** np.abs(k[:, None] - k) * (1 - a ** (2 * first)) / (1 - a**2))


def exact_chain(gap: float) -> Chain:
    """The OU process of variance one."""
    return chain(float(np.exp(-gap / POINTS)), float(np.sqrt(-np.expm1(-2 * gap / POINTS))))


# -- any process on the line: on a grid ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """The law of the points of a gap by sums over a grid, with the kernel of one fine step (of `Line.path`).

    Forward density α_k(x) = p(x_k = x | x0), backward density β_k(x) = p(x1 | x_k = x); joint ∝ α_j K β_k.
    """

    line: Line
    at: np.ndarray
    steps: int

    @classmethod
    def of(cls, line: Line, half_width: float = 3.2, points: int = 641) -> Grid:
        """steps: of the length of those of `Line.path`."""
        return cls(line, np.linspace(-half_width, half_width, points), max(int(np.ceil(200 * line.gap / POINTS)), 2))

    def _density(self, x: np.ndarray, x1: np.ndarray) -> np.ndarray:
        """Of one fine step from x (a, 1) to x1 (b,)."""
        h = 1 / (POINTS * self.steps)
        sd = self.line.noise * np.sqrt(h)
        z = (x1 - x - h * self.line.drift(x)) / sd
        return np.exp(-0.5 * z**2) / (sd * np.sqrt(2 * np.pi))

    @cached_property
    def _fine(self) -> np.ndarray:
        K = self._density(self.at[:, None], self.at) * (self.at[1] - self.at[0])
        return K / K.sum(1, keepdims=True)

    @cached_property
    def point(self) -> np.ndarray:
        """Kernel from one point of the gap to the next."""
        return np.linalg.matrix_power(self._fine, self.steps)

    def forward(self, x0: np.ndarray) -> np.ndarray:
        """α (gaps, POINTS, grid), as probabilities."""
        first = self._density(x0[:, None], self.at) * (self.at[1] - self.at[0])
        found = [first @ np.linalg.matrix_power(self._fine, self.steps - 1)]
        for _ in range(POINTS - 1):
            found.append(found[-1] @ self.point)
        return np.stack(found, 1)

    def backward(self, x1: np.ndarray | None, gaps: int) -> np.ndarray:
        """β (gaps, POINTS - 1, grid) of all points but the last; ones (gaps, POINTS, grid) without an end."""
        if x1 is None:
            return np.ones((gaps, POINTS, len(self.at)))
        last = self._density(self.at[:, None], x1).T
        found = [last @ np.linalg.matrix_power(self._fine, self.steps - 1).T]
        for _ in range(POINTS - 2):
            found.append(found[-1] @ self.point.T)
        return np.stack(found[::-1], 1)

    def law(self, x0: np.ndarray, x1: np.ndarray | None = None) -> Law:
        """Given starts (gaps,), and ends (gaps,) where they are given."""
        beta = self.backward(x1, len(x0))
        k = beta.shape[1]
        alpha, x = self.forward(x0)[:, :k], self.at
        p = alpha * beta
        total = p.sum(-1, keepdims=True)
        p, mean = p / total, (p / total) @ x
        products = np.empty((len(x0), k, k))
        for i in range(k):
            onward = alpha[:, i] * x
            for j in range(i, k):
                products[:, i, j] = products[:, j, i] = (onward * beta[:, j]) @ x / total[:, j, 0]
                onward = onward @ self.point
        for i in range(k):
            products[:, i, i] = p[:, i] @ x**2
        covariance = products - mean[:, :, None] * mean[:, None, :]
        cumulative = np.cumsum(p, -1) - 0.5 * p
        quantiles = np.stack([np.interp(LEVELS, c, x) for c in cumulative.reshape(-1, len(x))])
        sd = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        return Law(mean, sd, covariance, quantiles.reshape(len(x0), k, -1))

    def draws(self, x0: np.ndarray, x1: np.ndarray | None, n: int, rng: np.random.Generator) -> np.ndarray:
        """Paths (gaps, n, k) of that law, cell by cell, spread evenly within a cell."""
        beta, alpha = self.backward(x1, len(x0)), self.forward(x0)
        width = self.at[1] - self.at[0]
        found = np.empty((len(x0), n, beta.shape[1]))
        for gap in range(len(x0)):
            cells = _pick((alpha[gap, 0] * beta[gap, 0])[None].repeat(n, 0), rng)
            for k in range(beta.shape[1]):
                if k:
                    cells = _pick(self.point[cells] * beta[gap, k], rng)
                found[gap, :, k] = self.at[cells] + width * (rng.random(n) - 0.5)
        return found


def _pick(weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One column of each row of weights."""
    cumulative = np.cumsum(weight, 1)
    return (cumulative < rng.random((len(weight), 1)) * cumulative[:, -1:]).sum(1).clip(max=weight.shape[1] - 1)

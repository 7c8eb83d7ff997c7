"""The fork of the paper (arXiv 2501.18871, section 4.1 and appendix E.1), and what is measured on paths through it.

Fifty identical trajectories go straight on and then turn up by 30°, fifty turn down. Speed 0.1, 100 points at density 1
and 1,000 at density 10 on the same lines; the turn after 45 of 100 units of time. Nothing in them is random but the
choice. So every figure is known for perfect paths, and the floor of the energy distance in closed form: with n paths
of which a share p turns up, against the demonstrations in equal halves,

    2 E|X - Y| - E|X - X'| - E|Y - Y'| = 2 D (p - ½)²,     |·| root mean square over time, D = |up - down| = 2.37

and D χ²₁ / n when both sides are n draws: mean 2.4e-3, 95 % below 9.1e-3 at n = 1,000 (THEORY 28).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from neuralsde.data import Trajectories, from_arrays

SPEED, ANGLE, KINK, DURATION, COPIES = 0.1, np.pi / 6, 45, 100, 50
"""Per unit of time; in radians; times of the turn and of the end; trajectories a branch."""

DENSITIES = (1, 10)
"""Points a unit of time."""

NEAR = 0.15
"""A path has taken a branch if it ends within this distance of it, and past half of its length."""


def demonstrations(density: int = 1) -> np.ndarray:
    """The two branches (2, 100 density + 1, 2), the upper one first."""
    step = SPEED / density
    ahead = np.tile([step, 0.0], (KINK * density, 1))
    turned = [step * np.array([np.cos(ANGLE), side * np.sin(ANGLE)]) for side in (1, -1)]
    moves = [np.concatenate([ahead, np.tile(turn, ((DURATION - KINK) * density, 1))]) for turn in turned]
    return np.stack([np.concatenate([np.zeros((1, 2)), np.cumsum(v, axis=0)]) for v in moves])


def times(density: int) -> np.ndarray:
    """The times (100 density + 1,) of the points."""
    return np.linspace(0.0, DURATION, DURATION * density + 1)


def table(density: int = 1) -> Trajectories:
    """The hundred trajectories; first those that turn up."""
    return from_arrays(times(density), list(np.repeat(demonstrations(density), COPIES, axis=0)), columns=["x", "y"])


# -- what is measured --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """What n sampled paths do.

    up, down: shares that take a branch: they end within `NEAR` of it and past half of its length. The rest is lost.
    distance: mean distance of the points of all paths to the demonstrated lines.
    arrival:  mean distance at the last time from the end point of the nearer branch (above or below the axis).
    energy:   energy distance of whole paths to the demonstrations, root mean square over time; in units of length.
    """

    up: float
    down: float
    distance: float
    arrival: float
    energy: float


ASKED = {"up": (0.4, 0.6), "down": (0.4, 0.6), "distance": (0.0, 0.03), "energy": (0.0, 0.06)}
"""The marks: from, to."""


def measure(paths: np.ndarray) -> Figures:
    """The figures of paths (n, 100 density + 1, 2). Paths that are not finite are lost, at the edge of the plane."""
    paths = np.nan_to_num(np.clip(paths, -_EDGE, _EDGE), nan=_EDGE)
    lines = demonstrations((paths.shape[1] - 1) // DURATION)
    away, end = distance(paths), paths[:, -1]
    above = end[:, 1] > 0
    half_way = (SPEED * KINK + lines[0, -1, 0]) / 2
    taken = (away[:, -1] < NEAR) & (end[:, 0] > half_way)
    miss = np.linalg.norm(end - lines[np.where(above, 0, 1), -1], axis=-1)
    figures = ((taken & above).mean(), (taken & ~above).mean(), away.mean(), miss.mean(), energy_distance(paths, lines))
    return Figures(*(float(f"{value:.4g}") for value in figures))


_EDGE = 100.0


def meets(figures: Figures) -> bool:
    """Whether all marks are met."""
    return all(low <= getattr(figures, name) <= high for name, (low, high) in ASKED.items())


def distance(points: np.ndarray) -> np.ndarray:
    """Distance (...) of points (..., 2) to the nearest demonstrated line."""
    up, down = demonstrations()
    nearest = np.full(points.shape[:-1], np.inf)
    for start, end in ((up[0], up[KINK]), (up[KINK], up[-1]), (down[KINK], down[-1])):
        along = end - start
        share = np.clip((points - start) @ along / (along @ along), 0.0, 1.0)
        nearest = np.minimum(nearest, np.linalg.norm(points - start - share[..., None] * along, axis=-1))
    return nearest


def energy_distance(paths: np.ndarray, lines: np.ndarray) -> float:
    """Of the law of paths (n, T, 2) from that which takes each of the two `lines` (2, T, 2) half of the time."""
    across = np.mean([_rms(paths - line).mean() for line in lines])
    return float(2 * across - _mean_apart(paths) - _rms(lines[0] - lines[1]) / 2)


def apart() -> float:
    """D: root mean square distance of the two branches over the points of density 1."""
    up, down = demonstrations()
    return float(_rms(up - down))


def floor(n: int, q: float | None = None) -> float:
    """Energy distance of n real paths from n others: its mean, or its quantile q."""
    chi2 = 1.0 if q is None else float(stats.chi2.ppf(q, 1))
    return apart() * chi2 / n


def _rms(x: np.ndarray) -> np.ndarray:
    """Root mean square over time of differences (..., T, 2)."""
    return np.asarray(np.sqrt(np.square(x).sum((-1, -2)) / x.shape[-2]))


def _mean_apart(paths: np.ndarray) -> float:
    """Mean over all pairs, a path and itself among them, of their distance."""
    flat = (paths - paths.mean(0)).reshape(len(paths), -1)
    squares = (flat**2).sum(1)
    apart = squares[:, None] + squares[None] - 2 * flat @ flat.T
    np.fill_diagonal(apart, 0.0)
    return float(np.sqrt(np.maximum(apart, 0.0) / paths.shape[1]).mean())

"""What the losses would give at the fork if a network could minimise them exactly: no training, seconds.

Seen from a noisy point x̃ = x + s ξ, x anywhere on the demonstrated lines (the flow is trained on chords), they are
posterior means. On a segment of length ℓ in direction e, with u = (x̃ - start)·e and r the distance from its line,

    weight ∝ exp(-r² / 2 s²) [Φ((ℓ - u)/s) - Φ(-u/s)],    mean place on it: that of N(u, s²) between 0 and ℓ

and the stem counts twice. So flow E[v | x̃], denoiser (x̃ - E[x | x̃]) / n and pull are closed forms. The diffusion is
E[r² | x̃] over the rows, r the residual of the flow at a clean row. `sampled` runs paths with them: it tells which noise
and strength can meet the marks at all, at every density.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtr

from neuralsde.experiments.branching.fork import DURATION, KINK, SPEED, demonstrations

Pull = Literal["travel", "step"]
_REACH = 8.0
"""Where the diffusion counts: so many s.d. of noise around the kink."""


@dataclass(frozen=True)
class Settings:
    """Noise on the input and of the denoiser, in units of the data, and the strength of its pull.

    pull: "travel", the model's: per time in which the data move by one `denoiser_noise`, with the exact decay of each
          step; "step", the paper's α = 1: `strength` of the whole way back with every point, whatever the density.
    target: "keep" the velocity of the clean path, or "return" to it within one step.
    """

    input_noise: float
    denoiser_noise: float = 0.1
    strength: float = 0.0
    pull: Pull = "travel"
    target: Literal["keep", "return"] = "keep"


def posterior(points: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Means of the velocity (per unit of time) and of the clean place, (n, 2) each, seen from points (n, 2)."""
    up, down = demonstrations()
    ends = np.array([[up[0], up[KINK]], [up[KINK], up[-1]], [down[KINK], down[-1]]])
    along = ends[:, 1] - ends[:, 0]
    length = np.linalg.norm(along, axis=1)
    e = along / length[:, None]
    offset = points[:, None] - ends[:, 0]
    u = (offset * e).sum(-1)
    away = (offset**2).sum(-1) - u**2
    low, high = -u / noise, (length - u) / noise
    inside = np.maximum(ndtr(high) - ndtr(low), 1e-300)
    place = np.clip(u + noise * (_density(low) - _density(high)) / inside, 0.0, length)
    log = -away / (2 * noise**2) + np.log(inside) + np.log([2.0, 1.0, 1.0])
    weight = np.exp(log - log.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    clean = (weight[..., None] * (ends[:, 0] + place[..., None] * e)).sum(1)
    return SPEED * weight @ e, clean


def flow(points: np.ndarray, settings: Settings, density: int) -> np.ndarray:
    """What the flow adds in one step (n, 2)."""
    velocity, clean = posterior(points, settings.input_noise)
    return velocity / density + (clean - points if settings.target == "return" else 0.0)


def pull(points: np.ndarray, settings: Settings, density: int) -> np.ndarray:
    """What the denoiser adds in one step (n, 2)."""
    n, c = settings.denoiser_noise, settings.strength
    if c == 0:
        return np.zeros_like(points)
    back = posterior(points, n)[1] - points
    if settings.pull == "step":
        return c * back
    a = c * SPEED / (np.sqrt(2) * n * density) * back  # on a line both columns together move by n in √2 n / speed
    size = np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12)
    h = 1e-4 * n
    further = points + h * a / size
    change = c * SPEED / (np.sqrt(2) * n * density) * (posterior(further, n)[1] - further) - a
    rate = -(change * a).sum(1, keepdims=True) / (h * size)
    some = np.where(rate > 1e-9, rate, 1.0)
    return a * np.where(rate > 1e-9, -np.expm1(-some) / some, 1.0)


class Diffusion:
    """E[r² | x̃] over the rows near the kink; nothing is random elsewhere."""

    def __init__(self, settings: Settings, density: int) -> None:
        lines = demonstrations(density)
        self.noise = settings.input_noise
        rows, moves = (part.reshape(-1, 2) for part in (lines[:, :-1], np.diff(lines, axis=1)))
        self.kink = lines[0, KINK * density]
        self.reach = _REACH * self.noise + 2 * SPEED / density
        near = np.linalg.norm(rows - self.kink, axis=1) < 2 * self.reach
        self.rows = rows[near]
        self.squares = np.square(moves[near] - flow(self.rows, settings, density))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Variances of one step (n, 2) at points (n, 2)."""
        found = np.zeros_like(points)
        near = np.linalg.norm(points - self.kink, axis=1) < self.reach
        log = -np.square(points[near, None] - self.rows).sum(-1) / (2 * self.noise**2)
        if near.any():
            weight = np.exp(log - log.max(1, keepdims=True))
            found[near] = weight @ self.squares / weight.sum(1, keepdims=True)
        return found


def sampled(settings: Settings, density: int, *, n: int = 1_000, seed: int = 0) -> np.ndarray:
    """Paths (n, 100 density + 1, 2) of the exact minimisers."""
    rng = np.random.default_rng(seed)
    diffusion = Diffusion(settings, density)
    states = [np.zeros((n, 2))]
    for _ in range(DURATION * density):
        now = states[-1]
        move = flow(now, settings, density) + pull(now, settings, density)
        states.append(now + move + np.sqrt(diffusion(now)) * rng.standard_normal(now.shape))
    return np.stack(states, axis=1)


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)

"""Where episodes start: the published protocol, and the starts that lead to recorded states.

    RandomState(seed):  agent x, y = randint(50, 450), block x, y = randint(100, 400), angle = randn() 2 pi - pi

The simulator takes such a vector and sets the block's position first, then turns it about its centre of gravity c (in
the block's frame), which moves the position: a block asked for at p with angle a stands at p + c - R(a) c. The
published figures (Chi et al. 2023) hold for exactly this order; `reaching` is its inverse.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from neuralsde.errors import InputError

PUBLISHED = 100_000
"""The published evaluation starts from this seed on; one episode a seed."""
CHOICES = 200_000
"""From this seed on: starts for choosing losses, noise, checkpoints; never shown in a final table."""
CENTRE_OF_GRAVITY = (0.0, 45.0)


def starts(first_seed: int, n: int) -> Float[np.ndarray, "n 5"]:
    """The starts of seeds first_seed, first_seed + 1, ...: agent x, y, block x, y, angle, as the simulator takes them.

    Raises InputError for seeds that numpy's RandomState does not take, and for no starts.
    """
    if n < 1 or first_seed < 0 or first_seed + n > 2**32:
        raise InputError(f"{n} starts from seed {first_seed}", "", "at least one, of seeds between 0 and 2^32 - 1")
    return np.array([_start(seed) for seed in range(first_seed, first_seed + n)], np.float64)


def _start(seed: int) -> list[float]:
    draw = np.random.RandomState(seed)
    return [float(draw.randint(50, 450)), float(draw.randint(50, 450)), float(draw.randint(100, 400)),
            float(draw.randint(100, 400)), float(draw.randn() * 2 * np.pi - np.pi)]  # fmt: skip


def standing(start: Float[np.ndarray, "*n 5"]) -> Float[np.ndarray, "*n 5"]:
    """The state in which the simulator is after a reset to `start`, before its first step; the angle in [0, 2 pi)."""
    return np.concatenate([start[..., :2], start[..., 2:4] + _shift(start[..., 4]), start[..., 4:] % (2 * np.pi)], -1)


def reaching(state: Float[np.ndarray, "*n 5"]) -> Float[np.ndarray, "*n 5"]:
    """The start that puts the simulator into `state`; the inverse of `standing`."""
    return np.concatenate([state[..., :2], state[..., 2:4] - _shift(state[..., 4]), state[..., 4:]], -1)


def recorded_start(state: Float[np.ndarray, " 5"], number: int) -> Float[np.ndarray, " 5"]:
    """The start of a demonstration that begins in `state`, the `number`-th of its set.

    The published demonstrations were started from the seeds 0, 1, ..., so their starts are known to every digit;
    states were recorded in single precision, from which a push at a corner can go another way. Others: `reaching`.
    """
    exact = np.array(_start(number))
    gap = standing(exact) - state
    gap[4] = (gap[4] + np.pi) % (2 * np.pi) - np.pi
    return exact if np.abs(gap).max() < 1e-3 else reaching(np.asarray(state, np.float64))


def _shift(angle: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n 2"]:
    """C - R(a) c."""
    x, y = CENTRE_OF_GRAVITY
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x - (cos * x - sin * y), y - (sin * x + cos * y)], -1)

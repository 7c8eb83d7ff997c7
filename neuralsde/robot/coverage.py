"""How much of the goal the block covers, exactly, for many blocks at once, without a geometry library.

A T is the union of two rectangles [a, b] x [c, d] that share no area. In the goal's frame the block's outline is a
polygon of eight edges, and the part of it in one rectangle has the area

    sum over edges of  - int phi(y) dx  over the part of the edge with a <= x <= b,     phi(y) = min(max(y, c), d),

because the length that the polygon has in common with [c, d] at x is a sum of +phi and -phi over the edges above x. On
an edge phi is constant, then linear, then constant: three trapezoids. No division by a small slope changes the area, so
block and goal may be parallel or coincide. Coverage is the sum over both rectangles / 6300 px^2.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

RECTANGLES = np.array([[-60.0, 60.0, 0.0, 30.0], [-15.0, 15.0, 30.0, 120.0]])
"""a, b, c, d of the bar and of the stem, in the frame of the T, px."""
OUTLINE = np.array([[-60.0, 0.0], [60.0, 0.0], [60.0, 30.0], [15.0, 30.0], [15.0, 120.0], [-15.0, 120.0],
                    [-15.0, 30.0], [-60.0, 30.0]])  # fmt: skip
AREA = 6300.0
SUCCESS = 0.95
"""Above this coverage an episode has succeeded; the reward is min(coverage / SUCCESS, 1)."""

_TINY = 1e-300  # in place of a difference of 0: its quotients are huge or 0, never nan
# The sixteen pairs of an edge (from corner _FROM to corner _TO) and a rectangle.
_TO = np.tile(np.arange(8), 2)
_FROM = np.tile((np.arange(8) - 1) % 8, 2)
_A, _B, _C, _D = RECTANGLES.repeat(8, 0).T


def coverage(block: Float[np.ndarray, "*n 3"], goal: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "*n"]:
    """Area of block ∩ goal / area of the goal; each is x, y, angle, which turns from x to y."""
    far = block[..., :2] - goal[:2]
    x, y = _turned(OUTLINE[:, 0], OUTLINE[:, 1], block[..., 2:] - goal[2])
    left, top = _turned(far[..., :1], far[..., 1:], -goal[2])
    x, y = x + left, y + top
    x0, y0 = x[..., _FROM], y[..., _FROM]
    dx, dy = x[..., _TO] - x0, y[..., _TO] - y0
    dx[dx == 0] = _TINY
    dy[dy == 0] = _TINY
    first, last = _ordered((_A - x0) / dx, (_B - x0) / dx)
    low, high = _ordered((_C - y0) / dy, (_D - y0) / dy)
    first = np.maximum(first, 0.0)
    last = np.maximum(np.minimum(last, 1.0), first)  # an edge outside [a, b] has no part in it
    inside = first < last
    t0, t3 = np.where(inside, first, 0.0), np.where(inside, last, 0.0)
    t1, t2 = _within(low, t0, t3), _within(high, t0, t3)
    at0, at1, at2, at3 = (_within(y0 + t * dy, _C, _D) for t in (t0, t1, t2, t3))
    mean = (t1 - t0) * at0 + (t2 - t1) * (at1 + at2) / 2 + (t3 - t2) * at3
    return np.asarray((dx * mean).sum(-1) / -AREA)


def _turned(x: np.ndarray, y: np.ndarray, angle: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x - sin * y, sin * x + cos * y


def _ordered(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(p, q), np.maximum(p, q)


def _within(t: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(t, low), high)

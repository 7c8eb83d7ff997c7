"""How far two sets of points are apart, each set a sample of a law; in numpy and float64 unless said otherwise.

    sliced W2  = (mean over directions u of W2(u·X, u·Y)²)^½         W2² = ∫ (F⁻¹(q) - G⁻¹(q))² dq on a line
    energy     = 2 E‖X - Y‖ - E‖X - X'‖ - E‖Y - Y'‖
    Fréchet    = ‖m - n‖² + tr(C + D - 2 (C^½ D C^½)^½)              W2² of the two Gaussians with these moments

None of them is zero for two samples of one law, so a value says nothing without its floor: `floor` gives the mean and
the 95 % quantile of the same distance between real and real at the same sizes. Sliced W2: Rabin et al. 2011; energy
distance: Székely & Rizzo 2013; the Fréchet distance of features: Heusel et al. 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Key
from numpy.typing import NDArray

from neuralsde.errors import InputError

Points: TypeAlias = NDArray[Any] | Array
_BLOCK = 2_000_000  # distances held at a time
_FEWEST = 2


def sliced_w2(x: Points, y: Points, *, key: Key[Array, ""], projections: int = 128) -> float:
    """Sliced 2-Wasserstein distance of points x (n, ...) and y (m, ...), in their units.

    Exact along each of `projections` random directions, for any n and m; sorted in float32. Symmetric, and zero for
    equal sets. Its own sampling error is large where a law has gaps: see `floor`.
    """
    x, y = _flat(x, y)
    along = directions(x.shape[1], projections, key=key)
    return slices_w2(sorted_slices(x, along), sorted_slices(y, along))


def directions(d: int, projections: int, *, key: Key[Array, ""]) -> NDArray[np.float32]:
    """Unit vectors (projections, d), uniform on the sphere."""
    if projections < 1:
        raise InputError(f"projections={projections}", "no direction to look along", "at least 1")
    normals = np.asarray(jax.random.normal(key, (projections, d)), np.float32)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def sorted_slices(x: Points, along: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points (n, d) along every direction, sorted: (projections, n). Keep it for a set that is compared often."""
    slices = along @ np.asarray(x, np.float32).T
    slices.sort(axis=1)
    return slices


def slices_w2(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Sliced W2 of two sets of `sorted_slices` (projections, n), (projections, m) along the same directions."""
    n, m = a.shape[1], b.shape[1]
    if n == m:
        return float(np.sqrt(np.mean([np.square(p - q).mean(dtype=np.float64) for p, q in zip(a, b, strict=True)])))
    # Both quantile functions are steps; between two neighbouring jumps of either, both are constant.
    jumps = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    weight = np.diff(jumps, prepend=0) / (n * m)
    of_a, of_b = (jumps - 1) // m, (jumps - 1) // n
    return float(np.sqrt(np.mean([np.sum(weight * (p[of_a] - q[of_b]) ** 2) for p, q in zip(a, b, strict=True)])))


def energy_distance(x: Points, y: Points) -> float:
    """Unbiased energy distance of points x (n, ...) and y (m, ...), in their units; n, m >= 2.

    Pairs of a point and itself are left out, so that the mean over samples is the distance of the laws, 0 for equal
    ones, whatever n and m; a single value may then be below zero. Cost (n + m)² d.
    """
    x, y = _flat(x, y)
    n, m = len(x), len(y)
    return float(2 * _apart(x, y) / (n * m) - _apart(x, x) / (n * (n - 1)) - _apart(y, y) / (m * (m - 1)))


def frechet_distance(features_a: Points, features_b: Points) -> float:
    """Squared Fréchet distance (the convention of FID) of features a (n, k) and b (m, k); n, m >= 2.

    Biased upwards by about k²/n, so the two sizes belong to the value, and a floor of the same sizes beside it.
    """
    a, b = _flat(features_a, features_b)
    mean = a.mean(0) - b.mean(0)
    C, D = (np.atleast_2d(np.cov(side, rowvar=False)) for side in (a, b))
    # C^½ D C^½ is symmetric, so its root needs no complex numbers: the singular values of C^½ D^½ are its eigenvalues.
    cross = np.linalg.svd(_root(C) @ _root(D), compute_uv=False).sum()
    return float(mean @ mean + np.trace(C) + np.trace(D) - 2 * cross)


@dataclass(frozen=True)
class Floor:
    """A distance between real and real: its mean and its 95 % quantile over `pairs` independent pairs of samples."""

    mean: float
    quantile: float
    pairs: int


def floor(
    draw: Callable[[Key[Array, ""]], tuple[Points, Points]],
    distance: Callable[[Points, Points], float],
    *,
    key: Key[Array, ""],
    pairs: int = 40,
    level: float = 0.95,
) -> Floor:
    """The floor of `distance`: over pairs of independent samples of the true law, of the sizes that are compared.

    draw: two samples from a key: `twice(sample)` of a law, `parts(data, n, m)` of a data set.
    """
    return floor_of([distance(*draw(one)) for one in jax.random.split(key, pairs)], level)


def floor_of(values: Sequence[float], level: float = 0.95) -> Floor:
    """The floor from distances between real and real that are known already."""
    if len(values) < _FEWEST:
        raise InputError(f"{len(values)} pairs", "no quantile can be read from so few", f"at least {_FEWEST}")
    return Floor(float(np.mean(values)), float(np.quantile(values, level)), len(values))


def twice(sample: Callable[[Key[Array, ""]], Points]) -> Callable[[Key[Array, ""]], tuple[Points, Points]]:
    """Two independent samples of a law."""

    def draw(key: Key[Array, ""]) -> tuple[Points, Points]:
        first, second = jax.random.split(key)
        return sample(first), sample(second)

    return draw


def parts(data: Points, n: int, m: int) -> Callable[[Key[Array, ""]], tuple[Points, Points]]:
    """Parts of n and m different rows of a data set, drawn without replacement."""
    data = np.asarray(data)
    if n + m > len(data):
        raise InputError(f"{n} and {m} rows of {len(data)}", "the two parts would share rows", f"n + m <= {len(data)}")

    def draw(key: Key[Array, ""]) -> tuple[Points, Points]:
        rows = np.random.default_rng(np.asarray(jax.random.key_data(key))).permutation(len(data))
        return data[rows[:n]], data[rows[n : n + m]]

    return draw


def _flat(x: Points, y: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both sets as finite points (n, d) of one dimension."""
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if min(a.ndim, b.ndim) == 0 or a.shape[1:] != b.shape[1:]:
        raise InputError(f"sets of shape {a.shape} and {b.shape}", "points of different kinds", "(n, ...) and (m, ...)")
    if min(len(a), len(b)) < _FEWEST:
        raise InputError(f"sets of {len(a)} and {len(b)} points", "not a sample", f"at least {_FEWEST} points in each")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        lost = sum(int((~np.isfinite(side.reshape(len(side), -1))).any(1).sum()) for side in (a, b))
        raise InputError(f"{lost} points that are not finite", "they have no distance", hint="counting them apart")
    return a.reshape(len(a), -1), b.reshape(len(b), -1)


def _apart(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Sum over all pairs of ‖x_i - y_j‖, in blocks of rows."""
    centre = x.mean(0)  # squares of centred points keep their digits
    x, y = x - centre, y - centre
    far, total, rows = np.square(y).sum(1), 0.0, max(_BLOCK // len(y), 1)
    for k in range(0, len(x), rows):
        part = x[k : k + rows]
        total += np.sqrt(np.maximum(np.square(part).sum(1)[:, None] + far - 2 * part @ y.T, 0.0)).sum()
    return float(total)


def _root(C: NDArray[np.float64]) -> NDArray[np.float64]:
    """Symmetric root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(C)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T

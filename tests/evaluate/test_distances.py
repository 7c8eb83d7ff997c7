"""Distances of sets against closed forms for Gaussians, scipy on a line, brute force, and the laws of a distance."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from neuralsde.errors import InputError
from neuralsde.evaluate.distances import (
    energy_distance,
    floor,
    floor_of,
    frechet_distance,
    parts,
    sliced_w2,
    twice,
)

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


def test_sliced_w2_of_a_shift_is_its_length_over_root_d_and_symmetric():
    """u·(x + c) - u·x = u·c for all points, and E (u·c)² = ‖c‖²/d over the sphere."""
    x, shift = RNG.normal(size=(300, 3)), np.array([1.0, -2.0, 2.0])
    found = sliced_w2(x, x[::-1] + shift, key=KEY, projections=4_000)
    assert found == pytest.approx(3 / np.sqrt(3), rel=0.03)
    assert sliced_w2(x[::-1] + shift, x, key=KEY, projections=4_000) == pytest.approx(found, rel=1e-6)
    assert sliced_w2(x, x[::-1], key=KEY) == pytest.approx(0.0, abs=1e-6)


def test_sliced_w2_on_a_line_is_w2_also_of_sets_of_different_sizes():
    """Repeating every point k times does not change a law, so unequal sizes must agree with equal ones."""
    x, y = RNG.normal(size=(6, 1)), RNG.normal(1.0, 2.0, size=(4, 1))
    same = np.sqrt(np.mean((np.sort(np.repeat(x, 2)) - np.sort(np.repeat(y, 3))) ** 2))
    assert sliced_w2(x, y, key=KEY, projections=3) == pytest.approx(same, rel=1e-6)
    assert sliced_w2(np.repeat(x, 2, 0), np.repeat(y, 3, 0), key=KEY, projections=3) == pytest.approx(same, rel=1e-6)


def test_energy_distance_is_brute_force_and_unbiased():
    x, y = RNG.normal(5.0, 1.0, size=(40, 2, 3)), RNG.normal(5.5, 2.0, size=(30, 2, 3))
    a, b = x.reshape(40, 6), y.reshape(30, 6)
    slow = 2 * cdist(a, b).mean() - cdist(a, a).sum() / (40 * 39) - cdist(b, b).sum() / (30 * 29)
    assert energy_distance(x, y) == pytest.approx(slow, rel=1e-8)
    nulls = [energy_distance(RNG.normal(size=(8, 2)), RNG.normal(size=(5, 2))) for _ in range(2_000)]
    assert abs(np.mean(nulls)) < 4 * np.std(nulls) / np.sqrt(len(nulls))


def test_energy_distance_on_a_line_is_twice_the_cramer_distance():
    x, y = RNG.normal(size=(500, 1)), RNG.normal(3.0, 1.0, size=(500, 1))
    assert energy_distance(x, y) == pytest.approx(stats.energy_distance(x[:, 0], y[:, 0]) ** 2, rel=5e-3)


def test_frechet_distance_of_diagonal_gaussians_and_its_invariance():
    """‖m - n‖² + Σ (s - t)² for exact moments; a rotation of both sets changes nothing."""
    white = RNG.normal(size=(200, 3))
    white = (white - white.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    a, b = white * [1.0, 2.0, 3.0], white[::-1] * [2.0, 2.0, 1.0] + [0.0, 1.0, 2.0]
    assert frechet_distance(a, b) == pytest.approx(5.0 + 5.0, rel=1e-10)
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(10.0, rel=1e-10)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-10)
    assert frechet_distance(a[:, :1], b[:, :1]) == pytest.approx(1.0, rel=1e-10)


def test_frechet_distance_of_fewer_points_than_features():
    """Rank-deficient covariances: scaling by 2 gives ‖m‖² + tr C, however few points."""
    a = RNG.normal(size=(5, 20))
    expected = np.square(a.mean(0)).sum() + a.var(0, ddof=1).sum()
    assert frechet_distance(a, 2 * a) == pytest.approx(expected, rel=1e-8)


def test_the_floor_is_what_real_against_real_gives():
    """‖mean a - mean b‖² of two samples of N(0, 1) is 2/n chi²_1: mean 2/n, 95 % quantile 3.84 × 2/n."""

    def gap(a, b):
        return float((np.mean(a) - np.mean(b)) ** 2)

    data = RNG.normal(size=20_000)
    for draw in (twice(lambda key: jax.random.normal(key, (50,))), parts(data, 50, 50)):
        found = floor(draw, gap, key=KEY, pairs=400)
        assert found.mean == pytest.approx(2 / 50, rel=0.3)
        assert found.quantile == pytest.approx(3.84 * 2 / 50, rel=0.3)
        assert found.pairs == 400
    a, b = parts(np.arange(10), 4, 6)(KEY)
    assert sorted([*a, *b]) == list(range(10))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sliced_w2(np.ones((3, 2)), np.ones((3, 4)), key=KEY), r"sets of shape \(3, 2\) and \(3, 4\)"),
        (lambda: energy_distance(np.ones((1, 2)), np.ones((3, 2))), "sets of 1 and 3 points"),
        (lambda: frechet_distance(np.array([[1.0], [np.nan]]), np.ones((3, 1))), "1 points that are not finite"),
        (lambda: sliced_w2(np.ones((3, 2)), np.ones((3, 2)), key=KEY, projections=0), "projections=0"),
        (lambda: parts(np.ones(5), 3, 3), "3 and 3 rows of 5"),
        (lambda: floor_of([1.0]), "1 pairs"),
    ],
)
def test_bad_input_is_one_clear_line(call, says):
    with pytest.raises(InputError, match=says):
        call()

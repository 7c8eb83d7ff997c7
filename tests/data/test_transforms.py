"""Round trips, slopes against differences, ends that cannot be passed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralsde.data.transforms import (
    Bounded,
    Identity,
    Logarithm,
    Positive,
    Rectified,
    Transform,
    choose_transform,
    transform_from_dict,
)
from neuralsde.errors import InputError

TRANSFORMS = [
    Identity(),
    Logarithm(),
    Rectified(),
    Positive(2.5, 0.5),
    Positive(1e3, 1e-3),
    Bounded(-3.0, 5.0, 0.01),
    Bounded(0.0, 100.0, 0.5),
]


def inside(transform: Transform) -> np.ndarray:
    """Data in the support, at least a floor away from its ends."""
    match transform:
        case Positive(scale, floor):
            return np.geomspace(floor, 50 * scale, 200)
        case Bounded(lo, hi, floor):
            return np.linspace(lo + floor, hi - floor, 200)
        case Logarithm():
            return np.geomspace(0.01, 100.0, 200)
        case Rectified():
            return np.linspace(0.0, 50.0, 200)
        case _:
            return np.linspace(-1e3, 1e3, 200)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_there_and_back(transform: Transform) -> None:
    x = inside(transform)
    np.testing.assert_allclose(transform.to_data(transform.to_real(x)), x, rtol=1e-9)
    assert np.all(np.diff(transform.to_real(x)) > 0)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_log_slope_is_the_derivative(transform: Transform) -> None:
    x = inside(transform)[5:-5]
    h = 1e-5 * np.abs(x) + 1e-9
    slope = (transform.to_real(x + h) - transform.to_real(x - h)) / (2 * h)
    np.testing.assert_allclose(transform.log_slope(x), np.log(slope), atol=2e-5)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_densities_keep_their_mass(transform: Transform) -> None:
    """The density of x that a standard normal of z (scaled) implies integrates to one over the support."""
    if isinstance(transform, Positive | Bounded):
        transform = replace(transform, floor=1e-12)
    x = inside(transform)
    centre, width = np.median(transform.to_real(x)), np.ptp(transform.to_real(x)) / 20
    grid = transform.to_data(np.linspace(centre - 8 * width, centre + 8 * width, 4001))
    z = (transform.to_real(grid) - centre) / width
    density = np.exp(-0.5 * z**2 + transform.log_slope(grid)) / (width * np.sqrt(2 * np.pi))
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=1e-3)


@given(st.floats(-1e6, 1e6))
def test_no_sample_leaves_the_support(z: float) -> None:
    assert Positive(2.5, 0.5).to_data(np.array([z])) >= 0
    assert Rectified().to_data(np.array([z])) >= 0
    assert -3.0 <= Bounded(-3.0, 5.0, 0.01).to_data(np.array([z])) <= 5.0


def test_near_the_identity_where_the_data_lie() -> None:
    x = np.linspace(20.0, 100.0, 50)
    np.testing.assert_allclose(Positive(2.0, 0.5).to_real(x), x, atol=1e-3)
    middle = np.array([49.0, 51.0])
    assert np.diff(Bounded(0.0, 100.0, 0.5).to_real(middle)) == pytest.approx(2.0, rel=1e-3)


def test_the_ends_are_moved_inwards_and_their_edges_are_endless() -> None:
    positive, bounded = Positive(2.5, 0.5), Bounded(0.0, 10.0, 0.5)
    assert positive.to_real(np.array([0.0])) == positive.to_real(np.array([0.5]))
    np.testing.assert_allclose(bounded.to_data(bounded.to_real(np.array([0.0, 10.0]))), [0.5, 9.5])
    assert positive.edge(np.array([-1.0, 0.0])).tolist() == [-np.inf, -np.inf]
    assert bounded.edge(np.array([-1.0, 0.0, 10.0, 11.0])).tolist() == [-np.inf, -np.inf, np.inf, np.inf]


def test_calm_is_everything_below_half_a_step() -> None:
    transform = Rectified()
    assert transform.to_data(np.array([-3.0, 0.0, 2.0])).tolist() == [0.0, 0.0, 2.0]
    assert transform.edge(np.array([-0.5, 0.5])).tolist() == [-np.inf, 0.5]
    assert transform.to_real(np.array([0.0])).tolist() == [0.0]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_missing_stays_missing_and_json(transform: Transform) -> None:
    nan = np.array([np.nan])
    for function in (transform.to_real, transform.to_data, transform.log_slope, transform.edge):
        assert np.isnan(function(nan)).all()
    assert transform_from_dict(json.loads(json.dumps(transform.to_dict()))) == transform


def test_the_choice_follows_the_support() -> None:
    x = np.arange(1.0, 10.0)
    assert choose_transform(x, 1.0, None) == Identity()
    positive = choose_transform(x, 1.0, (0.0, np.inf))
    assert isinstance(positive, Positive)
    assert positive.floor == 0.5
    assert choose_transform(np.append(x, 0.0), 1.0, (0.0, np.inf)) == Rectified()
    assert isinstance(choose_transform(np.append(x, 0.0), 0.0, (0.0, np.inf)), Positive)
    assert choose_transform(x, 0.0, (-1.0, 20.0)) == Bounded(-1.0, 20.0, 0.021)
    assert isinstance(choose_transform(np.zeros(0), 0.0, (0.0, np.inf)), Positive)
    with pytest.raises(InputError):
        choose_transform(x, 0.0, (5.0, np.inf))

"""The fork: its geometry to the digit, figures of paths that are known, exact minimisers, and the generators' steps."""

from __future__ import annotations

from dataclasses import asdict

import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.experiments.branching import generative, ours
from neuralsde.experiments.branching.exact import Settings, posterior, sampled
from neuralsde.experiments.branching.experiment import HEADLINE, IDEAL, NOISES, PARTS, references
from neuralsde.experiments.branching.experiment import SMALL as SIZE
from neuralsde.experiments.branching.fork import (
    DENSITIES,
    apart,
    demonstrations,
    distance,
    energy_distance,
    floor,
    measure,
    meets,
    table,
)
from neuralsde.experiments.branching.page import SAID, page
from neuralsde.noising import VP


def mixed(up: int, down: int, density: int = 1) -> np.ndarray:
    """Real paths, so many of each branch."""
    return np.repeat(demonstrations(density), [up, down], axis=0)


# -- the data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", DENSITIES)
def test_the_geometry_of_the_fork(density: int) -> None:
    """Speed 0.1; straight on to (4.5, 0) at time 45, then ±30°; the last point at (9.263, ±2.75), at every density."""
    up, down = demonstrations(density)
    kink = 45 * density
    assert up.shape == down.shape == (100 * density + 1, 2)
    np.testing.assert_allclose(np.linalg.norm(np.diff(up, axis=0), axis=1), 0.1 / density, rtol=1e-9)
    np.testing.assert_allclose(up[kink], [4.5, 0.0], atol=1e-12)
    turn = np.diff(up[kink:], axis=0)
    np.testing.assert_allclose(np.degrees(np.arctan2(turn[:, 1], turn[:, 0])), 30.0, rtol=1e-10)
    np.testing.assert_allclose(up[-1], [4.5 + 5.5 * np.sqrt(3) / 2, 2.75], rtol=1e-12)
    np.testing.assert_array_equal(down, up * [1, -1])
    np.testing.assert_allclose(up[::density], demonstrations()[0], atol=1e-12)


@pytest.mark.parametrize("density", DENSITIES)
def test_the_table_holds_fifty_of_each_and_the_noise_does_not_know_the_density(density: int) -> None:
    data = table(density)
    assert (len(data), data.columns) == (100, ("x", "y"))
    for k in (0, 49, 50, 99):
        np.testing.assert_array_equal(list(data)[k].values, demonstrations(density)[k // 50])
    config = ours.config(data)
    sd = np.concatenate([series.values for series in data]).std(0)
    np.testing.assert_allclose(np.array(config.input_noise) * sd, ours.INPUT_NOISE, rtol=1e-9)
    np.testing.assert_allclose(np.array(config.denoiser_noise) * sd, ours.DENOISER_NOISE, rtol=1e-9)


# -- what is measured --------------------------------------------------------------------------------------------------


def test_distance_to_the_lines() -> None:
    up, down = demonstrations()
    assert distance(np.concatenate([up, down])).max() == pytest.approx(0, abs=1e-12)
    aside = 0.2 * np.array([-np.sin(np.pi / 6), np.cos(np.pi / 6)])
    points = [[2.0, 0.3], [-3.0, 4.0], up[80] + aside, up[-1] + [0.3, 0.4], [4.5 + 1.0, 0.0]]
    np.testing.assert_allclose(distance(np.array(points)), [0.3, 5.0, 0.2, 0.5, 0.5], rtol=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.5, 1.0])
def test_the_energy_distance_of_a_wrong_split(share: float) -> None:
    """2 D (p - ½)²; a split of 40 to 60 costs .048 (THEORY 28)."""
    up = round(100 * share)
    figures = measure(mixed(up, 100 - up))
    assert figures.energy == pytest.approx(2 * apart() * (share - 0.5) ** 2, rel=1e-3, abs=1e-12)
    assert (figures.up, figures.down) == (share, 1 - share)
    assert figures.arrival == 0
    assert figures.distance == pytest.approx(0, abs=1e-12)
    assert meets(figures) == (0.4 <= share <= 0.6)


def test_the_floor_is_that_of_two_random_splits() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.binomial(1000, 0.5, (2, 40_000)) / 1000
    found = 2 * apart() * (p - q) ** 2
    assert found.mean() == pytest.approx(floor(1000), rel=0.03)
    assert np.quantile(found, 0.95) == pytest.approx(floor(1000, 0.95), rel=0.05)
    assert floor(1000) == pytest.approx(2.4e-3, rel=0.02)


def test_paths_that_lag_behind_cost_their_lag() -> None:
    """To first order the root mean square of the lag, whichever way it goes in time."""
    late = demonstrations(10).copy()
    for line in late:
        line[450:] -= 0.05 * (line[-1] - line[450]) / np.linalg.norm(line[-1] - line[450])
    assert energy_distance(late, demonstrations(10)) == pytest.approx(0.05 * np.sqrt(551 / 1001), rel=0.03)


def test_lost_and_broken_paths_take_no_branch() -> None:
    straight = np.stack([np.linspace(0, 10, 101), np.zeros(101)], axis=1)
    stopped, broken = demonstrations()[0].copy(), demonstrations()[0].copy()
    stopped[50:] = stopped[50]
    broken[60:] = np.nan
    for path in (straight, stopped, broken):
        figures = measure(path[None])
        assert (figures.up, figures.down) == (0, 0)
        assert np.isfinite(figures.energy)
        assert not meets(figures)


# -- exact minimisers --------------------------------------------------------------------------------------------------


def test_posterior_means_against_a_sum_over_many_points() -> None:
    noise = 0.07
    points = np.array([[2.0, 0.1], [4.45, -0.02], [4.7, 0.05], [5.5, -0.4], [-0.1, 0.0], [9.3, 2.7]])
    lines = demonstrations(1)
    share = (np.arange(400) + 0.5) / 400
    moves = np.diff(lines, axis=1)
    x = (lines[:, :-1, None] + share[:, None] * moves[:, :, None]).reshape(-1, 2)
    v = np.repeat(moves.reshape(-1, 2), 400, axis=0)
    weight = np.exp(-np.square(points[:, None] - x).sum(-1) / (2 * noise**2))
    weight /= weight.sum(1, keepdims=True)
    velocity, clean = posterior(points, noise)
    np.testing.assert_allclose(velocity, weight @ v, atol=1e-6)
    np.testing.assert_allclose(clean, weight @ x, atol=1e-5)


@pytest.mark.parametrize("density", DENSITIES)
def test_a_perfect_fit_of_the_configuration_meets_the_marks_at_every_density(density: int) -> None:
    figures = measure(sampled(IDEAL["exact minimisers"], density, n=1_000 if density == 1 else 100, seed=2))
    assert figures.distance < 0.01
    assert figures.up + figures.down == 1
    assert figures.energy - 2 * apart() * (figures.up - 0.5) ** 2 < 0.05


def test_the_whole_way_back_at_every_point_freezes_the_dense_fork_and_not_the_other() -> None:
    """METHOD 1.7: per point and not per distance travelled, α = 1 pulls ten times as hard where points are dense."""
    settings = Settings(0.1, 0.1, 1.0, "step")
    sparse, dense = (measure(sampled(settings, density, n=30)) for density in DENSITIES)
    assert sparse.up + sparse.down == 1
    assert (dense.up, dense.down) == (0, 0)
    assert dense.arrival > 5


# -- generators --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", generative.KINDS)
def test_a_single_possible_move_is_generated_exactly(kind: generative.Kind, x64: None) -> None:
    move = jnp.array([0.3, -2.0])

    def predict(z: jnp.ndarray, t: jnp.ndarray) -> jnp.ndarray:
        if kind == "rectified flow":
            return (z - move) / t
        return (z - VP().alpha(t) * move) / VP().sigma(t)

    eps, share = jnp.array([1.0, 0.5]), jnp.asarray(0.4)
    assert float(generative.squared_error(kind, predict, move, share, eps)) == pytest.approx(0, abs=1e-20)
    found = generative.generated(kind, predict, eps, 7)
    left = VP().sigma(generative.METHODS[kind].last) if kind == "DDIM" else 0.0
    np.testing.assert_allclose(found, move, atol=2 * float(left) + 1e-12)


@pytest.mark.parametrize("kind", generative.KINDS)
def test_a_normal_move_of_twice_the_size_is_twice_the_draw(kind: generative.Kind, x64: None) -> None:
    """The flow of N(0, 1) into N(0, 4) is z -> 2 z; the error falls at first order."""

    def predict(z: jnp.ndarray, t: jnp.ndarray) -> jnp.ndarray:
        if kind == "rectified flow":
            return (t - 4 * (1 - t)) / (t**2 + 4 * (1 - t) ** 2) * z
        alpha, sigma = VP().alpha(t), VP().sigma(t)
        return sigma / (4 * alpha**2 + sigma**2) * z

    errors = [abs(float(generative.generated(kind, predict, jnp.ones(1), n)[0]) - 2) for n in (200, 400)]
    assert errors[1] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.25)


def test_a_move_that_never_varies_needs_no_training() -> None:
    """Standardised moves: on one straight line paths are exact from the first step on, in the units of the data."""
    line = demonstrations()[:1, :46]
    training = generative.Training(steps=5, batch=16, rate=1e-2, width=4, depth=1)
    models = generative.fitted(
        "rectified flow", np.concatenate([line, line + np.array([0.0, 1e-3])]), training, seed=0, seeds=2
    )
    paths = generative.paths(models, 45, n=4, steps=5, seed=0)
    assert paths.shape == (2, 4, 46, 2)
    np.testing.assert_allclose(paths[:, :, -1], np.broadcast_to([4.5, 0.0], (2, 4, 2)), atol=0.05)


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_has_asked_floor_trivial_and_said_beside_measured() -> None:
    row = {**asdict(measure(mixed(45, 55))), "meets": True}
    names = [*PARTS, *(kind + words for words in NOISES for kind in generative.KINDS)]
    part = {"reference": references(1, SIZE, 0), "found": {name: [row, row] for name in names}}
    facts = {"command": "c", "seconds": 1, "size": vars(SIZE), "densities": {"1": part, "10": part}}
    text = page(facts)
    for wanted in (
        "| asked | 40-60 |",
        "(floor)",
        "straight on (trivial)",
        "exact minimisers",
        "2 of 2",
        "both branches",
    ):
        assert wanted in text
    assert f"| {HEADLINE} | 45 | 55 | 0.000 ± 0.000 |" in text
    assert all(name in names for said in SAID.values() for name in said)

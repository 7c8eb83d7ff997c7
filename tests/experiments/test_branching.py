"""The fork: its geometry to the digit, what is measured on paths that are known, and a small run of the whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.experiments import branching
from neuralsde.experiments.branching import (
    NOISE,
    Figures,
    config,
    demonstrations,
    distance,
    measure,
    meets,
    perfect_fit,
    reproduce,
    table,
)
from neuralsde.runs import load
from neuralsde.train.problem import TrainConfig

SMALL = TrainConfig(steps=400, batch_size=256, learning_rate=1e-2, ema=0.99)


# -- the data ----------------------------------------------------------------------------------------------------------


def test_the_geometry_of_the_fork() -> None:
    """Speed 0.1; straight on to (4.5, 0) at step 45, then ±30°; 101 points, the last at (9.263, ±2.75)."""
    up, down = demonstrations()
    assert up.shape == down.shape == (101, 2)
    np.testing.assert_allclose(np.linalg.norm(np.diff(up, axis=0), axis=1), 0.1, rtol=1e-12)
    np.testing.assert_allclose(up[:46], np.stack([0.1 * np.arange(46), np.zeros(46)], axis=1), atol=1e-12)
    turn = np.diff(up[45:], axis=0)
    np.testing.assert_allclose(np.degrees(np.arctan2(turn[:, 1], turn[:, 0])), 30.0, rtol=1e-10)
    np.testing.assert_allclose(up[-1], [4.5 + 5.5 * np.sqrt(3) / 2, 2.75], rtol=1e-12)
    np.testing.assert_allclose(up[-1], [9.263, 2.75], atol=5e-4)
    np.testing.assert_array_equal(down, up * [1, -1])


def test_the_table_holds_fifty_of_each() -> None:
    data = table()
    assert (len(data), data.columns) == (100, ("x", "y"))
    for k, series in enumerate(data):
        np.testing.assert_array_equal(series.values, demonstrations()[0 if k < 50 else 1])
        np.testing.assert_array_equal(series.times, np.arange(101.0))


def test_the_noise_is_a_tenth_in_the_units_of_the_data() -> None:
    """In shares of each column's s.d., which are 2.7 and 1.2."""
    data = table()
    sizes = np.array(config(data, "keep").input_noise)
    np.testing.assert_allclose(sizes * np.concatenate([s.values for s in data]).std(0), NOISE, rtol=1e-9)
    assert sizes[1] > 2 * sizes[0]


# -- what is measured --------------------------------------------------------------------------------------------------


def test_distance_to_the_lines() -> None:
    up, down = demonstrations()
    assert distance(np.concatenate([up, down])).max() == pytest.approx(0, abs=1e-12)
    aside = 0.2 * np.array([-np.sin(np.pi / 6), np.cos(np.pi / 6)])
    points = [[2.0, 0.3], [-3.0, 4.0], up[80] + aside, up[-1] + [0.3, 0.4], [4.5 + 1.0, 0.0]]
    np.testing.assert_allclose(distance(np.array(points)), [0.3, 5.0, 0.2, 0.5, 0.5], rtol=1e-9)


def test_the_demonstrations_are_perfect_and_others_are_not() -> None:
    up, down = demonstrations()
    assert measure(np.stack([up, down])) == Figures(up=0.5, near=1.0, near_after=1.0, end=0.0, end_90=0.0)
    assert meets(measure(np.stack([up, down])))
    assert not meets(measure(np.stack([up, up])))
    straight = np.stack([0.1 * np.arange(101), np.zeros(101)], axis=1)
    assert measure(straight[None]).near == 0
    late = up.copy()  # a detour within the fork region only
    late[50] += [0.0, 0.5]
    figures = measure(np.stack([late, down]))
    assert (figures.near, figures.near_after) == (0.5, 1.0)


def test_what_a_perfect_fit_gives() -> None:
    """The exact minimisers: both are balanced; with the way back all stay on the lines, without it three quarters."""
    back, kept = (measure(perfect_fit(target)) for target in branching.TARGETS)
    for figures in (back, kept):
        assert figures.up == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(branching.PATHS))
    assert back.near > 0.97
    assert 0.65 < kept.near < 0.85


# -- a small run -------------------------------------------------------------------------------------------------------


def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 400 steps of a small network: both branches are taken, and most paths have come back to a line."""
    monkeypatch.setattr(branching, "TARGETS", ("return",))
    monkeypatch.setattr(branching, "NETWORK", replace(branching.NETWORK, width=32))
    out = tmp_path / "fork"
    lines = list(reproduce(out=out, seed=3, training=SMALL))

    run = load(out / "return-3")
    assert run.plan.config == config(table(), "return")
    paths = run.sample(np.zeros(2), np.arange(101.0), n=branching.PATHS, seed=3)
    assert 0.05 < (paths[:, -1, 1] > 0).mean() < 0.95
    assert np.median(distance(paths[:, -1])) < 0.1
    assert np.quantile(distance(paths[:, 20]), 0.9) < 0.15

    record = json.loads((out / "branching.json").read_text())
    (measured,) = record["measured"]
    assert Figures(**measured["figures"]) == measure(paths)
    assert (measured["target"], measured["seed"]) == ("return", 3)
    assert {"neuralsde", "jax", "python"} <= record["versions"].keys()
    assert record["settings"]["training"]["steps"] == SMALL.steps
    page = (out / "branching.md").read_text()
    for name in ("asked", "return, perfect fit", "return, seed 3"):
        assert f"| {name} |" in page
        assert any(line.startswith(name) for line in lines)
    assert (out / "branching.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "branching.svg").read_text()

    with pytest.raises(InputError, match="not empty"):
        list(reproduce(out=out, training=SMALL))


def test_no_seed_is_no_experiment(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seeds=0"):
        list(reproduce(out=tmp_path / "fork", seeds=0))
    assert not (tmp_path / "fork").exists()

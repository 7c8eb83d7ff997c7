"""Objectives compared: the problems' laws, the curve of a training, and how stuck runs are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.evaluate.scores import log_density
from neuralsde.experiments.ablation import problems, report
from neuralsde.experiments.ablation.experiment import OBJECTIVES, SMALL, WAYS
from neuralsde.experiments.seeds import held_out_nats, train_on
from neuralsde.models.sequence_sde import Config


@pytest.mark.parametrize("name", problems.KNOWN)
def test_the_stated_moments_are_those_of_the_rows(name: str) -> None:
    """(x1 - mean) / sd has mean zero and variance one, also in every part of the space."""
    rows = problems.KNOWN[name](20_000, np.random.default_rng(0))
    z = (rows.x1 - rows.mean) / rows.sd
    for place in (*rows.x0.T, *rows.context.T):
        for part in np.array_split(np.argsort(place, kind="stable"), 5):
            error = z[part].std(0) / np.sqrt(len(part))
            assert (np.abs(z[part].mean(0)) < 4.5 * error).all()
            spread = np.square(z[part])
            assert (np.abs(spread.mean(0) - 1) < 4.5 * spread.std(0) / np.sqrt(len(part))).all()


@pytest.mark.parametrize("name", problems.KNOWN)
def test_no_gaussian_beats_the_truth_and_the_constant_is_last(name: str) -> None:
    """Kullback-Leibler: floor <= reachable <= trivial; equal where the truth is Gaussian with independent columns."""
    known = problems.drawn(name, 2, 2_000, 2_000, 0).known
    gaussian = name in ("heteroscedastic", "two scales")
    assert known["floor"] <= known["reachable"] + 1e-9
    assert (known["reachable"] - known["floor"] < 1e-9) == gaussian
    assert known["reachable"] < known["trivial"] - 0.1


def test_the_floor_of_the_heteroscedastic_table() -> None:
    """E log s + ½ log 2πe with log₁₀ s uniform on (-2, 0)."""
    rows = problems.heteroscedastic(200_000, np.random.default_rng(1))
    exact = -np.log(10) + 0.5 * np.log(2 * np.pi * np.e)
    assert -rows.log_p.mean() == pytest.approx(exact, abs=4 * rows.log_p.std() / np.sqrt(200_000))


def test_the_density_at_the_fork_integrates_to_one() -> None:
    """E q(x1) / p(x1 | x0) = 1 for the density q of any narrow step that p covers, here along the upper branch."""
    rows = problems.fork(30_000, np.random.default_rng(2))
    beyond = np.array([4.55, 0.0]) / problems.LENGTH
    inside = np.linalg.norm(rows.x0 - beyond, axis=1) < 0.1 / problems.LENGTH
    step = 0.1 * np.array([np.cos(np.pi / 6), 0.5]) / problems.LENGTH
    q = log_density(rows.x1 - rows.x0, step, 0.7 * problems.JUMP / problems.LENGTH).sum(1)
    ratio = np.exp(q - rows.log_p)[inside]
    assert inside.sum() > 150
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(len(ratio))


def test_the_likelier_mode_costs_what_its_width_says() -> None:
    known = problems.drawn("bimodal", 1, 1_000, 20_000, 3).known
    rows = problems.bimodal(20_000, np.random.default_rng(4))
    assert rows.mode is not None
    half = rows.mode - (rows.mean - (2 * problems.LIKELY - 1) * (rows.mode - rows.mean) / (2 - 2 * problems.LIKELY))
    var = (1 - problems.LIKELY) * (2 * half) ** 2 + problems.SPREAD**2
    assert known["at the mode"] == pytest.approx((0.5 * np.log(2 * np.pi * np.e * var)).mean(), abs=0.02)


def test_the_curve_begins_at_the_random_walk_and_covariates_are_read() -> None:
    """Before training the law is a normal with the size of the moves; after it, better than any constant."""
    problem = problems.drawn("heteroscedastic", 2, 1_000, 500, 0)
    models, curve = train_on(
        Config(history=0, width=8, depth=1), problem.data, steps=150, seed=0, rate=2e-2, held=problem.held, points=3
    )
    size = np.sqrt(np.square(np.asarray(problem.data.target)).mean())
    np.testing.assert_allclose(
        curve[:, 0], -log_density(np.asarray(problem.held.target), 0.0, size).mean((1, 2)), rtol=1e-4
    )
    assert curve.shape == (2, 4)
    found = np.asarray(held_out_nats(models, problem.held))
    assert found.max() < problem.known["trivial"] - 0.1
    np.testing.assert_allclose(found, curve[:, -1], atol=0.1)


def test_stuck_and_arrived() -> None:
    assert report.stuck([1.0, 1.2, 1.3, np.nan, np.inf], 1.0) == 3 / 5
    curves = [[3.0, 1.05, 1.5, 1.05, 1.0], [3.0, 1.0, 1.0, 1.0, 1.0], [3.0, 2.0, 2.0, 2.0, 2.0]]
    assert report.arrival(curves[:1], 1.0, 400) == 300
    assert report.arrival(curves[1:2], 1.0, 400) == 100
    assert report.arrival(curves, 1.0, 400) == 300
    assert report.arrival(curves[2:], 1.0, 400) == np.inf


def test_the_diabetes_table_is_read_as_published_or_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEURALSDE_DATA", raising=False)
    with pytest.raises(InputError, match="the diabetes table is not there"):
        problems.read_diabetes()
    (tmp_path / "diabetes").mkdir()
    rng = np.random.default_rng(0)
    u = rng.normal(50, 10, (60, 10))
    table = np.column_stack([u, 3 * u[:, 2] + rng.normal(0, 5, 60)])
    head = "\t".join(["AGE", "SEX", "BMI", "BP", "S1", "S2", "S3", "S4", "S5", "S6", "Y"])
    np.savetxt(tmp_path / "diabetes" / "diabetes.tab.txt", table, header=head, comments="", delimiter="\t")
    np.testing.assert_allclose(problems.read_diabetes(tmp_path), table)
    monkeypatch.setenv("NEURALSDE_DATA", str(tmp_path))
    problem = problems.diabetes(3, 0)
    assert problem.data.window.context.shape == (3, 48, 10)
    assert problem.held.target.shape == (3, 12, 1)
    gain = problem.known["trivial"] - problem.known["least squares"]
    assert gain == pytest.approx(np.log(np.sqrt(30**2 + 5**2) / 5), abs=0.6)


def test_the_page_says_floor_trivial_and_measured() -> None:
    found = {way: {"nats": [0.5, 0.6], "curve": [[2.0, 0.55, 0.5], [2.0, 0.7, 0.6]]} for way in WAYS}
    known = {"floor": 0.1, "reachable": 0.4, "trivial": 1.5}
    facts = {
        "command": "c", "seconds": 1, "size": vars(SMALL), "left out": ["diabetes: not there"],
        "problems": {"fork": {"known": known, "found": found}},
    }  # fmt: skip
    text = report.page(facts)
    for wanted in ("true law (floor) | 0.100", "(trivial) | 1.500", "0.550 ± 0.050 | 0 % | 30", "Left out: diabetes"):
        assert wanted in text
    assert set(OBJECTIVES) < set(WAYS)


def test_what_was_seen_is_told_from_the_figures() -> None:
    """Joint lower by .2 ± .01 from the walk and higher from 1/30; on a second table the fits differ too much to say."""
    known = {"floor": 0.1, "reachable": 0.4, "trivial": 1.4}
    nats = {way: [0.7, 0.7] for way in WAYS} | {"joint": [0.49, 0.51], "joint, σ begins at 1/30": [0.9, 0.92]}
    unsure = nats | {"joint": [0.7, 0.72], "joint, σ begins at 1/30": [0.5, 1.0]}
    problems = {
        name: {"known": known, "found": {way: {"nats": row} for way, row in rows.items()}}
        for name, rows in (("fork", nats), ("bimodal", unsure))
    }
    walk, small, near = report.seen({"problems": problems})
    assert "joint on fork (-0.200 ± 0.010); neither on bimodal (+0.010 ± 0.010)" in walk
    assert small.startswith("Lower, σ begins at 1/30")
    assert "decoupled on fork (+0.210 ± 0.010); neither on bimodal (+0.050 ± 0.250)" in small
    assert "fork 0.100 (10 %, joint)" in near

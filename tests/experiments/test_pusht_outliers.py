"""What outliers make of a law, in closed form; the laws of a policy that is known; and a small run of the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from neuralsde.data.pusht import ACTIONS, Demonstrations, normaliser
from neuralsde.evaluate import scores as sc
from neuralsde.experiments.pusht import outliers
from neuralsde.experiments.pusht.one_step import OneStep, expected, one_step, random_walk, spoiled
from neuralsde.experiments.pusht.trials import Rewards
from neuralsde.robot.policy import Config, Policy, Setting, build
from neuralsde.robot.sde_plan import Facts
from neuralsde.train.problem import TrainConfig

RNG = np.random.default_rng(0)
N = 4_000


def laws(sd: float = 10.0) -> OneStep:
    """Around places in the arena, with truths drawn from them."""
    mean = RNG.uniform(100, 400, (N, 2))
    return OneStep(mean, np.full((N, 2), sd), mean + sd * RNG.standard_normal((N, 2)), mean, 0.0)


@pytest.fixture(scope="module")
def demos() -> Demonstrations:
    """Walks of whole pixels."""
    rng = np.random.default_rng(1)
    walk = 256 + np.cumsum(rng.normal([0.0, 0.0], [6.0, 12.0], (20, 15, 2)), axis=1)
    actions = np.rint(np.clip(walk, 0, 512)).reshape(-1, 2)
    state = np.concatenate([actions, np.broadcast_to([300.0, 200.0, 1.0], (300, 3))], 1)
    return Demonstrations(state.astype(np.float32), actions.astype(np.float32), 15 * (1 + np.arange(20)))


@pytest.fixture(scope="module")
def walker(demos: Demonstrations) -> Policy:
    """A policy whose networks are still zero: a random walk with the s.d. of the demonstrated moves."""
    moves = np.diff(demos.actions.reshape(20, 15, 2) / 256, axis=1)
    walk = tuple(np.sqrt(np.square(moves).mean((0, 1))).tolist())
    config = Config(kind="pose", width=4, blocks=0, horizon=4)
    setting = Setting(6, 2, normaliser("pose"), ACTIONS, Facts(walk, walk * 4))
    return Policy(config, setting, build(config, setting, key=jax.random.key(0)))


# -- what is expected --------------------------------------------------------------------------------------------------


def test_mse_is_drawn_to_the_middle_and_widened_as_moments_say() -> None:
    clean, p = laws(), 0.1
    found = spoiled(clean, p, "mse")
    c = (1 - p) * clean.mean + p * 256
    np.testing.assert_allclose(found.mean, c, atol=1e-6)
    away = 512**2 / 12 * (1 - 1 / 64**2) + (256 - c) ** 2  # of the midpoints of 64 equal parts
    np.testing.assert_allclose(found.sd**2, (1 - p) * (10**2 + (clean.mean - c) ** 2) + p * away, rtol=1e-6)


def test_a_robust_flow_stays_and_its_diffusion_does_not() -> None:
    clean = laws()
    told = {loss: expected(clean, 0.05, loss) for loss in ("mse", "student", "log")}
    assert told["log"]["moved"] < 0.5 < 2 * told["student"]["moved"] < told["mse"]["moved"]
    for found in told.values():
        assert found["inside 50"] > 0.9
    nothing = expected(clean, 0.0, "mse")
    assert nothing["moved"] < 1e-6
    assert nothing["spread"] == pytest.approx(10)


def test_figures_of_a_right_law_are_nominal_gaussian_or_students() -> None:
    """Coverage, and nats: the entropy of two coordinates; rounded truths by their cells."""
    clean, dof = laws(), np.array([3.0, 8.0])
    truth = clean.mean + 10 * RNG.standard_t(dof, (N, 2))
    for law, rounding in (
        (clean, 0.0),
        (clean, 1.0),
        (OneStep(clean.mean, clean.sd, truth, clean.mean, 1.0, dof), 1.0),
    ):
        seen = np.rint(law.truth) if rounding else law.truth
        found = OneStep(law.mean, law.sd, seen, law.start, rounding, law.dof).figures()
        for level in (50, 90):
            assert found[f"inside {level}"] == pytest.approx(level / 100, abs=4 * np.sqrt(0.25 / (2 * N)))
        if law.dof is None:
            assert found["nats"] == pytest.approx(np.log(2 * np.pi * np.e * 10**2), abs=4 / np.sqrt(N))
    assert sc.covered_gaussian(0.0, 1.0, 2.0, 90, dof=1.0) == 1.0
    assert sc.covered_gaussian(0.0, 1.0, 2.0, 90) == 0.0


# -- what is measured --------------------------------------------------------------------------------------------------


def test_the_laws_of_a_new_policy_are_those_of_a_random_walk(demos: Demonstrations, walker: Policy) -> None:
    found = one_step(walker, demos)
    trivial = random_walk(demos, found)
    assert len(found.mean) == 20 * (15 + 14 + 13 + 12)  # so many plans still see their k-th action
    assert found.rounding == 1.0
    np.testing.assert_array_equal(found.truth[:4], demos.actions[:4])
    np.testing.assert_array_equal(found.start[:4], [demos.state[0, :2], *demos.actions[:3]])
    np.testing.assert_allclose(found.mean, found.start, atol=1e-4)
    np.testing.assert_allclose(found.sd, trivial.sd, rtol=1e-5)
    np.testing.assert_allclose(trivial.sd[0], [6, 12], rtol=0.2)
    assert found.figures() == pytest.approx(trivial.figures(), rel=1e-3)
    assert found.moved(trivial) < 1e-3


def test_every_way_is_trained_on_its_own_share_and_scored_on_clean_actions(
    demos: Demonstrations, walker: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Policies and rollouts are stood in for; laws are 4 px off the truth, but for the clean mse one."""
    path, taught, now = tmp_path / "demos.npz", {}, [""]
    np.savez(path, state=demos.state, action=demos.actions, episode_ends=demos.ends)

    def trained(asked: Any, name: str, demos: Demonstrations, config: Config, training: TrainConfig) -> Policy:
        taught[name], now[0] = (demos, config), name
        return walker

    def laws_of(policy: Policy, held: Demonstrations) -> OneStep:
        mean = held.actions + (0.0 if now[0] == "0 mse" else 4.0)
        return OneStep(mean, np.full_like(mean, 5.0), held.actions, mean, 1.0)

    monkeypatch.setattr(outliers, "trained", trained)
    monkeypatch.setattr(outliers, "one_step", laws_of)
    monkeypatch.setattr(outliers, "rewards", lambda *args, **options: Rewards(np.array([[0.25, 0.75]])))
    page = "\n".join(outliers.reproduce(out=tmp_path, size=outliers.SMALL, data=path))
    known = demos.split(0, outliers.HELD_OUT)[0]
    assert list(taught) == [f"{share} {way}" for share in (0, 10) for way in outliers.WAYS]
    for name, (some, config) in taught.items():
        share, way = int(name.split()[0]), name.split(maxsplit=1)[1]
        assert (some.actions != known.actions).any(1).sum() == round(share / 100 * len(known))
        for option, value in outliers.WAYS[way].items():
            assert getattr(config.method.options, option) == value
    facts = json.loads((tmp_path / "pusht-outliers.json").read_text())
    part = facts["fits"]["0"]["10"]
    assert part["measured"]["log"]["moved"] == 4.0
    assert facts["fits"]["0"]["0"]["measured"]["mse"]["moved"] == 0.0
    assert part["measured"]["log"]["inside 50"] == 0.0
    assert part["measured"]["log"]["inside 90"] == 1.0
    assert part[outliers.WALK]["spread"] > 3 * part["measured"]["log"]["spread"]
    assert set(part["expected"]) == {"mse", "log", "student"}
    assert "19.0% of them at 10 %" in page
    assert "| log | 0.500 ± 0.250 | 0.500 ± 0.250 (1.000 ± 0.000) |" in page
    assert (tmp_path / "pusht-outliers.png").stat().st_size > 10_000

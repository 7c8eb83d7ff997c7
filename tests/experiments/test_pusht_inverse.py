"""What each policy of the inverse-dynamics experiment learns from, how rewards are compared, and a stop on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from neuralsde.data.pusht import Demonstrations, without_last
from neuralsde.errors import InputError
from neuralsde.experiments.asked import Asked
from neuralsde.experiments.pusht import inverse
from neuralsde.experiments.pusht import inverse_cells as of
from neuralsde.experiments.pusht.data import demonstrations
from neuralsde.experiments.pusht.trials import Resting, Rewards, tidy, trained, training_of
from neuralsde.robot.agent import FORGETTING, positions_of
from neuralsde.robot.baselines import Cloning
from neuralsde.robot.policy import Config

EPISODES, STEPS = 40, 20


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations of an agent under the true law that goes about, in whole pixels."""
    rng = np.random.default_rng(0)
    walk = 256 + np.cumsum(rng.normal(0, 15, (EPISODES, STEPS, 2)), axis=1)
    actions = np.rint(np.clip(walk, 20, 490))
    paths = np.array([positions_of((250, 250), each)[:-1] for each in actions])
    block = np.broadcast_to([300.0, 200.0, 1.0], (EPISODES, STEPS, 3))
    path = tmp_path_factory.mktemp("pusht") / "demos.npz"
    np.savez(
        path,
        state=np.concatenate([paths, block], 2).reshape(-1, 5).astype(np.float32),
        action=actions.reshape(-1, 2).astype(np.float32),
        episode_ends=STEPS * (1 + np.arange(EPISODES)),
    )
    return path


def test_every_cell_learns_from_what_its_name_says(written: Path) -> None:
    known, held = demonstrations(written).split(0, of.HELD_OUT)
    labels = of.Labels(known, held, 0, of.SMALL)
    cells = {name: source(labels) for name, source in of.cells(of.SMALL).items()}
    np.testing.assert_array_equal(cells[of.FULL_REWARD].actions, known.actions)
    few, some = (set(np.asarray(cells[of.alone(share)].numbers).tolist()) for share in (10, 25))
    assert (len(few), len(some), known.episodes) == (4, 9, 36)
    assert few < some
    completed = cells[of.inferred(10)]
    np.testing.assert_array_equal(np.asarray(completed.numbers)[:4], sorted(few))
    np.testing.assert_array_equal(completed.actions[: 4 * STEPS], cells[of.alone(10)].actions)
    others = without_last(known.take([k for k in range(36) if np.asarray(known.numbers)[k] not in few]))
    assert 1e-4 < np.abs(completed.actions[4 * STEPS :] - others.actions).max() < 5
    assert len(cells[of.inferred(100)]) == len(without_last(known))
    assert np.std(cells[of.direct(20)].actions - known.actions) == pytest.approx(20, rel=0.1)
    assert np.std(cells[of.denoised(20)].actions - without_last(known).actions) < 5
    np.testing.assert_allclose(cells[of.NEXT].actions[:3], known.state[1:4, :2])


def test_errors_stand_beside_what_is_expected(written: Path) -> None:
    known, held = demonstrations(written).split(0, of.HELD_OUT)
    found = of.errors(of.Labels(known, held, 0, of.SMALL))
    assert found[of.PHYSICS]["rms"] < 1e-3 < 0.2 < found[of.NEXT]["rms"]
    past = [found["past"][f"{n}"]["rms"] for n in (1, 2)]
    assert past[1] / past[0] == pytest.approx(abs(FORGETTING), rel=0.3)
    noise = found["noise"]["20"][of.LINEAR]
    assert noise["rms"] == pytest.approx(found["noise"]["20"]["expected"], rel=0.2)  # ten draws of 22 numbers
    assert found["noise"]["20"]["expected"] == pytest.approx(20 * np.sqrt(11 / found["rows"]["100"]), rel=0.3)
    assert found["noise"]["20"][of.NETWORK]["said"] == pytest.approx(20, rel=0.1)


def test_rewards_are_compared_over_the_same_starts() -> None:
    """Ratio and its error for a half, exactly, and for an independent policy, by the delta method."""
    rng = np.random.default_rng(0)
    full = Rewards(rng.uniform(0.5, 1.0, (1, 400)))
    assert Rewards(0.5 * full.each).over(full) == pytest.approx((0.5, 0.0))
    other = Rewards(0.9 * full.each + 0.05 * rng.standard_normal(full.each.shape))
    ratio, error = other.over(full)
    assert error == pytest.approx(0.05 / 20 / full.mean, rel=0.1)
    assert ratio == pytest.approx(0.9, abs=4 * error)
    seeds = Rewards(np.array([[0.8, 0.6], [0.9, 0.9]]))
    assert seeds.standard_error == pytest.approx(np.hypot(0.1 / 2, 0.2 / 2))
    assert seeds.ahead_of(seeds) == pytest.approx((0.0, np.hypot(0.1, 0.1)))  # two seeds' means apart by .2, twice
    assert Rewards(full.each + 0.1).ahead_of(full) == pytest.approx((0.1, 0.0))
    back = Rewards.from_json(full.to_json())
    np.testing.assert_allclose(back.each, full.each, atol=5e-5)


def test_a_run_that_is_stopped_goes_on_where_it_was(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Policies are stood in for by an agent at rest: all rewards are those of the starts, and all ratios 1."""
    taught: list[str] = []

    def stand_in(asked: Any, name: str, demos: Demonstrations, *rest: Any) -> Resting:
        taught.append(name)
        return Resting()

    monkeypatch.setattr(inverse, "trained", stand_in)
    size = replace(of.SMALL, starts=6)
    lines = inverse.reproduce(out=tmp_path, size=size, data=written)
    told = [next(lines) for _ in range(4)]
    del lines
    assert taught == [of.FULL_REWARD, of.inferred(100), of.inferred(25)]
    assert told[0].startswith("seed 0: inferred actions err by")
    page = "\n".join(inverse.reproduce(out=tmp_path, size=size, data=written))
    assert taught == list(of.cells(of.SMALL))
    assert "asked 0.90, expected 1" in page
    assert "keeps 90% of the full reward: they do, 1.000 ± 0.000" in page
    facts = json.loads((tmp_path / "pusht-inverse.json").read_text())
    assert facts["finished"]
    assert facts["fits"]["0"]["rewards"][of.NEXT] == facts["reference"]["resting"][0]
    assert (tmp_path / "pusht-inverse.png").stat().st_size > 10_000
    assert (tmp_path / "pusht-inverse.md").read_text().rstrip() in page


def test_a_policy_that_is_there_is_not_trained_again(written: Path, tmp_path: Path) -> None:
    """Of one command and size; another size has a folder of its own, which `tidy` leaves alone."""
    config = Config(Cloning(), kind="pose", width=2, blocks=0, horizon=2)
    asked, larger = (Asked.of(inverse.NAME, size, out=tmp_path) for size in (of.SMALL, of.FULL))
    first = trained(asked, "noise 10 px", demonstrations(written), config, training_of(2, 8, 0))
    (log,) = tmp_path.glob("*/noise-10-px-0/metrics.jsonl")
    made = log.stat().st_mtime_ns
    again = trained(asked, "noise 10 px", demonstrations(written), config, training_of(2, 8, 0))
    assert log.stat().st_mtime_ns == made
    for ours, theirs in zip(jax.tree.leaves(first.law), jax.tree.leaves(again.law), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert first.how.execute == 2
    tidy(larger)
    assert log.is_file()
    tidy(asked)
    assert not list(tmp_path.iterdir())


def test_demonstrations_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEURALSDE_DATA", raising=False)
    with pytest.raises(InputError) as caught:
        demonstrations()
    assert "NEURALSDE_DATA=/path/to/data" in caught.value.line
    assert "\n" not in caught.value.line

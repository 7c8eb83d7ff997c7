"""What was chosen on Push-T: every trial can be meant, and a page is made of what was played."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuralsde.data.pusht import Demonstrations, observations
from neuralsde.experiments.pusht import choices
from neuralsde.experiments.pusht.choices import SMALL, VARIANTS, WAYS, Size, reproduce, trials
from neuralsde.robot.policy import Policy, config_of


def test_every_trial_is_another_policy_that_can_be_saved() -> None:
    found = list(trials(Size()))
    assert len({str(trial.config.to_dict()) for trial in found}) == len(found)
    assert all(config_of(json.loads(json.dumps(trial.config.to_dict()))) == trial.config for trial in found)
    chosen = found[0]
    assert chosen.name == next(iter(VARIANTS))
    assert len({str(chosen.ways[way]) for way in WAYS}) == len(WAYS)
    assert len(chosen.ways) > len(WAYS)
    whole = next(trial for trial in found if trial.name == "whole actions alone")
    assert all(how.steps == 1 for how in whole.ways.values())


class _Ahead(Policy):
    """Goes half as far as the demonstrations, from where it was; checks what it is given."""

    @property
    def kind(self) -> str:
        return "pose"

    @property
    def n_obs(self) -> int:
        return 2

    def __init__(self, demos: Demonstrations) -> None:
        self.demos = demos

    def executing(self, **how: Any) -> _Ahead:
        assert how == {"execute": 1, "noise": 0.0}
        return self

    def act(self, histories: np.ndarray, last: np.ndarray, seeds: Any) -> np.ndarray:
        rows = 1 + np.flatnonzero((self.demos.actions[:, None].astype(np.float32) == last[None]).all(-1).any(1))
        seen = observations(self.demos, "pose")
        np.testing.assert_array_equal(histories, np.stack([seen[rows - 1], seen[rows]], axis=1))
        return (last + 0.5 * (self.demos.actions[rows] - last))[:, None]


def test_moves_are_from_the_action_before_in_the_same_episode() -> None:
    rng = np.random.default_rng(0)
    demos = Demonstrations(rng.uniform(60, 450, (12, 5)), rng.uniform(60, 450, (12, 2)), np.array([5, 12]))
    told, done = choices.moves(_Ahead(demos), demos)
    steps = np.linalg.norm(np.diff(demos.actions, axis=0), axis=1)
    assert done == pytest.approx(np.delete(steps, 4).mean())
    assert told == pytest.approx(done / 2)


def test_what_was_played_is_kept_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gym_pusht", reason="needs the extra: pip install 'neuralsde[robot]'")
    rng = np.random.default_rng(0)
    demos = Demonstrations(rng.uniform(60, 450, (12, 5)), rng.uniform(60, 450, (12, 2)), np.array([6, 12]))
    monkeypatch.setattr(choices, "demonstrations", lambda path: demos)
    mixture = next(trial for trial in trials(SMALL) if trial.name == "mixture")
    way = next(iter(mixture.ways))
    mixture = replace(mixture, ways={way: mixture.ways[way]})
    monkeypatch.setattr(choices, "trials", lambda size: iter([mixture]))
    told = list(reproduce(out=tmp_path, size=SMALL))
    facts = json.loads((tmp_path / "pusht-choices.json").read_text())
    reward = facts["trials"]["mixture"]["ways"][way]["max_reward"]
    assert told[0].startswith(f"mixture, {way}: {reward:.3f} ± ")
    assert f"| {way} | {reward:.3f} ± " in (tmp_path / "pusht-choices.md").read_text()
    assert (tmp_path / "pusht-choices.png").stat().st_size
    again = list(reproduce(out=tmp_path, size=SMALL))
    assert not any(line.startswith("mixture, ") for line in again)
    assert not list(tmp_path.glob("pusht-choices-runs-*"))

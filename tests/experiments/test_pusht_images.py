"""The experiment on images at its smallest, and the learning curve's minutes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neuralsde.experiments.pusht import images, lines
from neuralsde.experiments.pusht.images_page import curve_of
from neuralsde.robot.baselines import Cloning
from neuralsde.robot.environment import PushT
from neuralsde.robot.starts import CHOICES, starts


def test_it_writes_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the plan that compiles fastest: what is tested is the way from images to a page."""
    monkeypatch.setitem(lines.FITTED, lines.OURS, Cloning())
    env, rows = PushT("image"), []
    for start in starts(CHOICES, 8):
        env.place(start)
        rows.append((env.state, env.picture()))
    state = np.array([one for one, _ in rows])
    np.savez(tmp_path / "demos.npz", state=state, action=state[:, :2], img=np.array([picture for _, picture in rows]),
             episode_ends=np.array([4, 8]))  # fmt: skip
    out = tmp_path / "out"
    told = list(images.reproduce(out=out, size=images.SMALL, data=tmp_path / "demos.npz"))
    facts = json.loads((out / "pusht-images.json").read_text())
    page = (out / "pusht-images.md").read_text()
    assert told[-1] == page.splitlines()[-1]
    assert [row["step"] for row in facts["curve"]] == [2]
    assert f"| from images | {facts['seen']['reward']:.3f}" in page
    truth = np.linalg.norm(np.array(facts["curve"][-1]["px"]))
    assert truth == pytest.approx(facts["trivial"]["px"], rel=0.6)  # two steps: nearly the middle of the arena
    assert all((out / f"pusht-images.{ending}").stat().st_size for ending in ("png", "html"))


def test_minutes_are_those_of_the_training_alone(tmp_path: Path) -> None:
    lines = [{"step": 5, "loss": 1.0}, {"step": 10, "watched": 40.0}, {"step": 20, "watched": 20.0, "notes": ["x"]}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    curve = curve_of(tmp_path / "metrics.jsonl", 20, 660.0)
    assert [(row["step"], row["minutes"]) for row in curve] == [(10, 5.0), (20, 10.0)]

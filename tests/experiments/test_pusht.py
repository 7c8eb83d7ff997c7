"""The sweep on Push-T: means against arithmetic, cells that are kept, and a small run of the whole that goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuralsde.data.pusht import Demonstrations
from neuralsde.errors import InputError
from neuralsde.experiments.pusht import cells, lines
from neuralsde.experiments.pusht.cells import CONDITIONS, Cell, Table, collected
from neuralsde.experiments.pusht.experiment import SMALL, reproduce
from neuralsde.robot import latency as latency_module
from neuralsde.robot.policy import KINDS


def test_cells_of_several_seeds_are_collected_when_all_are_there() -> None:
    some = [Cell("sde", seed, 1.0, 4, 2, 0) for seed in (0, 1)]
    found = {cell.key: {"rewards": [0.1 * cell.seed, 1.0]} for cell in some}
    got = collected(found, some)
    assert got is not None
    np.testing.assert_allclose(got.each, [[0.0, 1.0], [0.1, 1.0]])
    assert collected(found, [*some, Cell("sde", 2, 1.0, 4, 2, 0)]) is None
    fewer = collected(found, [replace(cell, starts=1) for cell in some])
    assert fewer is not None
    np.testing.assert_allclose(fewer.each, [[0.0], [0.1]])
    assert collected(found, [replace(cell, starts=3) for cell in some]) is None
    assert collected(found, [replace(cell, starts=1, first=1) for cell in some]) is None


def test_keys_tell_cells_apart() -> None:
    first = Cell("sde", 0, 1.0, 4, 4, 0)
    others = [
        replace(first, **change)
        for change in ({"seed": 1}, {"steps": 2.0}, {"execute": 1}, {"starts": 5}, {"first": 1}, {"noise": 1.0},
                       {"noise": 0.0}, {"line": "ddim"}, *({"when": when} for when in list(CONDITIONS)[1:]))
    ]  # fmt: skip
    assert len({cell.key for cell in [first, *others]}) == len(others) + 1


def demos() -> Demonstrations:
    """Four short episodes in which the agent walks about."""
    rng = np.random.default_rng(0)
    state = np.concatenate([rng.uniform(60, 450, (24, 4)), rng.uniform(0, 6, (24, 1))], 1)
    return Demonstrations(state, rng.uniform(60, 450, (24, 2)), np.array([6, 12, 18, 24]))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two methods that compile quickly (one in the place of the SDE), two conditions, demonstrations of our own."""
    pytest.importorskip("gym_pusht", reason="needs the extra: pip install 'neuralsde[robot]'")
    for name in ("flow-matching", "ddim", "ddpm", "mixture"):
        monkeypatch.delitem(lines.LINES, name)
    for name in ("diffusion", "flow-matching", "sde"):
        monkeypatch.delitem(lines.FITTED, name)
    monkeypatch.setitem(lines.LINES, "sde", replace(lines.LINES["sde"], name="mixture"))
    for when in list(cells.CONDITIONS)[2:]:
        monkeypatch.delitem(cells.CONDITIONS, when)
    monkeypatch.setattr("neuralsde.experiments.pusht.experiment.demonstrations", lambda path: demos())
    # in this process: another one spends seven seconds on its imports
    monkeypatch.setattr("neuralsde.experiments.pusht.study.latencies_on_one_core", latency_module._timed)


def test_a_small_run_of_the_whole_goes_on_where_it_was(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after two cells, it keeps them and the policies, and the end is that of a run that was not stopped."""
    measured = Cell.measured
    played: list[str] = []

    def stops(self: Cell, *given: Any) -> Any:
        if len(played) == 2:
            raise KeyboardInterrupt
        played.append(self.key)
        return measured(self, *given)

    monkeypatch.setattr(Cell, "measured", stops)
    with pytest.raises(KeyboardInterrupt):
        list(reproduce(out=tmp_path, size=SMALL))
    kept = json.loads((tmp_path / "pusht.json").read_text())["cells"]
    assert list(kept) == played
    monkeypatch.setattr(Cell, "measured", measured)
    told = list(reproduce(out=tmp_path, size=SMALL))
    facts = json.loads((tmp_path / "pusht.json").read_text())
    assert {key: facts["cells"][key] for key in played} == kept
    assert not any(line.startswith(key + ":") for key in played for line in told)
    page = (tmp_path / "pusht.md").read_text()
    assert all(
        line in page for line in ("| neural SDE |", "| behaviour cloning |", "ahead of the best baseline at 1 an")
    )
    assert list(facts["latency"]) == [
        f"{line}, 1 an action, {execute} actions a plan" for execute in (2, 1) for line in ("sde", "cloning")
    ]
    assert {cell["evaluations"] for cell in facts["cells"].values()} == {1}
    assert (tmp_path / "pusht.html").read_text().count("<video") == 2
    assert (tmp_path / "pusht-runs" / "mixture-0" / "finished.json").is_file()
    table = Table(facts["cells"], lambda cell: pytest.fail("measured again"), lambda: None, 1)
    assert not list(table.fill([Cell("sde", 0, 1, 2, 2, 200_000)]))


def test_what_policies_cannot_see_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--obs tactile"):
        list(reproduce(out=tmp_path, size=SMALL, obs="tactile"))
    assert "keypoints" in KINDS

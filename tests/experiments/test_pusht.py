"""The sweep on Push-T: means against arithmetic, cells that are kept, and a small run of the whole that goes on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuralsde.data.pusht import Demonstrations
from neuralsde.errors import InputError
from neuralsde.experiments.asked import Asked
from neuralsde.experiments.pusht import cells, images, lines
from neuralsde.experiments.pusht.cells import CONDITIONS, Cell, Table, collected
from neuralsde.experiments.pusht.experiment import FULL, SMALL, reproduce
from neuralsde.experiments.pusht.page import page
from neuralsde.experiments.pusht.study import Size, Study, timed
from neuralsde.experiments.pusht.trials import line_of
from neuralsde.robot import latency as latency_module


def test_cells_of_several_seeds_are_collected_when_all_are_there() -> None:
    some = [Cell("sde", seed, 1.0, 4, 2, 0) for seed in (0, 1)]
    found = {cell.key: {"rewards": line_of(np.array([0.1 * cell.seed, 1.0]))} for cell in some}
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
    """Stopped after two cells, it keeps them; a policy that is gone by then is trained again for what is missing."""
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
    shutil.rmtree(tmp_path / "pusht-runs" / "mixture-0")
    told = list(reproduce(out=tmp_path, size=SMALL))
    facts = json.loads((tmp_path / "pusht.json").read_text())
    assert {key: facts["cells"][key] for key in played} == kept
    assert not any(line.startswith(key + ":") for key in played for line in told)
    told = (tmp_path / "pusht.md").read_text()
    assert all(
        line in told for line in ("| neural SDE (0.5) |", "| behaviour cloning, one pass a plan (nothing drawn)")
    )
    assert list(facts["latency"]) == [
        f"{line}, 1 an action, {execute} actions a plan" for execute in (2, 1) for line in ("sde", "cloning")
    ]
    assert {cell["evaluations"] for cell in facts["cells"].values()} == {1}
    assert (tmp_path / "pusht.html").read_text().count("<video") == 2
    assert (tmp_path / "pusht-runs" / "mixture-0" / "finished.json").is_file()
    table = Table(facts["cells"], lambda cell: pytest.fail("measured again"), lambda: None, 1)
    assert not list(table.fill([Cell("sde", 0, 1, 2, 2, 200_000)]))


def test_the_page_tells_means_successes_and_what_is_not_told_apart(tmp_path: Path) -> None:
    """Of made-up rewards: the SDE like the mixture, ahead of the others by .35, in both tables."""
    size = replace(SMALL, execute=4, horizon=4, main=(1, 100), closed=(1,), starts=4, sweep_starts=4)
    study = Study(Asked.of("pusht", size, out=tmp_path, seeds=2), demos(), "pose")
    facts: dict[str, Any] = study.known() | {"replayed": 0.5}
    for cell in study.everything(facts["cells"]):
        high = 1.0 if cell.line in ("sde", "mixture") else 0.65
        each = [high, high, high, high - 0.1 if cell.line == "sde" else high - 0.2]
        facts["cells"][cell.key] = {"rewards": line_of(np.array(each)), "success": float(np.mean(np.array(each) >= 1))}
    facts["latency"] = {timed("sde", 1, 1): {"p50": 0.5, "p99": 2.0}}
    text = page(study, facts)
    rival = "(mixture of 5 Gaussians, 0.950) | +0.025 ± 0.025 (same starts)"
    for row in (
        "| neural SDE (0.5) | 0.975 ± 0.025, 75 % | 0.975 ± 0.025, 75 % |",
        "| neural SDE (0.5) | 0.975 ± 0.025, 75 % |",
        "| mixture of 5 Gaussians, one pass a plan (1) | 0.950 ± 0.050, 75 % |  |",
        "| diffusion, DDIM (0.75) | 0.600 ± 0.050, 0 % | 0.600 ± 0.050, 0 % |",
        "| diffusion, DDIM (1) | 0.600 ± 0.050, 0 % |",
        "| behaviour cloning, one pass a plan (nothing drawn) | 0.600 ± 0.050, 0 % |  |",
        "| ms a call | 0.50 / 2.00 |",
        "| 0.95 at 1 an action | 0.975 ± 0.025 | yes |",
        f"| ahead of the best baseline at 1 an action {rival} | not told apart |",
        f"| level with the best baseline at 100 an action {rival} | yes |",
        "| 99 of 100 calls within 1 ms at 1 an action | 2.00 ms | **no** |",
        "| | neural SDE, 1 an action | mixture of 5 Gaussians, one pass | behaviour cloning, one pass |",
        "| noise of 10 px | 0.975 ± 0.025 | 0.950 ± 0.050 | 0.600 ± 0.050 |",
        "The SDE seed by seed, by evaluations an action: 1: 0.975, 0.975; 100: 0.975, 0.975.",
    ):
        assert row in text.splitlines(), row
    assert text.count("**no**") == 1


@pytest.mark.parametrize("size", [SMALL, FULL], ids=["small", "full"])
def test_images_are_an_experiment_of_the_size_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: Size
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(images, "reproduce", lambda **asked: given.update(asked) or iter(["done"]))
    assert list(reproduce(out=tmp_path, seed=3, size=size, obs="image")) == ["done"]
    assert given["size"] == (images.SMALL if size == SMALL else images.FULL)
    assert (given["seed"], given["out"]) == (3, tmp_path)


def test_what_policies_cannot_see_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--obs tactile"):
        list(reproduce(out=tmp_path, size=SMALL, obs="tactile"))

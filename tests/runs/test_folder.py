"""A run folder is whole or absent, is recognised, and says in plain words why it cannot be used."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from neuralsde.errors import InputError
from neuralsde.runs import folder as module
from neuralsde.runs.folder import FORMAT, RunFolder, check_new, read_config

CONFIG = {"model": {"name": "sequence-sde", "width": 64}, "train": {"steps": 100, "seed": 0}, "data": {"sha256": "ab"}}


def test_create_then_open_gives_the_same(tmp_path: Path) -> None:
    made = RunFolder.create(tmp_path / "deep" / "run", CONFIG)
    assert RunFolder.open(tmp_path / "deep" / "run") == made
    assert made.config == CONFIG
    assert {"python", "neuralsde", "jax"} <= made.versions.keys()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["run"]
    assert [p.name for p in made.path.iterdir()] == ["config.json"]
    assert read_config(made.path) == read_config(made.path / "config.json") == CONFIG


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path, CONFIG).config == CONFIG


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    made = RunFolder.create(tmp_path / "run", CONFIG).path
    (tmp_path / "plain").mkdir()
    assert made.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_existing_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", CONFIG)
    before = (run.path / "config.json").read_bytes()
    with pytest.raises(InputError, match=r"not finished[\s\S]*--resume"):
        RunFolder.create(run.path, {"other": 1})
    run.mark_finished({"steps": 100})
    with pytest.raises(InputError, match="is finished"):
        check_new(run.path)
    assert (run.path / "config.json").read_bytes() == before


@pytest.mark.parametrize("kind", ["file", "full folder", "below a file"])
def test_nothing_is_made_where_it_cannot_be(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "x"
    if kind == "full folder":
        target.mkdir()
        (target / "letter.txt").write_text("dear")
    else:
        target.write_text("dear")
    path = target / "run" if kind == "below a file" else target
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError):
        RunFolder.create(path, CONFIG)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failure_while_making_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomic", full_disk)
    with pytest.raises(InputError, match="No space left"):
        RunFolder.create(tmp_path / "run", CONFIG)
    assert not list(tmp_path.iterdir())


def test_a_number_without_json_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        RunFolder.create(tmp_path / "run", {"bound": float("inf")})
    assert not list(tmp_path.iterdir())


def test_what_is_not_a_run(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "weather", CONFIG)
    with pytest.raises(InputError, match=r"no such folder[\s\S]*weather"):
        RunFolder.open(tmp_path / "wether")
    with pytest.raises(InputError, match=r"not a run[\s\S]*weather"):
        RunFolder.open(tmp_path)
    with pytest.raises(InputError, match="it is a file"):
        RunFolder.open(tmp_path / "weather" / "config.json")
    for text in ("", "{", "[]", '{"kind": "other"}', '{"kind": "neuralsde run", "config": {}}', "\x00\xff"):
        (tmp_path / "weather" / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(InputError, match=r"JSON|not that of a run"):
            RunFolder.open(tmp_path / "weather")


def _written_as(path: Path, number: int) -> None:
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": number}))


def test_a_newer_format_says_so(tmp_path: Path) -> None:
    _written_as(RunFolder.create(tmp_path / "run", CONFIG).path, FORMAT + 1)
    with pytest.raises(InputError, match=r"newer neuralsde[\s\S]*upgrade"):
        RunFolder.open(tmp_path / "run")


def test_an_older_format_loads_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = RunFolder.create(tmp_path / "run", CONFIG).path
    _written_as(path, FORMAT - 2)
    with pytest.raises(InputError, match="no longer knows that format"):
        RunFolder.open(path)
    steps = {FORMAT - 2: lambda content: content, FORMAT - 1: lambda content: content | {"config": {"renamed": 1}}}
    monkeypatch.setattr(module, "_MIGRATIONS", steps)
    assert RunFolder.open(path).config == {"renamed": 1}
    monkeypatch.setattr(module, "_MIGRATIONS", steps | {FORMAT - 1: "its noise was drawn in another order"})
    with pytest.raises(InputError, match="noise was drawn"):
        RunFolder.open(path)


def test_finished(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", CONFIG)
    assert not run.finished
    with pytest.raises(InputError, match="--resume"):
        run.summary()
    run.mark_finished({"steps": 100, "best_step": 80})
    assert run.finished
    assert run.summary() == {"steps": 100, "best_step": 80}
    assert not [name for name in os.listdir(run.path) if name.endswith(".tmp")]


def test_resume_names_what_differs(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", CONFIG)
    run.require_same(CONFIG)
    run.require_same(CONFIG | {"data": {"sha256": "ab"}, "model": {"name": "sequence-sde", "width": 64}})
    changed = CONFIG | {"train": {"steps": 200, "seed": 0, "extra": 1}}
    with pytest.raises(InputError, match=r"train.steps 100 -> 200.*train.extra \(none\) -> 1"):
        run.require_same(changed)
    run.require_same(changed, ignore=("train",))
    run.require_same(CONFIG | {"model": {"name": ("sequence-sde"), "width": 64}})

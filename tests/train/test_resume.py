"""The law of resume: a run that was killed any number of times ends in the bits of one that never was."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from neuralsde.train.loop import train
from tests.train import toy

ROOT = Path(__file__).parents[2]
SAVED = "checkpoints"
# (audit event, its path, how many times): each a moment at which the process dies by SIGKILL
MOMENTS = {
    "in the first save: nothing to resume from": ("os.rename", r"/\d+\.orbax-checkpoint-tmp$", 1),
    "before a metrics line": ("open", r"/metrics\.jsonl$", 4),
    "between a metrics line and its checkpoint": ("os.mkdir", r"/\d+\.orbax-checkpoint-tmp$", 3),
    "while the files of a save are written": ("open", r"/state\.orbax-checkpoint-tmp/_METADATA$", 3),
    "a save is written whole, but not yet in place": ("os.rename", r"/\d+\.orbax-checkpoint-tmp$", 3),
    "while an old checkpoint is removed": ("os.remove", r"^manifest\.ocdbt$", 3),
}


class Server:
    """Starts training processes one after the other (see toy.py)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def _number(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def run(self, folder: Path, meanwhile: Callable[[int], None] | None = None, **request: Any) -> int:
        """Exit status of a process that trains in `folder`; `meanwhile(its id)` is called while it lives."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"folder": str(folder)} | request) + "\n")
        self.process.stdin.flush()
        number = self._number()
        if meanwhile is not None:
            meanwhile(number)
        return self._number()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.train.toy"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    ) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was never stopped, in this process."""
    folder = tmp_path_factory.mktemp("whole")
    config = dataclasses.replace(toy.CONFIG, save_seconds=1e9)  # when it saves must not matter
    toy.keep(train(toy.problem(), config, folder), folder / "end.safetensors")
    return folder


def _newest(folder: Path) -> int:
    return max((int(path.name) for path in (folder / SAVED).glob("*") if path.name.isdigit()), default=0)


def _assert_same(folder: Path, whole: Path) -> None:
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    ours, theirs = load_file(folder / "end.safetensors"), load_file(whole / "end.safetensors")
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if ours[name].tobytes() != theirs[name].tobytes()} == set()
    assert any(name.startswith("model.") for name in ours)


def test_killed_at_every_stage_of_a_save(server: Server, uninterrupted: Path, tmp_path: Path) -> None:
    reached = [0]
    for moment, (event, of, count) in MOMENTS.items():
        kill = {"event": event, "of": of, "count": count}
        assert server.run(tmp_path, kill=kill, tear=bool(reached[-1])) == -signal.SIGKILL, moment
        reached.append(_newest(tmp_path))
    assert reached[1] == 0, "the first kill should have come before the first checkpoint"
    assert all(b > a for a, b in pairwise(reached[1:])), f"a kill undid a checkpoint: {reached}"
    assert reached[-1] < toy.CONFIG.steps, "the run was over before the last kill"
    assert server.run(tmp_path, save_seconds=1.0) == 0
    _assert_same(tmp_path, uninterrupted)
    assert sorted(path.name for path in (tmp_path / SAVED).iterdir() if not path.name.isdigit()) == []

    assert server.run(tmp_path, save_seconds=1.0) == 0
    assert (tmp_path / "message.txt").read_text() == "nothing to do"
    _assert_same(tmp_path, uninterrupted)


def test_killed_at_random_then_ctrl_c(server: Server, uninterrupted: Path, tmp_path: Path) -> None:
    moments = random.Random(2)

    def wait_then(number: signal.Signals, saves: int) -> Callable[[int], None]:
        """Send the signal at a random moment after some more checkpoints."""

        def act(process: int) -> None:
            seen, deadline = {_newest(tmp_path)}, time.monotonic() + 60
            while len(seen) <= saves:
                time.sleep(0.002)
                seen.add(_newest(tmp_path))
                assert time.monotonic() < deadline, "no checkpoint in a minute"
            time.sleep(moments.uniform(0.0, 0.05))  # a save and the steps before it take about as long
            os.kill(process, number)

        return act

    assert server.run(tmp_path, wait_then(signal.SIGKILL, 2)) == -signal.SIGKILL
    assert server.run(tmp_path, wait_then(signal.SIGINT, 2)) == 130
    message = (tmp_path / "message.txt").read_text()
    assert f"interrupted after {_newest(tmp_path)} of {toy.CONFIG.steps} steps" in message
    assert f"saved in {tmp_path}" in message
    assert "--resume" in message
    assert server.run(tmp_path, save_seconds=1.0) == 0
    assert (tmp_path / "message.txt").read_text() == "done"
    _assert_same(tmp_path, uninterrupted)

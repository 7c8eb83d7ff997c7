"""Files are whole or as before, the log winds back to any step, and a folder has one writer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from neuralsde.errors import InputError
from neuralsde.train import files
from neuralsde.train.files import MetricsLog, only_writer, read_metrics, write_atomic


def test_write_atomic_replaces_whole(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"one")
    write_atomic(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write_atomic(tmp_path / "a", b"one")
    monkeypatch.setattr(files.os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("torn", [b"", b'{"step": 4', b'{"step": 4, "loss": 1.0}', b"\x00\x00\n", b"[1]\n", b"{}\n"])
def test_rewind_cuts_what_lies_beyond_and_what_is_torn(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in (1, 2, 3):
        log.append({"step": step, "loss": 1 / 3, "odd": float("nan")})
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]
    log.rewind(2)
    assert [row["step"] for row in log.rows] == [1, 2]
    log.append({"step": 3, "loss": 1 / 3, "odd": float("inf")})
    assert path.read_bytes() == whole
    assert read_metrics(path) == log.rows
    assert log.rows[0] == {"step": 1, "loss": 1 / 3, "odd": None}


def test_a_log_in_memory(tmp_path: Path) -> None:
    log = MetricsLog(None)
    log.append({"step": 1})
    log.append({"step": 2})
    log.rewind(1)
    assert log.rows == [{"step": 1}]
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from neuralsde.train.files import only_writer\n"
        "with only_writer(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another process"), only_writer(tmp_path):
            pass
        other.kill()
        other.wait()
        with only_writer(tmp_path):  # the system let go of it
            pass

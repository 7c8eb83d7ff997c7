"""Files of a run that survive a kill: atomic replacement, a log that can be wound back, one writer per folder.

`write_atomic`: bytes go to a temporary file beside the target, are forced to disk, and the target's name is moved
onto them (POSIX rename), so a reader sees the old file or the new one and never a part.
`MetricsLog`: one JSON object a line, each with its `step`. Lines are forced to disk before the checkpoint of the same
step is written (and only then: it takes as long as some steps), so the file always reaches at least as far as the
newest checkpoint; `rewind(step)` cuts off what lies beyond, a line torn by a kill included, and the resumed run writes
the same lines again. No line holds a time of day.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from neuralsde.errors import InputError

METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not on Windows; there the folder is not locked
    fcntl = None


def write_atomic(path: Path, content: bytes) -> None:
    """Replace the file `path` by `content`, wholly or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            _to_disk(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(descriptor: int) -> None:
    with suppress(OSError):  # some network file systems cannot
        os.fsync(descriptor)


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder; the system lets go of it when the process ends, however it ends.

    Raises InputError when another process holds it.
    """
    with (folder / ".lock").open("ab") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"the run folder {folder}",
                    "another process is training in it",
                    hint="another folder, or wait for that process to end",
                ) from None
            except OSError:
                pass  # a file system without locks
        yield


class MetricsLog:
    """The lines of a `metrics.jsonl`, kept in memory too; with `path=None` only in memory."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def rewind(self, step: int) -> None:
        """Keep the lines up to and including `step` as they stand in the file, byte for byte."""
        if self.path is None:
            self.rows = [row for row in self.rows if row["step"] <= step]
            return
        content = self.path.read_bytes() if self.path.exists() else b""
        kept, self.rows = [], []
        for line, row in _parsed(content):
            if row["step"] > step:
                break
            kept.append(line)
            self.rows.append(row)
        if b"".join(kept) != content or not self.path.exists():
            write_atomic(self.path, b"".join(kept))

    def append(self, *rows: Mapping[str, Any]) -> None:
        """Write lines; a number that is not finite becomes null."""
        clean = [{name: _finite(value) for name, value in row.items()} for row in rows]
        self.rows += clean
        if self.path is not None and clean:
            with self.path.open("ab") as file:
                file.write(b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in clean))

    def force(self) -> None:
        """To disk, whatever has been written."""
        if self.path is not None and self.path.exists():
            with self.path.open("ab") as file:
                _to_disk(file.fileno())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl` up to the first torn one; an absent file has none."""
    return [row for _, row in _parsed(path.read_bytes())] if path.exists() else []


def _parsed(content: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for line in content.splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            return
        if not line.endswith(b"\n") or not isinstance(row, dict) or not isinstance(row.get("step"), int):
            return
        yield line, row


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

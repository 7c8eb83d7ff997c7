"""A run as a folder: where each of its files lies, and how it is begun, recognised and finished.

    config.json        options, versions, data fingerprint; written first and at once, so a folder with it is a run
    metrics.jsonl      one line per log interval (train/files.py)
    checkpoints/       the memory of an unfinished run (train/checkpoint.py)
    model.safetensors  the best weights
    report.html        the report
    finished.json      the end of the training: present exactly when it was reached

`create` makes the folder under another name and moves it into place, so neither misuse nor a kill leaves half of one.
`config.json` carries a format number. A folder of an older format is brought up to date in memory by `_MIGRATIONS`
when it is opened; one that cannot be is refused with the reason, as is one of a newer format.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from neuralsde import __version__
from neuralsde.errors import InputError, closest
from neuralsde.train.files import CHECKPOINTS, METRICS, write_atomic

FORMAT = 1
KIND = "neuralsde run"
POLICY = "policy"
"""What `config.json` of a policy's run names as its model; such a run is opened by `robot`."""

_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]] | str] = {}
"""From a format to the next: a function of the whole content of config.json, or the reason why it cannot be read."""

_PACKAGES = ("jax", "jaxlib", "equinox", "optax", "orbax-checkpoint", "numpy")


@dataclass(frozen=True)
class RunFolder:
    """A folder that is a run. Made by `create` or `open`; `config` is what `create` was given."""

    path: Path
    config: dict[str, Any]
    versions: dict[str, str]
    created: str

    @property
    def metrics_path(self) -> Path:
        return self.path / METRICS

    @property
    def checkpoints_path(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def weights_path(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def finished(self) -> bool:
        """Whether the training came to its end."""
        return _finish_path(self.path).is_file()

    @staticmethod
    def create(path: str | Path, config: Mapping[str, Any]) -> RunFolder:
        """A new run folder that holds `config` (JSON values; numbers finite).

        Parents are made as needed; an empty folder may be there already.
        Raises InputError when something else is, or when the folder cannot be written.
        """
        path = Path(path)
        check_new(path)
        content = {
            "kind": KIND,
            "format": FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "config": dict(config),
        }
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        half = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            half = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
            half.chmod(0o777 & ~_umask())  # mkdtemp makes it private
            write_atomic(half / "config.json", text.encode())
            os.replace(half, path)  # an empty folder gives way to it
        except OSError as error:
            if half is not None:
                shutil.rmtree(half, ignore_errors=True)
            raise InputError(f"the run folder {path}", f"it cannot be made: {error.strerror or error}") from error
        return RunFolder.open(path)

    @staticmethod
    def open(path: str | Path) -> RunFolder:
        """The run in `path`. Raises InputError when there is none, or one that this version cannot read."""
        path = Path(path)
        content = _content(path)
        return RunFolder(path, content["config"], content.get("versions", {}), content.get("created", ""))

    def mark_finished(self, summary: Mapping[str, Any]) -> None:
        """Say that the training came to its end, with JSON values that sum it up; the last act of a run."""
        content = json.dumps(dict(summary), indent=2, allow_nan=False) + "\n"
        write_atomic(_finish_path(self.path), content.encode())

    def summary(self) -> dict[str, Any]:
        """What `mark_finished` was given. Raises InputError for a run that is not finished."""
        if not self.finished:
            raise InputError(
                f"the run {self.path}", "it has not been trained to its end", hint="to go on with it: fit ... --resume"
            )
        return json.loads(_finish_path(self.path).read_text())

    def require_same(self, config: Mapping[str, Any], ignore: tuple[str, ...] = ()) -> None:
        """Raise InputError naming what differs, unless `config` is the one of this run.

        ignore: dotted names (with all that lies below them) that may differ.
        """
        ours, theirs = dict(_flat(self.config)), dict(_flat(json.loads(json.dumps(dict(config)))))
        names = [
            name
            for name in [*ours, *(name for name in theirs if name not in ours)]
            if ours.get(name, _ABSENT) != theirs.get(name, _ABSENT)
            and not any(name == skip or name.startswith(skip + ".") for skip in ignore)
        ]
        if not names:
            return
        changes = [f"{name} {ours.get(name, _ABSENT)} -> {theirs.get(name, _ABSENT)}" for name in names[:5]]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise InputError(
            f"resume of {self.path} with other options: {', '.join(changes)}{more}",
            "a run goes on under the options and with the data it was started with",
            "the first value of each",
            "these values, or another folder for a new run",
        )


_ABSENT = "(none)"


def begin(out: str | Path | None, config: Mapping[str, Any], resume: bool) -> RunFolder | None:
    """The folder of a fit: a new one, or with `resume` the one that is there; None for a run in memory.

    Raises InputError where the folder cannot be made, is no run, or is one with other options or data.
    """
    if out is None:
        if resume:
            raise InputError("resume without a run folder", expected="the folder of the run", hint="out='runs/...'")
        return None
    if not resume:
        return RunFolder.create(out, config)
    folder = RunFolder.open(out)
    folder.require_same(config, ignore=("data.source",))
    return folder


def begun(path: str | Path) -> bool:
    """Whether a run has begun in that folder, finished or not: what `resume` goes on with, or loads."""
    return (Path(path) / "config.json").is_file()


def check_new(path: str | Path) -> None:
    """Raise InputError unless a run folder can be made at `path`; makes nothing: ask before long work."""
    path = Path(path)
    if begun(path):
        state = "is finished" if _finish_path(path).is_file() else "is not finished"
        hint = "another folder" if _finish_path(path).is_file() else "--resume to go on with it, or another folder"
        raise InputError(f"the run folder {path}", f"a run is there already and {state}", "a new folder", hint)
    if path.is_dir() and any(path.iterdir()):
        raise InputError(
            f"the run folder {path}", "the folder is there and is not empty", "a new folder", "another name"
        )
    if path.exists() and not path.is_dir():
        raise InputError(f"the run folder {path}", "a file of that name is there", "a new folder", "another name")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"the run folder {path}", f"nothing can be written in {above}", hint="another place")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    ours = {"python": platform.python_version(), "neuralsde": __version__}
    return ours | {name: _version(name) for name in _PACKAGES}


def read_config(path: str | Path) -> dict[str, Any]:
    """The options in a run's config.json, for `--config FILE`; `path` is that file or the run's folder.

    Raises InputError as `RunFolder.open`.
    """
    path = Path(path)
    return _content(path.parent if path.name == "config.json" else path)["config"]


def _content(path: Path) -> dict[str, Any]:
    """config.json of the run folder, brought up to the present format."""
    file = path / "config.json"
    if not file.is_file():
        raise _not_a_run(path)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"the file {file}", f"it cannot be read as JSON ({error})", hint="another run folder"
        ) from error
    known = isinstance(content, dict) and content.get("kind") == KIND and isinstance(content.get("config"), dict)
    if not known or not isinstance(content.get("format"), int):
        raise InputError(f"the folder {path}", "its config.json is not that of a run", f'"kind": "{KIND}"')
    return _up_to_date(content, path)


def _up_to_date(content: dict[str, Any], path: Path) -> dict[str, Any]:
    written_by = content.get("versions", {}).get("neuralsde", "an unknown version")
    if content["format"] > FORMAT:
        raise InputError(
            f"the run {path} of format {content['format']}",
            f"it was written by a newer neuralsde ({written_by})",
            f"format {FORMAT} or older",
            "pip install --upgrade neuralsde",
        )
    while content["format"] < FORMAT:
        migration = _MIGRATIONS.get(content["format"], "this version no longer knows that format")
        if isinstance(migration, str):
            raise InputError(
                f"the run {path} of format {content['format']}, written by neuralsde {written_by}",
                migration,
                f"format {FORMAT}",
                f"that version of neuralsde, or training again: fit ... --config {path / 'config.json'}",
            )
        content = migration(content) | {"format": content["format"] + 1}
    return content


def _not_a_run(path: Path) -> InputError:
    expected = "a folder made by fit, with a config.json in it"
    if not path.exists():
        beside = path.parent if path.parent.is_dir() else Path()
        runs = [str(other.parent) for other in beside.glob("*/config.json")]
        hint = closest(str(path), runs) if runs else "the folder that fit was given as --out"
        return InputError(f"the run {path}", "there is no such folder", expected, hint)
    if path.is_file():
        return InputError(f"the run {path}", "it is a file", expected)
    inside = [str(other.parent) for other in path.glob("*/config.json")]
    hint = closest(path.name, inside) if inside else ""
    return InputError(f"the folder {path}", "it is not a run: it has no config.json", expected, hint)


def _finish_path(path: Path) -> Path:
    return path / "finished.json"


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask

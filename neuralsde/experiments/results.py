"""Results of an experiment on disk: the figures as JSON with date, machine and versions, and a table made from them."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from neuralsde.errors import InputError
from neuralsde.runs.folder import versions
from neuralsde.train.files import write_atomic

RESULTS = Path("experiments/results")
"""Where committed results lie, from the root of the repository."""


def opening(name: str, *, seed: int, seeds: int, full: bool, size: Any) -> dict[str, Any]:
    """The first facts of a result: which experiment, the command that repeats it, and at what size (a dataclass).

    Raises InputError when there is nothing to run.
    """
    if seeds < 1:
        raise InputError(f"seeds={seeds}", "nothing to run", "at least 1")
    command = f"neuralsde reproduce {name} --seed {seed} --seeds {seeds}" + (" --full" if full else "")
    return {"experiment": name, "command": command, "seeds": seeds, "size": json.loads(json.dumps(vars(size)))}


def on_file(facts: dict[str, Any], out: Path) -> dict[str, Any]:
    """What the same command, at the same size, has left in `out`, so that it can be made part by part; {} if nothing.

    facts: as from `opening`.
    """
    path = out / f"{facts['experiment']}.json"
    saved = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return saved if all(saved.get(key) == facts[key] for key in ("command", "size")) else {}


def circumstances() -> dict[str, Any]:
    """When, where and with what a result was made."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": str(jax.devices()[0]),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "versions": versions(),
    }


def write_results(name: str, result: dict[str, Any], table: str, out: Path = RESULTS) -> None:
    """`NAME.json` with the circumstances, and `NAME.md` with the table, in `out`; without a table that one stays."""
    out.mkdir(parents=True, exist_ok=True)
    now = circumstances()
    content = {**now, **result, **now}  # what a stopped run has left was made earlier
    write_atomic(out / f"{name}.json", (json.dumps(content, indent=1) + "\n").encode())
    if table:
        write_atomic(out / f"{name}.md", (table.rstrip() + "\n").encode())

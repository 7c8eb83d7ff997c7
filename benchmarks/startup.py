"""How long a user waits before anything happens: help, and the first and the second start of `fit`.

Wall seconds, the best of several; what counts for `fit` is the ratio of the second start to the first, which has to
compile. Results go to benchmarks/startup.json, and as a table to benchmarks/STARTUP.md.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-m", "neuralsde"]
REPEATS = 5


def seconds(*tokens: str, repeats: int = 1, **environment: str) -> float:
    """Shortest wall time of a command."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run([*COMMAND, *tokens], check=True, capture_output=True, env={**os.environ, **environment})
        times.append(time.perf_counter() - began)
    return min(times)


def measure() -> dict[str, float]:
    """All rows of the table."""
    found = {
        "neuralsde --help": seconds("--help", repeats=REPEATS),
        "neuralsde fit --help": seconds("fit", "--help", repeats=REPEATS),
    }
    with tempfile.TemporaryDirectory() as work:
        table = Path(work) / "table.csv"
        rows = [f"{k},{(k * 7919) % 101},{(k * 104729) % 97}" for k in range(200)]
        table.write_text("\n".join(["t,x,y", *rows]) + "\n")
        for name in ("first", "second"):
            tokens = ("fit", str(table), "--steps", "20", "--out", str(Path(work) / name))
            found[f"fit, 20 steps, {name} start"] = seconds(*tokens, JAX_COMPILATION_CACHE_DIR=str(Path(work) / "jax"))
    return found


def main() -> None:
    found = {name: round(value, 3) for name, value in measure().items()}
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "seconds": found,
    }
    (HERE / "startup.json").write_text(json.dumps(result, indent=1) + "\n")
    lines = ["# Starting up", "", f"{result['date']}, {result['cpus']} cores, load {result['load']:.1f}.", ""]
    lines += ["| command | seconds |", "|---|--:|", *(f"| {name} | {value:.2f} |" for name, value in found.items())]
    (HERE / "STARTUP.md").write_text("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

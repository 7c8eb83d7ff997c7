"""What a benchmark leaves: `results/NAME.json` (figures, date, machine, versions) and the table made from it,
`results/NAME.md`; and the clock that all of them use.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "equinox", "diffrax", "numpy", "torch", "torchsde", "diffusers", "azula")


def circumstances() -> dict[str, Any]:
    """When, where and with what a result was made."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def record(name: str, result: Mapping[str, Any], table: str, out: Path = RESULTS) -> None:
    """Write both files, and show the table."""
    out.mkdir(parents=True, exist_ok=True)
    content = {**circumstances(), **result}
    (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (out / f"{name}.md").write_text(table.rstrip() + "\n", encoding="utf-8")
    print(table)


def rounds(
    calls: Mapping[str, Callable[[], Any]], repeats: int, budget_s: float = 20.0
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Milliseconds of every call, `repeats` times in turn, so that whatever else the machine does hits all alike; and
    the seconds of its first call, which compiles. A call waits for its own result; one that has used `budget_s` stops.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    first = {name: _seconds(call) for name, call in calls.items()}
    for _ in range(repeats):
        for name, call in calls.items():
            if sum(times[name]) <= 1e3 * budget_s:
                times[name].append(1e3 * _seconds(call))
    return times, first


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def against(times: Mapping[str, list[float]], reference: str) -> dict[str, dict[str, float]]:
    """Median milliseconds of each, and its ratio to the reference in the same round: median and middle half."""
    found = {}
    for name, own in times.items():
        ratios = sorted(a / b for a, b in zip(own, times[reference], strict=False))
        low, high = ratios[len(ratios) // 4], ratios[(3 * len(ratios)) // 4]
        found[name] = {"ms": median(own), "ratio": median(ratios), "ratio_low": low, "ratio_high": high}
    return {name: {key: round(value, 3) for key, value in row.items()} for name, row in found.items()}


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

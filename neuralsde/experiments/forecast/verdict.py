"""What was asked of the sequence SDE, and what was found.

Asked: CRPS best or within 2 % of the best on three of the four tables; 80 % and 95 % coverage within 3 points at every
horizon, and nearer than any other method's. The CRPS of a table is the geometric mean over horizons of the ratio to
persistence, so that each horizon has the same weight; of AutoARIMA, which is given some of the series only, the ratio
to it on those series is taken. All is read from the record of a table (`report.table_record`), so that a table that
was measured earlier counts too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuralsde.experiments.forecast.harness import METHODS, OURS
from neuralsde.experiments.forecast.law import LEVELS
from neuralsde.experiments.forecast.peers import AUTOARIMA

WITHIN, POINTS, TABLES = 1.02, 0.03, 3


@dataclass(frozen=True)
class Verdict:
    """Of one table. ratios[method]: CRPS of the sequence SDE over that method's, by horizon and on average (q + 1,).

    off[method] (levels, q): measured minus nominal coverage.
    """

    title: str
    ratios: dict[str, np.ndarray]
    off: dict[str, np.ndarray]

    @property
    def worst_ratio(self) -> tuple[str, float]:
        """The method that does best against the sequence SDE, and the ratio."""
        name = max(self.ratios, key=lambda method: self.ratios[method][-1])
        return name, float(self.ratios[name][-1])

    @property
    def among_best(self) -> bool:
        return self.worst_ratio[1] <= WITHIN

    @property
    def calibrated(self) -> bool:
        return bool((np.abs(self.off[OURS]) <= POINTS).all())

    @property
    def best_calibrated(self) -> tuple[str, float]:
        """The method with the smallest mean distance from nominal, and that distance."""
        distance = {name: float(np.abs(off).mean()) for name, off in self.off.items()}
        name = min(distance, key=lambda method: distance[method])
        return name, distance[name]


def verdict(record: Mapping[str, Any]) -> Verdict:
    """Ratios and distances of one table, from its record."""
    methods, peer = record["methods"], record["autoarima"]
    crps = {name: np.array(methods[name]["crps"]["value"]) for name in METHODS}
    ratios = {name: _with_average(crps[OURS] / crps[name]) for name in METHODS if name != OURS}
    off = {name: _off([methods[name][f"coverage {level}"]["value"] for level in LEVELS]) for name in METHODS}
    if "crps" in peer:
        ratios[AUTOARIMA] = _with_average(np.array(peer["crps of the sequence SDE on them"]) / np.array(peer["crps"]))
        off[AUTOARIMA] = _off([peer[f"coverage {level}"] for level in LEVELS])
    return Verdict(record["title"], ratios, off)


def lines(verdicts: list[Verdict]) -> list[dict[str, str]]:
    """Asked beside measured."""
    rows = []
    for one in verdicts:
        name, ratio = one.worst_ratio
        rows.append({
            "what": f"CRPS, {one.title}",
            "asked": f"at most {WITHIN:g} times the best other",
            "measured": f"{ratio:.3f} times that of {name}",
            "met": _yes(one.among_best),
        })  # fmt: skip
    count = sum(one.among_best for one in verdicts)
    asked = f"{TABLES} of 4 tables"
    rows.append(
        {
            "what": "CRPS, in all",
            "asked": asked,
            "measured": f"{count} of {len(verdicts)}",
            "met": _yes(count >= TABLES),
        }
    )
    for one in verdicts:
        worst = float(np.abs(one.off[OURS]).max())
        rows.append({
            "what": f"80 and 95 % coverage, {one.title}",
            "asked": f"within {100 * POINTS:g} points at every horizon",
            "measured": f"at most {100 * worst:.1f} points off",
            "met": _yes(one.calibrated),
        })  # fmt: skip
        name, least = one.best_calibrated
        own = float(np.abs(one.off[OURS]).mean())
        rows.append({
            "what": f"calibration, {one.title}",
            "asked": "the smallest mean distance from nominal",
            "measured": f"{100 * own:.1f} points; {name} {100 * least:.1f}",
            "met": _yes(name == OURS),
        })  # fmt: skip
    return rows


def _with_average(ratio: np.ndarray) -> np.ndarray:
    return np.append(ratio, np.exp(np.log(ratio).mean()))


def _off(shares: list[list[float]]) -> np.ndarray:
    return np.array(shares) - np.array(LEVELS)[:, None] / 100


def _yes(met: bool) -> str:
    return "yes" if met else "no"

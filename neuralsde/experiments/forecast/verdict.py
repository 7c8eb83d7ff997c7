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


def verdict(record: Mapping[str, Any], which: str = "methods") -> Verdict:
    """Ratios and distances of one table, from its record.

    which: "methods", as fitted; "followed", with widths that follow what earlier forecasts missed. AutoARIMA is as
           fitted in both: what is on file has no single windows.
    """
    methods, peer = record[which], record["autoarima"]
    crps = {name: np.array(methods[name]["crps"]["value"]) for name in METHODS}
    ratios = {name: _with_average(crps[OURS] / crps[name]) for name in METHODS if name != OURS}
    off = {name: _off([methods[name][f"coverage {level}"]["value"] for level in LEVELS]) for name in METHODS}
    if "crps" in peer:
        own = "crps of the sequence SDE on them" + ("" if which == "methods" else ", followed")
        ratios[AUTOARIMA] = _with_average(np.array(peer[own]) / np.array(peer["crps"]))
        off[AUTOARIMA] = _off([peer[f"coverage {level}"] for level in LEVELS])
    return Verdict(record["title"], ratios, off)


def lines(records: list[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Asked beside measured: as fitted, and with widths that follow what earlier forecasts missed."""
    kinds = {"as fitted": "methods", "widths that follow": "followed"}
    measured = {kind: _measured([verdict(record, which) for record in records]) for kind, which in kinds.items()}
    first = next(iter(measured.values()))
    return [
        {"what": what, "asked": asked} | {kind: _told(rows[i]) for kind, rows in measured.items()}
        for i, (what, asked, _, _) in enumerate(first)
    ]


def _told(row: tuple[str, str, str, bool]) -> str:
    return f"{row[2]}: {'yes' if row[3] else 'no'}"


def _measured(verdicts: list[Verdict]) -> list[tuple[str, str, str, bool]]:
    """What, asked, measured, met."""
    rows = []
    for one in verdicts:
        name, ratio = one.worst_ratio
        asked = f"at most {WITHIN:g} times the best other"
        rows.append((f"CRPS, {one.title}", asked, f"{ratio:.3f} times that of {name}", one.among_best))
    count = sum(one.among_best for one in verdicts)
    rows.append(("CRPS, in all", f"{TABLES} of 4 tables", f"{count} of {len(verdicts)}", count >= TABLES))
    for one in verdicts:
        worst, asked = 100 * float(np.abs(one.off[OURS]).max()), f"within {100 * POINTS:g} points at every horizon"
        what = f"80 and 95 % coverage, {one.title}"
        rows.append((what, asked, f"at most {worst:.1f} points off", one.calibrated))
        name, least = one.best_calibrated
        own = 100 * float(np.abs(one.off[OURS]).mean())
        found = f"{own:.1f} points; {name} {100 * least:.1f}"
        asked = "the smallest mean distance from nominal"
        rows.append((f"calibration, {one.title}", asked, found, name == OURS))
    return rows


def _with_average(ratio: np.ndarray) -> np.ndarray:
    return np.append(ratio, np.exp(np.log(ratio).mean()))


def _off(shares: list[list[float]]) -> np.ndarray:
    return np.array(shares) - np.array(LEVELS)[:, None] / 100

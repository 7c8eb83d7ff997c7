"""The page of the experiment: measured beside asked, floors, trivial paths, exact minimisers, the paper's words."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuralsde.experiments.branching.fork import ASKED, NEAR, floor
from neuralsde.experiments.seeds import cell

SAID = {
    1: {
        "flow + diffusion + denoiser": "both branches",
        "DDIM": "both branches",
        "rectified flow": "both branches",
    },
    10: {
        "flow": "the right direction, no branching",
        "flow + diffusion": "stochastic, leaves before the fork",
        "flow + diffusion + denoiser": "both branches",
        "DDIM": "fails",
        "rectified flow": "fails",
    },
}
"""What the paper says of each density; it gives no numbers."""


SEEN = (
    "Seen at the default size and seeds 0 to 2:",
    "distance and arrival are right on every seed, but at density 10 seed 0 sends 98 % of its paths down.",
    "There the choice is a walk of some ten steps of .005, so about .015 wide (three times that at density 1), and the",
    "flow of this seed leans down by about .03 within .1 behind the kink (branching-field-10.png).",
    "Tried for it, one change at a time: strength .5, 2 and 4 (4, 0 and 0 % up), both noises .06 (5 %), a layer more",
    "(45 % and an energy of .051, but then seed 1 sends 27 % up), 16,000 steps of 256 and a longer mean of weights",
    "(seed 1 sends 23 % up); none serves all three seeds.",
    "The paper's denoiser, which goes the whole way back at every point, works at density 1 and stops every path at",
    "the kink at density 10, as its exact minimisers do; in units of travel time it stops none.",
    "DDIM takes both branches at density 1, but half of its paths end beside them; at density 10 it fails, as the",
    "paper says. Rectified flow does better than the paper says: at density 10 its split is uneven and its paths",
    "wander off a little, but it finds both branches.",
)
"""What came of the run of record, in words."""


def _verdict(facts: dict[str, Any]) -> str:
    """How many seeds of the headline meet all marks, by density."""
    met = []
    for density, part in facts["densities"].items():
        rows = part["found"]["flow + diffusion + denoiser"]
        met.append(f"{sum(row['meets'] for row in rows)} of {len(rows)} seeds at density {density}")
    return f"Flow + diffusion + denoiser meets all marks on {' and '.join(met)}."


def page(facts: dict[str, Any]) -> str:
    """The results as markdown."""
    size = facts["size"]
    lines = [
        "# The fork",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. The fork of the paper (arXiv 2501.18871, section "
        "4.1 and appendix E.1): fifty identical trajectories turn up, fifty turn down, 100 points each (density 1) or "
        f"1,000 (density 10). One configuration for both. {len(_first(facts))} seeds, mean ± standard error; shares "
        "as the range over seeds. The paper shows pictures and gives no numbers; the marks are this project's.",
    ]
    lines += ["", " ".join([_verdict(facts), *SEEN])]
    for density, part in facts["densities"].items():
        lines += ["", f"**Density {density}**", "", *_table(int(density), part, size["paths"])]
    lines += [
        "",
        f"Up, down: share of paths that end within {NEAR:g} of a branch, past half of it. Distance: of all points to "
        "the demonstrated lines. Arrival: from the end point of the branch, at the last time. Energy: energy distance "
        "of whole paths to the demonstrations, root mean square over time. Exact minimisers: the law that the losses "
        "would give perfect networks, in closed form.",
        "",
        f"Flow, diffusion and denoiser: {size['depth']} layers of {size['width']} each, {size['steps']:,} steps of "
        f"{size['batch']} transitions, rate {size['rate']:g}. Generators: one network of that size over the point "
        f"before, the noisy move and its level, {size['generator_steps']:,} steps, {size['levels']} deterministic "
        f"steps a move; {size['generated']} paths at density 10, {size['paths']:,} elsewhere.",
    ]
    return "\n".join(lines)


def _first(facts: dict[str, Any]) -> list[Any]:
    return next(iter(next(iter(facts["densities"].values()))["found"].values()))


def _table(density: int, part: dict[str, Any], n: int) -> list[str]:
    low, high = (f"{100 * bound:.0f}" for bound in ASKED["up"])
    lines = [
        "| | up % | down % | distance | arrival | energy | seeds that meet the marks | the paper |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
        f"| asked | {low}-{high} | {low}-{high} | ≤ {ASKED['distance'][1]:g} | | ≤ {ASKED['energy'][1]:g} | | |",
        f"| {n:,} real paths against {n:,} (floor) | 50 ± {50 / np.sqrt(n):.1f} | | 0 | 0 | {floor(n):.4f}, 95 % below "
        f"{floor(n, 0.95):.4f} | | |",
    ]
    for name, row in part["reference"].items():
        label = name + (" (trivial)" if name == "straight on" else "")
        shares = f"{100 * row['up']:.0f} | {100 * row['down']:.0f}"
        lines.append(f"| {label} | {shares} | {row['distance']:.4f} | {row['arrival']:.3f} | {row['energy']:.4f} | | |")
    for name, rows in part["found"].items():
        met = f"{sum(row['meets'] for row in rows)} of {len(rows)}"
        shares = " | ".join(_range([100 * row[side] for row in rows]) for side in ("up", "down"))
        rest = " | ".join(cell([row[m] for row in rows]) for m in ("distance", "arrival", "energy"))
        lines.append(f"| {name} | {shares} | {rest} | {met} | {SAID[density].get(name, '')} |")
    return lines


def _range(values: list[float]) -> str:
    low, high = (f"{bound:.0f}" for bound in (min(values), max(values)))
    return low if low == high else f"{low}-{high}"

"""The page and the picture of the ablation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from neuralsde.evaluate import style
from neuralsde.experiments.seeds import cell

STUCK = 0.25
"""Nats per dimension above the best run of a problem from which a run counts as stuck."""
NEAR = 0.1
"""A run has arrived when it is and stays within so many nats of the best run."""

_COLOURS = {
    "joint": style.INK,
    "decoupled": style.ACCENT,
    "decoupled, log flow": "#c28a2e",
    "decoupled, log flow and eq. 15": "#a5443c",
}


def best(found: dict[str, Any]) -> float:
    """The lowest held-out nats of any run on a problem."""
    return float(np.nanmin([np.nanmin(row["nats"]) for row in found.values()]))


def stuck(nats: list[float], least: float) -> float:
    """Share of runs that end more than `STUCK` above `least`, or nowhere."""
    return float(np.mean([not value <= least + STUCK for value in nats]))


def arrival(curve: list[list[float]], least: float, steps: int) -> float:
    """Median step from which runs (seeds, points + 1) stay within `NEAR` of `least`; inf for runs that do not."""
    first = []
    for run in np.asarray(curve):
        outside = np.flatnonzero(~(run <= least + NEAR))
        at = 0 if not len(outside) else outside[-1] + 1
        first.append(at / (len(run) - 1) * steps if at < len(run) else np.inf)
    return float(np.median(first))


THEORY = (
    "What theory expects: joint and decoupled have the same optimum; the joint gradient of the mean is weighted by",
    "1/σ², so it learns the mean late where σ begins far off, and well where the noise differs from place to place;",
    "the log flow ends at the likelier mode of the bimodal table; eq. 15 sees large variances only. The 353 patients",
    "can be overfitted: there nats say how far, not what was learnt.",
)
"""In words; what was seen is told by `seen`."""


def difference(found: dict[str, Any], start: str) -> tuple[float, float]:
    """Nats of joint minus decoupled from one start of σ ("" or ", σ begins at ..."): mean over the fits, its s.e."""
    gap = np.subtract(found["joint" + start]["nats"], found["decoupled" + start]["nats"])
    return float(gap.mean()), float(gap.std(ddof=1) / np.sqrt(len(gap))) if len(gap) > 1 else float("nan")


def seen(facts: dict[str, Any]) -> list[str]:
    """Sentences on joint against decoupled, by start of σ, and on what comes near the best Gaussian step."""
    said = []
    for start in sorted({way.removeprefix("joint") for way in _ways(facts) if way.startswith("joint")}, key=len):
        sides: dict[str, list[str]] = {"joint": [], "decoupled": [], "neither": []}
        for name, part in facts["problems"].items():
            gap, error = difference(part["found"], start)
            side = "neither" if not abs(gap) > 2 * error else "joint" if gap < 0 else "decoupled"
            sides[side].append(f"{name} ({gap:+.3f} ± {error:.3f})")
        told = [f"{side} on {', '.join(names)}" for side, names in sides.items() if names]
        said.append(f"Lower{start or ', σ begins at the walk'}, joint minus decoupled: {'; '.join(told)}.")
    near = []
    for name, part in facts["problems"].items():
        if "reachable" in part["known"]:
            way = min(part["found"], key=lambda which: np.mean(part["found"][which]["nats"]))
            above = np.mean(part["found"][way]["nats"]) - part["known"]["reachable"]
            share = above / (part["known"]["trivial"] - part["known"]["reachable"])
            near.append(f"{name} {above:.3f} ({100 * share:.0f} %, {way})")
    said.append(f"Above the best Gaussian step, in nats and as a share of what there is to learn: {'; '.join(near)}.")
    return said


def _ways(facts: dict[str, Any]) -> list[str]:
    return list(next(iter(facts["problems"].values()))["found"])


def page(facts: dict[str, Any]) -> str:
    """The results as markdown."""
    size = facts["size"]
    lines = [
        "# Joint or decoupled",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. {size['fits']} fits of each objective in one "
        f"program, {size['steps']:,} steps of {size['batch']} rows at a rate of {size['rate']:g}, "
        f"{size['depth']} layers of {size['width']}, {size['train']:,} rows. "
        "Held-out nats per dimension (lower is better), mean ± standard error over the fits. Stuck: ends more than "
        f"{STUCK:g} nats above the best run of the problem. Arrives: median step from which a run stays within "
        f"{NEAR:g} of that best.",
    ]
    lines += ["", " ".join(THEORY), "", " ".join(["Seen.", *seen(facts)])]
    for name, part in facts["problems"].items():
        least = best(part["found"])
        lines += [
            "",
            f"**{name}**",
            "",
            "| | nats | stuck | arrives |",
            "|---|--:|--:|--:|",
            *(f"| {_KNOWN[which]} | {value:.3f} | | |" for which, value in part["known"].items()),
        ]
        for way, row in part["found"].items():
            when = arrival(row["curve"], least, size["steps"])
            said = f"{when:,.0f}" if np.isfinite(when) else "not"
            lines.append(f"| {way} | {cell(row['nats'])} | {100 * stuck(row['nats'], least):.0f} % | {said} |")
    lines += [f"\nLeft out: {reason}" for reason in facts["left out"]]
    return "\n".join(lines)


_KNOWN = {
    "floor": "true law (floor)",
    "reachable": "best Gaussian step (reachable)",
    "at the mode": "best Gaussian about the likelier mode (expected of the log flow)",
    "least squares": "least squares",
    "trivial": "one Gaussian for all rows (trivial)",
}


def picture(facts: dict[str, Any], path: Path) -> None:
    """Curves of every fit, above the best run, by problem."""
    problems = facts["problems"]
    fig = style.figure(300 * len(problems), 260)
    for j, (name, part) in enumerate(problems.items()):
        left = (j + 0.16) / len(problems)
        ax = fig.add_axes((left, 0.16, 0.8 / len(problems), 0.68), facecolor="none")
        least = best(part["found"])
        for way, row in part["found"].items():
            colour = _COLOURS[way.split(", σ")[0]]
            line = "--" if "σ" in way else "-"
            curve = np.asarray(row["curve"], float) - least
            steps = np.linspace(0, facts["size"]["steps"], curve.shape[1])
            ax.plot(steps, np.maximum(curve, 1e-3).T, color=colour, linewidth=0.5, alpha=0.25)
            middle = np.maximum(np.median(curve, 0), 1e-3)
            ax.plot(steps, middle, line, color=colour, linewidth=1.5, label=way if j == 0 else None)
        ax.set_yscale("log")
        ax.set_ylim(5e-3, 30)
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.set_title(name, fontsize=10, color=style.INK)
        ax.tick_params(length=0, labelsize=8, colors=style.MUTED)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        for spine in ax.spines.values():
            spine.set_visible(False)
        ax.grid(axis="y", color=style.RULE, linewidth=0.8)
    fig.legend(loc="lower center", ncols=6, fontsize=8, frameon=False, labelcolor=style.INK)
    fig.text(0.004, 0.93, "held-out nats above the best run", fontsize=9, color=style.MUTED)
    style.save(fig, path)

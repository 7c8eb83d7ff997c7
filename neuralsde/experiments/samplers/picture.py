"""Median error, and excess cross-entropy, against evaluations: the deterministic samplers, then all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from neuralsde.evaluate import style
from neuralsde.experiments.samplers.ladder import ERROR_NFE, LAW_NFE
from neuralsde.experiments.samplers.rows import rows

SHOWN = {
    "DDIM, log-SNR": (style.MUTED, "-"),
    "EDM Heun, ρ = 7": (style.MUTED, "--"),
    "DPM-Solver-3, log-SNR": (style.INK, "--"),
    "RK4, log-SNR": (style.INK, ":"),
    "DPM-Solver++(2M), log-SNR": (style.ACCENT, "-"),
    "UniPC-3, log-SNR": (style.INK, "-"),
    "Euler-Maruyama, uniform t": (style.FAINT, "-"),
    "SDE-DPM-Solver++(2M), log-SNR": (style.ACCENT, "--"),
    "predictor-corrector, uniform t": (style.FAINT, "--"),
}
"""Rows with a colour of their own; the others are faint."""
_LEAST = 1e-3


def picture(facts: dict[str, Any], path: Path) -> None:
    """As PNG."""
    fig = style.figure(900, 400)
    left = fig.add_axes((0.08, 0.14, 0.33, 0.74), facecolor="none")
    right = fig.add_axes((0.5, 0.14, 0.3, 0.74), facecolor="none")
    every = [row.label for row in rows(tuple(facts["size"]["names"])) if row.spacing and row.label in facts["found"]]
    for label in sorted(every, key=lambda one: one in SHOWN):
        colour, line = SHOWN.get(label, (style.RULE, "-"))
        found = facts["found"][label]
        for ax, figure, budgets in ((left, "median", ERROR_NFE), (right, "excess", LAW_NFE)):
            points = [
                (n, abs(float(np.mean(found[str(n)][figure])))) for n in budgets if figure in found.get(str(n), {})
            ]
            if points:
                x, y = zip(*points, strict=True)
                shown = label if ax is right or figure == "median" else ""
                ax.plot(x, np.maximum(y, _LEAST if ax is right else 0), line, color=colour, linewidth=1.6, label=shown)
    _look(left, ERROR_NFE, "median error of the end point")
    _look(right, LAW_NFE, "|excess cross-entropy|, nats; black: real draws, 95 %")
    right.axhline(max(facts["known"]["floor"]["excess"]["quantile"], _LEAST), color=style.INK, linewidth=0.8)
    right.set_ylim(_LEAST, 3.0)
    handles = {label: line for ax in (left, right)
               for line, label in zip(*ax.get_legend_handles_labels(), strict=True) if label in SHOWN}  # fmt: skip
    fig.legend(handles.values(), [label.split(",")[0] for label in handles], loc="center left",
               bbox_to_anchor=(0.81, 0.5), frameon=False, fontsize=9, labelcolor=style.MUTED)  # fmt: skip
    style.save(fig, path)


def _look(ax: Axes, budgets: tuple[int, ...], title: str) -> None:
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(FixedLocator(budgets))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_locator(LogLocator(numticks=8))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(length=0, which="both", labelsize=10, colors=style.MUTED)
    ax.grid(axis="y", color=style.RULE, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.set_title(title, fontsize=11, color=style.INK)
    ax.set_xlabel("evaluations a sample", fontsize=10, color=style.MUTED)
    for spine in ax.spines.values():
        spine.set_visible(False)

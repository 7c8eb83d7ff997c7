"""Scores over many leads, as a backtest gives them: curves over the lead for all, panels for a few.

Up to `FEW` leads each have panels and columns of their own; of more, a few spread evenly on a log scale stand for the
rest, since errors grow like a power of the lead, and every lead is a point of the curves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuralsde.evaluate import plots
from neuralsde.evaluate.content import ReportContent
from neuralsde.evaluate.markup import MOST, figure, left_out, legend_of, named_column, text, unique
from neuralsde.evaluate.style import inline

FEW = 4


def few(leads: Sequence[str]) -> list[str]:
    """All leads when there are at most `FEW`, else that many of them, from the first to the last."""
    if len(leads) <= FEW:
        return list(leads)
    return [leads[round(float(place)) - 1] for place in np.geomspace(1, len(leads), FEW)]


def crps_curves(content: ReportContent) -> str:
    """CRPS against the lead, a panel a column, when there are many leads."""
    rows = [row for row in content.scores if row.metric == "crps" and row.column]
    at = positions(content, unique(row.lead for row in rows))
    if len(at) <= FEW:
        return ""
    methods = unique(row.method for row in rows)
    panels = []
    for i, column in enumerate(content.columns[:MOST]):
        mine = [row for row in rows if row.column == column]
        drawing = plots.score_curves(mine, at, methods, content.model)
        name = f"<b>{named_column(content, column)}</b>"
        panels.append(figure(inline(drawing, f"crpscurve{i}", f"CRPS of {column} against the lead"), name))
    swatches = [("mean", content.model), ("inner", "its 95 % interval")]
    swatches += [("thin", f"baselines, from best to worst at the last lead: {', '.join(_ranked(content, methods))}")]
    return (
        f'<h3>CRPS over the lead</h3>{legend_of(swatches)}<div class="grid thirds strip">{"".join(panels)}</div>'
        f'<p class="axis">lead, {_axis(content)}{left_out(content)}</p>{_chosen(content, list(at))}'
    )


def coverage_curves(content: ReportContent) -> str:
    """Coverage against the lead, a panel a column, when there are many leads."""
    at = positions(content, unique(row.lead for row in content.coverage))
    if len(at) <= FEW:
        return ""
    limits = plots.coverage_limits(content.coverage)
    panels = []
    for i, column in enumerate(content.columns[:MOST]):
        mine = [row for row in content.coverage if row.column == column]
        name = f"<b>{named_column(content, column, with_unit=False)}</b>"
        drawing = inline(plots.coverage_curves(mine, at, limits), f"covcurve{i}", f"Coverage of {column} over the lead")
        panels.append(figure(drawing, name))
    legend = legend_of(
        [("mean", "share of the truth inside"), ("inner", "95 % interval"), ("dash", "what it should be")]
    )
    return f'{legend}<div class="grid thirds strip">{"".join(panels)}</div><p class="axis">lead, {_axis(content)}</p>'


def positions(content: ReportContent, leads: Sequence[str]) -> dict[str, float]:
    """Where each lead stands on the axis: its steps when they are known, else its place in the list."""
    known = content.leads if len(content.leads) == len(leads) else tuple(range(1, len(leads) + 1))
    return dict(zip(leads, map(float, known), strict=True))


def _axis(content: ReportContent) -> str:
    return "in steps of the typical gap" if content.leads else "the first, the second, and so on"


def _chosen(content: ReportContent, leads: Sequence[str]) -> str:
    return f'<p class="axis">Below, and in the panels: {text(", ".join(few(leads)))}.</p>'


def _ranked(content: ReportContent, methods: Sequence[str]) -> list[str]:
    """Baselines by their mean CRPS relative to the model's at the last lead."""
    rows = [row for row in content.scores if row.metric == "crps" and row.column]
    last = [row for row in rows if row.lead == rows[-1].lead]
    own = {row.column: row.value for row in last if row.method == content.model}

    def relative(method: str) -> float:
        ratios = [row.value / own[row.column] for row in last if row.method == method and own.get(row.column)]
        return float(np.mean(ratios)) if ratios else np.inf

    return sorted((method for method in methods if method != content.model), key=relative)

"""The diagnostics of a run as a section of its report; see `diagnostics.py` for what is measured."""

from __future__ import annotations

import numpy as np

from neuralsde.evaluate import plots
from neuralsde.evaluate.bootstrap import Estimate
from neuralsde.evaluate.content import ReportContent
from neuralsde.evaluate.diagnostics import Diagnostics
from neuralsde.evaluate.markup import MOST, ends_of, figure, left_out, legend_of, named_column, shown, table_of, text
from neuralsde.evaluate.style import inline


def diagnostics(content: ReportContent) -> str:
    found = content.diagnostics
    if found is None:
        return ""
    if found.warnings:
        items = "".join(f"<li>{text(warning)}</li>" for warning in found.warnings)
        verdict = f'<ul class="notes">{items}</ul>'
    else:
        verdict = f'<p class="lead">Nothing was found wrong on {text(found.about)}.</p>'
    return f"{verdict}{_table(content, found)}{_more_steps(found)}{_correlations(content, found)}"


def _table(content: ReportContent, found: Diagnostics) -> str:
    heads = ("residual variance", "excess kurtosis", "p of no memory", "roughness of paths", "mean path leaves")
    body = "".join(
        f'<tr><th scope="row">{named_column(content, c.column, with_unit=False)}</th>{_estimate(c.variance)}'
        f"{_plain(c.kurtosis, 1)}<td>{_probability(c.p_white)}</td>{_estimate(c.variation)}{_share(c.leaves)}</tr>"
        for c in found.columns
    )
    about = (
        f"On {found.about}. Residuals of a model that is right have variance 1 and no memory (Ljung–Box, ten lags). "
        "Roughness is the quadratic variation of sampled paths over that of the data, 1 when they move alike. Last: "
        f"the share of starts from which the mean path leaves the range of the data{_within(found)}."
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return f'<p class="lead">{text(about)}</p>{table_of(f"<tr><th></th>{head}</tr>", body, 9)}'


def _within(found: Diagnostics) -> str:
    return f" within {found.horizon}" if found.horizon else ""


def _more_steps(found: Diagnostics) -> str:
    """What more steps a gap mean, and by how much they move this model's law (THEORY 15)."""
    moved = [c for c in found.columns if np.isfinite(c.shift)]
    if not moved:
        return ""
    taken = "one step" if found.substeps == 1 else f"{found.substeps} steps"
    shift, wide = max(c.shift for c in moved), max((c.widening for c in moved), key=abs)
    sign = "+" if wide > 0 else ""
    return (
        "<h3>What more steps mean</h3>"
        f'<p class="lead">A gap takes {taken}, and the coefficients are effective ones for that: more steps are '
        f"another law, not a finer one. With {found.finer} steps a gap the mean of the next row would move by "
        f"{shown(shift, 2)} of its s.d. (root mean square), and its s.d. would change by {sign}{shown(100 * wide, 0)} "
        "% (the largest of the columns).</p>"
    )


def _correlations(content: ReportContent, found: Diagnostics) -> str:
    panels = []
    for i, c in enumerate(found.columns[:MOST]):
        drawing = inline(plots.correlogram(c), f"acf{i}", f"Autocorrelation of the residuals of {c.column}")
        panels.append(figure(drawing, f"<b>{named_column(content, c.column, with_unit=False)}</b>"))
    legend = legend_of([("mean", "autocorrelation of the residuals"), ("outer", "95 % band of a model that is right")])
    axis = f'<p class="axis">lag in rows{left_out(content)}</p>'
    return f'<h3>Memory of the residuals</h3>{legend}<div class="grid thirds strip">{"".join(panels)}</div>{axis}'


def _estimate(estimate: Estimate) -> str:
    value, low, high = (float(end) for end in (estimate.value, estimate.low, estimate.high))
    return f"<td>{shown(value, 2)}{ends_of(low, high, 2)}</td>" if np.isfinite(value) else "<td>–</td>"


def _plain(value: float, digits: int) -> str:
    return f"<td>{shown(value, digits)}</td>" if np.isfinite(value) else "<td>–</td>"


def _share(value: float) -> str:
    return f"<td>{shown(100 * value, 0)} %</td>" if np.isfinite(value) else "<td>–</td>"


def _probability(p: float) -> str:
    return "–" if not np.isfinite(p) else "&lt; 0.001" if p < 0.001 else f"{p:.3f}"

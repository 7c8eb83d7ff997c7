"""The sections of the report as HTML: one function a section, `ReportContent` in, a string out.

Every name and text that comes from data goes through `text`, which escapes it. A section without content says so in
one sentence, except the vector field, which only two-dimensional states have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuralsde.evaluate import plots
from neuralsde.evaluate.content import METRICS, Coverage, Metric, ReportContent, Score, VectorField
from neuralsde.evaluate.markup import (
    MOST,
    decimals,
    dots,
    empty,
    ends_of,
    figure,
    grouped,
    left_out,
    legend_of,
    named_column,
    shown,
    table_of,
    text,
    unique,
)  # fmt: skip
from neuralsde.evaluate.sections_leads import coverage_curves, crps_curves, few
from neuralsde.evaluate.style import inline

_MARKER_SHAPES = (
    '<circle cx="6" cy="6" r="4.2"/>',
    '<rect x="2" y="2" width="8" height="8"/>',
    '<rect x="2" y="2" width="8" height="8" transform="rotate(45 6 6)"/>',
    '<path d="M6 1.5 10.5 10h-9z"/>',
    '<path d="M6 10.5 1.5 2h9z"/>',
)


# -- forecasts ----------------------------------------------------------------------------------------------------


def forecasts(content: ReportContent) -> str:
    if not content.fans:
        return empty("No forecast was drawn: there is no held-out window to draw.", content)
    levels = sorted(content.fans[0].bands)
    swatches = [("", "what happened"), ("mean", "mean of the forecast")]
    shades = ["inner", "outer"] if len(levels) > 1 else ["inner"]
    swatches += [(shade, f"{level} % band") for shade, level in zip(shades, levels, strict=False)]
    rows = []
    for i, column in enumerate(content.columns[:MOST]):
        panels = []
        for j, window in enumerate(content.fans):
            alt = f"Forecast of {column}, {window.label}, against what happened"
            drawing = inline(plots.fan(window, i, content.time_unit), f"fan{i}-{j}", alt)
            panels.append(figure(drawing, text(window.label)))
        rows.append(f'<h3>{named_column(content, column)}</h3><div class="grid thirds strip">{"".join(panels)}</div>')
    about = (
        "Each panel starts from the last value that the model was given; the dashed line is that moment. Nothing to "
        f"its right was used in training. {content.picked}"
    )
    axis = f'<p class="axis">{text(content.time_unit)} from the start of the forecast{left_out(content)}</p>'
    return f'<p class="lead">{text(about.strip())}</p>{legend_of(swatches)}{"".join(rows)}{axis}'


# -- scores -------------------------------------------------------------------------------------------------------


def scores(content: ReportContent) -> str:
    if not content.scores:
        return empty("There is nothing to score.", content if content.fans else None)
    parts = [_score_overview(content), crps_curves(content)]
    for key in unique(row.metric for row in content.scores):
        metric = METRICS.get(key, Metric(key, ""))
        rows = [row for row in content.scores if row.metric == key]
        leads = unique(row.lead for row in rows)
        flat = len(leads) == 1
        ahead = f' <span class="unit">{text(leads[0])} ahead</span>' if flat else ""
        parts.append(f'<h3>{text(metric.title)}{ahead}</h3><p class="lead">{text(metric.about)}</p>')
        parts.append(_flat_table(content, rows, metric) if flat else _score_table(content, rows, metric))
    parts.append(
        '<p class="key"><b>Bold</b>: the best of its group. Small: 95 % interval from resampling whole blocks of time. '
        "≈: the difference to the model, on the same windows, is not resolved. ◂: better than the model, resolved.</p>"
    )
    return "".join(parts)


def _score_overview(content: ReportContent) -> str:
    rows = [row for row in content.scores if row.metric == "crps" and row.column]
    methods = unique(row.method for row in rows)
    baselines = [name for name in methods if name != content.model]
    if not rows or not baselines:
        return ""
    leads = few(unique(row.lead for row in rows))
    panels = []
    for j, lead in enumerate(leads):
        mine = [row for row in rows if row.lead == lead]
        alt = f"CRPS at {lead} relative to the best baseline"
        drawing = plots.score_dots(mine, content.columns, methods, content.model)
        panels.append((lead, inline(drawing, f"score{j}", alt)))
    keys = [f'<li><i class="dot"></i>{text(content.model)}</li>']
    for shape, name in zip(_MARKER_SHAPES, baselines, strict=False):
        mark = f'<svg viewBox="0 0 12 12" fill="none" stroke="var(--muted)" aria-hidden="true">{shape}</svg>'
        keys.append(f"<li>{mark}{text(name)}</li>")
    about = (
        "CRPS relative to the best baseline of each row: left of the line at 1 the model is ahead. The bar is the "
        "95 % interval of its difference to that baseline. What is worse than "
        f"{plots.FARTHEST:g}× stands at the right edge."
    )
    return f'<p class="lead">{about}</p><ul class="legend">{"".join(keys)}</ul>{dots(panels)}'


def _score_table(content: ReportContent, rows: Sequence[Score], metric: Metric) -> str:
    leads, columns = few(unique(row.lead for row in rows)), unique(row.column for row in rows)
    rows = [row for row in rows if row.lead in leads]
    methods = _methods(content, rows)
    head = "".join(f'<th scope="col">{text(lead)}</th>' for lead in leads)
    body = []
    for column in columns:
        group = {(row.method, row.lead): row for row in rows if row.column == column}
        name = named_column(content, column, metric.in_data_units) if column else "all columns"
        body.append(f'<tr class="group"><th scope="rowgroup" colspan="{len(leads) + 1}">{name}</th></tr>')
        digits = decimals(list(group.values()))
        best = {lead: min((r.value for (_, at), r in group.items() if at == lead), default=np.nan) for lead in leads}
        for method in methods:
            cells = "".join(_score_cell(group.get((method, lead)), best[lead], digits) for lead in leads)
            kind = ' class="model"' if method == content.model else ""
            body.append(f'<tr{kind}><th scope="row">{text(method)}</th>{cells}</tr>')
    return table_of(f"<tr><th></th>{head}</tr>", "".join(body), _interval_width(rows))


def _flat_table(content: ReportContent, rows: Sequence[Score], metric: Metric) -> str:
    """Scores of one lead: a row a column of the data, a column a method, the model first."""
    methods = _methods(content, rows)
    kinds = [' class="model"' if method == content.model else "" for method in methods]
    heads = zip(kinds, methods, strict=True)
    head = "".join(f'<th scope="col"{kind}>{text(method)}</th>' for kind, method in heads)
    body = []
    for column in unique(row.column for row in rows):
        group = {row.method: row for row in rows if row.column == column}
        best, digits = min(row.value for row in group.values()), decimals(list(group.values()))
        cells = "".join(_score_cell(group.get(method), best, digits) for method in methods)
        name = named_column(content, column, metric.in_data_units) if column else "all columns"
        body.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    return table_of(f"<tr><th></th>{head}</tr>", "".join(body), _interval_width(rows), "flat")


def _methods(content: ReportContent, rows: Sequence[Score]) -> list[str]:
    """The methods of the rows, the model first."""
    methods = unique(row.method for row in rows)
    return [content.model] * (content.model in methods) + [name for name in methods if name != content.model]


def _interval_width(rows: Sequence[Score]) -> int:
    return max(
        (len(ends_of(row.low, row.high, decimals([row]))) - len(ends_of(0, np.nan, 0)) for row in rows), default=8
    )


def _score_cell(row: Score | None, best: float, digits: int) -> str:
    if row is None or not np.isfinite(row.value):
        return "<td>–</td>"
    number = shown(row.value, digits)
    number = f"<b>{number}</b>" if row.value <= best else number
    mark = ""
    if row.gain is not None and np.isfinite(row.gain.low):
        if row.gain.high < 0:
            mark = '<span class="mark beats">◂</span>'
        elif row.gain.low <= 0:
            mark = '<span class="mark">≈</span>'
    return f"<td>{mark}{number}{ends_of(row.low, row.high, digits)}</td>"


# -- calibration --------------------------------------------------------------------------------------------------


def calibration(content: ReportContent) -> str:
    if not content.pit and not content.coverage:
        return empty("Calibration cannot be judged without scores.")
    parts = [
        '<p class="lead">A calibrated forecast is as unsure as it should be: the 80 % band holds the truth 80 % of the '
        "time. Below the diagonal, or with dots left of their line, the model is over-confident.</p>"
    ]
    return "".join([*parts, _reliability(content), _coverage(content), _pit(content)])


def _reliability(content: ReportContent) -> str:
    panels = []
    for j, lead in enumerate(few(unique(row.lead for row in content.pit))):
        values = [row.values for row in content.pit if row.lead == lead]
        alt = f"Observed against nominal coverage at {lead}"
        panels.append(figure(inline(plots.reliability(values), f"rel{j}", alt), f"<b>{text(lead)}</b>"))
    if not panels:
        return ""
    legend = legend_of([("mean", "mean of the columns"), ("thin", "one column"), ("dash", "perfectly calibrated")])
    axis = '<p class="axis">across: nominal level of a central band · up: share of the truth inside it</p>'
    return f'<h3>Every level at once</h3>{legend}<div class="grid thirds strip">{"".join(panels)}</div>{axis}'


def _coverage(content: ReportContent) -> str:
    if not content.coverage:
        return ""
    panels, limits = [], plots.coverage_limits(content.coverage)
    for j, lead in enumerate(few(unique(row.lead for row in content.coverage))):
        rows = [row for row in content.coverage if row.lead == lead]
        drawing = plots.coverage_dots(rows, content.columns, limits)
        panels.append((lead, inline(drawing, f"cov{j}", f"Coverage of the bands at {lead}")))
    levels = sorted({row.level for row in content.coverage})
    named = " and ".join(f"{level} %" for level in levels)
    curves = coverage_curves(content)
    return f"<h3>Coverage of the {named} bands</h3>{curves}{dots(panels)}{_coverage_table(content, levels)}"


def _coverage_table(content: ReportContent, levels: Sequence[int]) -> str:
    leads = few(unique(row.lead for row in content.coverage))
    cell = {(row.column, row.lead, row.level): row for row in content.coverage}
    over = "".join(f'<th class="over" scope="colgroup" colspan="{len(levels)}">{text(lead)}</th>' for lead in leads)
    under = "".join(f'<th scope="col">{level} %</th>' for _ in leads for level in levels)
    body = ""
    for column in content.columns:
        cells = "".join(_coverage_cell(cell.get((column, lead, level))) for lead in leads for level in levels)
        body += f'<tr><th scope="row">{text(column)}</th>{cells}</tr>'
    return table_of(f'<tr><th rowspan="2"></th>{over}</tr><tr>{under}</tr>', body, 6)


def _coverage_cell(row: Coverage | None) -> str:
    if row is None or not np.isfinite(row.value):
        return "<td>–</td>"
    return f"<td>{100 * row.value:.0f}{ends_of(100 * row.low, 100 * row.high, 0)}</td>"


def _pit(content: ReportContent) -> str:
    if not content.pit:
        return ""
    leads = few(unique(row.lead for row in content.pit))
    cell = {(row.column, row.lead): row.values for row in content.pit}
    head = "".join(f'<th scope="col">{text(lead)}</th>' for lead in leads)
    body = []
    for i, column in enumerate(content.columns[:MOST]):
        panels = []
        for j, lead in enumerate(leads):
            values = cell.get((column, lead))
            alt = f"PIT histogram of {column} at {lead}"
            panels.append("" if values is None else inline(plots.pit_histogram(values), f"pit{i}-{j}", alt))
        cells = "".join(f"<td>{panel}</td>" for panel in panels)
        body.append(f'<tr><th scope="row">{text(column).replace("_", "_<wbr>")}</th>{cells}</tr>')
    about = (
        "Where in its forecast distribution each truth fell (PIT): flat at the line when calibrated, a bowl when "
        "over-confident, a hill when too cautious, a slope when biased."
    )
    table = f'<table class="matrix"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    axis = '<p class="axis">left: below everything the model expected · right: above it</p>'
    return f'<h3>Where the truth fell</h3><p class="lead">{about}</p>{table}{axis}'


# -- paths, field, training, facts --------------------------------------------------------------------------------


def paths(content: ReportContent) -> str:
    if not content.paths:
        return empty("No paths were sampled for this report.")
    parts = []
    for j, bundle in enumerate(content.paths):
        panels = []
        for i, column in enumerate(content.columns[:MOST]):
            alt = f"Sample paths of {column}, {bundle.label}"
            drawing = inline(plots.sample_paths(bundle, i, content.time_unit), f"path{j}-{i}", alt)
            panels.append(figure(drawing, f"<b>{named_column(content, column)}</b>"))
        parts.append(f'<h3>{text(bundle.label)}</h3><div class="grid halves">{"".join(panels)}</div>')
    swatches = [("mean", "sampled paths, one of them strong")]
    if any(bundle.truth is not None for bundle in content.paths):
        swatches.append(("", "what happened"))
    about = "Every line is one future that the model holds possible: its texture should be the data’s, not smoother."
    axis = f'<p class="axis">{text(content.time_unit)} from the start{left_out(content)}</p>'
    return f'<p class="lead">{about}</p>{legend_of(swatches)}{"".join(parts)}{axis}'


def vector_field(content: ReportContent) -> str:
    if content.field is None:
        return ""
    field = content.field
    alt = "Streamlines of the drift over the size of the diffusion"
    drawing = inline(plots.vector_field(field, content.columns), "field", alt)
    about = (
        "Streamlines follow the drift, thicker where it is faster; the stronger the tint, the larger the noise. Both "
        f"are measured against the range of each column. {field.about}"
    )
    swatches = [("thin", "drift"), ("ramp", "diffusion, from none to its largest here")]
    swatches += [("dots", "training data")] if field.data is not None else []
    swatches += [("mean", "sampled paths, each ending at a dot")] if field.paths is not None else []
    return (
        f'<p class="lead">{text(about.strip())}</p>{legend_of(swatches)}<div class="wide">{figure(drawing, "")}</div>'
        f'<p class="axis">{text(_ranges(content.columns, field))}</p>'
    )


def _ranges(columns: Sequence[str], field: VectorField) -> str:
    """Smallest and largest diffusion of each column in numbers."""
    ends = [(part.min(), part.max()) for part in (field.diffusion[..., 0], field.diffusion[..., 1])]
    sizes = [f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in zip(columns[:2], ends, strict=True)]
    return f"diffusion per √({field.time_unit}): {' · '.join(sizes)}"


def training(content: ReportContent) -> str:
    if content.training is None:
        return empty("This run has no training record.")
    loss, validation = plots.training_curves(content.training)
    panels = [figure(inline(loss, "loss", "Training loss over steps"), "<b>Training loss</b> and its running mean")]
    if validation is not None:
        drawing = inline(validation, "validation", "Held-out loss over steps")
        best = content.training.best_step
        kept = "" if best is None else f", least at step {grouped(best)}: those weights were kept"
        panels.append(figure(drawing, f"<b>Validation loss</b>{kept}"))
    rule = f'<p class="lead">{text(content.training.rule)}</p>' if content.training.rule else ""
    return f'{rule}<div class="grid halves">{"".join(panels)}</div><p class="axis">steps of training</p>'


def facts(content: ReportContent) -> str:
    groups = []
    for title, entries in content.facts.items():
        rows = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in entries.items())
        groups.append(f"<div><h3>{text(title)}</h3><dl>{rows}</dl></div>")
    parts = [f'<div class="facts">{"".join(groups)}</div>'] if groups else [empty("Nothing was recorded.")]
    if content.notes:
        items = "".join(f"<li>{text(note)}</li>" for note in content.notes)
        parts.append(f'<h3>What reading the data changed</h3><ul class="notes">{items}</ul>')
    if content.command:
        parts.append(f"<h3>The same run again</h3><pre><code>{text(content.command)}</code></pre>")
    return "".join(parts)

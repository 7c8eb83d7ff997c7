"""The sections of the report as HTML: one function a section, `ReportContent` in, a string out.

Every name and text that comes from data goes through `text`, which escapes it. A section without content says so in
one sentence, except the vector field, which only two-dimensional states have.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

import numpy as np

from neuralsde.evaluate import plots
from neuralsde.evaluate.content import METRICS, Coverage, Metric, ReportContent, Score, VectorField
from neuralsde.evaluate.style import inline

text = html.escape

_MARKER_SHAPES = (
    '<circle cx="6" cy="6" r="4.2"/>',
    '<rect x="2" y="2" width="8" height="8"/>',
    '<rect x="2" y="2" width="8" height="8" transform="rotate(45 6 6)"/>',
    '<path d="M6 1.5 10.5 10h-9z"/>',
    '<path d="M6 10.5 1.5 2h9z"/>',
)


# Tables list every column; pictures stop here, so that a page of a hundred columns still opens.
_MOST = 8


# -- forecasts ----------------------------------------------------------------------------------------------------


def forecasts(content: ReportContent) -> str:
    if not content.fans:
        return _empty("No forecast was drawn: there is no held-out window to draw.", content)
    levels = sorted(content.fans[0].bands)
    swatches = [("", "what happened"), ("mean", "mean of the forecast")]
    shades = ["inner", "outer"] if len(levels) > 1 else ["inner"]
    swatches += [(shade, f"{level} % band") for shade, level in zip(shades, levels, strict=False)]
    rows = []
    for i, column in enumerate(content.columns[:_MOST]):
        panels = []
        for j, window in enumerate(content.fans):
            alt = f"Forecast of {column}, {window.label}, against what happened"
            drawing = inline(plots.fan(window, i, content.time_unit), f"fan{i}-{j}", alt)
            panels.append(_figure(drawing, text(window.label)))
        rows.append(f'<h3>{_named(content, column)}</h3><div class="grid thirds strip">{"".join(panels)}</div>')
    about = (
        "Each panel starts from the last value that the model was given; the dashed line is that moment. Nothing to "
        f"its right was used in training. {content.picked}"
    )
    axis = f'<p class="axis">{text(content.time_unit)} from the start of the forecast{_left_out(content)}</p>'
    return f'<p class="lead">{text(about.strip())}</p>{_legend(swatches)}{"".join(rows)}{axis}'


# -- scores -------------------------------------------------------------------------------------------------------


def scores(content: ReportContent) -> str:
    if not content.scores:
        return _empty("There is nothing to score.", content if content.fans else None)
    parts = [_score_overview(content)]
    for key in _unique(row.metric for row in content.scores):
        metric = METRICS.get(key, Metric(key, ""))
        rows = [row for row in content.scores if row.metric == key]
        leads = _unique(row.lead for row in rows)
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
    methods = _unique(row.method for row in rows)
    baselines = [name for name in methods if name != content.model]
    if not rows or not baselines:
        return ""
    leads = _unique(row.lead for row in rows)
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
    return f'<p class="lead">{about}</p><ul class="legend">{"".join(keys)}</ul>{_dots(panels)}'


def _score_table(content: ReportContent, rows: Sequence[Score], metric: Metric) -> str:
    leads, columns = _unique(row.lead for row in rows), _unique(row.column for row in rows)
    methods = _methods(content, rows)
    head = "".join(f'<th scope="col">{text(lead)}</th>' for lead in leads)
    body = []
    for column in columns:
        group = {(row.method, row.lead): row for row in rows if row.column == column}
        name = _named(content, column, metric.in_data_units) if column else "all columns"
        body.append(f'<tr class="group"><th scope="rowgroup" colspan="{len(leads) + 1}">{name}</th></tr>')
        digits = _decimals(list(group.values()))
        best = {lead: min((r.value for (_, at), r in group.items() if at == lead), default=np.nan) for lead in leads}
        for method in methods:
            cells = "".join(_score_cell(group.get((method, lead)), best[lead], digits) for lead in leads)
            kind = ' class="model"' if method == content.model else ""
            body.append(f'<tr{kind}><th scope="row">{text(method)}</th>{cells}</tr>')
    return _table(f"<tr><th></th>{head}</tr>", "".join(body), _interval_width(rows))


def _flat_table(content: ReportContent, rows: Sequence[Score], metric: Metric) -> str:
    """Scores of one lead: a row a column of the data, a column a method, the model first."""
    methods = _methods(content, rows)
    kinds = [' class="model"' if method == content.model else "" for method in methods]
    heads = zip(kinds, methods, strict=True)
    head = "".join(f'<th scope="col"{kind}>{text(method)}</th>' for kind, method in heads)
    body = []
    for column in _unique(row.column for row in rows):
        group = {row.method: row for row in rows if row.column == column}
        best, digits = min(row.value for row in group.values()), _decimals(list(group.values()))
        cells = "".join(_score_cell(group.get(method), best, digits) for method in methods)
        name = _named(content, column, metric.in_data_units) if column else "all columns"
        body.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    return _table(f"<tr><th></th>{head}</tr>", "".join(body), _interval_width(rows), "flat")


def _methods(content: ReportContent, rows: Sequence[Score]) -> list[str]:
    """The methods of the rows, the model first."""
    methods = _unique(row.method for row in rows)
    return [content.model] * (content.model in methods) + [name for name in methods if name != content.model]


def _interval_width(rows: Sequence[Score]) -> int:
    return max((len(_ends(row.low, row.high, _decimals([row]))) - len(_ends(0, np.nan, 0)) for row in rows), default=8)


def _score_cell(row: Score | None, best: float, digits: int) -> str:
    if row is None or not np.isfinite(row.value):
        return "<td>–</td>"
    number = _number(row.value, digits)
    number = f"<b>{number}</b>" if row.value <= best else number
    mark = ""
    if row.gain is not None and np.isfinite(row.gain.low):
        if row.gain.high < 0:
            mark = '<span class="mark beats">◂</span>'
        elif row.gain.low <= 0:
            mark = '<span class="mark">≈</span>'
    return f"<td>{mark}{number}{_ends(row.low, row.high, digits)}</td>"


# -- calibration --------------------------------------------------------------------------------------------------


def calibration(content: ReportContent) -> str:
    if not content.pit and not content.coverage:
        return _empty("Calibration cannot be judged without scores.")
    parts = [
        '<p class="lead">A calibrated forecast is as unsure as it should be: the 80 % band holds the truth 80 % of the '
        "time. Below the diagonal, or with dots left of their line, the model is over-confident.</p>"
    ]
    return "".join([*parts, _reliability(content), _coverage(content), _pit(content)])


def _reliability(content: ReportContent) -> str:
    panels = []
    for j, lead in enumerate(_unique(row.lead for row in content.pit)):
        values = [row.values for row in content.pit if row.lead == lead]
        alt = f"Observed against nominal coverage at {lead}"
        panels.append(_figure(inline(plots.reliability(values), f"rel{j}", alt), f"<b>{text(lead)}</b>"))
    if not panels:
        return ""
    legend = _legend([("mean", "mean of the columns"), ("thin", "one column"), ("dash", "perfectly calibrated")])
    axis = '<p class="axis">across: nominal level of a central band · up: share of the truth inside it</p>'
    return f'<h3>Every level at once</h3>{legend}<div class="grid thirds strip">{"".join(panels)}</div>{axis}'


def _coverage(content: ReportContent) -> str:
    if not content.coverage:
        return ""
    panels, limits = [], plots.coverage_limits(content.coverage)
    for j, lead in enumerate(_unique(row.lead for row in content.coverage)):
        rows = [row for row in content.coverage if row.lead == lead]
        drawing = plots.coverage_dots(rows, content.columns, limits)
        panels.append((lead, inline(drawing, f"cov{j}", f"Coverage of the bands at {lead}")))
    levels = sorted({row.level for row in content.coverage})
    named = " and ".join(f"{level} %" for level in levels)
    return f"<h3>Coverage of the {named} bands</h3>{_dots(panels)}{_coverage_table(content, levels)}"


def _coverage_table(content: ReportContent, levels: Sequence[int]) -> str:
    leads = _unique(row.lead for row in content.coverage)
    cell = {(row.column, row.lead, row.level): row for row in content.coverage}
    over = "".join(f'<th class="over" scope="colgroup" colspan="{len(levels)}">{text(lead)}</th>' for lead in leads)
    under = "".join(f'<th scope="col">{level} %</th>' for _ in leads for level in levels)
    body = ""
    for column in content.columns:
        cells = "".join(_coverage_cell(cell.get((column, lead, level))) for lead in leads for level in levels)
        body += f'<tr><th scope="row">{text(column)}</th>{cells}</tr>'
    return _table(f'<tr><th rowspan="2"></th>{over}</tr><tr>{under}</tr>', body, 6)


def _coverage_cell(row: Coverage | None) -> str:
    if row is None or not np.isfinite(row.value):
        return "<td>–</td>"
    return f"<td>{100 * row.value:.0f}{_ends(100 * row.low, 100 * row.high, 0)}</td>"


def _pit(content: ReportContent) -> str:
    if not content.pit:
        return ""
    leads = _unique(row.lead for row in content.pit)
    cell = {(row.column, row.lead): row.values for row in content.pit}
    head = "".join(f'<th scope="col">{text(lead)}</th>' for lead in leads)
    body = []
    for i, column in enumerate(content.columns[:_MOST]):
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
        return _empty("No paths were sampled for this report.")
    parts = []
    for j, bundle in enumerate(content.paths):
        panels = []
        for i, column in enumerate(content.columns[:_MOST]):
            alt = f"Sample paths of {column}, {bundle.label}"
            drawing = inline(plots.sample_paths(bundle, i, content.time_unit), f"path{j}-{i}", alt)
            panels.append(_figure(drawing, f"<b>{_named(content, column)}</b>"))
        parts.append(f'<h3>{text(bundle.label)}</h3><div class="grid halves">{"".join(panels)}</div>')
    swatches = [("mean", "sampled paths, one of them strong")]
    if any(bundle.truth is not None for bundle in content.paths):
        swatches.append(("", "what happened"))
    about = "Every line is one future that the model holds possible: its texture should be the data’s, not smoother."
    axis = f'<p class="axis">{text(content.time_unit)} from the start{_left_out(content)}</p>'
    return f'<p class="lead">{about}</p>{_legend(swatches)}{"".join(parts)}{axis}'


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
        f'<p class="lead">{text(about.strip())}</p>{_legend(swatches)}<div class="wide">{_figure(drawing, "")}</div>'
        f'<p class="axis">{text(_ranges(content.columns, field))}</p>'
    )


def _ranges(columns: Sequence[str], field: VectorField) -> str:
    """Smallest and largest diffusion of each column in numbers."""
    ends = [(part.min(), part.max()) for part in (field.diffusion[..., 0], field.diffusion[..., 1])]
    sizes = [f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in zip(columns[:2], ends, strict=True)]
    return f"diffusion per √({field.time_unit}): {' · '.join(sizes)}"


def training(content: ReportContent) -> str:
    if content.training is None:
        return _empty("This run has no training record.")
    loss, validation = plots.training_curves(content.training)
    panels = [_figure(inline(loss, "loss", "Training loss over steps"), "<b>Training loss</b> and its running mean")]
    if validation is not None:
        drawing = inline(validation, "validation", "Held-out loss over steps")
        best = content.training.best_step
        kept = "" if best is None else f", least at step {_grouped(best)}: those weights were kept"
        panels.append(_figure(drawing, f"<b>Validation loss</b>{kept}"))
    rule = f'<p class="lead">{text(content.training.rule)}</p>' if content.training.rule else ""
    return f'{rule}<div class="grid halves">{"".join(panels)}</div><p class="axis">steps of training</p>'


def facts(content: ReportContent) -> str:
    groups = []
    for title, entries in content.facts.items():
        rows = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in entries.items())
        groups.append(f"<div><h3>{text(title)}</h3><dl>{rows}</dl></div>")
    parts = [f'<div class="facts">{"".join(groups)}</div>'] if groups else [_empty("Nothing was recorded.")]
    if content.notes:
        items = "".join(f"<li>{text(note)}</li>" for note in content.notes)
        parts.append(f'<h3>What reading the data changed</h3><ul class="notes">{items}</ul>')
    if content.command:
        parts.append(f"<h3>The same run again</h3><pre><code>{text(content.command)}</code></pre>")
    return "".join(parts)


# -- parts --------------------------------------------------------------------------------------------------------


def _left_out(content: ReportContent) -> str:
    extra = len(content.columns) - _MOST
    return f" · the first {_MOST} of {len(content.columns)} columns" if extra > 0 else ""


def _empty(sentence: str, content: ReportContent | None = None) -> str:
    """A sentence in the place of a part, with the reason when the content gives one."""
    reason = f" Reason: {content.missing}." if content is not None and content.missing else ""
    return f'<p class="empty">{text(sentence + reason)}</p>'


def _figure(drawing: str, caption: str) -> str:
    return f"<figure>{f'<figcaption>{caption}</figcaption>' if caption else ''}{drawing}</figure>"


def _legend(swatches: Iterable[tuple[str, str]]) -> str:
    items = "".join(f'<li><i class="{kind}"></i>{text(label)}</li>' for kind, label in swatches)
    return f'<ul class="legend">{items}</ul>'


def _dots(panels: Sequence[tuple[str, str]]) -> str:
    figures = "".join(_figure(drawing, f"<b>{text(lead)}</b>") for lead, drawing in panels)
    return f'<div class="grid thirds">{figures}</div>'


def _table(head: str, body: str, width: int, kind: str = "") -> str:
    """A table of numbers whose intervals take `width` characters, so that they line up."""
    parts = f"<thead>{head}</thead><tbody>{body}</tbody>"
    table = f'<table class="{f"numbers {kind}".strip()}" style="--w:{width}ch">{parts}</table>'
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _named(content: ReportContent, column: str, with_unit: bool = True) -> str:
    unit = content.units.get(column, "") if with_unit else ""
    return text(column) + (f' <span class="unit">{text(unit)}</span>' if unit else "")


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _decimals(rows: Sequence[Score]) -> int:
    """Decimals that show the typical interval of a group, and 1.5 % of its smallest value."""
    widths = [(row.high - row.low) / 2 for row in rows if np.isfinite(row.high - row.low) and row.high > row.low]
    sizes = [abs(row.value) for row in rows if np.isfinite(row.value) and row.value]
    needed = [-np.floor(np.log10(np.median(widths)))] if widths else [2.0]
    needed += [-np.floor(np.log10(0.015 * min(sizes)))] if sizes else []
    return int(np.clip(max(needed), 0, 4))


def _number(value: float | int, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _ends(low: float | int, high: float | int, digits: int) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return "<small></small>"
    joint = " to " if low < 0 else "–"
    return f"<small>{_number(low, digits)}{joint}{_number(high, digits)}</small>"


def _grouped(number: int) -> str:
    """12000 -> 12 000 with a narrow space that does not break."""
    return f"{number:,}".replace(",", "\u202f")

"""One page that says what a run learned and how far to trust it: a single HTML file that opens offline.

`ReportContent` (content.py) holds what is shown, `sections.py` sets it as HTML, `plots.py` and `style.py` draw it,
`assets/` holds the style sheet and ten lines of script. Results come first, the record of the run last. The page
forbids itself any connection by its content security policy.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np

from neuralsde.evaluate import sections
from neuralsde.evaluate.content import KeyFigure, ReportContent, Score
from neuralsde.evaluate.sections_diagnostics import diagnostics

_SECTIONS: tuple[tuple[str, str, Callable[[ReportContent], str]], ...] = (
    ("forecasts", "Forecasts", sections.forecasts),
    ("scores", "Scores", sections.scores),
    ("calibration", "Calibration", sections.calibration),
    ("diagnostics", "Diagnostics", diagnostics),
    ("paths", "Sample paths", sections.paths),
    ("field", "Vector field", sections.vector_field),
    ("training", "Training", sections.training),
    ("facts", "Data and model", sections.facts),
)

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def write_report(content: ReportContent, path: str | Path) -> Path:
    """Writes the page to `path` in one move (a reader never sees half of it) and returns the path."""
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(render(content), encoding="utf-8")
    os.replace(partial, target)
    return target


def render(content: ReportContent) -> str:
    """The whole page as a string. The same content gives the same bytes."""
    drawn = [(anchor, title, draw(content)) for anchor, title, draw in _SECTIONS]
    drawn = [part for part in drawn if part[2]]
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title, _ in drawn)
    body = "".join(f'<section id="{anchor}"><h2>{title}</h2>{inner}</section>' for anchor, title, inner in drawn)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(content.title)} – {html.escape(content.kicker)}</title>"
        f"<style>{_asset('report.css')}</style></head>\n"
        f'<body><div class="page"><nav class="contents" aria-label="Contents"><ol>{links}</ol></nav>'
        f"<main>{_masthead(content)}{body}<footer>{html.escape(content.footer)}</footer></main></div>"
        f"<script>{_asset('report.js')}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return resources.files("neuralsde.evaluate").joinpath("assets", name).read_text(encoding="utf-8")


def _masthead(content: ReportContent) -> str:
    figures = (*headline(content), *content.key_figures)
    cards = "".join(f"<div><dt>{html.escape(f.label)}</dt><dd>{_large(f.value)}</dd></div>" for f in figures)
    return (
        f'<header class="masthead"><p class="kicker">{html.escape(content.kicker)}</p>'
        f"<h1>{html.escape(content.title)}</h1>"
        f'<p class="deck">{html.escape(content.summary)}</p>'
        f"{f'<dl class=figures>{cards}</dl>' if cards else ''}</header>"
    )


def _large(value: str) -> str:
    """The number large, what follows its first space small."""
    number, _, unit = value.partition(" ")
    return html.escape(number) + (f" <small>{html.escape(unit)}</small>" if unit else "")


def headline(content: ReportContent) -> tuple[KeyFigure, ...]:
    """What the scores and the coverage say in two or three numbers; empty without them."""
    return (*_ranking(content), *_held(content))


def _ranking(content: ReportContent) -> tuple[KeyFigure, ...]:
    """How often the model has the lowest CRPS, and by how much on average (geometric mean of the ratios)."""
    groups: dict[tuple[str, str], dict[str, Score]] = {}
    for row in content.scores:
        if row.metric == "crps" and row.column and np.isfinite(row.value):
            groups.setdefault((row.column, row.lead), {})[row.method] = row
    pairs = [
        (group[content.model].value, [row for name, row in group.items() if name != content.model])
        for group in groups.values()
        if content.model in group and len(group) > 1
    ]
    ratios = np.array([value / min(row.value for row in others) for value, others in pairs if value > 0])
    if not len(ratios) or not np.isfinite(ratios).all():
        return ()
    won = int((ratios <= 1).sum())
    clear = sum(all(row.gain is not None and row.gain.low > 0 for row in others) for _, others in pairs)
    resolved = f", {clear} of them by a resolved difference" if won else ""
    change = 100 * (float(np.exp(np.mean(np.log(ratios)))) - 1)
    sign = "−" if change < 0 else "+"
    return (
        KeyFigure(f"{won} of {len(ratios)}", f"pairs of column and lead in which its CRPS is the lowest{resolved}"),
        KeyFigure(f"{sign}{abs(change):.1f} %", "CRPS against the best baseline of each pair, on average"),
    )


def _held(content: ReportContent) -> tuple[KeyFigure, ...]:
    levels = sorted({row.level for row in content.coverage})
    if not levels:
        return ()
    shares = [row.value for row in content.coverage if row.level == levels[0] and np.isfinite(row.value)]
    if not shares:
        return ()
    return (KeyFigure(f"{100 * float(np.mean(shares)):.0f} %", f"of the truth fell inside the {levels[0]} % bands"),)

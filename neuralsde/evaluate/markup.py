"""Pieces of HTML that the sections of a report are made of: figures, tables, legends, numbers as text.

Whatever comes from data goes through `text`, which escapes it.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

import numpy as np

from neuralsde.evaluate.content import ReportContent, Score

text = html.escape

MOST = 8
"""Tables list every column; pictures stop here, so that a page of a hundred columns still opens."""


def left_out(content: ReportContent) -> str:
    extra = len(content.columns) - MOST
    return f" · the first {MOST} of {len(content.columns)} columns" if extra > 0 else ""


def empty(sentence: str, content: ReportContent | None = None) -> str:
    """A sentence in the place of a part, with the reason when the content gives one."""
    reason = f" Reason: {content.missing}." if content is not None and content.missing else ""
    return f'<p class="empty">{text(sentence + reason)}</p>'


def figure(drawing: str, caption: str) -> str:
    return f"<figure>{f'<figcaption>{caption}</figcaption>' if caption else ''}{drawing}</figure>"


def legend_of(swatches: Iterable[tuple[str, str]]) -> str:
    items = "".join(f'<li><i class="{kind}"></i>{text(label)}</li>' for kind, label in swatches)
    return f'<ul class="legend">{items}</ul>'


def dots(panels: Sequence[tuple[str, str]]) -> str:
    figures = "".join(figure(drawing, f"<b>{text(lead)}</b>") for lead, drawing in panels)
    return f'<div class="grid thirds">{figures}</div>'


def table_of(head: str, body: str, width: int, kind: str = "") -> str:
    """A table of numbers whose intervals take `width` characters, so that they line up."""
    parts = f"<thead>{head}</thead><tbody>{body}</tbody>"
    table = f'<table class="{f"numbers {kind}".strip()}" style="--w:{width}ch">{parts}</table>'
    return f'<div class="scroll" tabindex="0">{table}</div>'


def named_column(content: ReportContent, column: str, with_unit: bool = True) -> str:
    unit = content.units.get(column, "") if with_unit else ""
    return text(column) + (f' <span class="unit">{text(unit)}</span>' if unit else "")


def unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def decimals(rows: Sequence[Score]) -> int:
    """Decimals that show the typical interval of a group, and 1.5 % of its smallest value."""
    widths = [(row.high - row.low) / 2 for row in rows if np.isfinite(row.high - row.low) and row.high > row.low]
    sizes = [abs(row.value) for row in rows if np.isfinite(row.value) and row.value]
    needed = [-np.floor(np.log10(np.median(widths)))] if widths else [2.0]
    needed += [-np.floor(np.log10(0.015 * min(sizes)))] if sizes else []
    return int(np.clip(max(needed), 0, 4))


def shown(value: float | int, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def ends_of(low: float | int, high: float | int, digits: int) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return "<small></small>"
    joint = " to " if low < 0 else "–"
    return f"<small>{shown(low, digits)}{joint}{shown(high, digits)}</small>"


def grouped(number: int) -> str:
    """12000 -> 12 000 with a narrow space that does not break."""
    return f"{number:,}".replace(",", "\u202f")

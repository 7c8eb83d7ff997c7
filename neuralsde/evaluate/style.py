"""The look of every figure, and the way a matplotlib figure becomes part of a page.

Figures are drawn with the light palette below and can be saved as they are. For the page the SVG is inlined: its
colours turn into CSS variables, so that one figure serves the light and the dark theme; its text stays text, in the
page's font; its ids get a prefix, so that many figures live in one document; nothing in it refers to the outside.
"""

from __future__ import annotations

import html
import io
import re
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# One accent for the model; ink for what happened; greys for everything else.
PAPER, INK, MUTED, FAINT, RULE = "#fdfcfa", "#1a1c20", "#686c74", "#a3a6ac", "#e6e3dc"
ACCENT, BAND_INNER, BAND_OUTER = "#006d68", "#a9d5cf", "#d9ece8"

VARIABLES = {
    PAPER: "paper",
    INK: "ink",
    MUTED: "muted",
    FAINT: "faint",
    RULE: "rule",
    ACCENT: "accent",
    BAND_INNER: "band-inner",
    BAND_OUTER: "band-outer",
}

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "neuralsde",
    "text.parse_math": False,  # a column may well be called "$"
    "axes.unicode_minus": True,
}
_POINTS = 72.0


def figure(width: float | int, height: float | int) -> Figure:
    """A figure whose SVG is `width` x `height` CSS pixels; a font size of 11 is 11 pixels."""
    return Figure(figsize=(width / _POINTS, height / _POINTS), facecolor="none")


def axes(
    fig: Figure, *, left: int = 36, right: int = 8, top: int = 8, bottom: int = 24, grid: str = "y", ticks: int = 4
) -> Axes:
    """Bare axes with margins in pixels: no box, a quiet grid along one direction, small grey numbers."""
    width, height = fig.get_size_inches() * _POINTS
    frame = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    ax = fig.add_axes(frame, facecolor="none")
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom" and grid == "y")
        spine.set_color(FAINT)
        spine.set_linewidth(0.8)
    ax.tick_params(length=0, labelsize=11, colors=MUTED, pad=5)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_color(MUTED)
        label.set_fontsize(11)
    ax.grid(axis="x" if grid == "x" else "y", color=RULE, linewidth=0.9)
    ax.set_axisbelow(True)
    ax.yaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_locator(MaxNLocator(ticks + 1, steps=[1, 2, 2.5, 5, 10]))
    return ax


def inline(fig: Figure, name: str, alt: str) -> str:
    """The figure as an `<svg>` element for the page; `name` prefixes its ids, `alt` says what it shows."""
    svg = _draw(fig)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.S)
    svg = re.sub(r"^<svg[^>]*?viewBox=\"([^\"]*)\"[^>]*>", r'<svg viewBox="\1" role="img">' + "\0", svg, count=1)
    svg = svg.replace("\0", f"<title>{html.escape(alt)}</title>")
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r' id="(?:figure|axes|patch|text|line2d|xtick|ytick|matplotlib|\w+Collection)[^"]*"', "", svg)
    svg = re.sub(r"( id=\"|url\(#|href=\"#)", rf"\g<1>{name}-", svg)
    svg = re.sub(r" font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d\d)\d+", r"\1", tag[0]), svg)  # coordinates, not labels
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return re.sub(r"\s*\n\s*", " ", svg).strip()


def save(fig: Figure, path: str | Path) -> None:
    """The figure as a file of its own (.png or .svg), on paper."""
    with matplotlib.rc_context(_SETTINGS):
        fig.savefig(path, facecolor=PAPER, dpi=2 * _POINTS)


def _draw(fig: Figure) -> str:
    target = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with matplotlib.rc_context(_SETTINGS):
        fig.savefig(target, format="svg", metadata=nothing)
    return target.getvalue()

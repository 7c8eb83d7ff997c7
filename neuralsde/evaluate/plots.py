"""The figures of a report, each one small: the page arranges them, so that they read on a phone as on a screen.

Every function returns a `Figure` of its own (no pyplot, no global state), drawn in the palette of `style.py`.
Legends and titles belong to the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator, MultipleLocator, NullLocator

from neuralsde.evaluate.content import Coverage, Fan, Paths, Score, Training, VectorField
from neuralsde.evaluate.diagnostics import ColumnDiagnosis
from neuralsde.evaluate.scores import Floats
from neuralsde.evaluate.style import ACCENT, BAND_INNER, BAND_OUTER, FAINT, INK, MUTED, PAPER, axes, figure

FARTHEST = 3.0
"""Relative scores beyond this are drawn at the edge, so that one hopeless baseline does not hide the others."""

_MARKERS = ("o", "s", "D", "^", "v")


def thousands(value: float | int, _position: int | None = None) -> str:
    """1500 -> 1.5k; short tick labels for steps."""
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"


def training_curve(steps: Floats, values: Floats, *, best: int | None = None, smooth: bool = False) -> Figure:
    """One curve over the steps, with a mark at the step whose weights were kept; `smooth` adds a running mean."""
    fig = figure(430, 210)
    ax = axes(fig, left=54)
    ax.plot(steps, values, color=FAINT if smooth else ACCENT, linewidth=1.0 if smooth else 1.8)
    if smooth:
        ax.plot(steps, _running_mean(values), color=ACCENT, linewidth=1.8)
    ax.set_ylim(*_robust_limits(values))
    if len(steps) < 12 and not smooth:
        ax.plot(steps, values, "o", color=ACCENT, markersize=3.5)
    if best is not None and len(steps):
        at = int(np.argmin(np.abs(steps - best)))
        ax.axvline(float(steps[at]), color=FAINT, linewidth=0.9, dashes=(2, 3))
        ax.plot(steps[at], values[at], "o", color=ACCENT, markersize=7, markeredgecolor=PAPER, markeredgewidth=1.5)
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    return fig


def training_curves(training: Training) -> tuple[Figure, Figure | None]:
    """The training loss, and the held-out loss when there is one."""
    loss = training_curve(training.steps, training.loss, smooth=True)
    if not len(training.validation):
        return loss, None
    return loss, training_curve(training.validation_steps, training.validation, best=training.best_step)


def fan(window: Fan, column: int, time_unit: str) -> Figure:
    """One column of one window: the past, the bands from wide to narrow, the mean, and what happened."""
    fig = figure(300, 190)
    ax = axes(fig, left=38, right=13, bottom=22)
    ax.axvline(0.0, color=FAINT, linewidth=0.9, dashes=(2, 3))
    last = window.past[-1, column] if len(window.past) else np.nan
    times, join = _joined(window.times), [last] if np.isfinite(last) else [np.nan]
    levels = sorted(window.bands, reverse=True)
    for level, colour in zip(levels, _band_colours(len(levels)), strict=True):
        lower, upper = (np.concatenate([join, end[:, column]]) for end in window.bands[level])
        ax.fill_between(times, lower, upper, color=colour, linewidth=0)
    ax.plot(times, np.concatenate([join, window.mean[:, column]]), color=ACCENT, linewidth=1.6)
    _truth(ax, window.past_times, window.past[:, column])
    _truth(ax, _joined(window.times), np.concatenate([join, window.truth[:, column]]))
    ax.set_xlim(float(window.past_times[0]) if len(window.past) else 0.0, float(window.times[-1]))
    _time_axis(ax, time_unit)
    ax.margins(y=0.08)
    return fig


def sample_paths(paths: Paths, column: int, time_unit: str, most: int = 40) -> Figure:
    """One column of sampled paths, thin, with what happened on top when it is known."""
    fig = figure(430, 230)
    ax = axes(fig, left=40, right=10, bottom=22)
    shown = paths.values[:most, :, column]
    ax.plot(paths.times, shown.T, color=ACCENT, linewidth=0.8, alpha=0.34)
    if len(shown):
        ax.plot(paths.times, shown[0], color=ACCENT, linewidth=1.4)
    if paths.truth is not None:
        _truth(ax, paths.times, paths.truth[:, column])
    ax.set_xlim(float(paths.times[0]), float(paths.times[-1]))
    _time_axis(ax, time_unit)
    return fig


def pit_histogram(values: Floats, bins: int = 10) -> Figure:
    """Histogram of PIT values relative to uniform (the line at 1)."""
    fig = figure(200, 74)
    ax = axes(fig, left=0, right=0, top=2, bottom=2, grid="none")
    ax.grid(visible=False)
    ax.set_axis_off()
    seen = values[np.isfinite(values)]
    height, edges = np.histogram(seen, bins=bins, range=(0.0, 1.0), density=len(seen) > 0)
    ax.bar(edges[:-1] + 0.5 / bins, height, width=0.9 / bins, color=BAND_INNER, linewidth=0)
    ax.axhline(1.0, color=ACCENT, linewidth=1.2)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, max(1.8, float(np.max(np.nan_to_num(height), initial=0.0)) * 1.05))
    return fig


def reliability(pits: Sequence[Floats]) -> Figure:
    """Observed against nominal coverage of every central band: one thin line a column, their mean in the accent."""
    fig = figure(290, 270)
    ax = axes(fig, left=40, right=16, bottom=26)
    nominal = np.linspace(0, 1, 41)
    ax.plot([0, 1], [0, 1], color=FAINT, linewidth=1.0, dashes=(3, 3))
    lines = []
    for values in pits:
        reach = 2 * np.abs(values[np.isfinite(values)] - 0.5)
        if len(reach):
            lines.append((reach[:, None] <= nominal).mean(axis=0))
            ax.plot(nominal, lines[-1], color=FAINT, linewidth=0.9)
    if lines:
        ax.plot(nominal, np.mean(lines, axis=0), color=ACCENT, linewidth=2.2)
    for axis, first in ((ax.xaxis, 0.0), (ax.yaxis, 0.2)):
        axis.set_major_locator(FixedLocator([first, 0.2, 0.4, 0.6, 0.8, 1.0]))
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f}%"))
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.005)
    return fig


def coverage_dots(rows: Sequence[Coverage], columns: Sequence[str], limits: tuple[float, float]) -> Figure:
    """Coverage of one lead: a row a column, a dot with its interval for every level, a line at each nominal level."""
    fig, ax = _rows(columns)
    ax.grid(visible=False)
    levels = sorted({row.level for row in rows})
    for level in levels:
        ax.axvline(level / 100, color=FAINT, linewidth=0.9, dashes=(3, 3))
    for row in rows:
        # a little apart, for the intervals of two levels may meet
        y = -columns.index(row.column) - 0.22 * (levels.index(row.level) - (len(levels) - 1) / 2)
        ax.plot([row.low, row.high], [y, y], color=BAND_INNER, linewidth=4, solid_capstyle="round")
        ax.plot(row.value, y, "o", color=ACCENT, markersize=6, markeredgecolor=PAPER, markeredgewidth=1)
    ax.set_xlim(*limits)
    ax.xaxis.set_major_locator(FixedLocator([level / 100 for level in levels]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f}%"))
    return fig


def score_curves(rows: Sequence[Score], at: Mapping[str, float], methods: Sequence[str], model: str) -> Figure:
    """Scores of one column against the lead, `at[lead]` its place: the model with its interval, the baselines thin."""
    fig = figure(300, 190)
    ax = axes(fig, left=42, right=10, bottom=22)
    for j, method in enumerate(name for name in methods if name != model):
        mine = [row for row in rows if row.method == method]
        ends = [at[row.lead] for row in mine], [float(row.value) for row in mine]
        ax.plot(*ends, color=FAINT, linewidth=1.1)
        ax.plot(
            ends[0][-1:], ends[1][-1:], _MARKERS[j % len(_MARKERS)], color=PAPER, markeredgecolor=MUTED, markersize=5
        )
    _curve(ax, [row for row in rows if row.method == model], at)
    ax.set_ylim(bottom=0.0)
    return fig


def coverage_curves(rows: Sequence[Coverage], at: Mapping[str, float], limits: tuple[float, float]) -> Figure:
    """Coverage of one column against the lead, a line with its interval for each level, which is dashed."""
    fig = figure(300, 190)
    ax = axes(fig, left=40, right=10, bottom=22)
    for level in sorted({row.level for row in rows}):
        ax.axhline(level / 100, color=FAINT, linewidth=0.9, dashes=(3, 3))
        _curve(ax, [row for row in rows if row.level == level], at)
    ax.set_ylim(limits[0], min(limits[1], 1.02))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f}%"))
    return fig


def correlogram(column: ColumnDiagnosis) -> Figure:
    """Autocorrelation of residuals as stems over the lags, on the band of a model that is right."""
    fig = figure(290, 130)
    ax = axes(fig, left=40, right=10, bottom=22, ticks=3)
    lags = np.arange(1, len(column.correlation) + 1)
    ax.fill_between(lags, -column.band, column.band, color=BAND_OUTER, linewidth=0)
    ax.axhline(0.0, color=FAINT, linewidth=0.9)
    ax.vlines(lags, 0.0, column.correlation, color=ACCENT, linewidth=1.6)
    ax.plot(lags, column.correlation, "o", color=ACCENT, markersize=4)
    reach = 1.15 * max(float(np.abs(column.correlation).max()), float(column.band.max()), 0.1)
    ax.set_ylim(-reach, reach)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return fig


def coverage_limits(rows: Sequence[Coverage]) -> tuple[float, float]:
    """One horizontal range for the panels of all leads, so that they compare."""
    ends = [float(end) for row in rows for end in (row.low, row.high, row.value, row.level / 100) if np.isfinite(end)]
    return min(ends, default=0.8) - 0.025, max(ends, default=0.95) + 0.025


def score_dots(rows: Sequence[Score], columns: Sequence[str], methods: Sequence[str], model: str) -> Figure:
    """Scores of one lead relative to the best baseline of each column (the line at 1), log axis; left is better."""
    fig, ax = _rows(columns)
    ax.axvline(1.0, color=MUTED, linewidth=0.9)
    drawn = [1.0]
    for i, column in enumerate(columns):
        group = {row.method: row for row in rows if row.column == column}
        others = [row for row in group.values() if row.method != model and row.value > 0]
        if model not in group or not others:
            continue
        best = min(others, key=lambda row: row.value)
        unit = float(best.value)
        for j, method in enumerate(name for name in methods if name != model and name in group):
            ratio = min(float(group[method].value) / unit, FARTHEST)
            ax.plot(ratio, -i, _MARKERS[j % len(_MARKERS)], color=PAPER, markeredgecolor=MUTED, markersize=6)
            drawn.append(ratio)
        drawn.extend(_model_mark(ax, group[model], best, -i))
    low, high = min(drawn), max(drawn)
    ax.set_xscale("log")
    ax.set_xlim(low / (high / low) ** 0.08 / 1.04, high * (high / low) ** 0.08 * 1.04)
    nice = (1, 2, 0.5, 5, 10, 1.5, 0.8, 3, 1.25, 0.25, 0.9, 1.1)  # the first that fit
    choice = [tick for tick in nice if low * 0.97 <= tick <= high * 1.03]
    ax.xaxis.set_major_locator(FixedLocator(_spread_out(choice, np.log(high / low) / 4.5)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    return fig


def vector_field(field: VectorField, names: Sequence[str]) -> Figure:
    """Streamlines of the drift over the size of the diffusion (darker: noisier), data below and paths on top."""
    fig = figure(480, 390)
    ax = axes(fig, left=48, right=10, top=10, bottom=40, grid="none", ticks=5)
    ax.grid(visible=False)
    frame = np.array([np.ptp(field.x), np.ptp(field.y)])  # columns of unlike units compare as parts of the frame
    size = np.linalg.norm(field.diffusion / frame, axis=-1)
    tints = [to_rgba(BAND_INNER, 0.8 * share) for share in np.linspace(0, 1, 13)]
    if size.max() > 0:
        # from zero, so that noise that hardly changes looks as if it hardly changes
        ax.contourf(field.x, field.y, size, levels=np.linspace(0, 1.0001 * size.max(), 14), colors=tints)
    if field.data is not None:
        ax.plot(field.data[:, 0], field.data[:, 1], ".", color=MUTED, markersize=2, alpha=0.35)
    speed = np.linalg.norm(field.drift / frame, axis=-1)
    width = 0.5 + 1.1 * speed / max(float(speed.max()), 1e-12)
    along, up = field.drift[..., 0], field.drift[..., 1]
    ax.streamplot(field.x, field.y, along, up, color=MUTED, linewidth=width, density=1.1, arrowsize=0.8)
    if field.paths is not None:
        for path in field.paths:
            ax.plot(path[:, 0], path[:, 1], color=ACCENT, linewidth=1.1, alpha=0.75)
            ax.plot(path[-1, 0], path[-1, 1], "o", color=ACCENT, markersize=3)
    ax.set_xlim(float(field.x[0]), float(field.x[-1]))
    ax.set_ylim(float(field.y[0]), float(field.y[-1]))
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    return fig


# -- parts --------------------------------------------------------------------------------------------------------


def _curve(ax: Axes, rows: Sequence[Score] | Sequence[Coverage], at: Mapping[str, float]) -> None:
    """Values over the lead in the accent, their interval as a band."""
    x = np.array([at[row.lead] for row in rows])
    low, high, value = (np.array([getattr(row, end) for row in rows], np.float64) for end in ("low", "high", "value"))
    ax.fill_between(x, low, high, color=BAND_INNER, alpha=0.6, linewidth=0)
    ax.plot(x, value, color=ACCENT, linewidth=1.7)


def _truth(ax: Axes, times: Floats, values: Floats) -> None:
    ax.plot(times, values, color=PAPER, linewidth=3.2)  # a halo keeps the line apart from the bands
    ax.plot(times, values, color=INK, linewidth=1.3)
    alone = np.isfinite(values) & ~np.isfinite(_shift(values, 1)) & ~np.isfinite(_shift(values, -1))
    ax.plot(times[alone], values[alone], ".", color=INK, markersize=4)


def _model_mark(ax: Axes, row: Score, best: Score, y: int) -> list[float]:
    """The model's ratio to the best baseline, with the interval of their paired difference; what was drawn."""
    ratio, ends = float(row.value / best.value), np.array([row.low, row.high], np.float64) / best.value
    if best.gain is not None:
        ends = 1 - np.array([best.gain.high, best.gain.low], np.float64) / best.value
    ends = np.maximum(ends, 0.02)
    if np.isfinite(ends).all():
        ax.plot(ends, [y, y], color=BAND_INNER, linewidth=4, solid_capstyle="round")
    ax.plot(ratio, y, "o", color=ACCENT, markersize=7, markeredgecolor=PAPER, markeredgewidth=1)
    return [ratio, *(float(end) for end in ends if np.isfinite(end))]


def _rows(columns: Sequence[str]) -> tuple[Figure, Axes]:
    """A panel with one named row a column, from top to bottom."""
    names = [name if len(name) <= 14 else name[:13] + "…" for name in columns]
    fig = figure(290, 34 + 28 * len(names))
    left = 14 + 7 * max(map(len, names), default=0)
    ax = axes(fig, left=left, right=14, top=4, bottom=24, grid="x")
    ax.yaxis.set_major_locator(FixedLocator([-i for i in range(len(names))]))
    ax.yaxis.set_major_formatter(FixedFormatter(names))
    ax.set_ylim(-len(names) + 0.4, 0.6)
    ax.tick_params(axis="y", pad=left - 2)
    for label in ax.get_yticklabels():
        label.set_color(INK)
        label.set_horizontalalignment("left")
    return fig, ax


def _shift(values: Floats, by: int) -> Floats:
    moved = np.full_like(values, np.nan)
    if by > 0:
        moved[by:] = values[:-by]
    else:
        moved[:by] = values[-by:]
    return moved


def _joined(times: Floats) -> Floats:
    """The forecast's times with its start in front, so that bands grow out of the last observation."""
    return np.concatenate([[0.0], times])


def _band_colours(n: int) -> list[str]:
    return [BAND_OUTER, BAND_INNER] if n == 2 else [BAND_INNER] if n == 1 else [BAND_OUTER] * (n - 1) + [BAND_INNER]


def _running_mean(values: Floats) -> Floats:
    width = min(max(1, len(values) // 25), (len(values) - 1) // 2)
    if width < 1:
        return values
    kernel = np.ones(2 * width + 1)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def _robust_limits(values: Floats) -> tuple[float, float]:
    """Limits that the first wild steps do not decide."""
    seen = values[np.isfinite(values)]
    if not len(seen):
        return 0.0, 1.0
    low, high = float(seen.min()), float(np.quantile(seen[len(seen) // 20 :], 0.995))
    room = 0.08 * (high - low) or 0.5
    return low - room, high + room


def _spread_out(ticks: Sequence[float | int], gap: float) -> list[float | int]:
    """Ticks at least `gap` apart in the logarithm, 1 first."""
    kept: list[float | int] = [1]
    for tick in ticks:
        if all(abs(np.log(tick / other)) >= gap for other in kept):
            kept.append(tick)
    return sorted(kept)


def _time_axis(ax: Axes, time_unit: str) -> None:
    """Ticks that divide a day when times are in hours or minutes, with + in front of the future."""
    low, high = ax.get_xlim()
    steps = {
        "days": (1, 2, 5, 7, 14, 30, 60, 90, 180, 365),
        "hours": (1, 2, 3, 6, 12, 24, 48, 96, 168),
        "minutes": (5, 10, 15, 30, 60, 120, 360),
    }.get(time_unit, ())
    if time_unit == "steps":
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    fitting = [step for step in steps if (high - low) / step <= 6.5]
    if fitting:
        ax.xaxis.set_major_locator(MultipleLocator(fitting[0]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"+{x:g}" if x > 0 else f"{x:g}".replace("-", "−")))

"""Pictures of the fork: the drift as streamlines over the size of the diffusion, as in the paper, and sampled paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from neuralsde.evaluate.style import ACCENT, BAND_INNER, FAINT, INK, PAPER, axes, figure
from neuralsde.experiments.branching.fork import DURATION, KINK, SPEED, demonstrations, distance
from neuralsde.experiments.branching.ours import ALL, Parts, coefficients
from neuralsde.runs.run import Run

_FRAME = ((-0.5, 10.1), (-3.2, 3.2))
_FORK = ((4.2, 5.4), (-0.285, 0.285))
_AROUND = (KINK - 6, KINK + 20)
"""Times between which a path is drawn in the inset."""
_NOISIEST = 0.5
"""Where the shading ends: a standard deviation of so many mean moves in one gap."""


def field(run: Run, paths: np.ndarray) -> Figure:
    """The drift, the diffusion (darker: more) and paths (n, T, 2) near the demonstrated lines; the fork in large."""
    fig = figure(640, 401)
    ax = axes(fig, left=44, right=14, top=8, bottom=42, grid="none")
    ax.grid(visible=False)
    _field(ax, run, ALL, _FRAME, density=(1.5, 1.1), reach=1.0)
    _lines(ax, paths)
    ax.xaxis.set_major_locator(MultipleLocator(2))
    ax.set_xlabel(run.columns[0])
    ax.set_ylabel(run.columns[1])
    (left, right), (low, high) = _FORK
    inset = ax.inset_axes((0.0, 1.12, 4.0, 1.9), transform=ax.transData, xticks=[], yticks=[], facecolor=PAPER)
    inset.spines[:].set(color=FAINT, linewidth=0.8)
    unit = (paths.shape[1] - 1) // DURATION
    _field(inset, run, ALL, _FORK, density=(0.9, 0.7), reach=9.0)
    _lines(inset, paths[:, _AROUND[0] * unit : _AROUND[1] * unit], ends=False)
    ax.plot([left, right, right, left, left], [low, low, high, high, low], color=FAINT, linewidth=0.8)
    ax.plot([[0.0, 4.0], [left, right]], [[1.12, 1.12], [high, high]], color=FAINT, linewidth=0.8)
    return fig


class Panel(NamedTuple):
    """Paths (n, T, 2), over the field of the parts of a run where there is one."""

    paths: np.ndarray
    run: Run | None = None
    parts: Parts = ALL


def grid(rows: Mapping[str, Mapping[str, Panel]]) -> Figure:
    """Panels by density (rows) and method (columns)."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    across, up = 200, 150
    fig = figure(across * len(columns), up * len(rows))
    for i, (label, row) in enumerate(rows.items()):
        for j, name in enumerate(columns):
            frame = ((j + 0.02) / len(columns), 1 - (i + 0.98) / len(rows), 0.96 / len(columns), 0.84 / len(rows))
            ax = fig.add_axes(frame, facecolor="none", xticks=[], yticks=[])
            ax.spines[:].set(color=FAINT, linewidth=0.6)
            if name in row:
                paths, run, parts = row[name]
                if run is not None:
                    _field(ax, run, parts, _FRAME, density=(0.7, 0.5), reach=1.0)
                _lines(ax, paths)
            ax.set_xlim(*_FRAME[0])
            ax.set_ylim(*_FRAME[1])
            ax.set_title(f"{name}, {label}", fontsize=8, color=INK, pad=3)
    return fig


def _field(ax: Axes, run: Run, parts: Parts, box: Sequence[tuple[float, float]], *, density: Any, reach: float) -> None:
    """Drift and diffusion in a box, up to the distance `reach` from the demonstrations."""
    x, y = (np.linspace(low, high, count) for (low, high), count in zip(box, (141, 86), strict=True))
    states = np.stack(np.meshgrid(x, y), axis=-1)
    move, spread = coefficients(run, states, parts)
    size, away = np.linalg.norm(spread, axis=-1), distance(states)
    tints = [to_rgba(BAND_INNER, share) for share in np.linspace(0, 1, 16)]
    levels = np.linspace(0, _NOISIEST * SPEED * run.typical_gap, 17)
    ax.contourf(x, y, size, levels=levels, colors=tints, extend="max")
    ax.contourf(x, y, away, levels=[reach, 99.0], colors=[PAPER])  # a cover has a smoother edge than a mask
    along, up = (np.ma.masked_array(part, away > reach) for part in np.moveaxis(move, -1, 0))
    ax.streamplot(x, y, along, up, color=FAINT, linewidth=0.6, density=density, arrowsize=0.6, arrowstyle="-|>")
    ax.set_xlim(*box[0])
    ax.set_ylim(*box[1])


def _lines(ax: Axes, paths: np.ndarray, *, ends: bool = True) -> None:
    """Paths (n, T, 2) over the demonstrations (dotted)."""
    ax.plot(paths[..., 0].T, paths[..., 1].T, color=ACCENT, linewidth=0.8, alpha=0.25)
    if ends:
        ax.plot(*paths[:, -1].T, "o", color=ACCENT, markersize=3, alpha=0.4, markeredgewidth=0)
    for line in demonstrations():
        ax.plot(*line.T, color=INK, linewidth=1.0, dashes=(1, 2.4))

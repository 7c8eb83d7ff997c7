"""Reward by evaluations and by time, an episode in six pictures, and the videos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from neuralsde.evaluate import style
from neuralsde.experiments.pusht.cells import collected
from neuralsde.experiments.pusht.lines import LINES, OURS
from neuralsde.experiments.pusht.page import MARKS
from neuralsde.experiments.pusht.study import Study, timed
from neuralsde.robot.video import mp4, side_by_side, video_tag

_STILLS = 6
_MS = (0.1, 0.3, 1, 3, 10, 30, 100, 300)
_MARKERS = ("o", "s", "^", "D", "v", "P")


def picture(study: Study, facts: dict[str, Any], episode: np.ndarray | None, path: Path) -> None:
    """episode: pictures (t, h, w, 3) of one, or None."""
    top = 0 if episode is None else 170
    fig = style.figure(980, 330 + top)
    height = 330 + top
    if episode is not None:
        for k, t in enumerate(np.linspace(0, len(episode) - 1, _STILLS).astype(int)):
            ax = fig.add_axes((0.02 + k * 0.163, 1 - 160 / height, 0.155, 135 / height))
            ax.imshow(episode[t])
            ax.set_title(f"{t / 10:.1f} s", fontsize=10, color=style.MUTED)
            ax.set_axis_off()
    for k, (by, label) in enumerate((("steps", "evaluations an executed action"), ("ms", "time of a call, ms"))):
        ax = fig.add_axes((0.06 + 0.49 * k, 50 / height, 0.42, 240 / height), facecolor="none")
        _curves(ax, study, facts, by)
        ax.set_xlabel(label, fontsize=10, color=style.MUTED)
    style.save(fig, path)


def _curves(ax: Axes, study: Study, facts: dict[str, Any], by: str) -> None:
    size, first = study.size, study.seeds[:1]

    def place(line: str, k: float) -> float:
        if by == "ms":
            return facts["latency"][timed(line, k, size.execute)]["p50"]
        return k if LINES[line].anytime else 1 / size.execute

    for (line, told), marker in zip(LINES.items(), _MARKERS, strict=False):
        found = [(k, collected(facts["cells"], study.cells(line, k, first, size.sweep_starts))) for k in size.sweep]
        points = [(k, one) for k, one in found if one is not None and timed(line, k, size.execute) in facts["latency"]]
        if not points:
            continue
        x = [place(line, k) for k, _ in points]
        y, e = ([getattr(one, part) for _, one in points] for part in ("mean", "standard_error"))
        shade = style.ACCENT if line == OURS else style.MUTED
        ax.errorbar(
            x, y, yerr=e, marker=marker, color=shade, markersize=5, linewidth=1.3, elinewidth=0.7, label=told.title
        )
    ax.axhline(facts["replayed"], color=style.INK, linewidth=0.8, linestyle=":")
    ax.axhline(MARKS[0][2], color=style.FAINT, linewidth=0.8)
    ax.set_xscale("log")
    ax.set_title("mean maximum reward", fontsize=11, color=style.INK, loc="left")
    ax.grid(axis="y", color=style.RULE, linewidth=0.9)
    ax.tick_params(length=0, labelsize=9, colors=style.MUTED)
    ax.minorticks_off()
    if by == "steps":
        ax.set_xticks(size.sweep, [f"{k:g}" for k in size.sweep])
        ax.legend(fontsize=8, frameon=False, labelcolor=style.INK)
    else:
        low, high = ax.get_xlim()
        ticks = [tick for tick in _MS if low <= tick <= high]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    for spine in ax.spines.values():
        spine.set_visible(False)


def film(recordings: Mapping[str, list[np.ndarray]], path: Path) -> None:
    """An HTML page that opens offline, with a video of the same starts for each method."""
    parts = [video_tag(mp4(side_by_side(frames, columns=4)), title) for title, frames in recordings.items()]
    body = "\n".join(parts)
    path.write_text(
        '<!doctype html>\n<meta charset="utf-8">\n<title>Push-T</title>\n'
        "<style>body{font:16px system-ui;max-width:1080px;margin:2em auto}"
        "video{width:100%}figure{margin:0 0 2em}</style>\n"
        f"<h1>Push-T: the same starts, method by method</h1>\n{body}\n",
        encoding="utf-8",
    )

"""The pages and pictures of the two image experiments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from neuralsde.evaluate import style
from neuralsde.evaluate.images import mosaic
from neuralsde.experiments.seeds import cell

FRECHET, SURE, SHARES = 3.0, 85.0, 5.0
"""Asked: at most this many times real against real; at least so many per cent; at most so many points."""


def rows_of(facts: dict[str, Any]) -> list[dict[str, str]]:
    """A row for each figure that was asked for: measured, floor, trivial model, asked, and whether it holds."""
    real, trivial = facts["real"], facts["trivial"]
    ratio = [run["frechet"] / real["frechet"] for run in facts["runs"]]
    sure, off = ([100 * run[key] for run in facts["runs"]] for key in ("sure", "shares_off"))
    rows = [
        row("Fréchet distance / real against real", ratio, 1.0, trivial["frechet"] / real["frechet"],
            f"at most {FRECHET:g}", np.mean(ratio) <= FRECHET),
        row("images of which the classifier is sure, %", sure, 100 * real["sure"], 100 * trivial["sure"],
            f"at least {SURE:g}", np.mean(sure) >= SURE),
        row("largest difference of a class share, points", off, 100 * real["shares_off"], 100 * trivial["shares_off"],
            f"at most {SHARES:g}", np.mean(off) <= SHARES),
        row("distance to the nearest training image / held-out images'", [run["copies"] for run in facts["runs"]],
            1.0, trivial["copies"], "not asked", None),
    ]  # fmt: skip
    units = (("frechet", 1 / real["frechet"]), ("sure", 100.0), ("shares_off", 100.0), ("copies", 1.0))
    for name in others(facts):
        for line, (key, unit) in zip(rows, units, strict=True):
            line[name] = cell([unit * run[name][key] for run in facts["runs"]], 2)
    return rows


def others(facts: dict[str, Any]) -> list[str]:
    """Other ways of drawing that were judged as well."""
    return [name for name, found in facts["runs"][0].items() if isinstance(found, dict) and "frechet" in found]


def row(name: str, values: Sequence[float], floor: float, trivial: float, asked: str, holds: Any) -> dict[str, str]:
    """One line of the table."""
    told = "" if holds is None else "yes" if holds else "**no**"
    return {"": name, "measured": cell(values, 2), "real": f"{floor:.2f}", "Gaussian": f"{trivial:.2f}", "asked": asked,
            "holds": told}  # fmt: skip


def table(rows: Sequence[dict[str, str]]) -> list[str]:
    """Markdown."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|---|" + "--:|" * (len(names) - 1)]
    return lines + ["| " + " | ".join(row[name] for name in names) + " |" for row in rows]


def page(title: str, facts: dict[str, Any]) -> str:
    """The results as markdown."""
    size, runs, real = facts["size"], facts["runs"], facts["real"]
    bits = [run["bits"] for run in runs]
    lines = [
        f"# {title}",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s; {len(runs)} of {facts['seeds']} seeds. "
        f"{facts['network']}. Trained for {np.mean([run['train seconds'] for run in runs]):.0f} s "
        f"({size['steps']} steps of {size['batch']} images). {size['drawn']} images drawn by {facts['sampler']} with "
        f"{facts['nfe']} evaluations of the network each; distances between {size['compared']} and "
        f"{size['compared']} images.",
        "",
        "Measured: mean over seeds ± standard error. Real: the same figure of real images, for the Fréchet distance "
        f"real against real ({real['frechet']:.2f} in squared units of the features, 95 % of pairs below "
        f"{real['frechet 95']:.2f}). Gaussian: draws of one Gaussian with the mean and covariance of the training "
        f"images. The features are those of a classifier trained here, right on {100 * real['accuracy']:.1f} % of "
        "held-out images." + _classes(facts),
        "",
        *table(rows_of(facts)),
        "",
        f"![drawn images]({facts['experiment']}.png)",
        "",
        f"Validation loss after each eighth of the training: {', '.join(f'{x:.3f}' for x in runs[0]['validation'])}; "
        f"the weights of step {runs[0]['best step']} of {size['steps']} are used.",
        *facts.get("remarks", []),
        "",
        "## Likelihood",
        "",
        f"Bits per dimension of {size['scored']} held-out images, whole numbers spread over their cells, by the "
        f"probability flow ({runs[0]['bits nfe']} evaluations, one random probe a path); an upper bound. "
        "± one standard error over images, first seed; in brackets the standard error over seeds.",
        "",
        "| law | bits per dimension |",
        "|---|--:|",
    ]
    first = runs[0]
    between = f" ({np.std(bits, ddof=1) / np.sqrt(len(bits)):.4f})" if len(bits) > 1 else ""
    lines.append(f"| the model | {np.mean(bits):.4f} ± {first['bits error']:.4f}{between} |")
    lines += [f"| {name} | {value:.4f} ± {error:.4f} |" for name, (value, error) in first["simple"].items()]
    return "\n".join([*lines, *facts.get("more", [])])


def _classes(facts: dict[str, Any]) -> str:
    if not others(facts):
        return ""
    return (
        " The network is told of classes, but for one image in ten. Measured are images of a class that was drawn by "
        f"its share of the training images; guided: the same with classifier-free guidance of {facts['guidance']:g}, "
        "which is no longer the law that was learnt; unlabelled: no class is told."
    )


def curve_lines(curve: dict[str, dict[str, float]], floor: float, budgets: Sequence[int]) -> list[str]:
    """The Fréchet distance of each sampler by evaluations, over real against real, as a section of the page."""
    lines = [
        "",
        "## Evaluations of the network",
        "",
        "Fréchet distance over real against real, by at most so many evaluations a sample (first seed).",
        "",
        "| sampler | " + " | ".join(map(str, budgets)) + " |",
        "|---|" + "--:|" * len(budgets),
    ]
    for name, found in curve.items():
        cells = [f"{found[str(k)] / floor:.2f}" if str(k) in found else "" for k in budgets]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return lines


def picture(drawn: np.ndarray, real: np.ndarray, path: Path, curve: dict[str, dict[str, float]] | None = None,
            floor: float = 1.0) -> None:  # fmt: skip
    """Drawn images beside real ones, and the curve of evaluations where there is one."""
    width, height = (960, 330) if curve else (700, 360)
    fig = style.figure(width, height)
    side = 0.29 if curve else 0.46
    for k, (images, told) in enumerate(((drawn, "drawn"), (real, "held out"))):
        ax = fig.add_axes((0.02 + k * (side + 0.02), 0.03, side, 0.87))
        cells = mosaic(np.asarray(images[:64], np.float64), 8)[..., 0]
        ax.imshow(cells, cmap="gray_r", vmin=0, vmax=float(np.nanmax(cells)), interpolation="nearest")
        ax.set_title(told, fontsize=11, color=style.INK)
        ax.set_axis_off()
    if curve:
        _curve(fig, curve, floor)
    style.save(fig, path)


def _curve(fig: Figure, curve: dict[str, dict[str, float]], floor: float) -> None:
    ax = fig.add_axes((0.69, 0.14, 0.29, 0.76), facecolor="none")
    marks = ("o", "s", "^", "D", "v", "P", "X", "*")
    for k, (name, found) in enumerate(curve.items()):
        x, y = [int(nfe) for nfe in found], [value / floor for value in found.values()]
        shade = style.ACCENT if k == 0 else style.MUTED if k % 2 else style.FAINT
        ax.plot(x, y, marker=marks[k % len(marks)], color=shade, markersize=4, linewidth=1.2, label=name)
    ax.axhline(1.0, color=style.INK, linewidth=0.8)
    ax.axhline(FRECHET, color=style.INK, linewidth=0.8, linestyle=":")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    budgets = sorted({int(nfe) for found in curve.values() for nfe in found})
    ax.set_xticks(budgets, [str(nfe) for nfe in budgets])
    low, high = ax.get_ylim()
    marks_y = [value for value in (1, 2, 3, 5, 10, 20, 30, 50, 100) if low <= value <= high]
    ax.set_yticks(marks_y, [str(value) for value in marks_y])
    ax.minorticks_off()
    ax.set_title("Fréchet distance / real against real", fontsize=11, color=style.INK)
    ax.set_xlabel("evaluations a sample", fontsize=10, color=style.MUTED)
    ax.tick_params(length=0, labelsize=9, colors=style.MUTED)
    ax.legend(fontsize=8, frameon=False, labelcolor=style.INK)
    for spine in ax.spines.values():
        spine.set_visible(False)

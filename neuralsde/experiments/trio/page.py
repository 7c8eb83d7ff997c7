"""What was expected beside what was measured, the page and the picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from neuralsde.evaluate import style
from neuralsde.experiments.planar import Score, unpacked
from neuralsde.experiments.seeds import cell
from neuralsde.experiments.trio.ways import FEW, MARKS, SAMPLERS, SET, SINGLE, WAYS, Holds, refusal


def _mean(rows: list[dict[str, Any]], *path: str) -> float:
    def at(row: Any) -> Any:
        for name in path:
            row = row[name]
        return row

    return float(np.mean([at(row) for row in rows]))


def verdicts(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Each expectation: what, asked, measured (at most as much is asked), and whether it holds."""
    losses, found = facts["losses"], []
    floor = _mean(facts["known"], "the law itself", "nats")
    limit = 2 * facts["floor of w2"]["quantile"]

    def add(what: str, asked: float, measured: Callable[[], float], *needed: str) -> None:
        if all(name in losses for name in needed):
            value = measured()
            found.append({"what": what, "measured": value, "asked": asked, "holds": bool(value <= asked)})

    def nats(name: str, by: str = "nats") -> float:
        return _mean(losses[name], by)

    three = ("denoising", "sliced score matching", "implicit score matching")
    level = [name for name, way in WAYS.items() if way.holds in ("score", "levels")]
    cd, pcd, nce = SINGLE
    add("denoising, sliced and implicit score matching are one loss: spread of their nats", 0.05,
        lambda: float(np.ptp([nats(name) for name in three])), *three)  # fmt: skip
    add("the gradient of an energy is as good a score: nats above those of the score network", 0.05,
        lambda: nats("denoising, energy") - nats("denoising"), "denoising, energy", "denoising")  # fmt: skip
    add("every loss over all levels comes near the law: most nats above the floor", 0.15,
        lambda: max(map(nats, level)) - floor, *level)  # fmt: skip
    for sampler in ("SDE", "ODE"):
        add(f"and is sampled by the {sampler} within twice the floor's 95 %: largest W2", limit,
            lambda sampler=sampler: max(_mean(losses[name], "w2", sampler) for name in level), *level)  # fmt: skip
    pairs = ("flow matching, OT pairs", "flow matching")
    add(f"paired noise makes straighter lines: W2 at {FEW} evaluations, as a part of that without pairs", 0.8,
        lambda: _mean(losses[pairs[0]], "w2 few") / _mean(losses[pairs[1]], "w2 few"), *pairs)  # fmt: skip
    rows = [row["normaliser"] for some in losses.values() for row in some if "normaliser" in row]
    add("annealed importance sampling finds Z: share of energies off by more than 3 standard errors", 0.1,
        lambda: float(np.mean([abs(row["log z"] - row["grid"]) > 3 * row["standard error"] for row in rows])),
        cd)  # fmt: skip
    learned = [row for row in rows if "learned" in row]
    add("noise-contrastive estimation learns log Z: mean distance from the sum over a grid", 0.05,
        lambda: float(np.mean([abs(row["learned"] - row["grid"]) for row in learned])), nce)  # fmt: skip
    add("and needs no chain: nats above the floor", 0.15, lambda: nats(nce, "nats by E") - floor, nce)
    add("kept chains see the masses of modes, chains from the data do not: nats less those of CD", 0.0,
        lambda: nats(pcd, "nats by E") - nats(cd, "nats by E"), cd, pcd)  # fmt: skip
    return found


def page(facts: dict[str, Any]) -> str:
    """The results as markdown."""
    size, least, count = facts["size"], facts["floor of w2"], facts["size"]["seeds"] * facts["seeds"]
    lines = [
        "# Energy, score, flow: one network, every loss, every sampler",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. {SET.capitalize()} with weights 1 to 8; mean over "
        f"{count} models of each loss ± standard error, the same network (width {size['width']}, {size['depth']} "
        f"layers) everywhere, {size['cheap']} steps of {size['batch']} points; where a step is dear, of "
        f"{size['small_batch']}: {size['chained']} of cd and pcd, {size['dear']} of the flow by likelihood. Nats a "
        "held-out point: by the probability flow, *E:* by the energy with its integral over a grid. Then sliced W2 of "
        "samples by DPM-Solver++(2M) as an SDE and as an ODE "
        f"(velocity alone: Heun), {size['nfe']} evaluations; annealed Langevin, or MALA from the Gaussian for a single "
        f"level, {size['langevin']}; HMC annealed over {size['temperatures']} temperatures. Floor of W2, real against "
        f"real: {least['mean']:.3f} (95 %: {least['quantile']:.3f}).",
        "",
        "| loss | nats | " + " | ".join(SAMPLERS) + " | seconds |",
        "|---|--:|" + "--:|" * (len(SAMPLERS) + 1),
    ]
    known, exact = facts["known"], facts["exact score"]
    lines.append(f"| floor: the law itself | {cell([one['the law itself']['nats'] for one in known])} |" + " |" * 5)
    if exact:
        lines.append("| exact score | " + _row(exact, "levels") + " | |")
    for name, rows in facts["losses"].items():
        lines.append(f"| {name} | {_row(rows, WAYS[name].holds)} | {facts['training seconds'][name]:.0f} |")
    for baseline in ("kernel density", "Gaussian"):
        nats, w2 = (cell([one[baseline][key] for one in known]) for key in Score._fields)
        lines.append(f"| {baseline} | {nats} | {w2} |" + " |" * 4)
    lines += ["", *(f"* ({mark}) {why}" for why, mark in MARKS.items())]
    lines += ["", "## The normaliser", "", *_normalisers(facts)]
    lines += ["", "## Expected and measured", "", "| | asked at most | measured | holds |", "|---|--:|--:|---|"]
    for one in facts["verdicts"]:
        told = f"| {one['asked']:.3f} | {one['measured']:.3f} | {'yes' if one['holds'] else 'no'} |"
        lines.append(f"| {one['what']} {told}")
    return "\n".join(lines)


def _row(rows: list[dict[str, Any]], holds: Holds) -> str:
    by = [
        f"{mark}{cell([row[key] for row in rows])}"
        for mark, key in (("", "nats"), ("E: ", "nats by E"))
        if key in rows[0]
    ]
    cells = []
    for sampler in SAMPLERS:
        why = refusal(holds, sampler)
        cells.append(cell([row["w2"][sampler] for row in rows]) if why is None else f"({MARKS[why]})")
    return " | ".join([", ".join(by), *cells])


def _normalisers(facts: dict[str, Any]) -> list[str]:
    lines = [
        "log ∫ exp(-E) of each energy: on a grid, by annealed importance sampling ± its own standard error, as learned."
    ]
    lines += [
        "",
        "| loss | seed | grid | annealed | effective share of the chains | learned |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, rows in facts["losses"].items():
        for k, row in enumerate(rows):
            if "normaliser" in row:
                one = row["normaliser"]
                learned = f"{one['learned']:.3f}" if "learned" in one else ""
                annealed = f"{one['log z']:.3f} ± {one['standard error']:.3f}"
                lines.append(f"| {name} | {k} | {one['grid']:.3f} | {annealed} | {one['ess']:.2f} | {learned} |")
    return lines


def picture(points: dict[str, dict[str, str]], path: Path) -> None:
    """Samples, a row for each loss and a column for each sampler; grey where the pair is not valid."""
    side, gap, top, left = 96, 6, 24, 200
    fig = style.figure(left + (side + gap) * len(SAMPLERS), top + (side + gap) * len(points))
    width, height = fig.get_size_inches() * 72
    for row, (name, by) in enumerate(points.items()):
        for column, sampler in enumerate(SAMPLERS):
            x, y = left + column * (side + gap), height - top - (row + 1) * (side + gap) + gap
            ax = fig.add_axes((x / width, y / height, side / width, side / height), xticks=[], yticks=[])
            ax.set(xlim=(-5.5, 5.5), ylim=(-5.5, 5.5))
            ax.spines[:].set(color=style.RULE)
            ax.set_facecolor("none" if sampler in by else style.RULE)
            if sampler in by:
                ax.plot(*unpacked(by[sampler]).T, ".", color=style.ACCENT, markersize=1.5, alpha=0.6)
            if row == 0:
                ax.set_title(sampler, fontsize=11, color=style.INK, pad=6)
            if column == 0:
                ax.set_ylabel(name, fontsize=10, color=style.INK, rotation=0).set(ha="right", va="center")
    style.save(fig, path)

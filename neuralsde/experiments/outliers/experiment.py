"""Wrong readings at 0, 1, 5 and 10 % of the training rows: which loss keeps drift and calibration, and at what price.

On a process whose law is known every figure has a limit to be compared with (`known`, `ways`); on the fork and on the
weather clean rows are what is scored (`tables`). THEORY 16: a log loss is robust, wasteful where δ is far below the
variance of the residuals, and wrong for skewed ones; all three are shown, expected beside measured.

    neuralsde reproduce outliers
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import StrMethodFormatter

from neuralsde.evaluate import style
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.outliers import known, tables
from neuralsde.experiments.outliers.ways import PLAIN, WAYS, efficiency
from neuralsde.experiments.seeds import cell

SHARES = (0.0, 0.01, 0.05, 0.1)
LOSSES = {
    PLAIN: ("gaussian", 1.0),
    "log, δ = .001": ("log", 1e-3),
    "log, δ = 1": ("log", 1.0),
    "student flow": ("student", 1.0),
}
"""Losses whose waste on clean Gaussian rows is shown: kind and δ."""


@dataclass(frozen=True)
class Size:
    """Fits on the tables; `many` fits, rows and steps on the known process; steps, width and paths on the tables."""

    fits: int = 5
    many: int = 24
    rows: int = 4_000
    steps: int = 1_500
    fork_steps: int = 3_000
    weather_steps: int = 800
    width: int = 32
    paths: int = 100


SMALL = Size(fits=2, many=4, rows=500, steps=100, fork_steps=20, weather_steps=20, width=4, paths=10)
FULL = Size(fits=10, many=100, rows=20_000, steps=10_000, fork_steps=8_000, weather_steps=10_000, width=64, paths=1_000)


@experiment("outliers", Size(), FULL)
def reproduce(asked: Asked[Size]) -> Iterator[str]:
    """Fit every loss to every share of outliers, write outliers.json, .md and .png into `out`; yields lines.

    seeds: times the fits of the size.
    """
    size = asked.size
    count = size.fits * asked.seeds
    facts = asked.first | {
        "fits": count,
        "known": {},
        "expected": {f"{share:g}": known.expected(share) for share in SHARES},
        "skewed expected": known.expected_skewed(),
        "weather": {},
        "fork": {},
    }
    for part in _parts(facts, asked.seed, count, size.many * asked.seeds, size):
        yield part
        facts["seconds"] = asked.seconds
        asked.write(facts, page(facts))  # after every part: a stopped run leaves what it has
    _picture(facts, asked.path())
    yield from page(facts).splitlines()


def _parts(facts: dict[str, Any], seed: int, count: int, many: int, size: Size) -> Iterator[str]:
    """Fill `facts` in, part by part; one line each."""
    for share in SHARES:
        facts["known"][f"{share:g}"] = known.measure(share, seed, many, size.rows, size.steps)
        yield f"OU, {100 * share:g} %: pull " + _line(facts["known"][f"{share:g}"], "pull")
    facts["minimisers"] = known.minimisers(LOSSES, seed, many, size.rows)
    facts["skewed"] = known.measure(0.0, seed, many, size.rows, size.steps, skewed=True)
    yield "skewed noise: intercept " + _line(facts["skewed"], "intercept")
    clean: np.ndarray | None = None
    for share in SHARES:
        how = tables.Fit(count, size.weather_steps, size.width, size.paths)
        facts["weather"][f"{share:g}"], clean = tables.weather_fits(share, how, seed, clean)
        yield f"weather, {100 * share:g} %: CRPS 1 " + _line(facts["weather"][f"{share:g}"], "CRPS 1")
    for share in SHARES:
        how = tables.Fit(count, size.fork_steps, size.width, size.paths)
        facts["fork"][f"{share:g}"] = tables.fork(share, how, seed)
        yield f"fork, {100 * share:g} %: near " + _line(facts["fork"][f"{share:g}"], "near")


def _line(found: dict[str, dict[str, list[float]]], measure: str) -> str:
    return ", ".join(f"{way} {cell(row[measure])}" for way, row in found.items() if row[measure])


# -- what is written ---------------------------------------------------------------------------------------------------


def page(facts: dict[str, Any]) -> str:
    """The results as markdown."""
    size = facts["size"]
    lines = [
        "# Outliers",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. A share of the training readings is moved by a "
        f"normal of s.d. {known.SIZE:g} of the column's s.d. (fork: whole points by {tables.FORK_SIZE:g}, five steps); "
        "each spoils the target of one transition and the input of the next. All scores are of clean rows that were "
        f"not trained on. {facts['fits']} fits (known process: {size['many']}), each with its own outliers, mean ± "
        "standard error. Rows have equal gaps, where the `mse` flow loss is the Gaussian one. `student flow` is a flow "
        "loss; tails and likelihood are those of `tails=student`, decoupled or joint.",
    ]
    if facts["known"]:
        lines += _known(facts)
    if "skewed" in facts:
        lines += ["", *_waste(facts), "", *_skewed(facts)]
    if facts["weather"]:
        lines += ["", "## Weather", "", _WEATHER]
    for measure in tables.WEATHER_MEASURES:
        lines += _by_share(measure, facts["weather"], {})
    if facts["fork"]:
        lines += ["", "## Fork", "", _FORK + f" Straight on: distance {_straight_on():.2f}."]
    for measure in tables.FORK_MEASURES:
        lines += _by_share(measure, facts["fork"], {})
    return "\n".join(lines)


def _known(facts: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## An Ornstein-Uhlenbeck process",
        "",
        f"Its law is known: {facts['size']['rows']:,} rows, θΔ = {known.GAP:g}. Pull: slope of the learned drift over "
        "the true one (1 is right); in brackets what theory has for endless data. The floor is the exact law: pull 1, "
        f"coverage 80 and 95 %, CRPS {known.floor():.3f}. The trivial line is the Gaussian loss, that does nothing "
        "about them: (1 - φ / (1 + p τ²)) / (1 - φ), "
        + ", ".join(f"{known.least_squares_pull(share):.2f} at {100 * share:g} %" for share in SHARES)
        + ".",
        "",
        "A flow loss measures residuals by their mean square v, and many outliers widen v until they are outliers no "
        "more: `student flow` is robust at 1 % and hardly so at 10 %, a log loss with small δ stays so. And no flow "
        "loss helps the calibration: the diffusion is fitted to the spoiled residuals, unless its tails take them.",
    ]
    for measure in ("pull", "coverage 80", "coverage 95", "CRPS"):
        lines += _by_share(measure, facts["known"], facts["expected"])
    return lines


_WEATHER = (
    "Three airports, hourly, the last week of every month held out; the present row is all that is read, no hour of "
    "the day. Means over temperature, dew point, wind and pressure in s.d.; persistence is the trivial line; the "
    "drift's distance from that of the Gaussian fit to clean rows is in units of what an hour moves. A floor is not "
    "known; the line to compare with is the Gaussian loss at 0 %."
)
_FORK = (
    f"Fifty copies of each branch; noise of {tables.INPUT_NOISE:g} on the input, undone by the target. Near: share of "
    f"paths that stay within {tables.NEAR:g} of the demonstrations from the kink on (floor 1; trivial, straight on: "
    "0). Distance: mean of all points (floor 0). Up: share that turns up (right: .5). Flow error: on the straight "
    "parts, over the speed. No way mends the fork: the noise on the input is part of what the joint likelihood "
    "explains, so its diffusion is wide, and its Student tails draw what was injected."
)


def _by_share(measure: str, found: dict[str, Any], theory: dict[str, Any]) -> list[str]:
    """A table of one measure; of the shares that are there."""
    shares = [share for share in SHARES if f"{share:g}" in found]
    if not shares:
        return []
    lines = ["", f"| {measure} | " + " | ".join(f"{100 * share:g} %" for share in shares) + " |"]
    lines += ["|---|" + "--:|" * len(shares)]
    for way in found["0"]:
        cells = []
        for share in shares:
            values = found[f"{share:g}"][way].get(measure, [])
            said = theory.get(f"{share:g}", {}).get(way, {})
            cells.append((cell(values) if values else "") + (f" ({said[measure]:.3f})" if measure in said else ""))
        if any(cells):
            lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return lines


def _straight_on() -> float:
    """Mean distance of a path that goes straight on."""
    ahead = np.stack([0.1 * np.arange(1, 101), np.zeros(100)], -1)
    return float(np.mean(tables.path_measures(ahead[None, None])["distance"]))


def spread(found: dict[str, Any], way: str, measure: str) -> tuple[float, float]:
    """S.d. over fits of a measure over that of the Gaussian loss, and its standard error (two independent s.d.)."""
    ours, plain = (np.array(found[each][measure]) for each in (way, PLAIN))
    ratio = float(ours.std(ddof=1) / plain.std(ddof=1))
    return ratio, ratio / float(np.sqrt(len(ours) - 1))


def _waste(facts: dict[str, Any]) -> list[str]:
    found, exact = facts["known"]["0"], facts["minimisers"]
    lines = [
        f"The price on clean rows: s.d. of an estimate over {len(found[PLAIN]['pull'])} fits, over that of the "
        "Gaussian loss. Expected for endless rows: √(E ψ²) / E ψ', 4.5 for δ far below the variance (THEORY 16). With "
        "these rows: that of the minimum nearest to least squares, found without any network on the same rows; a log "
        "loss is rough, and few rows lie in its narrow middle.",
        "",
        "| s.d. over that of least squares | endless rows | slope: these rows | trained | at 0: these rows | trained |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for way, loss in LOSSES.items():
        if way != PLAIN:
            cells = [
                "{:.2f} ± {:.2f}".format(*spread(rows, way, measure))
                for measure in ("pull", "intercept")
                for rows in (exact, found)
            ]
            lines.append(f"| {way} | {efficiency(*loss):.2f} | " + " | ".join(cells) + " |")
    return lines


def _skewed(facts: dict[str, Any]) -> list[str]:
    lines = [
        "Skewed noise (exponential less its mean) and no outlier: value of the learned drift at 0, in s.d. of the "
        "noise; 0 is right, and the floor. What is not zero is no matter of too few rows.",
        "",
        "| drift at 0 | expected | measured |",
        "|---|--:|--:|",
    ]
    for way in WAYS:
        said = facts["skewed expected"][way]["intercept"]
        lines.append(f"| {way} | {said:.3f} | {cell(facts['skewed'][way]['intercept'])} |")
    return lines


_COLOURS = {
    PLAIN: style.INK,
    "log, δ = .001": style.MUTED,
    "log, δ = 1": style.FAINT,
    "student flow": style.BAND_INNER,
    "student flow and tails": style.ACCENT,
    "student likelihood": style.ACCENT,
}
_DASHED = "student likelihood"


def _picture(facts: dict[str, Any], path: Path) -> None:
    """Four measures over the share of outliers: points and lines measured, crosses expected."""
    fig = style.figure(940, 280)
    panels: Sequence[tuple[str, str, str]] = (
        ("known", "pull", "OU: slope of the drift over the true one"),
        ("known", "coverage 80", "OU: coverage of 80 % bands"),
        ("weather", "CRPS 1", "weather: CRPS an hour ahead"),
        ("fork", "distance", "fork: distance to the demonstrations (log)"),
    )
    at = 100 * np.array(SHARES)
    for k, (part, measure, title) in enumerate(panels):
        ax = fig.add_axes((0.04 + 0.245 * k, 0.14, 0.2, 0.67), facecolor=style.PAPER)
        for way, colour in _COLOURS.items():
            if way not in facts[part]["0"]:
                continue
            values = [np.mean(facts[part][f"{share:g}"][way][measure]) for share in SHARES]
            dash = "--" if way == _DASHED else "-"
            ax.plot(at, values, f"o{dash}", color=colour, markersize=3.5, linewidth=1.2, label=way)
            if part == "known":
                said = [facts["expected"][f"{share:g}"][way][measure] for share in SHARES]
                ax.plot(at, said, "x", color=colour, markersize=6)
        if part == "fork":
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            ax.minorticks_off()
        ax.set_title(title, fontsize=9, color=style.INK)
        ax.tick_params(length=0, labelsize=9, colors=style.MUTED)
        for spine in ax.spines.values():
            spine.set_visible(False)
        if not k:
            fig.legend(*ax.get_legend_handles_labels(), loc="upper center", ncols=len(WAYS), frameon=False, fontsize=9)
    fig.text(
        0.5, 0.01, "% of outliers in the training rows; crosses: theory", ha="center", fontsize=9, color=style.MUTED
    )
    style.save(fig, path)

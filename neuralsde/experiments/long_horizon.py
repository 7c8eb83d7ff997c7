"""What training over long horizons buys: coverage and CRPS by lead, before and after.

A model of single steps does not see its errors add up. Three ways to train one and the same model are compared: on
single steps; on transitions of 1 to `reach` rows, each in one step of the law; and on single steps, then through the
simulation, on the CRPS (or the energy score) of simulated paths. Two cases:

    pushed    series with a hidden velocity (pushed.py), read by linear models of 1 and 4 rows; where each way leads is
              known beforehand
    weather   three airports, from the package; the last 20 % of the year

Scores are those of `neuralsde reproduce forecast`: CRPS in units of a column's root mean square one-step change.

    neuralsde reproduce long-horizon --seed 0
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuralsde.data.embedded import weather
from neuralsde.evaluate import style
from neuralsde.evaluate.baselines import gaussian_samples
from neuralsde.experiments import pushed
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.forecast.baselines import persistence
from neuralsde.experiments.forecast.case import Case
from neuralsde.experiments.forecast.data import SPECS, Spec
from neuralsde.experiments.forecast.law import LEVELS, Forecast, Marks, marks, mean_over_columns
from neuralsde.experiments.forecast.ours import Settings, fit_ours, sequence_sde
from neuralsde.experiments.held_out import table
from neuralsde.experiments.seeds import cell
from neuralsde.models.sequence_sde import Config
from neuralsde.train.problem import TrainConfig

NAME = "long-horizon"
LEADS: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
REACH, HORIZON = 16, 32
TOLD = (1, 8, 32)
"""Leads in the table; all are in the JSON and in the picture."""
HOURS = 24
"""Reach and horizon of the weather."""
ONE, GAPS, CRPS, ENERGY = "one step", "several gaps", "tuned, CRPS", "tuned, energy"
FLOOR, TRIVIAL = "exact law", "persistence"
PUSHED, WEATHER = {"pushed, 1 row read": 1, "pushed, 4 rows read": 4}, "weather"
CASES = (*PUSHED, WEATHER)

Row = dict[str, list[float]]
"""Scores by name, one a lead: "crps", "energy", "coverage 80", "coverage 95"."""


@dataclass(frozen=True)
class Size:
    """Fits of each way; pushed series, their rows and forecast origins each; steps of training and tuning; width and
    steps for the weather; paths from each origin.
    """

    fits: int = 3
    series: int = 100
    rows: int = 500
    origins: int = 10
    steps: int = 1_000
    tuning: int = 300
    width: int = 16
    weather_steps: int = 800
    weather_tuning: int = 200
    paths: int = 100


SMALL = Size(fits=1, series=8, rows=200, steps=2, tuning=2, width=4, weather_steps=2, weather_tuning=1, paths=4)
FULL = Size(fits=10, series=400, steps=4_000, tuning=2_000, width=64, weather_steps=4_000, weather_tuning=2_000)


# -- what is compared --------------------------------------------------------------------------------------------------


def pushed_ways(rows: int, size: Size) -> dict[str, Settings]:
    """Linear models of the last `rows` rows, in every way of training."""
    base = {"history": rows - 1, "depth": 0}
    training = TrainConfig(
        steps=size.steps, batch_size=512, learning_rate=3e-3, ema=0.99, validate_every=-(-size.steps // 4)
    )
    tuned = {"tune_steps": size.tuning, "tune_horizon": HORIZON}
    options = {ONE: {}, GAPS: {"reach": REACH}, CRPS: tuned}
    return {way: Settings(Config(**base, **some), training) for way, some in options.items()}


def weather_ways(size: Size) -> dict[str, Settings]:
    """The settings of the forecast experiment, smaller, in every way of training."""
    base = {"history": 6, "width": size.width, "depth": 1, "noise": "full", "past_units": "walk"}
    training = TrainConfig(steps=size.weather_steps, learning_rate=1e-3, ema=0.99, validate_every=100)
    tuned = {"tune_steps": size.weather_tuning, "tune_horizon": HOURS}
    options = {ONE: {}, GAPS: {"reach": HOURS}, CRPS: tuned, ENERGY: tuned | {"tune_score": "energy"}}
    return {way: Settings(Config(**base, **some), training) for way, some in options.items()}


def predicted(rows: int) -> dict[str, Row]:
    """Where each way of training leads a linear model that reads `rows` rows, given endless data."""
    models = {
        ONE: pushed.one_step(rows),
        GAPS: pushed.over_gaps(rows, REACH),
        CRPS: pushed.through_simulation(rows, HORIZON),
    }
    at, gamma = np.array(LEADS) - 1, pushed.covariances(2)
    unit = np.sqrt(2 * (gamma[0] - gamma[1]))
    return {
        way: {"crps": (model.crps(HORIZON)[at] / unit).tolist()}
        | {f"coverage {level}": model.coverage(HORIZON, level)[at].tolist() for level in LEVELS}
        for way, model in models.items()
    }


# -- scores ------------------------------------------------------------------------------------------------------------


def pushed_case(seed: int, size: Size) -> tuple[Case, dict[str, Row]]:
    """The pushed series, with the scores of the exact law and of persistence."""
    values = pushed.draw(np.random.default_rng(seed), size.series, size.rows)
    spec = Spec("pushed", "pushed series", LEADS, size.origins, max(LEADS), "neuralsde/experiments/pushed.py")
    case = Case.of(spec, table(values))
    mean, sd = pushed.exact(values, LEADS)
    mean, sd = mean[case.series, case.row][..., None], sd[case.row][..., None]
    floor = Forecast(gaussian_samples(mean, sd, size.paths, seed=seed), mean, sd)
    return case, {FLOOR: row(marks(floor, case)), **trivial(case, size, seed)}


def trivial(case: Case, size: Size, seed: int) -> dict[str, Row]:
    """The scores of persistence, fitted to each lead."""
    return {TRIVIAL: row(marks(persistence(case, n=size.paths, seed=seed), case))}


def fitted(case: Case, ways: Mapping[str, Settings], size: Size, seed: int) -> dict[str, Row]:
    """Scores of a fit in every way."""
    found = {}
    for way, settings in ways.items():
        run = fit_ours(case, settings, seed=seed)
        found[way] = row(marks(sequence_sde(run, case, n=size.paths, seed=seed), case))
    return found


def row(found: Marks) -> Row:
    """Means over windows."""
    shares = {f"coverage {level}": np.nanmean(mean_over_columns(found.coverage[level]), 0) for level in LEVELS}
    scores = {"crps": np.nanmean(found.over_columns(), 0), "energy": np.nanmean(found.energy, 0), **shares}
    return {name: [float(f"{value:.6g}") for value in values] for name, values in scores.items()}


# -- the whole of it ---------------------------------------------------------------------------------------------------


@experiment(NAME, Size(), FULL)
def reproduce(asked: Asked[Size], *, cases: Sequence[str] = CASES) -> Iterator[str]:
    """Run all cases, write long-horizon.json, .md and .png into `out`; yields lines as they become known.

    seeds: times the fits of the size.
    cases: some of `CASES`; others that the same command has left in `out` stay.
    """
    size = asked.size
    facts = dict(asked.first)
    for name in cases:
        began = time.monotonic()
        content, case, ways = _prepared(name, 1_000 + asked.seed, size)
        for number in asked.numbers(size.fits):
            content["fits"].append(fitted(case, ways, size, number))
            content["seconds"] = round(time.monotonic() - began)
            yield f"{name}, fit {number}: " + ", ".join(
                f"{way} {one['crps'][-1]:.3f}" for way, one in content["fits"][-1].items()
            )
            found = {**asked.before().get("cases", {}), name: content}
            facts["cases"] = {each: found[each] for each in CASES if each in found}
            asked.write(facts, page(facts))  # a stopped run leaves what it has
            _picture(facts, asked.path())
    yield from page(facts).splitlines()


def _prepared(name: str, seed: int, size: Size) -> tuple[dict[str, Any], Case, dict[str, Settings]]:
    """What is known of a case before anything is fitted; its windows; and what is to be fitted."""
    if name == WEATHER:
        case = Case.of(SPECS["weather"], weather())
        known, expected, ways = trivial(case, size, seed), {}, weather_ways(size)
    else:
        rows = PUSHED[name]
        (case, known), expected, ways = pushed_case(seed, size), predicted(rows), pushed_ways(rows, size)
    leads = list(case.spec.horizons)
    return {"leads": leads, "windows": len(case.row), "known": known, "expected": expected, "fits": []}, case, ways


SEEN = (
    "Seen at the default size: where a push that cannot be read makes single steps too sure, both ways widen the far "
    "bands towards the truth, tuning with four rows read nearly all the way; with one row read its 300 steps end short "
    "of what theory has for it. On weather, read 25 rows back, neither helps: what the bands lack there is the autumn, "
    "rougher than the months before it (`forecast`), and transitions over many hours in one step blur the day."
)


def page(facts: Mapping[str, Any]) -> str:
    """The results as markdown."""
    seconds = sum(case["seconds"] for case in facts["cases"].values())
    lines = [
        "# Long horizons",
        "",
        f"Written by `{facts['command']}` in {seconds} s. One model trained in several ways: on single steps; "
        f"on transitions over 1 to {REACH} rows (weather: {HOURS}); on single steps, then on the score of simulated "
        f"paths over {HORIZON} rows (weather: {HOURS}). Held-out rows; mean over fits ± standard error, every fit with "
        "its own start of weights and batches, all on the same data. CRPS in units of the root mean square one-step "
        "change, coverage of the central 80 and 95 % in per cent. In brackets what theory has for endless data "
        "(`experiments/pushed.py`). The floor is the exact law given the whole past.",
        "",
        SEEN,
    ]
    for title, case in facts["cases"].items():
        told = TOLD if case["expected"] else case["leads"]
        at, unit = [case["leads"].index(lead) for lead in told], "rows" if case["expected"] else "h"
        heads = [f"{name} {lead} {unit}" for name in ("CRPS", "80 %", "95 %") for lead in told]
        lines += ["", f"## {title}", "", f"{case['windows']} windows, {len(case['fits'])} fits.", ""]
        lines += ["| | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(heads)]
        for name, known in case["known"].items():
            lines.append(f"| {name} | " + " | ".join(_cells([known], {}, at)) + " |")
        for way in case["fits"][0]:
            rows = [fit[way] for fit in case["fits"]]
            lines.append(f"| {way} | " + " | ".join(_cells(rows, case["expected"].get(way, {}), at)) + " |")
    return "\n".join(lines)


def _cells(rows: Sequence[Row], expected: Row, at: Sequence[int]) -> list[str]:
    """Measured ± standard error, and what was expected in brackets."""
    cells = []
    for name, times, digits in (("crps", 1, 3), ("coverage 80", 100, 1), ("coverage 95", 100, 1)):
        for j in at:
            told = f" ({times * expected[name][j]:.{digits}f})" if expected else ""
            cells.append(cell([times * each[name][j] for each in rows], digits) + told)
    return cells


_COLOURS = {ONE: style.FAINT, GAPS: "#c9a227", CRPS: style.ACCENT, ENERGY: "#7a5195"}


def _picture(facts: Mapping[str, Any], path: Path) -> None:
    """Coverage of the central 80 % by lead: points measured, lines (on the pushed series) expected."""
    width, cases = 260, facts["cases"]
    fig = style.figure(width * len(cases) + 30, 250)
    for k, (title, case) in enumerate(cases.items()):
        ax = style.axes(fig, left=50 + k * width, right=width * (len(cases) - 1 - k) + 14, top=30, bottom=44)
        at = np.arange(len(case["leads"]))
        ax.axhspan(77, 83, color=style.RULE, linewidth=0)
        for way in case["fits"][0]:
            found = 100 * np.mean([fit[way]["coverage 80"] for fit in case["fits"]], axis=0)
            expected = case["expected"].get(way)
            kind = {"color": _COLOURS[way], "label": way}
            if expected:
                ax.plot(at, 100 * np.array(expected["coverage 80"]), color=_COLOURS[way], linewidth=1.2)
                ax.plot(at, found, "o", markersize=5, **kind)
            else:
                ax.plot(at, found, "o-", markersize=5, linewidth=1.2, **kind)
        ax.set_xticks(at, [str(lead) for lead in case["leads"]])
        ax.set_ylim(45, 100)
        ax.set_title(title, fontsize=11, color=style.INK)
        ax.set_xlabel("hours ahead" if title == WEATHER else "rows ahead")
        if k == 0:
            ax.set_ylabel("coverage of the central 80 %")
        if title == WEATHER or k == 0:
            ax.legend(fontsize=9, frameon=False, loc="lower left")
    style.save(fig, path)

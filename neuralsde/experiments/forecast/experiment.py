"""`neuralsde reproduce forecast`: four tables, five methods and what AutoARIMA left on file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from neuralsde.evaluate.style import save
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.forecast import report
from neuralsde.experiments.forecast.case import Case
from neuralsde.experiments.forecast.data import SPECS, load
from neuralsde.experiments.forecast.gru_fit import GRUSettings
from neuralsde.experiments.forecast.harness import Outcome, evaluate
from neuralsde.experiments.forecast.ours import SETTINGS, Settings
from neuralsde.experiments.forecast.peers import read_peer
from neuralsde.experiments.forecast.verdict import lines
from neuralsde.experiments.results import on_file, write_results

NAME = "forecast"
GRUS = {
    "etth1": GRUSettings(),
    "exchange": GRUSettings(season=1, length=60, burn=20),
    "weather": GRUSettings(),
    "beijing": GRUSettings(),
}


@dataclass(frozen=True)
class Size:
    """Fits of each network, paths from each origin, how many times the steps of `ours.SETTINGS`, the seconds of
    training that the GRU is given at least, and paths of forecasts that are only asked how wide they should have been.
    """

    fits: int = 1
    paths: int = 200
    training: float = 1.0
    gru_seconds: float = 60.0
    earlier_paths: int = 64


SMALL = Size(paths=4, training=0.005, gru_seconds=0.0, earlier_paths=4)
FULL = Size(fits=3, paths=500, training=4.0, gru_seconds=240.0, earlier_paths=200)

ABOUT = (
    "The last 20 % of each series' time is the test; the same windows for every method. CRPS by column in units of its "
    "root mean square one-step change before the test, then the mean over columns; 95 % intervals by block bootstrap; "
    "coverage in per cent. Best of a column in bold. Persistence is the last value, with a spread fitted to each "
    "horizon; the VAR has dummies of hour and weekday, and harmonics of the year where two are known; the GRU has "
    "as many parameters as the sequence SDE and is offered at least as many seconds. Options of the sequence SDE were "
    "chosen on each table without its test part; Beijing has those of the other weather. Where changes are larger in "
    "the test part than before, what was learned before is too sure, whoever learned it. So every forecast is scored "
    "twice: as fitted, and with widths that follow (`neuralsde forecast --calibrate`): at each origin the spread is "
    "multiplied, by column and horizon, by the factor that earlier forecasts from the validation and test parts should "
    "have had, of those only whose truth had come by then; one of 50 steps ago, or of three horizons, counts half. "
    "That half-life was chosen on exchange rates and New York weather without their test parts, where half and twice "
    "as much did nearly as well, and one factor from the validation part no better than none. AutoARIMA is as fitted "
    "in both."
)


@experiment(NAME, Size(), FULL)
def reproduce(asked: Asked[Size], *, tables: Sequence[str] = tuple(SPECS), data: Path | None = None) -> Iterator[str]:
    """Fit and score all methods, and say what came of it, line by line.

    seeds:  times the fits of the two networks, from `seed` on; scores are their means.
    tables: some of etth1, exchange, weather, beijing; those that the same command has left in `out` stay.
    data:   the folder of the tables, instead of NEURALSDE_DATA.

    Writes forecast.json, forecast.md and forecast.png into `out` after every table. Raises InputError for a table that
    is not there, before anything is fitted.
    """
    size = asked.size
    loaded = {name: load(name, data) for name in tables}
    facts = dict(asked.first)
    records: dict[str, Any] = {}
    for name, table in loaded.items():
        case = Case.of(SPECS[name], table)
        yield f"{case.spec.title}: {table.n_rows} rows of {len(table)} series, {len(case.row)} windows"
        settings, gru = _trained(SETTINGS[name], size), GRUS[name]
        for step in evaluate(
            case, settings, gru, seeds=asked.numbers(size.fits), paths=size.paths, least=size.gru_seconds,
            earlier_paths=size.earlier_paths, progress=asked.progress,
        ):  # fmt: skip
            if isinstance(step, Outcome):
                peer = read_peer(case)
                found = report.table_record(step, peer) | {"settings": asdict(settings), "gru": asdict(gru)}
                records[name] = json.loads(json.dumps(found))
                for which in ("methods", "followed"):
                    yield from report.aligned(report.table_rows(records[name], name, which))
                if isinstance(peer, str):
                    yield peer
            else:
                yield step
        records = _write(records, facts, asked.out)
    for row in _asked(records):
        yield "; ".join(f"{name}: {value}" for name, value in row.items())
    yield f"picture: {asked.path()}; table: {asked.path('.md')}; figures: {asked.path('.json')}"


def _write(records: Mapping[str, Any], facts: dict[str, Any], out: Path) -> dict[str, Any]:
    """Write the tables, and those that the same command has left in `out`; returns both."""
    every = {**on_file(facts, out).get("tables", {}), **records}
    every = {name: every[name] for name in SPECS if name in every}
    asked = _asked(every)
    page = report.page(every, asked, facts["command"], ABOUT)
    write_results(NAME, {**facts, "asked": asked, "tables": every}, page, out)
    save(report.picture(every), out / f"{NAME}.png")
    return every


def _asked(records: Mapping[str, Any]) -> list[dict[str, str]]:
    return lines([records[name] for name in SPECS if name in records])


def _trained(settings: Settings, size: Size) -> Settings:
    """With the number of steps that goes with the size."""
    steps = max(1, round(size.training * settings.training.steps))
    return replace(settings, training=replace(settings.training, steps=steps))

"""`neuralsde reproduce forecast`: four tables, five methods and what AutoARIMA left on file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from neuralsde.errors import InputError
from neuralsde.evaluate.style import save
from neuralsde.experiments.forecast import report
from neuralsde.experiments.forecast.case import Case
from neuralsde.experiments.forecast.data import SPECS, load
from neuralsde.experiments.forecast.gru_fit import GRUSettings
from neuralsde.experiments.forecast.harness import Outcome, evaluate
from neuralsde.experiments.forecast.ours import SETTINGS, Settings
from neuralsde.experiments.forecast.peers import read_peer
from neuralsde.experiments.forecast.verdict import lines, verdict
from neuralsde.experiments.results import opening, write_results
from neuralsde.train.progress import Reporter

NAME = "forecast"
GRUS = {
    "etth1": GRUSettings(),
    "exchange": GRUSettings(season=1, length=60, burn=20),
    "weather": GRUSettings(),
    "beijing": GRUSettings(),
}


@dataclass(frozen=True)
class Size:
    """Fits of each network, paths from each origin, and how many times the steps of `ours.SETTINGS`."""

    fits: int = 1
    paths: int = 200
    training: float = 1.0


SMALL = Size(paths=4, training=0.005)
FULL = Size(fits=3, paths=500, training=4.0)

ABOUT = (
    "The last 20 % of each series' time is the test; the same windows for every method. CRPS by column in units of its "
    "root mean square one-step change before the test, then the mean over columns; 95 % intervals by block bootstrap; "
    "coverage in per cent. Best of a column in bold."
)


def reproduce(
    *,
    out: Path,
    seed: int = 0,
    seeds: int = 1,
    full: bool = False,
    progress: Reporter | None = None,
    size: Size | None = None,
    tables: Sequence[str] = tuple(SPECS),
    data: Path | None = None,
) -> Iterator[str]:
    """Fit and score all methods, and say what came of it, line by line.

    seeds:  times the fits of the two networks, from `seed` on; scores are their means.
    tables: some of etth1, exchange, weather, beijing; those that the same command has left in `out` stay.
    data:   the folder of the tables, instead of NEURALSDE_DATA.

    Writes forecast.json, forecast.md and forecast.png into `out` after every table. Raises InputError for a table that
    is not there, before anything is fitted.
    """
    if seeds < 1:
        raise InputError(f"seeds={seeds}", "nothing to fit", "at least 1")
    size = size or (FULL if full else Size())
    loaded = {name: load(name, data) for name in tables}
    facts = opening(NAME, seed=seed, seeds=seeds, full=full, size=size)
    records = {name: record for name, record in _on_file(out, facts).items() if name not in tables}
    for name, table in loaded.items():
        case = Case.of(SPECS[name], table)
        yield f"{case.spec.title}: {table.n_rows} rows of {len(table)} series, {len(case.row)} windows"
        settings, gru = _trained(SETTINGS[name], size), GRUS[name]
        for step in evaluate(case, settings, gru, seeds=range(seed, seed + seeds * size.fits), paths=size.paths,
                             progress=progress):  # fmt: skip
            if isinstance(step, Outcome):
                peer = read_peer(case)
                found = report.table_record(step, peer) | {"settings": asdict(settings), "gru": asdict(gru)}
                records[name] = json.loads(json.dumps(found))
                yield from report.aligned(report.table_rows(records[name], name))
                if isinstance(peer, str):
                    yield peer
            else:
                yield step
        _write({each: records[each] for each in SPECS if each in records}, facts, out)
    for row in _asked(records):
        yield f"{row['what']}: asked {row['asked']}; measured {row['measured']}; met: {row['met']}"
    yield f"picture: {out / 'forecast.png'}; table: {out / 'forecast.md'}; figures: {out / 'forecast.json'}"


def _on_file(out: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Records of the tables that the same command has left in `out`."""
    path = out / f"{NAME}.json"
    if not path.is_file():
        return {}
    saved = json.loads(path.read_text(encoding="utf-8"))
    same = all(saved.get(key) == facts[key] for key in ("command", "size"))
    return saved["tables"] if same else {}


def _write(records: Mapping[str, Any], facts: Mapping[str, Any], out: Path) -> None:
    asked = _asked(records)
    page = report.page(records, asked, facts["command"], ABOUT)
    write_results(NAME, {**facts, "asked": asked, "tables": records}, page, out)
    save(report.picture(records), out / f"{NAME}.png")


def _asked(records: Mapping[str, Any]) -> list[dict[str, str]]:
    return lines([verdict(records[name]) for name in SPECS if name in records])


def _trained(settings: Settings, size: Size) -> Settings:
    """With the number of steps that goes with the size."""
    steps = max(1, round(size.training * settings.training.steps))
    return replace(settings, training=replace(settings.training, steps=steps))

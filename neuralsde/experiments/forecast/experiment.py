"""`neuralsde reproduce forecast`: four tables, five methods and what AutoARIMA left on file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

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
from neuralsde.experiments.results import write_results
from neuralsde.runs.folder import check_new
from neuralsde.train.progress import Reporter

PATHS = 200
GRUS = {
    "etth1": GRUSettings(),
    "exchange": GRUSettings(season=1, length=60, burn=20),
    "weather": GRUSettings(),
    "beijing": GRUSettings(),
}
FULL = 4
"""`full` trains both networks so many times longer."""

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
    tables: Sequence[str] = tuple(SPECS),
    data: Path | None = None,
    paths: int = PATHS,
    progress: Reporter | None = None,
) -> Iterator[str]:
    """Fit and score all methods, and say what came of it, line by line.

    seeds:  how many fits of the two networks, from `seed` on; scores are their means.
    full:   longer training.
    tables: some of etth1, exchange, weather, beijing.
    data:   the folder of the tables, instead of NEURALSDE_DATA.

    Into the new folder `out` go the runs, `forecast.json`, `forecast.md` and `forecast.png`. Raises InputError for a
    table that is not there, before anything is fitted.
    """
    if seeds < 1:
        raise InputError(f"seeds={seeds}", "nothing to fit", "at least 1")
    check_new(out)
    loaded = {name: load(name, data) for name in tables}
    records, verdicts = {}, []
    for name, table in loaded.items():
        case = Case.of(SPECS[name], table)
        yield f"{case.spec.title}: {table.n_rows} rows of {len(table)} series, {len(case.row)} windows"
        settings, gru = _longer(SETTINGS[name], full), GRUS[name]
        for step in evaluate(case, settings, gru, seeds=range(seed, seed + seeds), paths=paths, out=out,
                             progress=progress):  # fmt: skip
            if isinstance(step, Outcome):
                peer = read_peer(case)
                records[name] = report.table_record(step, peer) | {"settings": asdict(settings), "gru": asdict(gru)}
                verdicts.append(verdict(step, peer))
                yield from report.aligned(report.table_rows(records[name], name))
                if isinstance(peer, str):
                    yield peer
            else:
                yield step
    asked = lines(verdicts)
    command = f"neuralsde reproduce forecast --seed {seed} --seeds {seeds}" + (" --full" if full else "")
    result = {"experiment": "forecast", "command": command, "paths": paths, "asked": asked, "tables": records}
    write_results("forecast", json.loads(json.dumps(result)), report.page(records, asked, command, ABOUT), out)
    save(report.picture(records), out / "forecast.png")
    for row in asked:
        yield f"{row['what']}: asked {row['asked']}; measured {row['measured']}; met: {row['met']}"
    yield f"picture: {out / 'forecast.png'}; table: {out / 'forecast.md'}; figures: {out / 'forecast.json'}"


def _longer(settings: Settings, full: bool) -> Settings:
    training = settings.training
    return replace(settings, training=replace(training, steps=FULL * training.steps)) if full else settings

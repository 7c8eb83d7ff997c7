"""AutoARIMA of statsforecast on the windows of `neuralsde reproduce forecast`, which reads what this script writes.

    .venv-bench/bin/python benchmarks/autoarima.py [etth1 exchange weather beijing]

For each of at most ten series of a table: orders and coefficients are found once, on the last 1,000 points before the
test part, and then applied to the 1,000 points that end at each origin, so every forecast knows all that the others
know. The search is that of Hyndman & Khandakar 2008: stepwise, AICc, a season of 24 hours, candidates compared by
their conditional sum of squares and the winner fitted by likelihood, which is what their software does with more than
150 points; likelihoods all the way took 66 s instead of 3 for the oil temperature of ETTh1, for the same AICc to
0.003. Gaussian law, in closed form. A missing point is replaced by the one before it. The data are found as by the
experiment, through NEURALSDE_DATA.

Writes `experiments/results/forecast_autoarima.json`; tables that are not asked for stay as they were.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `benchmarks` is a folder, not an installed package

import numpy as np
from scipy.special import ndtri
from statsforecast import __version__ as statsforecast_version
from statsforecast.models import AutoARIMA

from benchmarks.record import circumstances
from neuralsde.evaluate import scores as sc
from neuralsde.experiments.forecast.case import Case
from neuralsde.experiments.forecast.data import DAILY, SPECS, load
from neuralsde.experiments.forecast.law import LEVELS
from neuralsde.experiments.forecast.peers import FILE, Chosen, chosen
from neuralsde.experiments.results import RESULTS

POINTS = 1_000


def forecasts(case: Case, one: Chosen, season: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Mean and s.d. (n, q) of the windows of one series, and the orders that were found."""
    grid, horizons = case.grids[one.series], np.array(case.spec.horizons)
    values = grid.filled[:, one.column]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # candidates that do not converge are no candidates
        model = AutoARIMA(season_length=season, approximation=True).fit(values[grid.test - POINTS : grid.test])
    origins = case.at[case.series == one.series]
    mean, sd = np.empty((len(origins), len(horizons))), np.empty((len(origins), len(horizons)))
    for i, at in enumerate(origins):
        found: Mapping[str, Any] = model.forward(values[at + 1 - POINTS : at + 1], h=int(horizons.max()), level=[80])
        mean[i] = np.asarray(found["mean"])[horizons - 1]
        sd[i] = (np.asarray(found["hi-80"])[horizons - 1] - mean[i]) / ndtri(0.9)
    p, q, P, Q, m, d, D = model.model_["arma"]
    return mean, sd, f"({p},{d},{q})({P},{D},{Q})[{m}]"


def table(name: str) -> dict[str, Any]:
    """The scores of one table: means over windows for each series, then over series."""
    case = Case.of(SPECS[name], load(name))
    season = 1 if case.spec.horizons == DAILY else 24
    series, began = chosen(case), time.monotonic()
    crps, orders, shares = [], [], {level: [] for level in LEVELS}
    for one in series:
        mean, sd, order = forecasts(case, one, season)
        truth = case.truth[case.series == one.series][:, :, one.column]
        crps.append(np.nanmean(sc.crps_gaussian(mean, sd, truth), axis=0) / case.scale[one.column])
        step = case.resolution[one.column]
        for level in LEVELS:
            shares[level].append(np.nanmean(sc.covered_gaussian(mean, sd, truth, level, step), axis=0))
        orders.append(order)
        label = f"{case.data.series[one.series].id} {case.data.columns[one.column]}".strip()
        print(f"{name} {label}: {order}, CRPS {crps[-1].round(3)}, {time.monotonic() - began:.0f} s", flush=True)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "fingerprint": case.fingerprint(),
        "windows": len(case.row),
        "horizons": list(case.spec.horizons),
        "points": POINTS,
        "series": [[one.series, one.column] for one in series],
        "orders": orders,
        "crps": [float(f"{value:.6g}") for value in np.mean(crps, axis=0)],
        "coverage": {str(level): [float(f"{v:.5g}") for v in np.mean(shares[level], axis=0)] for level in LEVELS},
        "seconds": round(time.monotonic() - began, 1),
    }


def main(names: list[str]) -> None:
    path = RESULTS / FILE
    kept = json.loads(path.read_text(encoding="utf-8"))["tables"] if path.is_file() else {}
    for name in names or list(SPECS):
        kept[name] = table(name)
        about = circumstances()
        about["versions"]["statsforecast"] = statsforecast_version
        content = {**about, "tables": {key: kept[key] for key in SPECS if key in kept}}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

"""What the experiment leaves: `forecast.json`, a table `forecast.md` made from it, and a picture `forecast.png`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from neuralsde.evaluate.bootstrap import Estimate, block_bootstrap
from neuralsde.evaluate.compare import compare
from neuralsde.evaluate.style import ACCENT, FAINT, INK, MUTED, axes, figure
from neuralsde.experiments.forecast.case import Case
from neuralsde.experiments.forecast.harness import METHODS, OURS, Outcome
from neuralsde.experiments.forecast.law import LEVELS, Marks, mean_over_columns
from neuralsde.experiments.forecast.peers import AUTOARIMA, Peer, on_chosen
from neuralsde.models.sequence_sde import Config

# -- figures as plain values -------------------------------------------------------------------------------------------


def table_record(outcome: Outcome, peer: Peer | str) -> dict[str, Any]:
    """Everything measured on one table, for JSON."""
    case = outcome.case
    return {
        "title": case.spec.title,
        "source": case.spec.source,
        "fingerprint": case.fingerprint(),
        "columns": list(case.data.columns),
        "scale": _rounded(case.scale),
        "one-step change of the test over that before": _rounded(case.unrest()),
        "series": len(case.data),
        "windows": len(case.row),
        "blocks": len(np.unique(case.blocks)),
        "horizons": list(case.spec.horizons),
        "first origin, last origin": [_when(case, np.argmin), _when(case, np.argmax)],
        "parameters": dict(outcome.parameters),
        "seconds": {name: round(value, 1) for name, value in outcome.seconds.items()},
        "methods": {name: _method(outcome.marks[name], case) for name in METHODS},
        "followed": {name: _method(outcome.followed[name], case) for name in METHODS},
        "paired": _paired(outcome),
        "autoarima": _peer_record(outcome, peer),
    }


def _method(marks: Marks, case: Case) -> dict[str, Any]:
    columns = case.data.columns
    found: dict[str, Any] = {
        "crps": _estimate(block_bootstrap(marks.over_columns(), case.blocks)),
        "energy": _estimate(block_bootstrap(marks.energy, case.blocks)),
        "crps by column": {name: _rounded(np.nanmean(marks.crps[..., k], axis=0)) for k, name in enumerate(columns)},
    }
    for level in LEVELS:
        share = marks.coverage[level]
        found[f"coverage {level}"] = _estimate(block_bootstrap(mean_over_columns(share), case.blocks))
        found[f"coverage {level} by column"] = {
            name: _rounded(np.nanmean(share[..., k], axis=0)) for k, name in enumerate(columns)
        }
    return found


def _paired(outcome: Outcome) -> dict[str, Any]:
    """How much worse than the sequence SDE each method is, in CRPS, with the interval of the paired difference."""
    case, found = outcome.case, {name: {"value": [], "low": [], "high": []} for name in METHODS if name != OURS}
    for j, horizon in enumerate(case.spec.horizons):
        values = {name: marks.over_columns()[:, j] for name, marks in outcome.marks.items()}
        for row in compare("crps", values, columns=[""], lead=str(horizon), blocks=case.blocks, model=OURS):
            if row.gain is not None:
                for end in ("value", "low", "high"):
                    found[row.method][end].append(float(f"{float(getattr(row.gain, end)):.4g}"))
    return found


def _peer_record(outcome: Outcome, peer: Peer | str) -> dict[str, Any]:
    if isinstance(peer, str):
        return {"absent": peer}
    own, share = on_chosen(outcome.marks[OURS], outcome.case, peer.series)
    following, _ = on_chosen(outcome.followed[OURS], outcome.case, peer.series)
    return {
        "about": peer.about,
        "series": [asdict(one) for one in peer.series],
        "crps": _rounded(peer.crps),
        "crps of the sequence SDE on them": _rounded(own),
        "crps of the sequence SDE on them, followed": _rounded(following),
        **{f"coverage {level}": _rounded(peer.coverage[level]) for level in LEVELS},
        **{f"coverage {level} of the sequence SDE on them": _rounded(share[level]) for level in LEVELS},
    }


def _estimate(found: Estimate) -> dict[str, list[float]]:
    return {"value": _rounded(found.value), "low": _rounded(found.low), "high": _rounded(found.high)}


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _when(case: Case, pick: Any) -> str | float:
    times = np.array([case.grids[s].times[a] for s, a in zip(case.series, case.at, strict=True)])
    return case.data.clock.format(times[[pick(times)]])[0]


# -- the table ---------------------------------------------------------------------------------------------------------


def horizon_name(horizon: int, name: str) -> str:
    return f"{horizon} {'d' if name == 'exchange' else 'h'}"


def table_rows(record: Mapping[str, Any], name: str, which: str = "methods") -> list[list[str]]:
    """One table's rows, the head first: CRPS with its interval, then coverage at both levels, by horizon.

    which: "methods", as fitted, with AutoARIMA; "followed", with widths that follow what earlier forecasts missed.
    """
    heads = [horizon_name(h, name) for h in record["horizons"]]
    rows = [["", *(f"CRPS {h}" for h in heads), *(f"{level} % {h}" for level in LEVELS for h in heads)]]
    best = np.min([record[which][method]["crps"]["value"] for method in METHODS], axis=0)
    for method in METHODS:
        found = record[which][method]
        crps = [
            f"{'**' if value == best[j] else ''}{value:.3f}{'**' if value == best[j] else ''} [{low:.3f}, {high:.3f}]"
            for j, (value, low, high) in enumerate(zip(*(found["crps"][end] for end in _ENDS), strict=True))
        ]
        shares = [f"{100 * value:.1f}" for level in LEVELS for value in found[f"coverage {level}"]["value"]]
        rows.append([method, *crps, *shares])
    peer = record["autoarima"]
    if "crps" in peer and which == "methods":
        count, all_series = len(peer["series"]), record["series"] * len(record["columns"])
        which = f"{count} of {all_series} series"
        for label, suffix in ((AUTOARIMA, ""), (OURS, " of the sequence SDE on them")):
            shares = [f"{100 * value:.1f}" for level in LEVELS for value in peer[f"coverage {level}{suffix}"]]
            rows.append([f"{label}, {which}", *(f"{value:.3f}" for value in peer[f"crps{suffix}"]), *shares])
    return rows


_ENDS = ("value", "low", "high")


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in body)]


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The same for a terminal."""
    plain = [[cell.replace("**", "") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*plain, strict=True)]
    for first, *rest in plain:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def page(records: Mapping[str, Any], asked: Sequence[Mapping[str, str]], command: str, about: str) -> str:
    """forecast.md."""
    lines = ["# Forecasts on four tables", "", f"Written by `{command}`. {about}", ""]
    lines += markdown([[*asked[0]], *([*row.values()] for row in asked)])
    for name, record in records.items():
        seconds, sizes = record["seconds"], record["parameters"]
        networks = "; ".join(f"{m}: {sizes[m]:,} parameters, {seconds[m]:.0f} s of training" for m in sizes)
        begin, end = record["first origin, last origin"]
        lines += [
            "",
            f"## {record['title']}",
            "",
            f"{record['windows']} windows of {record['series']} series, origins from {begin} to {end}, in "
            f"{record['blocks']} blocks; {', '.join(record['columns'])}. One-step changes in the test part are "
            f"{_range(record['one-step change of the test over that before'])} times as large as before. {networks}.",
            "",
            f"Options of the sequence SDE: `{options(record['settings'])}`.",
            "",
            "As fitted:",
            "",
            *markdown(table_rows(record, name)),
            "",
            "With widths that follow what earlier forecasts missed:",
            "",
            *markdown(table_rows(record, name, "followed")),
        ]
        if "absent" in record["autoarima"]:
            lines += ["", record["autoarima"]["absent"]]
    return "\n".join(lines) + "\n"


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def options(settings: Mapping[str, Any]) -> str:
    """What differs from the defaults of the model, and the training, as after `--set`."""
    plain = asdict(Config())
    found = {name: value for name, value in settings["model"].items() if plain[name] != _plain(value)}
    found |= {name: settings["training"][name] for name in ("steps", "weight_decay") if settings["training"][name]}
    return " ".join(f"{name}={_word(value)}" for name, value in found.items())


def _plain(value: Any) -> Any:
    """JSON has lists where a config has tuples."""
    return tuple(value) if isinstance(value, list) else value


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


# -- the picture -------------------------------------------------------------------------------------------------------

_COLOURS = {"persistence": FAINT, "climatology": "#c9a227", "VAR": "#7a5195", "GRU": "#b5533c", OURS: ACCENT}


def picture(records: Mapping[str, Any]) -> Figure:
    """Above: CRPS over that of persistence, by horizon. Below: coverage minus nominal, 80 % solid and 95 % dotted."""
    width, gap = 250, 32
    fig = figure(width * len(records) + gap, 470)
    total = width * len(records) + gap
    for k, (name, record) in enumerate(records.items()):
        left, right = gap + 24 + k * width, total - (k + 1) * width
        heads = [horizon_name(h, name) for h in record["horizons"]]
        above = axes(fig, left=left, right=right, top=28, bottom=260)
        below = axes(fig, left=left, right=right, top=250, bottom=42)
        walk = np.array(record["methods"]["persistence"]["crps"]["value"])
        for method in METHODS:
            style = {
                "color": _COLOURS[method],
                "linewidth": 2.0 if method == OURS else 1.2,
                "marker": "o",
                "markersize": 3,
            }
            ratio = np.array(record["methods"][method]["crps"]["value"]) / walk
            above.plot(range(len(heads)), ratio, label=method, **style)
            for level, dashes in zip(LEVELS, ("-", ":"), strict=True):
                off = 100 * np.array(record["methods"][method][f"coverage {level}"]["value"]) - level
                below.plot(range(len(heads)), off, linestyle=dashes, **style)
        above.set_ylim(0.2, 1.6)
        below.axhspan(-3, 3, color=FAINT, alpha=0.25, linewidth=0)
        below.set_ylim(-25, 20)
        above.set_title(record["title"], fontsize=11, color=INK)
        for ax in (above, below):
            ax.set_xticks(range(len(heads)), heads)
        if k == 0:
            above.set_ylabel("CRPS / persistence", color=MUTED)
            below.set_ylabel("coverage - nominal, points", color=MUTED)
        if k == len(records) - 1:
            above.legend(fontsize=8, frameon=False, loc="lower left", ncols=2)
    return fig

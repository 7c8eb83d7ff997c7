"""What was asked of a recovery, beside what was measured (THEORY 19 and 20): bounds, verdicts, the generated page.

A single data set may by luck have an exact estimate with hardly any error, and then nothing is within twice of it. So
the bound that compares the two is put on the root mean square over the data seeds; how many seeds meet it one by one is
told beside it. All other bounds hold for the worst seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neuralsde.experiments.linear import Process, euler_bias, one_step_sigma, ornstein_uhlenbeck, rotating

MISSING = 0.3
"""Share of the entries that are hidden, at random."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Check:
    """One line of the verdict; `measured` must not exceed `bound`, which is None where it is only reported."""

    what: str
    asked: str
    bound: float | None
    measured: float
    note: str = ""

    @property
    def met(self) -> bool | None:
        return None if self.bound is None else bool(self.measured <= self.bound)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def checks(complete: Mapping[str, Rows], missing: Rows) -> list[Check]:
    """All verdicts; `complete` by the name of the process."""
    processes = [process for process in (ornstein_uhlenbeck(), rotating()) if process.name in complete]
    found = [check for process in processes for check in complete_checks(process, complete[process.name])]
    return found + (missing_checks(missing) if missing else [])


def complete_checks(process: Process, rows: Rows) -> list[Check]:
    """THEORY 19, over the data seeds of one process."""

    def worst(name: str) -> float:
        return max(row[name] for row in rows)

    def overall(name: str) -> float:
        return float(np.sqrt(np.mean([row[name] ** 2 for row in rows])))

    plain, weighted = euler_bias(process)
    bias = float(np.abs(one_step_sigma(process) / process.sigma - 1).max())
    against = 2 * overall("drift_exact") + plain
    alone = [sum(row["drift"] <= 2 * row["drift_exact"] + each for row in rows) for each in (plain, weighted)]
    share = max(row["regret"] / row["gain"] for row in rows)
    contrast = [row["regressions"] for row in rows]
    span = ", ".join(
        f"{name} {min(c[key] for c in contrast):.3f}-{max(c[key] for c in contrast):.3f}"
        for name, key in (("|r|", "absolute"), ("log |r|", "log"))
    )
    name = process.name
    return [
        Check(f"{name}: drift error, worst seed", "<= 10 %", 0.10, worst("drift"), _beside(rows, "drift")),
        Check(
            f"{name}: drift error, RMS over the seeds",
            f"<= 2 x exact ML + Euler bias = 2 x {overall('drift_exact'):.4f} + {plain:.4f}",
            against,
            overall("drift"),
            f"one by one {alone[0]} of {len(rows)} seeds; the bias with the loss's weights is {weighted:.4f}, and with "
            f"that {alone[1]} of {len(rows)}",
        ),
        Check(
            f"{name}: sigma, worst seed and channel",
            "<= 8 % with one-step Euler",
            0.08,
            worst("sigma"),
            f"{_beside(rows, 'sigma')}; one step alone costs {bias:.4f}",
        ),
        Check(f"{name}: regret, worst seed", "<= .003 nats", 0.003, worst("regret"), _beside(rows, "regret")),
        Check(
            f"{name}: regret / gain over a random walk, worst seed",
            "<= 10 %",
            0.10,
            share,
            f"gain {min(r['gain'] for r in rows):.4f}-{max(r['gain'] for r in rows):.4f} nats",
        ),
        Check(
            f"{name}: |diffusion / one-step scale - 1|, worst seed and channel",
            "<= 2 % (near 1)",
            0.02,
            max(c["likelihood_worst"] for c in contrast),
            f"on the same residuals regressions learn: {span}",
        ),
    ]


def missing_checks(rows: Rows) -> list[Check]:
    """THEORY 20: `rows` hold the drift errors of the complete, the masked and the thinned data, for each seed."""
    gaps, thinned = ([row[f"gap_{name}"] for row in rows] for name in ("masked", "dropped"))
    errors = {name: [row[name] for row in rows] for name in ("drift", "drift_masked", "drift_dropped")}
    span = "; ".join(f"{name} {min(e):.4f}-{max(e):.4f}" for name, e in errors.items())
    return [
        Check(
            f"{100 * MISSING:.0f} % missing: drift error / that of complete data, worst seed",
            "<= 1.5",
            1.5,
            max(row["drift_masked"] / row["drift"] for row in rows),
            span,
        ),
        Check(
            "drift error / that of dropping incomplete rows, worst seed",
            "< 1",
            float(np.nextafter(1, 0)),
            max(row["drift_masked"] / row["drift_dropped"] for row in rows),
        ),
        Check(
            "Kalman likelihood gap, nats per observed entry, worst seed",
            "reported",
            None,
            max(gaps),
            f"{min(gaps):.5f}-{max(gaps):.5f}; rows missing whole, gap to the true law: {min(thinned):.5f}-"
            f"{max(thinned):.5f}",
        ),
    ]


def _beside(rows: Rows, name: str) -> str:
    worst = {kind: max(row[f"{name}_{kind}"] for row in rows) for kind in ("exact", "euler")}
    return f"exact ML {worst['exact']:.5f}, linear Euler {worst['euler']:.5f}"


# -- the page ------------------------------------------------------------------------------------------------------


def report(facts: Mapping[str, Any], verdict: Sequence[Check], complete: Mapping[str, Rows], missing: Rows) -> str:
    """Markdown: the verdicts, then every data set."""
    lines = [
        "# Recovery of known linear SDEs",
        "",
        f"Generated by `python -m neuralsde.experiments.recovery`: {facts['transitions']} transitions, "
        f"{facts['seeds']} data seeds, {facts['seconds']} s on {facts['cores']} cores. "
        "What the words mean is told at the head of `neuralsde/experiments/recovery.py`.",
        "",
        *_table(
            ("what", "asked", "measured", "met", "beside it"),
            [(c.what, c.asked, f"{c.measured:.4g}", _word(c.met), c.note) for c in verdict],
        ),
    ]
    for name, rows in complete.items():
        lines += ["", f"## {name}, complete data", "", *_seeds(rows, _COMPLETE)]
    if missing:
        lines += ["", "## rotating, entries missing", "", *_seeds(missing, _MISSING)]
    return "\n".join(lines) + "\n"


_COMPLETE = {
    "drift": "drift error", "drift_euler": "linear Euler", "drift_exact": "exact ML",
    "sigma": "sigma error", "sigma_euler": "linear Euler", "sigma_exact": "exact ML",
    "regret": "regret", "regret_euler": "linear Euler", "regret_exact": "exact ML", "gain": "gain",
    "best_step": "best step", "seconds": "s",
}  # fmt: skip
_MISSING = {
    "drift": "drift error, complete", "drift_masked": "masked", "drift_dropped": "rows dropped",
    "kalman_masked": "Kalman nats, masked", "gap_masked": "gap", "entries_masked": "entries",
    "kalman_dropped": "Kalman nats, rows", "gap_dropped": "gap", "entries_dropped": "entries",
}  # fmt: skip


def _seeds(rows: Rows, columns: Mapping[str, str]) -> list[str]:
    body = [(str(row["seed"]), *(f"{row[name]:.4g}" for name in columns)) for row in rows]
    return _table(("seed", *columns.values()), body)


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *map(line, body)]


def _word(met: bool | None) -> str:
    return {True: "yes", False: "NO", None: ""}[met]

"""What was asked of a recovery, beside what was measured (THEORY 19 and 20): bounds, verdicts, the generated page.

A single data set may by luck have an exact estimate with hardly any error, and then nothing is within twice of it. So
the bound that compares the two is put on the root mean square over the data sets; how many sets meet it one by one is
told beside it. All other bounds hold for the worst set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neuralsde.experiments.known import COUNTS

MISSING = 0.3
"""Share of the entries that are hidden, at random."""
EULER_BIAS = 0.01 * float(COUNTS.mean()) / 2
"""θ E[Δ] / 2, of a drift in one step."""

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


def checks(complete: Mapping[str, Rows], missing: Mapping[str, Rows]) -> list[Check]:
    """All verdicts, by the name of the case."""
    found = [check for name, rows in complete.items() for check in complete_checks(name, rows)]
    return found + [check for name, rows in missing.items() for check in missing_checks(name, rows)]


def complete_checks(name: str, rows: Rows) -> list[Check]:
    """THEORY 19, over the data sets of one case."""

    def worst(key: str) -> float:
        return max(row[key] for row in rows)

    def overall(key: str) -> float:
        return float(np.sqrt(np.mean([row[key] ** 2 for row in rows])))

    order = rows[0]["order"]
    bias, one_step = order * EULER_BIAS, order * overall("drift_one_step")
    alone = [sum(row["drift"] <= 2 * row["drift_exact"] + each for row in rows) for each in (bias, one_step)]
    drift = 2 * overall("drift_exact") + bias
    told = f"one by one {alone[0]} of {len(rows)} sets"
    if order:
        told += f"; the bias with the loss's weights is {one_step:.4f}, and with that {alone[1]} of {len(rows)}"
    noise = (0.08, "<= 8 % with one-step Euler") if order == 1 else (0.05, "<= 5 % with second order or m >= 4")
    found = [
        Check(f"{name}: drift error, worst set", "<= 10 %", 0.10, worst("drift"), _beside(rows, "drift")),
        Check(
            f"{name}: drift error, RMS over the sets",
            f"<= 2 x exact ML + Euler bias = 2 x {overall('drift_exact'):.4f} + {bias:.4f}",
            drift,
            overall("drift"),
            told,
        ),
        Check(
            f"{name}: sigma, worst set and channel",
            noise[1],
            noise[0],
            worst("sigma"),
            f"{_beside(rows, 'sigma')}; one step alone costs {worst('sigma_one_step'):.4f}",
        ),
        Check(f"{name}: regret, worst set", "<= .003 nats", 0.003, worst("regret"), _beside(rows, "regret")),
        Check(
            f"{name}: regret / gain over a random walk, worst set",
            "<= 10 %",
            0.10,
            max(row["regret"] / row["gain"] for row in rows),
            f"gain {min(r['gain'] for r in rows):.4f}-{max(r['gain'] for r in rows):.4f} nats",
        ),
    ]
    if "covariance" in rows[0]:
        what = f"{name}: noise covariance, relative Frobenius error to that of one step, worst set"
        found.append(Check(what, "reported", None, worst("covariance")))
    return found + (_regression_check(name, rows) if "regressions" in rows[0] else [])


def _regression_check(name: str, rows: Rows) -> list[Check]:
    """The likelihood's diffusion against that of the released code's regressions, on the same residuals."""
    contrast = [row["regressions"] for row in rows]
    span = ", ".join(
        f"{name} {min(c[key] for c in contrast):.3f}-{max(c[key] for c in contrast):.3f}"
        for name, key in (("|r|", "absolute"), ("log |r|", "log"))
    )
    worst = max(c["likelihood_worst"] for c in contrast)
    what = f"{name}: |diffusion / one-step scale - 1|, worst set and channel"
    return [Check(what, "<= 2 % (near 1)", 0.02, worst, f"on the same residuals regressions learn: {span}")]


def missing_checks(name: str, rows: Rows) -> list[Check]:
    """THEORY 20: `rows` hold the drift errors of the complete, the masked and the thinned data, for each set."""

    def span(key: str, digits: int = 4) -> str:
        values = [row[key] for row in rows]
        return f"{min(values):.{digits}f}-{max(values):.{digits}f}"

    kinds = [key for key in ("drift", "drift_masked", "drift_dropped") if key in rows[0]]
    found = [
        Check(
            f"{name}, {100 * MISSING:.0f} % missing: drift error / that of complete data, worst set",
            "<= 1.5",
            1.5,
            max(row["drift_masked"] / row["drift"] for row in rows),
            "; ".join(f"{key} {span(key)}" for key in kinds),
        )
    ]
    if "drift_dropped" in rows[0]:
        what = f"{name}: drift error / that of dropping incomplete rows, worst set"
        share = max(row["drift_masked"] / row["drift_dropped"] for row in rows)
        found.append(Check(what, "< 1", float(np.nextafter(1, 0)), share))
    note = f"{span('gap_masked', 5)}; a walk from the last values is behind by {span('gain_masked', 5)}"
    if "gap_dropped" in rows[0]:
        note += f"; rows missing whole, gap to the true law: {span('gap_dropped', 5)}"
    gap = max(row["gap_masked"] for row in rows)
    return [
        *found,
        Check(f"{name}: Kalman likelihood gap, nats per observed entry, worst set", "reported", None, gap, note),
    ]


def _beside(rows: Rows, name: str) -> str:
    worst = {kind: max(row[f"{name}_{kind}"] for row in rows) for kind in ("exact", "euler")}
    return f"exact ML {worst['exact']:.5f}, Euler without a network {worst['euler']:.5f}"


# -- the page ----------------------------------------------------------------------------------------------------------


def report(
    facts: Mapping[str, Any], verdict: Sequence[Check], complete: Mapping[str, Rows], missing: Mapping[str, Rows]
) -> str:
    """Markdown: the verdicts, then every data set."""
    met = [check.met for check in verdict if check.met is not None]
    lines = [
        "# Recovery of known SDEs",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. {facts['sets']} data sets of every process (fewer "
        "where that takes long: the tables below show them all), "
        f"{facts['transitions']:,} transitions each at gaps of .02 to .2 relaxation times. The floor of an error and "
        "of a regret is 0; what the exact maximum-likelihood estimate leaves stands beside it (*exact ML*), and so "
        "does the right parametric form in one Euler step (*Euler without a network*). The trivial line is a random "
        "walk, whose regret is the *gain* and whose drift error is 1. What the words mean is told at the head of "
        f"`neuralsde/experiments/recovery.py`. Asked and met: {sum(met)} of {len(met)}.",
        "",
        *_table(
            ("what", "asked", "measured", "met", "beside it"),
            [(c.what, c.asked, f"{c.measured:.4g}", _word(c.met), c.note) for c in verdict],
        ),
    ]
    unmet = [f"{check.what}: {check.measured:.4g}, asked {check.asked}" for check in verdict if check.met is False]
    lines += ["", "Not met: " + ("; ".join(unmet) if unmet else "nothing") + "."]
    lines += [
        "",
        "A drift that is off by the share e costs e² of the gain, so 10 % of the gain is e = .32: in nats a drift is "
        "easily good enough, while its own error is bounded by what the data say about it. The exact estimate knows "
        "the form of the drift and fits a few numbers; a network has to find the form too, and in the wells a "
        "transition says little about the drift (the gain).",
        "",
        "Chosen with an eye on what one Gaussian step can say at all: CIR has σ = .4, because at .8 the right "
        "parametric form in one such step already loses .0084 nats, more than is asked of a network; the wells have "
        "σ = .5 and a clock of 4, because at .7 and 2 the bias of one step alone is 13 %. Width, batch, rate and steps "
        "were chosen on one data set of OU and one of the wells. Ten channels with 30 % missing leave 3 % of the rows "
        "whole: what is read there is mostly values that are some rows old.",
    ]
    for name, rows in complete.items():
        lines += ["", f"## {name}, complete data", "", *_sets(rows, _COMPLETE)]
    for name, rows in missing.items():
        lines += ["", f"## {name}, entries missing", "", *_sets(rows, _MISSING)]
    return "\n".join(lines)


_COMPLETE = {
    "drift": "drift error", "drift_euler": "Euler", "drift_exact": "exact ML",
    "sigma": "sigma error", "sigma_euler": "Euler", "sigma_exact": "exact ML",
    "regret": "regret", "regret_euler": "Euler", "regret_exact": "exact ML", "gain": "gain",
    "best_step": "best step", "seconds": "s",
}  # fmt: skip
_MISSING = {
    "drift": "drift error, complete", "drift_masked": "masked", "drift_dropped": "rows dropped",
    "kalman_masked": "Kalman nats, masked", "gap_masked": "gap", "entries_masked": "entries",
    "kalman_dropped": "Kalman nats, rows", "gap_dropped": "gap", "entries_dropped": "entries",
}  # fmt: skip


def _sets(rows: Rows, columns: Mapping[str, str]) -> list[str]:
    columns = {key: title for key, title in columns.items() if key in rows[0]}
    body = [(str(row["seed"]), *(f"{row[name]:.4g}" for name in columns)) for row in rows]
    return _table(("seed", *columns.values()), body)


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *map(line, body)]


def _word(met: bool | None) -> str:
    return {True: "yes", False: "NO", None: ""}[met]

"""A known OU process is recovered from 30,000 transitions, within what theory allows; and the verdicts can say no.

Bounds: with N transitions of mean gap θΔ = .11 the exact estimate has a relative drift error of √(4 / .11 N), half from
θ and half from the mean. THEORY 19 allows twice that and the Euler bias. Regret and sigma keep the bounds of the
experiment: their floors under one-step Euler, .0007 nats and 5 %, do not depend on N. The networks are linear here,
which is enough for this process and soon trained.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from neuralsde.experiments.linear import ornstein_uhlenbeck
from neuralsde.experiments.recovery import Case, Drawn, Size, cases, recover, rounded
from neuralsde.experiments.recovery_checks import Check, checks, report

QUICK = Size(sets=1, series=100, steps=300, test_steps=200, depth=0, fit_steps=150, batch=512, rate=2e-2)


@pytest.fixture(scope="module")
def row() -> dict[str, Any]:
    drawn = Drawn.of(ornstein_uhlenbeck(), 0, QUICK)
    return recover(Case(drawn.process), drawn, drawn.estimates(), QUICK)[0]


def test_the_drift_is_found(row: dict[str, Any]) -> None:
    exact = np.sqrt(4 / (0.11 * row["transitions"]))
    assert row["drift"] <= 2 * exact + 0.055
    assert row["drift_exact"] <= 3 * exact
    # the Euler estimate has the bias and the chance error together, and so does the fit
    assert row["drift_euler"] <= 0.065 + 3 * exact
    assert row["drift_one_step"] == pytest.approx(0.065, abs=1e-3)


def test_the_likelihood_is_nearly_that_of_the_truth(row: dict[str, Any]) -> None:
    # θ E[Δ]/4 before the varying gaps are counted: what a driftless walk loses
    assert row["gain"] == pytest.approx(0.0275, rel=0.2)
    assert -1e-4 < row["regret"] <= 0.003
    assert row["regret"] <= 0.1 * row["gain"]
    # Wilks: p = 3 parameters cost p / 2N nats on fresh data; the 20,000 test transitions scatter around that
    assert abs(row["regret_exact"]) < 4e-4


def test_the_diffusion_is_not_biased_where_a_regression_is(row: dict[str, Any]) -> None:
    assert row["sigma"] <= 0.08
    learnt = row["regressions"]
    assert learnt["likelihood"] == pytest.approx(1.0, abs=0.02)
    # E|Z| and e^{E log|Z|} of a standard normal; the scatter is .6 / √N and 1.1 / √N, the rest is the drift's own error
    assert learnt["absolute"] == pytest.approx(np.sqrt(2 / np.pi), abs=0.015)
    assert learnt["log"] == pytest.approx(np.exp(-(np.euler_gamma + np.log(2)) / 2), abs=0.02)


GOOD = {"drift": 0.07, "drift_exact": 0.013, "sigma": 0.052, "regret": 7e-4, "gain": 0.027}
"""Figures of an ordinary data set of 200,000 transitions, for which the experiment's bounds are made."""


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({}, []),
        ({"drift": 1.0}, ["drift error, worst set", "drift error, RMS over the sets"]),
        ({"drift": 0.09}, ["drift error, RMS over the sets"]),
        ({"sigma": 0.2}, ["sigma, worst set and channel"]),
        ({"regret": 0.004, "gain": 0.05}, ["regret, worst set"]),
        ({"regret": 0.0029}, ["regret / gain over a random walk, worst set"]),
        ({"regressions": "absolute"}, ["|diffusion / one-step scale - 1|, worst set and channel"]),
        # without the bias of one step the bounds are tighter
        ({"order": 0.0}, ["drift error, RMS over the sets", "sigma, worst set and channel"]),
    ],
)
def test_each_fault_is_named(row: dict[str, Any], fault: dict[str, Any], named: list[str]) -> None:
    if fault.get("regressions"):
        fault = {"regressions": row["regressions"] | {"likelihood_worst": 1 - row["regressions"]["absolute"]}}
    found = checks({"OU": [{**row, **GOOD, **fault}]}, {})
    assert [check.what.removeprefix("OU: ") for check in found if not check.met] == named


THIN = {"drift": 0.07, "drift_masked": 0.08, "drift_dropped": 0.17, "gap_masked": 0.002, "gap_dropped": 0.005}


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({}, 0),
        ({"drift_masked": 0.12}, "rotating, 30 % missing: drift error / that of complete data, worst set"),
        ({"drift_dropped": 0.07}, "rotating: drift error / that of dropping incomplete rows, worst set"),
    ],
)
def test_faults_with_missing_entries_are_named(fault: dict[str, Any], named: Any) -> None:
    found = checks({}, {"rotating": [{**THIN, "gain_masked": 0.03, **fault}]})
    assert [check.what for check in found if check.met is False] == ([named] if named else [])


def test_the_page_has_every_verdict_and_the_json_is_plain(row: dict[str, Any]) -> None:
    facts = {"transitions": 30_000, "sets": 1, "seconds": 1, "command": "neuralsde reproduce recovery"}
    complete = {"OU": [{**row, **GOOD, "sigma": 0.2}]}
    verdict: list[Check] = checks(complete, {})
    page = report(facts, verdict, complete, {})
    for check in verdict:
        line = next(line for line in page.splitlines() if line.startswith("| " + check.what.replace("|", "\\|")))
        assert f"| {check.asked} | {check.measured:.4g} | {'yes' if check.met else 'NO'} |" in line
    assert json.loads(json.dumps(rounded(row), allow_nan=False))["drift"] == pytest.approx(row["drift"], rel=1e-5)


def test_all_that_was_asked_for_is_there() -> None:
    """Five processes, one with noise that depends on the state, one bistable, one with ten correlated channels."""
    found = cases()
    names = {case.process.name for case in found}
    assert names == {"OU", "rotating", "CIR", "double well", "ten-dimensional"}
    assert {case.process.name for case in found if case.bias < 1} == {"OU", "CIR", "double well"}
    assert {case.process.name for case in found if case.thinned} == {"rotating", "ten-dimensional"}
    assert {case.process.name for case in found if case.options.get("noise") == "full"} == {"ten-dimensional"}
    assert len({case.name for case in found}) == len(found)

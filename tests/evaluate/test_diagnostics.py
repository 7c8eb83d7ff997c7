"""Statistics of residuals against their definitions and their laws; one cause gives one finding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from neuralsde.evaluate import diagnostics as dg
from neuralsde.evaluate.bootstrap import Estimate
from neuralsde.evaluate.diagnostics import ColumnDiagnosis, Diagnostics

RNG = np.random.default_rng(5)


def test_autocorrelation_is_the_one_of_the_books() -> None:
    x = RNG.standard_normal((80, 2))
    found, pairs = dg.autocorrelation(x, np.arange(80))
    c = x - x.mean(0)
    for lag in (1, 4, 10):
        np.testing.assert_allclose(found[lag - 1], (c[lag:] * c[:-lag]).sum(0) / (c**2).sum(0), atol=1e-14)
        np.testing.assert_array_equal(pairs[lag - 1], 80 - lag)
    p, _ = dg.ljung_box(found, pairs, np.array([80.0, 80.0]))
    book = 80 * 82 * (found**2 / (80 - np.arange(1, 11))[:, None]).sum(0)
    np.testing.assert_allclose(stats.chi2.isf(p, 10), book, rtol=1e-9)


def test_pairs_do_not_cross_a_hole() -> None:
    """Two stretches, and a missing entry: only products of true neighbours count."""
    x = np.array([[1.0], [2.0], [4.0], [np.nan], [-7.0]])
    _, pairs = dg.autocorrelation(x, np.array([0, 1, 2, 50, 51]), lags=2)
    np.testing.assert_array_equal(pairs[:, 0], [2, 1])
    c = x - np.nanmean(x)
    found, _ = dg.autocorrelation(x, np.array([0, 1, 2, 50, 51]), lags=2)
    expected = np.array([c[0] * c[1] + c[1] * c[2], c[0] * c[2]]) / np.nansum(c**2)
    np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize("hole", [False, True])
def test_p_values_of_white_noise_are_uniform(hole: bool) -> None:
    place = np.arange(150)
    if hole:
        place = place[RNG.random(150) < 0.7]
    p = []
    for _ in range(400):
        found, pairs = dg.autocorrelation(RNG.standard_normal((len(place), 1)), place)
        p.append(dg.ljung_box(found, pairs, np.array([float(len(place))]))[0][0])
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_memory_has_a_small_p_value() -> None:
    x = np.zeros((300, 1))
    for k in range(1, 300):
        x[k] = 0.4 * x[k - 1] + RNG.standard_normal()
    found, pairs = dg.autocorrelation(x, np.arange(300))
    p, band = dg.ljung_box(found, pairs, np.array([300.0]))
    assert p[0] < 1e-6
    assert found[0, 0] > band[0, 0] > found[-1, 0]
    assert band[0, 0] == pytest.approx(1.96 / np.sqrt(300), rel=0.01)


def test_normal_scores_of_student_draws_are_normal() -> None:
    dof = np.array([3.0, 12.0])
    draws = np.asarray(stats.t.rvs(dof, size=(4000, 2), random_state=1), np.float64)
    scores = dg.normal_scores(draws, dof)
    for k in range(2):
        assert stats.kstest(scores[:, k], "norm").pvalue > 1e-3
    np.testing.assert_allclose(dg.normal_scores(-draws, dof), -scores, rtol=1e-12)
    assert np.isfinite(dg.normal_scores(np.array([[1e30, -1e30]]), dof)).all()
    assert dg.normal_scores(draws, None) is draws


def test_kurtosis() -> None:
    x = np.array([[-1.0], [1.0], [np.nan], [-1.0], [1.0]])
    np.testing.assert_allclose(dg.excess_kurtosis(x), [-2.0])


def test_a_ratio_of_variations_and_its_interval() -> None:
    """Blocks share a level, which cancels in the ratio; the interval covers the truth about as often as it says."""
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        level, blocks = np.repeat(rng.gamma(4, 1, 25), 4), np.repeat(np.arange(25), 4)
        data = level[:, None] * rng.chisquare(10, (100, 1))
        paths = 0.7 * level[:, None] * rng.chisquare(10, (100, 1))
        ratio = dg.variation_ratio(paths, data, blocks)
        np.testing.assert_allclose(ratio.value, paths.sum(0) / data.sum(0))
        hits += bool(ratio.low[0] <= 0.7 <= ratio.high[0])
    assert 87 <= hits <= 100


# -- findings ------------------------------------------------------------------------------------------------------


def about(value: float, width: float = 0.1) -> Estimate:
    return Estimate(*(np.array(value * (1 + sign * width)) for sign in (0, -1, 1)))


GOOD = ColumnDiagnosis(
    column="x", count=500, variance=about(1.0), kurtosis=0.1, correlation=np.full(10, 0.02), band=np.full(10, 0.09),
    p_white=0.4, log_sigma=-0.1, rounding=4.0, variation=about(1.0), leaves=0.0, shift=0.02, widening=-0.03,
)  # fmt: skip
WRONG = {
    "collapse": {"log_sigma": -6.5},
    "explosion": {"log_sigma": 6.5},
    "drift-leaves": {"leaves": 0.4},
    "over-confident": {"variance": about(3.0)},
    "too-cautious": {"variance": about(0.3)},
    "memory": {"p_white": 1e-9, "correlation": np.linspace(0.4, 0.0, 10)},
    "roughness": {"variation": about(2.0)},
    "effective-steps": {"widening": -0.3},
}


def kinds(*columns: ColumnDiagnosis) -> list[str]:
    return [finding.kind for finding in Diagnostics(columns, horizon="24 steps", bound=7.0).findings]


def test_a_good_column_has_no_finding() -> None:
    assert kinds(GOOD) == []
    assert kinds(replace(GOOD, variation=about(np.nan), rounding=np.nan, leaves=np.nan, shift=np.nan)) == []


@pytest.mark.parametrize("kind", WRONG)
def test_each_wrong_has_its_sentence(kind: str) -> None:
    bad = replace(GOOD, column="level", **WRONG[kind])
    (found,) = Diagnostics((GOOD, bad), horizon="24 steps", bound=7.0).findings
    assert (found.kind, found.columns) == (kind, ("level",))
    assert found.text.startswith("level: ")
    assert found.text.endswith(".")


def test_only_the_first_cause_is_told() -> None:
    everything = {name: value for wrong in reversed(WRONG.values()) for name, value in wrong.items()}
    assert kinds(replace(GOOD, **everything)) == ["collapse"]
    assert kinds(replace(GOOD, variance=about(3.0), **WRONG["drift-leaves"])) == ["drift-leaves"]
    assert kinds(replace(GOOD, variance=about(3.0), **WRONG["memory"])) == ["over-confident"]


def test_what_is_large_but_not_resolved_is_not_told() -> None:
    assert kinds(replace(GOOD, variance=about(3.0, width=0.9))) == []
    assert kinds(replace(GOOD, p_white=1e-9)) == []  # sure, but too small to matter
    assert kinds(replace(GOOD, correlation=np.linspace(0.4, 0.0, 10))) == []  # large, but of too few rows


def test_noise_below_the_rounding_is_a_collapse() -> None:
    (found,) = Diagnostics((replace(GOOD, rounding=0.01),), bound=7.0).findings
    assert found.kind == "collapse"
    assert "0.01 of the step to which the data are rounded" in found.text


def test_many_columns_share_a_sentence() -> None:
    columns = tuple(replace(GOOD, column=f"x{k}", variance=about(2.0 + k)) for k in range(6))
    (found,) = Diagnostics(columns, bound=7.0).findings
    assert found.text.startswith("x0, x1, x2, x3 and 2 more: over-confident")
    assert "7 times the variance" in found.text


def test_paths_that_break_are_the_only_thing_to_say() -> None:
    (found,) = Diagnostics((replace(GOOD, leaves=1.0),), broken="3 of 9 simulated paths are not finite").findings
    assert found.kind == "not-finite"

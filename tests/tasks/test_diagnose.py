"""A model that is the process passes; one wrong in one way is told that one thing.

The Ornstein-Uhlenbeck process at whole steps is the chain x' = a x + √(1 - a²) ξ, a = e^(-θ): one Euler-Maruyama step
of the linear model with A = a - 1 and sigma = √(1 - a²), exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import ou_table

from neuralsde.data import LastPart, Nothing, SomeSeries, Trajectories, from_arrays
from neuralsde.data.split import TEST, VALIDATION, Split
from neuralsde.data.windows import starts
from neuralsde.errors import InputError
from neuralsde.evaluate.diagnostics import Diagnostics
from neuralsde.models.sequence_sde import SequenceSDE
from neuralsde.runs import Run
from neuralsde.tasks.diagnose import _part, diagnose, moved, watch
from tests.models.linear import fitted_linear, linear_model

THETA = 0.2
RULE = LastPart(0.4)


def ou(a: float = np.exp(-THETA), sigma: float = 1.0, memory: float = 0.0) -> SequenceSDE:
    """x' = a x + memory · past + sigma √(1 - e^(-2θ)) ξ, in both columns."""
    scale = sigma * np.sqrt(1 - np.exp(-2 * THETA)) * np.ones(2)
    return linear_model((a - 1) * np.eye(2), scale, memory * np.eye(2) if memory else None)


def noisier(model: SequenceSDE, log: float) -> SequenceSDE:
    """The diffusion times e^log, as far as the bounds let it."""
    bias = model.diffusion_net.linear.bias
    assert bias is not None
    return eqx.tree_at(lambda m: m.diffusion_net.linear.bias, model, jnp.full_like(bias, log))


@pytest.fixture(scope="module")
def data() -> Trajectories:
    return ou_table(3, 500)


def found(model: SequenceSDE, data: Trajectories, **options: object) -> list[str]:
    return [finding.kind for finding in diagnose(fitted_linear(model, data), data, RULE).findings]


@pytest.fixture(scope="module")
def right(data: Trajectories) -> Diagnostics:
    return diagnose(fitted_linear(ou(), data), data, RULE)


def test_the_process_itself_passes(right: Diagnostics) -> None:
    assert right.findings == ()
    assert right.about == f"{3 * 199} transitions of the last 40 % of each series' time"
    for column in right.columns:
        assert column.count == 3 * 199
        assert abs(column.variance.value - 1) < 4 * np.sqrt(2 / column.count)
        # the data's own moves were as much smaller than they should be as the residuals
        assert column.variation.value * column.variance.value == pytest.approx(1, abs=0.1)
        assert column.p_white > 0.01
        assert abs(column.kurtosis) < 4 * np.sqrt(24 / column.count)
        assert (np.abs(column.correlation) < column.band).mean() >= 0.8
        assert column.log_sigma == pytest.approx(0.0, abs=1e-6)
        assert column.leaves == 0


def test_more_steps_move_the_law_as_the_closed_form_says(data: Trajectories) -> None:
    """θ = .5 of THEORY 15: s.d. -15 %, mean factor .67 for .61."""
    a = np.exp(-0.5)
    sigma = np.sqrt(1 - a**2)
    model = linear_model((a - 1) * np.eye(2), np.full(2, sigma))
    slow = 1 + (a - 1) / 10
    fine = sigma * np.sqrt(0.1 * (1 - slow**20) / (1 - slow**2))
    result = diagnose(fitted_linear(model, data), data, RULE)
    values = np.concatenate([s.values for s in data])
    for k, column in enumerate(result.columns):
        assert column.widening == pytest.approx(fine / sigma - 1, abs=0.02)
        assert column.shift == pytest.approx((slow**10 - a) * np.sqrt((values[:, k] ** 2).mean()) / sigma, abs=0.04)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (lambda: ou(sigma=0.5), "over-confident"),
        (lambda: ou(sigma=2.0), "too-cautious"),
        (lambda: noisier(ou(), -50.0), "collapse"),
        (lambda: noisier(ou(), 50.0), "explosion"),
        (lambda: ou(a=2 - np.exp(-THETA)), "drift-leaves"),
        (
            lambda: linear_model((np.exp(-1.2) - 1) * np.eye(2), np.full(2, np.sqrt(1 - np.exp(-2.4)))),
            "effective-steps",
        ),
    ],
    ids=["sigma halved", "sigma doubled", "sigma collapsed", "sigma exploded", "drift times -1", "one coarse step"],
)
def test_one_wrong_gives_one_warning(model: Callable[[], SequenceSDE], kind: str) -> None:
    theta = 1.2 if kind == "effective-steps" else THETA
    assert found(model(), chain(np.exp(-theta), 0.0)) == [kind]


def chain(a: float, b: float, rows: int = 500, seed: int = 2) -> Trajectories:
    """Series x_(t+1) = a x_t + b x_(t-1) + noise of unit variance in all, 3 of them."""
    rng = np.random.default_rng(seed)
    noise = np.sqrt((1 + b) * ((1 - b) ** 2 - a**2) / (1 - b))
    x = np.zeros((rows + 50, 3, 2))
    for k in range(2, len(x)):
        x[k] = a * x[k - 1] + b * x[k - 2] + noise * rng.standard_normal((3, 2))
    return from_arrays(np.arange(float(rows)), list(np.moveaxis(x[50:], 1, 0)), columns=("level", "flow"))


def test_a_history_that_is_too_short_is_told() -> None:
    """An AR(2) process seen by its best AR(1), which has the right variance one step ahead; with the past it passes."""
    a, b = 0.9, -0.5
    data, rho = chain(a, b), a / (1 - b)
    short = linear_model((rho - 1) * np.eye(2), np.full(2, np.sqrt(1 - rho**2)))
    result = diagnose(fitted_linear(short, data), data, RULE)
    (finding,) = result.findings
    assert finding.kind == "memory"
    assert "try history=1 instead of 0" in finding.text
    noise = np.sqrt((1 + b) * ((1 - b) ** 2 - a**2) / (1 - b))
    # in the model's terms: x' = y + (A y + B (past - y))
    long = linear_model((a + b - 1) * np.eye(2), np.full(2, noise), b * np.eye(2))
    whole = diagnose(fitted_linear(long, data), data, RULE)
    assert [f.kind for f in whole.findings if f.kind != "effective-steps"] == []


def test_paths_that_overflow_are_told_and_not_raised(data: Trajectories) -> None:
    result = diagnose(fitted_linear(ou(a=1e5), data), data, RULE)
    (finding,) = result.findings
    assert finding.kind == "not-finite"
    assert "not finite" in finding.text


def test_a_rounded_column_knows_the_size_of_its_noise(data: Trajectories) -> None:
    coarse = [np.round(s.values / 0.25) * 0.25 for s in data]
    rounded = from_arrays([s.times for s in data], coarse, columns=data.columns)
    fitted = fitted_linear(ou(), rounded)
    fitted = replace(fitted, encoder=replace(fitted.encoder, resolution=(0.25, 0.25)))
    result = diagnose(fitted, rounded, RULE)
    assert result.columns[0].rounding == pytest.approx(np.sqrt(1 - np.exp(-2 * THETA)) / 0.25, rel=1e-5)
    assert result.findings == ()


def test_missing_entries_are_left_out(data: Trajectories, right: Diagnostics) -> None:
    rng = np.random.default_rng(0)
    holes = []
    for s in data:
        x = s.values.copy()
        x[rng.random(len(x)) < 0.15, 0] = np.nan
        holes.append(x)
    table = from_arrays([s.times for s in data], holes, columns=data.columns)
    result = diagnose(fitted_linear(ou(), table), table, RULE)
    assert result.columns[0].count < right.columns[0].count
    assert result.columns[1].count == right.columns[1].count
    np.testing.assert_array_equal(result.columns[1].correlation, right.columns[1].correlation)


def test_a_run_diagnoses_itself(run: Run) -> None:
    found = run.diagnose(part="validation")
    assert [column.column for column in found.columns] == list(run.columns)
    assert found.about == "54 transitions of the validation rows"  # 3 series of 19 rows
    measured = [[float(c.variance.value), float(c.variation.value), c.shift] for c in found.columns]
    assert np.isfinite(np.array(measured)).all()


def test_which_rows_are_judged(data: Trajectories) -> None:
    """Of the fitted table, `_part` says it; that a diagnosis is about them, the first test of this file."""
    fitted = fitted_linear(ou(), data)
    for rule, part, role, about in (
        (RULE, "validation", VALIDATION, "validation rows"),
        (Nothing(), "held-out", VALIDATION, "validation rows"),
        (SomeSeries(0.3), "held-out", TEST, "of the series"),
        (LastPart(0.4), "held-out", TEST, "the last 40 %"),
    ):
        split = Split.of(data, rule)
        _, marked, said = _part(split, part)
        assert about in said
        np.testing.assert_array_equal(marked, np.concatenate(split.roles) == role)
    assert "another table" in diagnose(fitted, data, RULE, ou_table(3, 500, seed=4)).about
    with pytest.raises(InputError, match="held-out or validation"):
        diagnose(fitted, data, RULE, part="test")


def test_a_watch_tells_a_collapse_while_training(data: Trajectories) -> None:
    fitted = fitted_linear(ou(), data)
    split = Split.of(data, RULE)
    rows = fitted.encoder.encode(data)
    remarks = watch(fitted, rows, starts(rows, np.concatenate(split.roles) == TEST))
    assert remarks(ou()) == ()
    (said,) = remarks(noisier(ou(), -50.0))
    assert said.startswith("level, flow: the diffusion has collapsed")


def test_a_shift_is_not_inflated_by_few_samples() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.standard_normal((2, 4000, 16, 1))
    naive = np.sqrt(((after.mean(1) - before.mean(1)) ** 2).mean())
    assert naive > 0.3
    assert moved(before, after)[0][0] < 0.15
    assert moved(before, after + 0.5)[0][0] == pytest.approx(0.5, abs=0.05)
    assert moved(before, 2 * after)[1][0] == pytest.approx(1.0, abs=0.05)

"""The page of a run says what is true of it: pictures of held-out rows, the field of the model, and what is missing."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.data import LastPart, Nothing, Trajectories, from_arrays
from neuralsde.data.rules import Rule
from neuralsde.data.split import Split
from neuralsde.evaluate.content import ReportContent, Score
from neuralsde.models.sequence_sde import Config, SequenceSDE
from neuralsde.runs import Run, fit, load
from neuralsde.runs import report_facts as facts
from neuralsde.runs.plan import Plan, prepare
from neuralsde.runs.report import content_of
from neuralsde.runs.report_field import coefficients, to_data, vector_field
from neuralsde.runs.report_windows import Scene, _Ahead, moment_text, spread_out
from neuralsde.tasks.score import Scores
from neuralsde.train.problem import TrainConfig

SMALL = Config(history=1, width=4, depth=1)
TRAINING = TrainConfig(steps=20, batch_size=16, log_every=5, validate_every=10)
HOURS = np.datetime64("2024-01-01T00", "s") + 3600 * np.arange(160).astype("timedelta64[s]")
SECTIONS = ["forecasts", "scores", "calibration", "diagnostics", "paths", "field", "training", "facts"]


def walk(n: int, d: int, seed: int = 0) -> np.ndarray:
    """A stationary AR(1), (n, d)."""
    rng, x = np.random.default_rng(seed), np.zeros((n, d))
    for k in range(1, n):
        x[k] = 0.8 * x[k - 1] + 0.3 * rng.standard_normal(d)
    return x


def hourly(d: int = 2) -> Trajectories:
    data = from_arrays([HOURS, HOURS], [walk(160, d, 1), walk(160, d, 2)], ids=["north", "south"])
    return replace(data, notes=("a note",), calendar=("hour-of-day",))


def planned(data: Trajectories, rule: Rule | None = None) -> tuple[Plan, SequenceSDE]:
    """A plan and its model before training: a random walk (the flow is zero)."""
    plan = prepare(data, SMALL, TRAINING, rule).plan
    return plan, plan.model()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(hourly(), model=SMALL, training=TRAINING, steps=20, out=tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def scores(run: Run) -> Scores:
    return run.score(leads=(1, 3), n=20, stride=4)


@pytest.fixture(scope="module")
def content(run: Run, scores: Scores) -> ReportContent:
    return content_of(run.plan, run.model, run.data, run.metrics, scores, folder=run.folder)


# -- the whole page -----------------------------------------------------------------------------------------------


def test_the_page_of_a_run_has_every_section_and_needs_nothing(run: Run, scores: Scores):
    path = run.report(scores=scores)
    page = path.read_text(encoding="utf-8")
    assert run.folder is not None
    assert path == run.folder.report_path
    assert re.findall(r'<section id="(\w+)"', page) == SECTIONS
    assert not re.search(r"https?:|//\w|@import|url\((?!#)", page)
    assert 'class="empty"' not in page
    for text in ("x0 and x1", "hour-of-day", "a note", "persistence", "the last 20 %", "20 of 16 transitions"):
        assert text in page


def test_the_curves_are_those_of_metrics_jsonl(run: Run, content: ReportContent):
    assert run.folder is not None
    lines = [json.loads(line) for line in run.folder.metrics_path.read_text().splitlines()]
    curves = content.training
    assert curves is not None
    assert curves.steps.tolist() == [5, 10, 15, 20]
    assert curves.loss.tolist() == [line["loss"] for line in lines]
    assert curves.validation_steps.tolist() == [10, 20]
    assert curves.best_step == run.folder.summary()["best_step"]


def test_a_run_without_its_table_says_so(run: Run):
    assert run.folder is not None
    alone = load(run.folder.path)  # its data came from memory
    page = alone.report().read_text(encoding="utf-8")
    assert page.count("Reason: a run without its table") == 1
    without = [name for name in SECTIONS if name != "diagnostics"]
    assert re.findall(r'<section id="(\w+)"', page) == without  # the field needs no table
    assert page.count("<svg") == 3  # it and the two curves


# -- windows ------------------------------------------------------------------------------------------------------


def test_fans_show_held_out_rows_as_they_are_in_the_table(run: Run, content: ReportContent):
    assert run.data is not None
    split = Split.of(run.data, run.plan.rule)
    labels = [moment_text(run.data.clock, float(time)) for time in run.data.series[0].times]
    assert {fan.label.split(" · ")[0] for fan in content.fans} == {"north", "south"}
    assert content.time_unit == "hours"
    for fan in content.fans:
        name, time = fan.label.split(" · ")
        series, row = ("north", "south").index(name), labels.index(time)
        table = run.data.series[series].values
        assert (split.roles[series][row : row + 4] == 2).all()
        np.testing.assert_array_equal(fan.times, [1, 2, 3])  # the longest lead
        np.testing.assert_array_equal(fan.truth, table[row + 1 : row + 4])
        np.testing.assert_array_equal(fan.past, table[row - 23 : row + 1])
        assert fan.past_times[-1] == 0
        (low80, high80), (low95, high95) = fan.bands[80], fan.bands[95]
        assert (low95 <= low80).all()
        assert (low80 < high80).all()
        assert (high80 <= high95).all()


def test_sample_paths_run_farther_and_begin_at_what_was_seen(content: ReportContent):
    (paths,) = content.paths
    assert paths.times.tolist() == list(range(10))
    assert paths.truth is not None
    np.testing.assert_array_equal(paths.values[:, 0], np.broadcast_to(paths.truth[0], paths.values[:, 0].shape))
    assert len(np.unique(paths.values[:, 1, 0])) == len(paths.values)


def test_steps_fill_a_gap_as_the_simulation_walks_it():
    """Rows at 0, 1, 2, 5, 6: between 2 and 5 the simulation takes three steps, so three are drawn."""
    times = np.concatenate([np.arange(40.0), [40, 41, 42, 45, 46, 47]])
    data = from_arrays(times, walk(len(times), 1))
    plan, model = planned(data, LastPart(0.15))
    scene = Scene.of(plan.fitted(model), Split.of(data, plan.rule), (6,))
    ahead = _Ahead.of(scene, 40, 6)
    np.testing.assert_allclose(ahead.times, [1, 2, 3, 4, 5, 6], atol=1e-6)
    assert ahead.rows.tolist() == [41, 42, -1, -1, 43, 44]
    beyond = _Ahead.of(scene, 45, 3)
    assert beyond.times.tolist() == [1, 2, 3]
    assert beyond.rows.tolist() == [-1, -1, -1]


def test_windows_are_spread_over_series_and_time():
    data = from_arrays([np.arange(100.0)] * 5, [walk(100, 1, seed) for seed in range(5)])
    plan, _ = planned(data)
    rows = plan.encoder.encode(data)
    chosen = spread_out(rows, np.arange(len(rows)), 3)
    assert len(set(rows.series[chosen].tolist())) == 3
    assert np.diff(rows.time[chosen]).min() > 20
    assert spread_out(rows, np.array([7]), 3).tolist() == [7]
    assert len(spread_out(rows, np.zeros(0, np.int64), 3)) == 0


def test_a_stretch_too_short_for_any_lead_has_paths_but_no_fan():
    data = from_arrays(np.arange(40.0), walk(40, 1))
    plan, model = planned(data, LastPart(0.02))
    content = content_of(plan, model, data, (), None, missing="the held-out part is too short")
    assert content.fans == ()
    assert content.training is None
    assert content.paths[0].truth is None
    assert content.missing == "the held-out part is too short"


def test_nothing_held_out_is_said():
    data = from_arrays(np.arange(40.0), walk(40, 1))
    plan, model = planned(data, Nothing())
    content = content_of(plan, model, data, (), None)
    assert content.fans == ()
    assert content.paths[0].label == "From t = 39"
    assert "Nothing was held out" in content.summary


def test_paths_that_blow_up_are_no_reason_to_have_no_page():
    data = from_arrays(np.arange(40.0), walk(40, 1))
    plan, model = planned(data, Nothing())
    broken = eqx.tree_at(lambda m: m.flow_net.linear.bias, model, jnp.full(1, jnp.inf))
    content = content_of(plan, broken, data, (), None)
    assert content.paths == ()
    assert "not finite" in content.missing


# -- the field ----------------------------------------------------------------------------------------------------


def test_the_field_is_in_data_units_and_in_the_time_of_the_clock():
    """Before training the drift is zero and the diffusion that of the random walk: walk · sd / √tau."""
    data = from_arrays(0.25 * np.arange(80.0), walk(80, 2) * [1.0, 50.0])
    plan, model = planned(data)
    field = vector_field(plan.fitted(model), Split.of(data, plan.rule), None)
    sizes = np.array(plan.walk) * np.array(plan.encoder.sd) / np.sqrt(0.25)
    np.testing.assert_allclose(field.drift, 0.0, atol=1e-9)
    np.testing.assert_allclose(field.diffusion, np.broadcast_to(sizes, field.diffusion.shape), rtol=1e-5)
    assert field.data is not None
    assert field.x[0] < field.data[:, 0].min() < field.data[:, 0].max() < field.x[-1]
    assert "the row before the present" in field.about


def test_the_field_in_time_stamps_is_per_hour():
    data = hourly()
    plan, model = planned(data)
    field = vector_field(plan.fitted(model), None, None)
    np.testing.assert_allclose(field.diffusion[0, 0], np.array(plan.walk) * np.array(plan.encoder.sd), rtol=1e-5)
    assert field.time_unit == "hour"
    assert field.data is None


def test_coefficients_are_those_of_a_state_that_stood_still():
    plan, model = planned(hourly())
    weight = jnp.zeros_like(model.flow_net.linear.weight).at[:, 2:4].set(1.0)  # reads only the past's differences
    still = eqx.tree_at(lambda m: m.flow_net.linear.weight, model, weight)
    flow, sigma = coefficients(still, np.array([[1.0, -2.0], [3.0, 0.5]]), np.zeros(plan.encoder.context_dim), 0.0)
    np.testing.assert_array_equal(flow, 0.0)
    np.testing.assert_allclose(sigma, [plan.walk] * 2, rtol=1e-6)


def test_ito_s_formula_against_a_small_step():
    """Mean and s.d. of x(z + f h + g √h ξ), by Gauss-Hermite, over a small h: what drift and diffusion mean."""
    data = from_arrays(np.arange(200.0), np.abs(walk(200, 2)) + 0.01)
    plan, _ = planned(replace(data, support={"x0": (0.0, np.inf), "x1": (0.0, 4.0)}))
    encoder, h = plan.encoder, 1e-4
    z, flow, sigma = np.array([[-0.7, 0.4]]), np.array([[0.3, -0.2]]), np.array([[0.9, 1.1]])
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    later = encoder.decode(z + flow * h + sigma * np.sqrt(h) * nodes[:, None])
    share = weights / weights.sum()
    mean = share @ later
    drift, diffusion = to_data(encoder, z, flow, sigma)
    np.testing.assert_allclose(drift[0], (mean - encoder.decode(z)[0]) / h / encoder.tau, rtol=1e-3)
    spread = np.sqrt(share @ (later - mean) ** 2 / h / encoder.tau)
    np.testing.assert_allclose(diffusion[0], spread, rtol=1e-3)


def test_the_grid_stays_inside_the_support():
    data = replace(from_arrays(np.arange(80.0), np.abs(walk(80, 2))), support={"x0": (0.0, np.inf)})
    plan, model = planned(data)
    field = vector_field(plan.fitted(model), Split.of(data, plan.rule), None)
    assert field.x[0] >= 0
    assert np.isfinite(field.drift).all()


# -- words --------------------------------------------------------------------------------------------------------


def test_titles_and_facts_stay_short_for_many_columns():
    data = from_arrays(np.arange(60.0), walk(60, 9))
    plan, model = planned(data)
    assert facts.title(plan) == "9 columns"
    assert facts.title(replace(plan, source="/somewhere/plant.csv.gz")) == "9 columns of plant"
    groups = facts.facts(plan, model, Split.of(data, plan.rule), None, None)
    assert groups["Data"]["Columns"] == "x0, x1, x2, x3, x4, x5 and 3 more"
    assert groups["Data"]["Time"] == "t = 0 to 59"
    assert groups["Data"]["Missing"] == "none"


def test_one_column_has_no_energy_score():
    data = from_arrays(np.arange(60.0), walk(60, 1))
    plan, model = planned(data)
    rows = tuple(Score(metric, "", "1 step", "neural SDE", 1.0, 0.9, 1.1) for metric in ("crps", "energy"))
    content = content_of(plan, model, None, (), Scores(rows, (), (), ("value",), "", (1,)))
    assert [row.metric for row in content.scores] == ["crps"]
    assert content.field is None


def test_no_row_for_validation_is_said():
    data = from_arrays([np.arange(3.0)] * 4, [walk(3, 1, seed) for seed in range(4)])
    plan, _ = planned(data, Nothing())
    curves = facts.training([{"step": 1, "loss": 2.0}], Split.of(data, plan.rule), None)
    assert curves is not None
    assert len(curves.validation) == 0
    assert curves.best_step is None
    assert "No row could be spared" in curves.rule


def test_moments():
    clock = hourly().clock
    assert moment_text(clock, 1_704_078_000.0) == "1 January 2024, 03:00"
    assert moment_text(clock, 1_704_078_005.0) == "1 January 2024, 03:00:05"
    assert moment_text(from_arrays(np.arange(3.0), np.arange(3.0)).clock, 12.5) == "t = 12.5"

"""Actions steer, labels stay, statics are known: covariates in forecasts, samples and scores.

A controlled linear system x' = x + (A x + B u) dt + sigma sqrt(dt) xi has forecasts whose means differ, under two plans
of actions, by d_{k+1} = (1 + A dt) d_k + B (u_k - v_k) dt, whatever the noise was.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from neuralsde.cli import app as cli
from neuralsde.data import Layout, Trajectories, from_arrays, future, read
from neuralsde.errors import InputError
from neuralsde.models.sequence_sde import Config
from neuralsde.runs import fit, load
from neuralsde.tasks.ahead import paths_ahead
from neuralsde.tasks.forecast import forecast
from neuralsde.tasks.sample import sample
from neuralsde.tasks.windows import Windows, pairs
from neuralsde.train.problem import TrainConfig
from tests.models.linear import fitted_linear, linear_model

A = np.array([[-0.3, 0.1], [0.0, -0.2]])
B = np.array([[0.5], [-0.4]])
SIGMA = np.array([0.2, 0.3])
K = 6


def controlled(rows: int = 40, series: int = 2, seed: int = 0) -> Trajectories:
    """The system under random actions, one step of 1 a row; the action of a row acts from that row on."""
    rng = np.random.default_rng(seed)
    values, actions = np.zeros((series, rows, 2)), rng.uniform(-1, 1, (series, rows, 1))
    for k in range(rows - 1):
        push = values[:, k] @ A.T + actions[:, k] @ B.T
        values[:, k + 1] = values[:, k] + push + SIGMA * rng.standard_normal((series, 2))
    times = np.arange(float(rows))
    return from_arrays(times, values, context=actions, columns=["x", "y"], context_columns=["u"])


def plan(data: Trajectories, actions: np.ndarray) -> Trajectories:
    end = data.series[0].times[-1]
    later = pl.DataFrame({"id": ["0"] * K + ["1"] * K, "time": 2 * (end + np.arange(1.0, K + 1)).tolist()})
    return future(later.with_columns(u=np.tile(actions, 2)), Layout.of(data))


def difference(actions: np.ndarray) -> np.ndarray:
    """Closed form (K, 2) of what actions (K,) change; the first is read only after the first step."""
    d = np.zeros((K + 1, 2))
    for k in range(K):
        d[k + 1] = d[k] + A @ d[k] + (B[:, 0] * actions[k - 1] if k else 0)
    return d[1:]


def test_forecasts_under_two_plans_differ_as_the_closed_form_says() -> None:
    data = controlled()
    fitted = fitted_linear(linear_model(A, SIGMA, context=B), data)
    rng = np.random.default_rng(1)
    plans = rng.uniform(-1, 1, (2, K))
    tables = [
        forecast(fitted, data, horizon=K, n=20, future=plan(data, u)).sort("id", "variable", "time") for u in plans
    ]
    moved = (tables[0]["mean"] - tables[1]["mean"]).to_numpy().reshape(2, 2, K)
    expected = difference(plans[0] - plans[1]).T
    np.testing.assert_allclose(moved, [expected, expected], atol=2e-6)
    np.testing.assert_allclose(tables[0]["sd"], tables[1]["sd"], atol=1e-6)


def test_an_action_is_read_from_its_row_to_the_next() -> None:
    data = controlled()
    fitted = fitted_linear(linear_model(A, SIGMA, context=B), data)
    ts, still = np.arange(4.0), np.zeros(4)
    calm = sample(fitted, [0.0, 0.0], ts, n=3, context={"u": still})
    for j in range(4):
        pushed = sample(fitted, [0.0, 0.0], ts, n=3, context={"u": np.eye(4)[j]}) - calm
        np.testing.assert_allclose(pushed[:, : j + 1], 0, atol=1e-6)
        if j < 3:
            np.testing.assert_allclose(pushed[:, j + 1], np.tile(B[:, 0], (3, 1)), atol=1e-6)
    by_array = sample(fitted, [0.0, 0.0], ts, n=3, context=still[:, None])
    np.testing.assert_array_equal(by_array, calm)


def test_the_effect_of_actions_is_recovered() -> None:
    data = controlled(rows=600, series=4, seed=3)
    training = TrainConfig(steps=400, batch_size=512, learning_rate=2e-2, ema=0.98)
    run = fit(data, model=Config(history=0, depth=0), training=training)
    ts = np.arange(2.0)
    push = [run.sample([x, y], ts, n=2, context={"u": u})[0, 1] for x, y, u in ((0, 0, 0.5), (0, 0, -0.5))]
    np.testing.assert_allclose(push[0] - push[1], B[:, 0], atol=0.05)


# -- labels and statics ----------------------------------------------------------------------------------------------


def labelled(rows: int = 60, seed: int = 0) -> pl.DataFrame:
    """A level that drifts up while a valve is open, in series of two kinds with opposite signs."""
    rng = np.random.default_rng(seed)
    parts = []
    for k, kind in enumerate(("up", "down", "up", "down")):
        valve = (rng.random(rows).cumsum() // 3 % 2).astype(int)
        sign = 1 if kind == "up" else -1
        x = np.concatenate([[0.0], np.cumsum(sign * (valve[:-1] - 0.5) + 0.1 * rng.standard_normal(rows - 1))])
        parts.append(pl.DataFrame({"id": f"s{k}", "t": np.arange(rows), "x": x, "kind": kind, "valve": valve}))
    return pl.concat(parts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the command line with a static and a discrete column, and the table beside it."""
    here = tmp_path_factory.mktemp("labels")
    labelled().write_csv(here / "t.csv")
    assert cli.run(f"""fit {here}/t.csv --id id --time t --values x --static kind --discrete valve --out {here}/run
        --steps 30 --set history=0 width=4 depth=1 batch_size=64 log_every=10""".split()) == 0  # fmt: skip
    return here


def test_the_labels_of_a_forecast_are_the_last_ones_untouched(folder: Path) -> None:
    run = load(folder / "run")
    table = run.forecast(horizon=3, n=8)
    valve = table.filter(pl.col("variable") == "valve")
    last = labelled().group_by("id", maintain_order=True).last()["valve"]
    assert valve["label"].to_list() == [str(v) for v in last for _ in range(3)]
    for column, expected in (("mean", np.repeat(last, 3)), ("sd", 0), ("lo-80", np.repeat(last, 3))):
        np.testing.assert_array_equal(valve[column], expected)
    assert table.filter(pl.col("variable") == "x")["label"].null_count() == 12
    filled = run.impute(n=4).filter(pl.col("variable") == "valve")
    assert filled["label"].to_list() == [str(v) for v in labelled()["valve"]]
    assert filled["observed"].all()


def test_a_future_that_repeats_the_last_label_changes_nothing(folder: Path) -> None:
    run, table = load(folder / "run"), labelled()
    last = table.group_by("id", maintain_order=True).last()
    ahead = pl.concat([last.with_columns(t=pl.col("t") + k) for k in (1, 2, 3)])["id", "t", "valve"]
    assert run.forecast(horizon=3, n=8).equals(run.forecast(horizon=3, n=8, future=ahead))
    other = run.forecast(horizon=3, n=8, future=ahead.with_columns(valve=1 - pl.col("valve")))
    assert not other.equals(run.forecast(horizon=3, n=8))  # a future that tells other labels is read


def test_a_backtest_does_not_see_the_labels_to_come(folder: Path) -> None:
    fitted = load(folder / "run").fitted
    data = read(folder / "t.csv", layout=fitted.encoder.layout)
    first = data.series[0]
    flipped = first.context.copy()
    flipped[31:, 1] = 1 - flipped[31:, 1]
    one, other = (replace(data, series=(s,)) for s in (first, replace(first, context=flipped)))
    targets, paths = np.arange(1.0, 6.0)[None], []
    for table in (one, other):
        rows = fitted.encoder.encode(table)
        paths += [paths_ahead(fitted, rows, np.array([30]), targets, [list(table)], n=4, seed=0).states]
    np.testing.assert_array_equal(paths[0], paths[1])
    windows = Windows(np.array([30]), np.array([[35]]), np.array([[5.0]]))
    known = [pairs(fitted.encoder, fitted.encoder.encode(table), windows, 0, 1) for table in (one, other)]
    np.testing.assert_array_equal(known[0].target_context, known[1].target_context)  # nor do the baselines


def test_a_sample_is_told_its_labels(folder: Path) -> None:
    run = load(folder / "run")
    ts = np.arange(4.0)
    paths = {v: run.sample([0.0], ts, n=4, context={"kind": "up", "valve": v}) for v in (0, 1)}
    assert not np.array_equal(paths[0], paths[1])
    np.testing.assert_array_equal(run.sample([0.0], ts, n=4, context={"kind": "up", "valve": ["1"] * 4}), paths[1])
    np.testing.assert_array_equal(run.sample([0.0], ts, n=4, context=np.tile([1.0, 0.0], (4, 1))), paths[0])
    for context, says in (
        ({"valve": 0}, "'kind'"),
        ({"kind": "upp"}, "did you mean 'up'"),
        ({"kind": "up", "vavle": 0}, "did you mean 'valve'"),
        (None, "the model reads covariates"),
    ):
        with pytest.raises(InputError, match=says):
            run.sample([0.0], ts, context=context)


def test_the_command_line_reads_another_table_and_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = labelled(20, seed=1).with_columns(kind=pl.lit("sideways"))
    other.write_csv(folder / "other.csv")
    capsys.readouterr()
    assert cli.run(f"forecast {folder}/run {folder}/other.csv --horizon 2 --n 4".split()) == 0
    out, err = capsys.readouterr()
    assert pl.read_csv(out.encode())["variable"].unique().sort().to_list() == ["valve", "x"]
    assert "kind: labels that the run has never seen" in err
    assert cli.run(f"fit --resume --out {folder}/run".split()) == 0
    ahead = pl.DataFrame({"t": [0, 1, 2], "id": ["a"] * 3, "kind": ["up"] * 3, "valve": [0, 1, 1]})
    ahead.write_csv(folder / "ahead.csv")
    assert cli.run(f"sample {folder}/run --start 0 --future {folder}/ahead.csv --n 2".split()) == 0

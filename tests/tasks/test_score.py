"""Scores of a run against what is known of the process that made the data."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from neuralsde.errors import InputError
from neuralsde.evaluate.scores import log_density
from neuralsde.runs import Run
from neuralsde.tasks.score import MODEL


@pytest.fixture(scope="module")
def scores(run: Run):
    return run.score(leads=(1, 5), n=60, stride=2)


def value(scores, metric: str, column: str, lead: str, method: str = MODEL) -> float:
    found = [s for s in scores.scores if (s.metric, s.column, s.lead, s.method) == (metric, column, lead, method)]
    assert len(found) == 1
    return float(found[0].value)


def test_likelihood_is_the_one_of_the_transitions(run: Run, scores):
    """One step ahead: minus the mean of log N(x'; m, s) over held-out transitions, computed from the model by hand."""
    import jax

    from neuralsde.data import Split
    from neuralsde.data.split import TEST
    from neuralsde.data.windows import Table
    from neuralsde.tasks.windows import find_windows

    encoder, model = run.plan.encoder, run.model
    rows = encoder.encode(tiny.data_of(run))
    marked = np.concatenate(Split.of(tiny.data_of(run), run.plan.rule).roles) == TEST
    origin = find_windows(rows, marked, (1, 5), 2.0).origin
    origin = origin[marked[origin + 1]]
    table = Table.of(rows)
    law = jax.vmap(lambda r: model.transition(table.window(r, 1), table.gap[r + 1]))(origin)
    density = log_density(rows.value[origin + 1], np.asarray(law.mean), np.asarray(law.sd))
    by_hand = -(density - np.log(encoder.sd)).mean(0)
    for column, expected in zip(run.columns, by_hand, strict=True):
        assert value(scores, "nll", column, "1 step") == pytest.approx(expected, abs=2e-4)


def test_a_near_true_model_beats_persistence_and_climatology(scores):
    for column in ("level", "flow"):
        assert value(scores, "crps", column, "5 steps") < value(scores, "crps", column, "5 steps", "persistence")
        assert value(scores, "crps", column, "1 step") < value(scores, "crps", column, "1 step", "climatology")


def test_likelihood_only_one_step_ahead(scores):
    assert {s.lead for s in scores.scores if s.metric == "nll"} == {"1 step"}


def test_text_and_table_hold_every_row(scores):
    text, table = str(scores), scores.table()
    assert all(word in text for word in ("CRPS", "Coverage", "persistence", "linear AR", "level", "flow"))
    assert table.filter(table["metric"] == "coverage-80").height == 4


def test_another_table_is_scored_as_a_whole(run: Run):
    other = tiny.ou_table(2, 60, seed=5)
    assert "another table" in run.score(other, leads=(1,), n=20, stride=5).about


def test_backtest_has_every_lead(run: Run):
    found = run.backtest(horizon=3, stride=10, n=20)
    assert list(dict.fromkeys(s.lead for s in found.scores)) == ["1 step", "2 steps", "3 steps"]


@pytest.mark.parametrize("leads", [(), (0,), (10_000,)])
def test_leads_that_cannot_be_meant(run: Run, leads):
    with pytest.raises(InputError):
        run.score(leads=leads, n=20)

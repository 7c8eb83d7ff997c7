"""No test row is ever fitted, every row has one role, and the sentence that is printed says what was done."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralsde.data import TEST, TRAIN, VALIDATION, Encoder, Split, Trajectories, embedded, from_arrays
from neuralsde.data.rules import LastDaysOfMonth, LastPart, Nothing, Rule, SomeSeries, auto, rule_from_dict
from neuralsde.errors import InputError


def series(lengths: list[int], seed: int = 0) -> Trajectories:
    rng = np.random.default_rng(seed)
    return from_arrays([np.cumsum(rng.exponential(size=n)) for n in lengths], [rng.normal(size=n) for n in lengths])


def stamped(days: int) -> Trajectories:
    times = np.datetime64("2013-01-01T00") + np.arange(days * 4) * np.timedelta64(6, "h")
    return from_arrays(times, np.random.default_rng(0).normal(size=len(times)))


@given(st.lists(st.integers(8, 60), min_size=1, max_size=30), st.floats(0.1, 0.4))
def test_every_row_has_one_role_and_no_fit_series_meets_the_test(lengths: list[int], share: float) -> None:
    data = series(lengths)
    rules: list[Rule] = [LastPart(share), *(SomeSeries(share, seed) for seed in (0, 1) if len(data) > 1)]
    for rule in rules:
        split = Split.of(data, rule)
        counts = np.bincount(np.concatenate(split.roles), minlength=3)
        assert counts.sum() == data.n_rows
        assert counts.min() > 0 or len(data) == 1
        for piece, segment, role in zip(split.fit_data, split.fit_segments, split.fit_roles, strict=True):
            source = data.series[segment.series]
            np.testing.assert_array_equal(piece.times, source.times[segment.rows])
            assert TEST not in role
            assert len(piece) == len(role) == len(segment) >= 2
        assert len({s.id for s in split.fit_data}) == len(split.fit_data)


def test_the_last_part_is_a_part_of_the_time() -> None:
    times = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 8.1, 8.2, 9, 10.0])
    split = Split.of(from_arrays(times, np.arange(13) % 5.0), LastPart(0.2))
    assert (times[split.roles[0] == TEST] > 8).all()
    assert (split.roles[0] == TEST).sum() == 4
    assert split.roles[0].tolist() == [TRAIN] * 8 + [VALIDATION] + [TEST] * 4


def test_whole_series_are_held_out_when_there_are_many() -> None:
    data = series([10] * 50)
    assert auto(data) == SomeSeries(0.2, 0)
    split = Split.of(data)
    assert {tuple(np.unique(role)) for role in split.roles} == {(TRAIN,), (VALIDATION,), (TEST,)}
    first = [int(role[0]) for role in split.roles]
    assert [first.count(role) for role in (TRAIN, VALIDATION, TEST)] == [36, 4, 10]
    assert [s.id for s in split.fit_data] == [s.id for s, role in zip(data, first, strict=True) if role != TEST]
    other = Split.of(data, SomeSeries(0.2, 1))
    assert [int(role[0]) for role in other.roles] != first


def test_few_series_lose_their_ends() -> None:
    assert auto(series([10] * 20)) == LastPart(0.2)
    assert auto(series([10] * 21)) == SomeSeries(0.2, 0)


def test_the_last_days_of_every_month() -> None:
    data = stamped(365)
    split = Split.of(data, LastDaysOfMonth(7))
    held = data.clock.wall(data.series[0].times[split.roles[0] == TEST], "D")
    days = {str(day) for day in held}
    assert len(days) == 12 * 7
    assert {"2013-01-25", "2013-01-31", "2013-02-22", "2013-02-28", "2013-04-24"} <= days
    assert "2013-01-24" not in days
    assert [s.id for s in split.fit_data] == [f"series #{k}" for k in range(1, 13)]
    assert len(split.test_segments) == 12
    for piece in split.fit_data:
        assert np.diff(piece.times).max() == 6 * 3600


def test_the_month_ends_on_the_wall_clock() -> None:
    text = ["2013-01-24T23:00:00-05:00", "2013-01-25T00:00:00-05:00"]
    data = from_arrays(["2013-01-01T00:00:00-05:00", "2013-01-02T00:00:00-05:00", *text], [1.0, 2.0, 3.0, 5.0])
    assert Split.of(data, LastDaysOfMonth(7)).roles[0].tolist()[-2:] == [TRAIN, TEST]


def test_changing_a_test_value_changes_nothing_that_is_fitted() -> None:
    data = series([200, 150])
    split = Split.of(data)
    poisoned = [np.where(role == TEST, 1e6, s.values[:, 0]) for s, role in zip(data, split.roles, strict=True)]
    other = Split.of(from_arrays([s.times for s in data], poisoned))
    one, two = Encoder.fit(split.fit_data), Encoder.fit(other.fit_data)
    assert one == two
    np.testing.assert_array_equal(one.encode(split.fit_data).filled, two.encode(other.fit_data).filled)


def test_train_data_leaves_the_validation_out() -> None:
    split = Split.of(series([100]))
    (train,) = split.train_data
    np.testing.assert_array_equal(train.times, split.data.series[0].times[split.roles[0] == TRAIN])


def test_nothing_held_out() -> None:
    split = Split.of(series([50]), Nothing())
    assert split.test_segments == ()
    assert split.fit_data.n_rows == 50


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (LastPart(0.2), "the last 20 % of each series' time"),
        (SomeSeries(0.25, 3), "25 % of the series, drawn with seed 3"),
        (LastDaysOfMonth(7), "the last 7 days of every month"),
        (Nothing(), "nothing"),
    ],
)
def test_rules_print_themselves_and_go_into_json(rule: Rule, text: str) -> None:
    assert rule.describe() == text
    assert rule_from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


def test_the_printed_sentence() -> None:
    assert Split.of(series([100])).describe().startswith("held out: the last 20 % of each series' time (")
    assert "rows to train" in Split.of(series([100])).describe()


@pytest.mark.parametrize(
    ("data", "rule", "match"),
    [
        (series([50]), LastPart(1.5), "between 0 and 1"),
        (series([50]), LastDaysOfMonth(7), "plain numbers"),
        (stamped(20), LastDaysOfMonth(7), "no row belongs"),
        (stamped(365), LastDaysOfMonth(40), "1 to 27"),
        (series([2]), LastPart(0.2), "no two neighbouring rows"),
        (series([50]), SomeSeries(0.2), "no row belongs"),
    ],
)
def test_refused(data: Trajectories, rule: Rule, match: str) -> None:
    with pytest.raises(InputError, match=match):
        Split.of(data, rule)


def test_the_split_of_the_demo() -> None:
    data = embedded.weather()
    split = Split.of(data, LastDaysOfMonth(7))
    assert len(split.test_segments) == 3 * 12
    counts = np.bincount(np.concatenate(split.roles)) / data.n_rows
    assert counts[TEST] == pytest.approx(12 * 7 / 365, abs=0.01)
    assert counts[VALIDATION] == pytest.approx(0.1 * (1 - counts[TEST]), abs=0.01)

"""Units cannot matter: seconds or hours, Celsius or Fahrenheit give the same model; the missing is marked as such."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralsde.data import Encoder, Layout, Rows, Series, Trajectories, from_arrays, from_frame
from neuralsde.data.model_time import TICK, time_unit
from neuralsde.errors import InputError


def table(seed: int = 0, lengths: tuple[int, ...] = (40, 25), missing: float = 0.3) -> Trajectories:
    """Irregular series of three columns: free, positive and rounded, bounded; with one covariate."""
    rng = np.random.default_rng(seed)
    times, values, context = [], [], []
    for n in lengths:
        times.append(np.cumsum(rng.integers(1, 50, n)) / 8 + 1000.0)
        x = np.stack([rng.normal(size=n), np.ceil(rng.gamma(2.0, 3.0, n)), rng.uniform(0.0, 100.0, n)], axis=1)
        x[rng.random(x.shape) < missing] = np.nan
        values.append(x)
        context.append(rng.normal(5.0, 2.0, n))
    return from_arrays(
        times,
        values,
        context=context,
        columns=["a", "b", "c"],
        context_columns=["k"],
        positive="b",
        bounded={"c": (0.0, 100.0)},
    )


def assert_same_rows(one: Rows, other: Rows, but: tuple[str, ...] = ()) -> None:
    for field in fields(Rows):
        if field.name not in but:
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


# -- invariance ------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 10**7), min_size=2, max_size=60),
    st.sampled_from([60.0, 3600.0, 86_400.0, 604_800.0]),
    st.integers(0, 10**9),
)
def test_seconds_and_hours_give_the_same_bits(gaps: list[int], unit: float, start: int) -> None:
    seconds = start + np.cumsum([0, *gaps]).astype(np.float64)
    values = np.arange(len(seconds)) % 7.0
    by_seconds, by_unit = from_arrays(seconds, values), from_arrays(seconds / unit, values)
    rows = [Encoder.fit(data).encode(data) for data in (by_seconds, by_unit)]
    assert_same_rows(*rows, but=("origin",))


@pytest.mark.parametrize("step", [1.0, 0.1, 1 / 3, 1e-3, 3600.0])
def test_regular_times_are_whole_numbers_in_any_unit(step: float) -> None:
    times = step * (1e4 + np.arange(5000))
    data = from_arrays(times, np.arange(5000) % 7.0)
    rows = Encoder.fit(data).encode(data)
    np.testing.assert_array_equal(rows.time, np.arange(5000.0))
    np.testing.assert_array_equal(rows.gap[1:], 1.0)


def test_stamps_and_seconds_give_the_same_bits() -> None:
    data = table()
    stamps = [(s.times * 1e6).astype(np.int64).astype("datetime64[us]") for s in data]
    values, context = [s.values for s in data], [s.context for s in data]
    by_stamp = from_arrays(stamps, values, context=context, columns=data.columns, context_columns=["k"])
    by_stamp = replace(by_stamp, support=data.support)
    assert_same_rows(Encoder.fit(by_stamp).encode(by_stamp), Encoder.fit(data).encode(data))


def test_scale_and_origin_of_a_column_do_not_matter() -> None:
    data = table(missing=0.0)
    scaled = replace(data, series=tuple(replace(s, values=s.values * [1.8, 1.0, 1.0] + [32, 0, 0]) for s in data))
    one, other = (Encoder.fit(d).encode(d) for d in (data, scaled))
    np.testing.assert_allclose(other.value, one.value, atol=1e-6)


def test_the_unit_of_time_is_the_typical_gap() -> None:
    hourly = from_arrays(np.delete(np.arange(100.0), [5, 6, 50]) * 3600, np.arange(97) % 5.0)
    assert time_unit(hourly) == 3600.0
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.exponential(size=2000))
    data = from_arrays(times, rng.normal(size=2000))
    assert time_unit(data) == pytest.approx(data.typical_gap(), rel=1e-3)


# -- values ----------------------------------------------------------------------------------------------------------


def test_values_come_back_and_have_unit_scale() -> None:
    data = table(missing=0.0)
    encoder = Encoder.fit(data)
    x = np.concatenate([s.values for s in data])
    np.testing.assert_allclose(encoder.decode(encoder.encode_values(x)), x, rtol=1e-9)
    z = encoder.encode_values(x)
    np.testing.assert_allclose([z.mean(0), z.std(0)], [[0] * 3, [1] * 3], atol=1e-12)
    assert encoder.resolution == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 4, 3), (0, 3)])
def test_any_leading_shape(shape: tuple[int, ...]) -> None:
    encoder = Encoder.fit(table())
    z = np.random.default_rng(1).normal(size=shape)
    x = encoder.decode(z)
    assert x.shape == encoder.encode_values(x).shape == encoder.log_slope(x).shape == shape
    assert all(end.shape == shape for end in encoder.interval(x))
    with pytest.raises(InputError, match="a, b, c"):
        encoder.decode(np.zeros((3, 2)))


@given(st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3))
def test_nothing_decoded_leaves_the_support(z: list[float]) -> None:
    x = Encoder.fit(table()).decode(np.array(z))
    assert x[1] >= 0
    assert 0 <= x[2] <= 100


def test_log_slope_is_the_derivative_of_the_encoding() -> None:
    encoder = Encoder.fit(table())
    x, h = np.array([[0.3, 7.0, 40.0], [-1.0, 2.0, 90.0]]), 1e-6
    slope = (encoder.encode_values(x + h) - encoder.encode_values(x - h)) / (2 * h)
    np.testing.assert_allclose(encoder.log_slope(x), np.log(slope), atol=1e-6)


def test_zeros_come_back_as_zeros_or_as_half_a_step() -> None:
    counts = np.random.default_rng(0).poisson(2.0, 200).astype(np.float64)
    zeros = Encoder.fit(from_arrays(None, counts, positive="value"))
    np.testing.assert_array_equal(zeros.decode(zeros.encode_values(counts[:, None]))[:, 0], counts)
    none = Encoder.fit(from_arrays(None, counts + 1, positive="value"))
    np.testing.assert_allclose(none.decode(none.encode_values(np.array([[0.0]]))), [[0.5]])


def test_rounding_intervals_tile_the_line() -> None:
    encoder = Encoder.fit(table())
    x = np.stack([np.zeros(20), np.arange(20.0), np.full(20, 50.0)], axis=1)
    lo, hi = encoder.interval(x)
    np.testing.assert_array_equal(lo[1:, 1], hi[:-1, 1])
    assert lo[0, 1] == -np.inf
    np.testing.assert_array_equal(lo[:, [0, 2]], hi[:, [0, 2]])
    np.testing.assert_array_equal(lo[:, 0], encoder.encode_values(x)[:, 0])


# -- rows ------------------------------------------------------------------------------------------------------------


def test_rows_by_hand() -> None:
    nan = np.nan
    first = np.array([[nan, 1.0], [2.0, nan], [nan, 3.0], [4.0, nan]])
    second = np.array([[nan, 5.0], [nan, 1.0]])
    data = from_arrays([[10.0, 12.0, 14.0, 20.0], [0.0, 2.0]], [first, second])
    encoder = Encoder.fit(data)
    rows = encoder.encode(data)
    z = encoder.encode_values(np.concatenate([first, second])).astype(np.float32)
    assert encoder.tau == 2.0
    assert rows.time.tolist() == [0, 1, 2, 5, 0, 1]
    assert rows.gap.tolist() == [0, 1, 1, 3, 0, 1]
    assert rows.observed.tolist() == (~np.isnan(z)).tolist()
    np.testing.assert_array_equal(rows.value, np.nan_to_num(z))
    inf = np.inf
    assert rows.age.tolist() == [[inf, 0], [0, 1], [1, 0], [0, 3], [inf, 0], [inf, 0]]
    expected = [[0, z[0, 1]], [z[1, 0], z[0, 1]], [z[1, 0], z[2, 1]], [z[3, 0], z[2, 1]], [0, z[4, 1]], [0, z[5, 1]]]
    np.testing.assert_array_equal(rows.filled, np.array(expected, np.float32))
    assert (rows.series.tolist(), rows.start.tolist(), rows.ids) == ([0, 0, 0, 0, 1, 1], [0, 4, 6], ("0", "1"))
    assert (rows.of(1), rows.origin.tolist(), len(rows)) == (slice(4, 6), [10.0, 0.0], 6)


def test_laws_of_rows() -> None:
    data = table(seed=3)
    rows = Encoder.fit(data).encode(data)
    for k, s in enumerate(data):
        at = rows.of(k)
        assert rows.ids[k] == s.id
        np.testing.assert_array_equal(rows.series[at], k)
        np.testing.assert_array_equal(rows.gap[at], np.diff(rows.time[at], prepend=0).astype(np.float32))
        np.testing.assert_array_equal(rows.time[at] / TICK, np.round(rows.time[at] / TICK))
        np.testing.assert_array_equal(rows.age[at] == 0, rows.observed[at])
        np.testing.assert_array_equal(rows.filled[at][rows.observed[at]], rows.value[at][rows.observed[at]])
    for name in ("value", "filled", "age", "gap", "context"):
        assert getattr(rows, name).dtype == np.float32
    assert np.isfinite(rows.filled).all()
    assert np.isfinite(rows.value).all()


def test_encoding_a_part_of_the_series_is_a_part_of_the_encoding() -> None:
    data = table(missing=0.0)
    encoder = Encoder.fit(data)
    whole, alone = encoder.encode(data), encoder.encode(replace(data, series=data.series[1:]))
    np.testing.assert_array_equal(whole.value[whole.of(1)], alone.value)
    np.testing.assert_array_equal(whole.time[whole.of(1)], alone.time)
    np.testing.assert_array_equal(whole.context[whole.of(1)], alone.context)


def test_the_past_of_a_row_does_not_know_its_future() -> None:
    """Changing what comes after a row changes nothing in the row: no leak through filling or through time."""
    data = table()
    encoder, s = Encoder.fit(data), data.series[0]
    later = np.arange(len(s)) > 20
    changed = replace(s, values=np.where(later[:, None], 1.0, s.values), times=s.times + 7.0 * later)
    one, other = (encoder.encode(replace(data, series=(each,))) for each in (s, changed))
    for name in ("value", "observed", "filled", "age", "time", "gap", "context"):
        np.testing.assert_array_equal(getattr(one, name)[~later], getattr(other, name)[~later])


def test_clock_time_undoes_model_time() -> None:
    data = table()
    encoder = Encoder.fit(data)
    rows = encoder.encode(data)
    back = encoder.clock_time(rows.time[rows.of(1)], float(rows.origin[1]))
    np.testing.assert_allclose(back, data.series[1].times, rtol=0, atol=encoder.tau * TICK)


# -- covariates ------------------------------------------------------------------------------------------------------


def test_context_holds_from_row_to_row_and_continues_in_the_future() -> None:
    nothing = np.zeros((2, 0))
    past = Series("a", np.array([0.0, 10.0]), nothing, np.array([[1.0], [2.0]]))
    ahead = Series("a", np.array([20.0, 30.0]), nothing, np.array([[3.0], [4.0]]))
    data = from_arrays(past.times, np.arange(2.0), context=past.context)
    encoder = Encoder.fit(data)
    times = np.array([-5.0, 0.0, 9.9, 10.0, 25.0, 99.0])
    raw = encoder.context_at(times, past, ahead) * encoder.context_sd[0] + encoder.context_mean[0]
    np.testing.assert_allclose(raw.ravel(), [1, 1, 1, 2, 3, 4], atol=1e-6)
    with pytest.raises(InputError, match="c0"):
        encoder.context_at(times)


def test_a_later_source_of_covariates_wins() -> None:
    nothing = np.zeros((1, 0))
    planned, revised = (Series("a", np.array([5.0]), nothing, np.array([[c]])) for c in (1.0, 2.0))
    encoder = Encoder.fit(from_arrays([0.0, 1.0], [0.0, 1.0], context=[0.0, 1.0]))
    assert encoder.context_at(np.array([6.0]), planned, revised) == encoder.context_at(np.array([6.0]), revised)


def test_context_of_table_and_calendar() -> None:
    frame = pl.DataFrame(
        {"time": ["2013-01-01T00:00Z", "2013-01-01T06:00Z", "2013-01-01T18:00Z"], "x": [1, 2, 0], "k": [1, 2, 3]}
    )
    data = from_frame(frame, values="x", context=["k", "hour-of-day"])
    encoder = Encoder.fit(data)
    assert encoder.context_dim == 3
    context = encoder.encode(data).context
    np.testing.assert_allclose(context[:, 0], np.array([-1, 0, 1]) * np.sqrt(1.5), atol=1e-6)
    np.testing.assert_allclose(context[:, 1:], [[0, 1], [1, 0], [-1, 0]], atol=1e-6)
    six_hours_on = encoder.context_at(data.series[0].times + 6 * 3600, *data)
    np.testing.assert_allclose(six_hours_on[0, 1:], [1, 0], atol=1e-6)


def test_without_context_there_are_no_columns() -> None:
    data = from_arrays(None, np.arange(9.0).reshape(3, 3))
    rows = Encoder.fit(data).encode(data)
    assert rows.context.shape == (3, 0)


# -- files and refusals ----------------------------------------------------------------------------------------------


def test_json_round_trip() -> None:
    days = np.array(["2013-01-01", "2013-01-02", "2013-01-05"], "M8[D]")
    for data in (table(), from_arrays(days, [1.0, 2.0, 4.0], calendar="day-of-week")):
        encoder = Encoder.fit(data)
        again = Encoder.from_dict(json.loads(json.dumps(encoder.to_dict(), allow_nan=False)))
        assert again == encoder
        assert_same_rows(again.encode(data), encoder.encode(data))


def test_another_shape_is_refused() -> None:
    data = table()
    encoder = Encoder.fit(data)
    for other in (replace(data, columns=("a", "c", "b")), replace(data, context_columns=("q",))):
        with pytest.raises(InputError, match="another shape"):
            encoder.encode(other)
    with pytest.raises(InputError, match="time stamps"):
        encoder.encode(replace(data, clock=replace(data.clock, kind="timestamp")))


def test_times_that_nearly_coincide_are_refused() -> None:
    data = from_arrays([0.0, 1.0, 2.0, 2.0 + 1e-11, 3.0], np.arange(5.0))
    with pytest.raises(InputError, match="billionth of the typical gap"):
        Encoder.fit(data).encode(data)


def test_a_column_that_is_constant_in_the_fitted_part_keeps_a_scale() -> None:
    values = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    part = Trajectories((Series("s", np.arange(3.0), values, np.zeros((3, 0))),), ("x", "y"))
    assert Encoder.fit(part).sd[1] == 1.0
    assert np.isfinite(Encoder.fit(part).encode(part).value).all()
    assert Layout.of(from_arrays(None, values)).constants == {"x1": 5.0}

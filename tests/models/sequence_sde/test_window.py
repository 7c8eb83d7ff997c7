"""A window says what is known at one moment, whether it is cut from a table or pushed there step by step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.data import Encoder, from_arrays
from neuralsde.data.windows import Table
from neuralsde.models.sequence_sde.window import OLDEST, Window, feature_size

D, C, H = 2, 1, 3


def window(seed: int = 0, d: int = D, c: int = C, h: int = H) -> Window:
    """A window with something everywhere: uneven lags, channels that are missing now and then."""
    rng = np.random.default_rng(seed)
    lag = np.append(np.sort(rng.uniform(0.5, 9.0, h))[::-1], 0.0)
    parts = (rng.normal(size=(h + 1, d)), rng.integers(0, 3, (h + 1, d)), lag, 17.0, rng.normal(size=c))
    return Window(*(jnp.asarray(part, jnp.float32) for part in parts))


def irregular(rows: int = 12, missing: float = 0.0) -> tuple[Table, np.ndarray]:
    """Two encoded series with uneven gaps and one covariate, and the first row of each."""
    rng = np.random.default_rng(3)
    times = [np.cumsum(rng.integers(1, 9, rows)) / 8.0 for _ in range(2)]
    values = [rng.normal(size=(rows, D)) for _ in range(2)]
    for series in values:
        series[1:][rng.random((rows - 1, D)) < missing] = np.nan
    data = from_arrays(times, values, context=[rng.normal(size=rows) for _ in range(2)])
    rows_ = Encoder.fit(data).encode(data)
    return Table.of(rows_), rows_.start


# -- what the networks read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("d", "c", "h", "timed"), [(1, 0, 0, False), (2, 1, 3, False), (3, 0, 1, True), (1, 4, 2, True)]
)
def test_size_of_the_features(d: int, c: int, h: int, timed: bool) -> None:
    features = window(d=d, c=c, h=h).features(h, 10.0 if timed else None)
    assert features.shape == (feature_size(d, c, h, timed),)


@pytest.mark.parametrize("h", [0, 3])
@pytest.mark.parametrize("level", [True, False])
def test_size_of_the_features_in_walks(h: int, level: bool) -> None:
    features = window(h=5).features(h, None, (5, 4), level=level, walk=jnp.ones(D))
    assert features.shape == (feature_size(D, C, h, False, 2, level=level, in_walks=True),)


def test_the_past_in_walks_has_no_unit_and_without_a_level_no_place() -> None:
    """Values c x + a of a walk that is c times as large are read as x is; a past as a walk makes it is of size one."""
    one, walk = window(h=5), jnp.array([0.02, 3.0])
    c, a = jnp.array([40.0, 0.5]), jnp.array([7.0, -2.0])
    other = Window(c * one.value + a, one.age, one.lag, one.time, one.context)
    first = one.features(3, None, (5,), level=False, walk=walk)
    np.testing.assert_allclose(other.features(3, None, (5,), level=False, walk=c * walk), first, rtol=2e-4, atol=1e-4)
    rng, n = np.random.default_rng(0), 4000
    lag = jnp.array([9.0, 5.0, 4.0, 0.0])
    steps = rng.normal(size=(n, 3, D)) * np.sqrt([4.0, 1.0, 4.0])[:, None] * np.asarray(walk)
    value = jnp.asarray(np.concatenate([np.zeros((n, 1, D)), np.cumsum(steps, 1)], 1), jnp.float32)
    zeros = jnp.zeros((4, D))

    def past(v: jax.Array) -> jax.Array:
        return Window(v, zeros, lag, jnp.float32(0), jnp.zeros(0)).features(3, None, level=False, walk=walk)[: 3 * D]

    np.testing.assert_allclose(jax.jit(jax.vmap(past))(value).std(0), 1.0, atol=0.06)


def test_a_level_is_read_once() -> None:
    """The past is read as differences from the present: the same shape at another level changes only the first d."""
    one = window()
    other = Window(one.value + 5.0, one.age, one.lag, one.time, one.context)
    a, b = np.asarray(one.features(H, None)), np.asarray(other.features(H, None))
    np.testing.assert_allclose(b[:D] - a[:D], 5.0, rtol=1e-6)
    np.testing.assert_allclose(b[D:], a[D:], atol=1e-6)


def test_every_part_is_read() -> None:
    """No entry of a window is without influence, but the last lag (always 0) and the time of a timeless model."""
    here = window()
    slopes = jax.jit(jax.jacfwd(lambda w: w.features(H, None)))(here)
    timed = jax.jit(jax.jacfwd(lambda w: w.features(H, 10.0)))(here)
    for part in (slopes.value, slopes.age, slopes.lag[:, :-1], slopes.context, timed.time[:, None]):
        assert (np.abs(np.asarray(part)).sum(0) > 0).all()
    assert not np.asarray(slopes.time).any()
    assert not np.asarray(slopes.lag)[:, -1].any()


def test_the_mask_tells_a_value_seen_just_now_from_one_that_was_not() -> None:
    now = window(h=0)
    fresh = Window(now.value, jnp.array([[0.0, 0.0]]), now.lag, now.time, now.context).features(0, None)
    stale = Window(now.value, jnp.array([[0.0, 1e-6]]), now.lag, now.time, now.context).features(0, None)
    np.testing.assert_allclose(np.asarray(fresh - stale)[2 * D : 3 * D], [0.0, 1.0])


def test_what_was_never_seen_is_as_old_as_the_oldest() -> None:
    here = window()

    def aged(age: float) -> Window:
        return Window(here.value, here.age.at[:, 1].set(age), here.lag, here.time, here.context)

    never = aged(np.inf).features(H, None)
    assert np.isfinite(never).all()
    np.testing.assert_array_equal(never, aged(OLDEST).features(H, None))
    np.testing.assert_array_equal(never, aged(7 * OLDEST).features(H, None))
    assert not np.array_equal(never, aged(OLDEST / 2).features(H, None))
    np.testing.assert_array_equal(aged(np.inf).staleness, [here.age[-1, 0], OLDEST])


# -- how it moves ------------------------------------------------------------------------------------------------------


def test_moved_changes_the_present_alone() -> None:
    here, y = window(), jnp.array([3.0, -4.0])
    there = here.moved(y)
    np.testing.assert_array_equal(there.present, y)
    np.testing.assert_array_equal(there.value[:-1], here.value[:-1])
    for name in ("age", "lag", "time", "context"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))


def test_pushed_moves_all_one_row_back() -> None:
    here, y, context = window(), jnp.array([3.0, -4.0]), jnp.array([9.0])
    after = here.pushed(y, jnp.float32(0.75), context)
    np.testing.assert_array_equal(after.value, [*here.value[1:], y])
    np.testing.assert_array_equal(after.age, [*here.age[1:], [0.0, 0.0]])
    np.testing.assert_allclose(after.lag, [*(here.lag[1:] + 0.75), 0.0])
    assert float(after.time) == 17.75
    np.testing.assert_array_equal(after.context, context)


# -- cut from a table --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("h", [0, 3])
def test_cut_from_a_table_or_pushed_row_by_row(h: int) -> None:
    """window(k + 1) = window(k) pushed by row k + 1, where nothing is missing: from the first row of a series on."""
    table, start = irregular()
    rows = jnp.arange(start[1], start[2])

    def push(here: Window, row: jax.Array) -> tuple[Window, Window]:
        after = here.pushed(table.value[row], table.gap[row], table.context[row])
        return after, after

    cut = jax.jit(jax.vmap(lambda row: table.window(row, h)))(rows)
    _, pushed = jax.lax.scan(push, jax.tree.map(lambda leaf: leaf[0], cut), rows[1:])
    for name in ("value", "age", "lag", "time", "context"):
        np.testing.assert_allclose(getattr(pushed, name), getattr(cut, name)[1:], atol=1e-5, err_msg=name)


def test_before_its_first_row_a_series_repeats_it() -> None:
    table, start = irregular()
    first = int(start[1])
    here = table.window(jnp.int32(first), H)
    np.testing.assert_array_equal(here.value, np.broadcast_to(table.value[first], (H + 1, D)))
    assert not np.asarray(here.lag).any()
    assert not np.asarray(here.age).any()
    second = table.window(jnp.int32(first + 1), H)
    np.testing.assert_array_equal(second.value[:-1], np.broadcast_to(table.value[first], (H, D)))
    np.testing.assert_allclose(second.lag, [float(table.gap[first + 1])] * H + [0.0])


def test_a_missing_channel_is_its_last_observation_and_an_age() -> None:
    table, start = irregular(missing=0.5)
    rows = np.arange(start[1], start[2])
    cut = jax.jit(jax.vmap(lambda row: table.window(row, 0)))(jnp.asarray(rows))
    clock, value, observed = np.asarray(table.clock), np.asarray(table.value), np.asarray(table.observed)
    for k, row in enumerate(rows):
        for channel in range(D):
            seen = np.flatnonzero(observed[start[1] : row + 1, channel])[-1] + start[1]
            assert cut.value[k, -1, channel] == value[seen, channel]
            assert float(cut.age[k, -1, channel]) == pytest.approx(clock[row] - clock[seen], abs=1e-5)
    assert (np.asarray(cut.age) > 0).any()


def test_nothing_of_what_comes_later_is_in_it() -> None:
    """Rewriting all rows after k leaves the window at k as it was, bit for bit."""
    table, start = irregular(missing=0.3)
    row = int(start[1]) + 5

    def rewritten(leaf: jax.Array) -> jax.Array:
        later = (jnp.arange(len(leaf)) > row).reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.where(later, jnp.zeros_like(leaf), leaf)

    future = jax.tree.map(rewritten, table)
    assert not np.array_equal(future.value, table.value)
    same = jax.tree.map(np.array_equal, future.window(jnp.int32(row), H), table.window(jnp.int32(row), H))
    assert all(jax.tree.leaves(same))

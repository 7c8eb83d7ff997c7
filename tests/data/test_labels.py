"""Static and discrete covariates: read the same through every door, told apart by name, never scaled, never guessed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from neuralsde.data import Encoder, Layout, Trajectories, from_arrays, from_frame, future, read
from neuralsde.data.labels import MOST_LEVELS, label
from neuralsde.errors import InputError

FRAME = pl.DataFrame({
    "place": ["A"] * 4 + ["B"] * 3,
    "t": [0, 1, 2, 3, 0, 1, 2],
    "x": [0.5, 1.5, -1.0, 2.0, 0.0, 1.0, 3.0],
    "kind": ["urban", None, None, "urban", "rural", "rural", None],
    "height": [10.0, None, None, None, None, 30.0, None],
    "sky": [None, "rain", None, "clear", "fog", "clear", None],
    "open": [0, 0, 1, 1, 1, 0, 0],
})  # fmt: skip
ROLES = {"id": "place", "time": "t", "values": "x", "static": ["kind", "height"], "discrete": ["sky", "open"]}
SKY = ("clear", "fog", "rain", "(missing)")


def table(frame: pl.DataFrame = FRAME) -> Trajectories:
    return from_frame(frame, **ROLES)


def test_rows_by_hand() -> None:
    data = table()
    assert data.covariates == ("kind", "height", "sky", "open")
    assert data.levels == {"kind": ("rural", "urban", "(missing)"), "sky": SKY, "open": ("0", "1")}
    a, b = data
    np.testing.assert_array_equal(a.context, [[1, 10, 3, 0], [1, 10, 2, 0], [1, 10, 2, 1], [1, 10, 0, 1]])
    np.testing.assert_array_equal(b.context, [[0, 30, 1, 1], [0, 30, 0, 0], [0, 30, 0, 0]])
    assert data.notes == ("sky: 3 missing labels, the last one carried forward",)


def test_an_encoded_label_is_one_indicator_and_nothing_else() -> None:
    data = table()
    encoder = Encoder.fit(data)
    assert encoder.levels == {"kind": ("rural", "urban"), "sky": SKY, "open": ("0", "1")}  # only those that occur
    context = encoder.encode(data).context
    assert encoder.context_dim == context.shape[1] == 1 + 2 + 4 + 2
    np.testing.assert_allclose(context[:, 0], [-np.sqrt(3 / 4)] * 4 + [np.sqrt(4 / 3)] * 3, rtol=1e-6)  # height
    np.testing.assert_array_equal(context[:, 1:3], [[0, 1]] * 4 + [[1, 0]] * 3)
    np.testing.assert_array_equal(context[:, 3:7].argmax(1), [3, 2, 2, 0, 1, 0, 0])
    np.testing.assert_array_equal(np.unique(context[:, 1:]), [0, 1])
    np.testing.assert_array_equal(encoder.held, [3, 4, 5, 6, 7, 8])


def test_other_names_for_the_labels_only_move_the_columns() -> None:
    names = {"clear": "zebra", "rain": "ant", "fog": "mole"}
    encoders = [Encoder.fit(data) for data in (table(), table(FRAME.with_columns(pl.col("sky").replace(names))))]
    rows = [encoder.encode(table(frame)) for encoder, frame in zip(encoders, (FRAME, FRAME.with_columns(
        pl.col("sky").replace(names))), strict=True)]  # fmt: skip
    first, second = ([*encoder.levels["sky"]] for encoder in encoders)
    moved = [3 + second.index(names.get(level, level)) for level in first]
    np.testing.assert_array_equal(rows[0].context, rows[1].context[:, [0, 1, 2, *moved, 7, 8]])
    np.testing.assert_array_equal(rows[0].value, rows[1].value)


def test_labels_agree_through_every_door(tmp_path: Path) -> None:
    FRAME.write_csv(tmp_path / "t.csv")
    FRAME.with_columns(pl.col("open") == 1).write_parquet(tmp_path / "t.parquet")
    by_csv, by_parquet = (read(tmp_path / name, **ROLES) for name in ("t.csv", "t.parquet"))
    parts = [part for _, part in FRAME.group_by("place", maintain_order=True)]
    by_arrays = from_arrays(
        [p["t"].to_numpy() for p in parts], [p[["x"]].to_numpy() for p in parts], ids=["A", "B"], columns="x",
        static={"kind": ["urban", "rural"], "height": [10, 30]},
        discrete={"sky": [p["sky"].to_list() for p in parts], "open": [p["open"].to_numpy() for p in parts]},
    )  # fmt: skip
    for data in (by_csv, by_arrays):
        for s, t in zip(data, table(), strict=True):
            np.testing.assert_array_equal(s.context, t.context)
    assert by_parquet.levels["open"] == ("false", "true")
    for s, t in zip(by_parquet, table(), strict=True):
        np.testing.assert_array_equal(s.context, t.context)


@pytest.mark.parametrize(("cells", "said"), [((1, 1.0, "1", " 1 ", "1.00"), "1"), ((True, "true", "True"), "true"),
                                             (("rain", " rain"), "rain"), ((-0.0, "0", 0), "0")])  # fmt: skip
def test_one_label_has_many_spellings(cells: tuple[object, ...], said: str) -> None:
    assert {label(cell) for cell in cells} == {said}


def test_a_static_column_is_known_once() -> None:
    """Any one row of a series tells it, and every time of it has it, before the first row and after the last."""
    lone = FRAME.with_columns(kind=pl.when(pl.col("t") == 2).then(pl.Series(["urban"] * 4 + ["rural"] * 3)))
    for s, t in zip(table(lone), table(), strict=True):
        np.testing.assert_array_equal(s.context[:, 0], t.context[:, 0])
    data = table()
    encoder = Encoder.fit(data)
    far = encoder.context_at(np.array([-50.0, 0.5, 1e6]), data.series[1])
    np.testing.assert_array_equal(far[:, :3], np.tile(far[0, :3], (3, 1)))


@pytest.mark.parametrize(("column", "says"), [
    ("sky", "(?s)'sky'.*changes within a series: rain .A at 1., clear .A at 3..*--discrete sky"),
    ("open", "(?s)'open'.*changes within a series: 0 .A at 0., 1 .A at 2.*--context open"),
])  # fmt: skip
def test_a_static_column_that_changes_is_refused(column: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        from_frame(FRAME, id="place", time="t", values="x", static=column)


def test_missing_in_a_whole_series_is_noted() -> None:
    frame = FRAME.with_columns(kind=pl.when(pl.col("place") == "A").then("kind"), height=pl.Series([10.0] + [None] * 6))
    data = table(frame)
    assert data.levels["kind"] == ("urban", "(missing)")
    np.testing.assert_array_equal(data.series[1].context[:, :2], [[1, 10]] * 3)
    assert "kind: missing in 1 series, taken as no label: B" in data.notes
    assert "height: missing in 1 series, taken as the mean of the others: B" in data.notes


def test_the_layout_reads_the_next_table_with_the_same_codes() -> None:
    layout = Layout.of(table())
    other = FRAME.with_columns(sky=pl.Series(["clear"] * 3 + ["hail"] + ["clear"] * 3), kind=pl.lit("desert"))
    data = from_frame(other, layout=layout)
    assert data.levels == layout.levels
    np.testing.assert_array_equal(data.series[0].context[:, 2], [0, 0, 0, -1])
    assert "sky: labels that the run has never seen, read as none of those it knows: hail" in data.notes
    context = Encoder.fit(table()).encode(data).context
    np.testing.assert_array_equal(context[:, 1:3], 0)  # desert is neither
    np.testing.assert_array_equal(context[3, 3:7], 0)
    with pytest.raises(InputError, match="other labels"):
        Encoder.fit(table()).encode(table(other))


def test_levels_are_those_of_the_fitted_rows() -> None:
    data = table()
    part = replace(data, series=data.series[1:])
    encoder = Encoder.fit(part)
    assert encoder.levels == {"kind": ("rural",), "sky": ("clear", "fog"), "open": ("0", "1")}
    np.testing.assert_array_equal(encoder.encode(data).context[1:3, 2:4], 0)  # rain was not among them


def test_json_round_trip_and_runs_of_old() -> None:
    encoder = Encoder.fit(table())
    assert Encoder.from_dict(json.loads(json.dumps(encoder.to_dict(), allow_nan=False))) == encoder
    plain = Encoder.fit(from_arrays(None, np.arange(6.0), context=np.arange(6.0)))
    saved = plain.to_dict()
    assert "levels" not in saved  # a run without labels keeps its plan
    assert set(saved["layout"]).isdisjoint({"static", "discrete", "levels"})
    assert Encoder.from_dict(saved) == plain


def test_the_future_may_tell_labels_and_need_not_tell_what_never_changes() -> None:
    data, layout = table(), Layout.of(table())
    encoder = Encoder.fit(data)
    known = future(pl.DataFrame({"place": ["A", "A"], "t": [5, 7], "sky": ["fog", None]}), layout).series[0]
    times = np.array([3.0, 4.0, 5.0, 6.0, 9.0])
    assert encoder.labels_at(times, known, data.series[0]) == {
        "sky": ["clear", "clear", "fog", "fog", "fog"], "open": ["1"] * 5,
    }  # fmt: skip
    np.testing.assert_array_equal(encoder.context_at(times, known, data.series[0])[:, 1:3], [[0, 1]] * 5)
    with pytest.raises(InputError, match="a future without covariates"):
        future(pl.DataFrame({"place": ["A"], "t": [5]}), layout)


def test_labels_are_part_of_what_the_data_are() -> None:
    prints = {table(frame).fingerprint() for frame in (FRAME, FRAME.with_columns(pl.col("sky").replace("fog", "mist")))}
    assert len(prints) == 2
    assert from_frame(FRAME, layout=Layout.of(table())).fingerprint() == table().fingerprint()


def test_refusals() -> None:
    many = from_arrays
    with pytest.raises(InputError, match=f"{MOST_LEVELS + 1} different labels"):
        many(None, np.arange(90.0), discrete={"word": [f"w{k % (MOST_LEVELS + 1)}" for k in range(90)]})
    with pytest.raises(InputError, match="one for each series"):
        many(None, [np.arange(3.0), np.arange(3.0)], static={"kind": ["a"]})
    with pytest.raises(InputError, match="'sky' in two parts"):
        from_frame(FRAME, id="place", values="x", discrete="sky", context="sky")
    with pytest.raises(InputError, match="did you mean 'sky'"):
        from_frame(FRAME, id="place", values="x", discrete="skyy")
    with pytest.raises(InputError, match="all of its cells are missing"):
        from_frame(FRAME.with_columns(sky=pl.lit(None)), id="place", values="x", discrete="sky")

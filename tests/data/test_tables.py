"""The same table through every door gives the same trajectories; what is left open is guessed and noted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from neuralsde.data import Layout, Trajectories, from_arrays, from_frame, future, read
from neuralsde.errors import InputError

CSV = """station,when,temp,wind,sky
A,2013-01-01T00:00:00Z,1.5,3,clear
A,2013-01-01T01:00:00Z,NA,4,rain
A,2013-01-01T03:00:00Z,2.5,,clear
B,2013-01-01T00:00:00Z,-1.0,5,clear
B,2013-01-01T02:00:00Z,null, 6 ,rain
"""
VALUES = {"A": [[1.5, 3], [np.nan, 4], [2.5, np.nan]], "B": [[-1.0, 5], [np.nan, 6]]}


def write(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def check(data: Trajectories) -> None:
    assert data.columns == ("temp", "wind")
    assert [s.id for s in data] == ["A", "B"]
    for s in data:
        np.testing.assert_array_equal(s.values, VALUES[s.id])
    assert [s.times.tolist() for s in data] == [
        [1356998400.0, 1357002000.0, 1357009200.0],
        [1356998400.0, 1357005600.0],
    ]
    assert data.clock.is_calendar


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path, CSV)


def test_csv(path: Path) -> None:
    data = read(path, id="station")
    check(data)
    assert data.clock.zone == "UTC"
    assert data.notes == ("time column: when", "values: temp, wind (all columns of numbers; not used: sky)")
    check(read(path, id="station", time="when", values=["temp", "wind"]))
    assert read(path, id="station", time="when", values=["temp", "wind"]).notes == ()


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators(tmp_path: Path, separator: str) -> None:
    check(read(write(tmp_path, CSV.replace(",", separator), "table.tsv"), id="station"))


def test_byte_order_mark_and_blanks_in_the_heading(tmp_path: Path) -> None:
    path = tmp_path / "bom.csv"
    path.write_bytes(b"\xef\xbb\xbf" + CSV.replace("temp", " temp ").encode())
    check(read(path, id="station"))


def test_parquet_and_frames_agree_with_csv(path: Path, tmp_path: Path) -> None:
    frame = pl.read_csv(path, null_values=["NA", "null"]).with_columns(
        pl.col("when").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC"),
        pl.col("wind").str.strip_chars().cast(pl.Int64),
    )
    frame.write_parquet(tmp_path / "table.parquet")
    by_csv = read(path, id="station")
    pandas = pd.read_csv(path, na_values=["null"], skipinitialspace=True, parse_dates=["when"])
    frames = (frame, frame.lazy(), frame.to_arrow(), pandas, pd.read_csv(path), pl.read_csv(path), pa.table(frame))
    for data in (read(tmp_path / "table.parquet", id="station"), *(from_frame(f, id="station") for f in frames)):
        check(data)
        assert data.fingerprint() == by_csv.fingerprint()
        assert data.clock == by_csv.clock


def test_arrays_agree_with_csv(path: Path) -> None:
    by_csv = read(path, id="station")
    times = [by_csv.clock.format(s.times) for s in by_csv]
    values = [s.values for s in by_csv]
    data = from_arrays(times, values, ids=["A", "B"], columns=["temp", "wind"])
    check(data)
    assert data.fingerprint() == by_csv.fingerprint()
    stamps = [(1e6 * s.times).astype("datetime64[us]") for s in by_csv]
    assert from_arrays(stamps, values, ids=["A", "B"], columns=["temp", "wind"]).fingerprint() == by_csv.fingerprint()


def test_npz_in_both_layouts_agrees_with_csv(path: Path, tmp_path: Path) -> None:
    by_csv = read(path, id="station")
    times = np.concatenate([s.times for s in by_csv]).astype("datetime64[s]")
    values = np.concatenate([s.values for s in by_csv])
    columns = np.array(["temp", "wind"])
    np.savez(tmp_path / "id.npz", times=times, values=values, columns=columns, id=np.array(list("AAABB")))
    np.savez(tmp_path / "ends.npz", times=times, values=values, columns=columns, ends=np.array([3, 5]))
    np.savez(tmp_path / "table.npz", station=list("AAABB"), when=times, temp=values[:, 0], wind=values[:, 1])
    check(read(tmp_path / "id.npz"))
    check(read(tmp_path / "table.npz", id="station"))
    assert [s.id for s in read(tmp_path / "ends.npz")] == ["0", "1"]
    assert read(tmp_path / "ends.npz").series[1].values.tolist()[0] == [-1.0, 5.0]


def test_npz_with_context(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", times=np.arange(4.0), values=np.arange(4.0), context=np.ones((4, 2)))
    data = read(tmp_path / "c.npz")
    assert (data.columns, data.context_columns) == (("value",), ("c0", "c1"))
    assert data.series[0].context.shape == (4, 2)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"times": np.arange(3.0), "value": np.ones((3, 2))}, "none is called 'values'"),
        ({"times": np.arange(3.0), "values": np.ones((4, 2))}, "3 rows of times and 4"),
        ({"times": np.arange(4.0), "values": np.ones(4), "end": np.array([4])}, "did you mean 'ends'"),
        ({"times": np.arange(4.0), "values": np.ones(4), "ends": np.array([2, 5])}, "does not cut 4 rows"),
        ({"times": np.arange(4.0), "values": np.ones(4), "id": np.array(["a"])}, "one id a row"),
        ({"times": np.arange(4.0), "values": np.ones(4), "columns": np.array(["a", "b"])}, "2 columns for 1"),
        ({"times": np.arange(2.0), "values": np.array([{}, {}])}, "cannot be read as NPZ"),
    ],
)
def test_npz_that_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], match: str) -> None:
    np.savez(tmp_path / "x.npz", allow_pickle=True, **arrays)
    with pytest.raises(InputError, match=match):
        read(tmp_path / "x.npz")


def test_shapes_of_arrays() -> None:
    cube = np.random.default_rng(0).normal(size=(3, 5, 2))
    shared = from_arrays(np.arange(5.0), cube)
    for same in (
        from_arrays(None, cube),
        from_arrays(np.tile(np.arange(5.0), (3, 1)), cube),
        from_arrays([np.arange(5)] * 3, list(cube)),
        from_arrays([0, 1, 2, 3, 4], list(cube)),
        from_arrays(None, [c.tolist() for c in cube]),
    ):
        assert same.fingerprint() == shared.fingerprint()
    assert (shared.columns, [s.id for s in shared]) == (("x0", "x1"), ["0", "1", "2"])
    one = from_arrays(np.arange(5.0), cube[0, :, 0])
    assert (one.columns, one.id_name, len(one)) == (("value",), None, 1)
    masked = np.ma.masked_equal(np.arange(5.0), 1.0)
    assert np.isnan(from_arrays(None, masked).series[0].values[1, 0])


@pytest.mark.parametrize(
    ("times", "values", "options", "match"),
    [
        (np.arange(3.0), np.ones((4, 1)), {}, "3 rows of times"),
        ([np.arange(3.0)], [np.ones(3), np.ones(3)], {}, "1 series of times"),
        (None, [np.ones((3, 1)), np.ones((3, 2))], {}, "same columns"),
        (None, np.arange(3.0), {"columns": ["a", "b"]}, "2 columns for 1"),
        (None, [np.arange(3.0)] * 2, {"ids": ["a", "a"]}, "2 different ids"),
        (None, np.arange(3.0), {"columns": "time"}, "'time' twice"),
        (None, np.ones((2, 2, 2, 2)), {}, "shape"),
        (None, ["a", "b"], {}, "not numbers"),
        (None, np.arange(3.0), {"context": np.ones(4)}, "4 rows of context"),
    ],
)
def test_arrays_that_are_refused(times: object, values: object, options: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        from_arrays(times, values, **options)  # pyright: ignore[reportArgumentType]


def test_context_from_columns_and_from_the_calendar(path: Path) -> None:
    data = read(path, id="station", values="temp", context=["wind", "hour-of-day"])
    assert (data.columns, data.context_columns, data.calendar) == (("temp",), ("wind",), ("hour-of-day",))
    assert data.series[0].context.tolist() == [[3.0], [4.0], [4.0]]
    assert any("wind: 1 missing" in note for note in data.notes)


def test_missing_context_before_the_first_and_in_a_whole_series(tmp_path: Path) -> None:
    text = "id,time,x,c\na,0,1,\na,1,2,5\na,2,3,\nb,0,1,\nb,1,2,\n"
    data = read(write(tmp_path, text), id="id", values="x", context="c")
    assert [s.context.ravel().tolist() for s in data] == [[5, 5, 5], [5, 5]]


def test_guesses_of_the_time(tmp_path: Path) -> None:
    assert read(write(tmp_path, "Date,x\n2013-01-01,1\n2013-01-02,2\n")).time_name == "Date"
    rows = read(write(tmp_path, "x,y\n1,2\n2,4\n"))
    assert (rows.time_name, rows.series[0].times.tolist()) == (None, [0.0, 1.0])
    assert "row numbers" in rows.notes[0]
    by_id = read(write(tmp_path, "id,x\na,1\nb,2\na,3\nb,5\n"), id="id")
    assert [s.times.tolist() for s in by_id] == [[0, 1], [0, 1]]
    assert [s.values.ravel().tolist() for s in by_id] == [[1, 3], [2, 5]]
    with pytest.raises(InputError, match="begin, end"):
        read(write(tmp_path, "begin,end,x\n2013-01-01,2013-01-02,1\n2013-01-02,2013-01-03,2\n"))


def test_a_layout_reads_the_next_table_the_same_way(path: Path, tmp_path: Path) -> None:
    data = read(path, id="station", context="hour-of-day", positive="wind", plausible={"temp": (-50.0, 50.0)})
    layout = Layout.from_dict(Layout.of(data).to_dict())
    assert layout == Layout.of(data)
    again = read(path, layout=layout)
    assert again.fingerprint() == data.fingerprint()
    assert (again.support, again.plausible) == (data.support, data.plausible)
    short = read(write(tmp_path, "station,when,wind,temp,new\nC,2013-02-01T00:00Z,-1,99,7\n"), layout=layout)
    assert np.isnan(short.series[0].values).all()  # one row, one value below zero, one implausible: kept, missing
    assert short.columns == data.columns
    assert len(short.notes) == 2


def test_a_layout_refuses_another_shape(path: Path, tmp_path: Path) -> None:
    layout = Layout.of(read(path, id="station"))
    with pytest.raises(InputError, match="another shape than the run") as caught:
        read(write(tmp_path, CSV.replace("temp", "tmep"), "other.csv"), layout=layout)
    assert "did you mean 'tmep'" in caught.value.line
    with pytest.raises(InputError, match="layout together"):
        read(path, id="station", layout=layout)


def test_constants_need_not_come_again(tmp_path: Path) -> None:
    data = read(write(tmp_path, "time,x,k\n0,1,7\n1,2,7\n2,0,7\n"))
    assert (data.columns, data.constants) == (("x",), {"k": 7.0})
    again = read(write(tmp_path, "time,x\n5,3\n6,3\n"), layout=Layout.of(data))
    assert (again.columns, again.constants) == (("x",), {"k": 7.0})


def test_future_covariates(tmp_path: Path) -> None:
    data = read(write(tmp_path, "id,time,x,c\na,0,1,2\na,1,2,3\n"), id="id", values="x", context="c")
    ahead = future(write(tmp_path, "id,time,c\na,2,4\na,3,5\n", "ahead.csv"), Layout.of(data))
    assert ahead.series[0].context.ravel().tolist() == [4, 5]
    assert np.isnan(ahead.series[0].values).all()
    assert future(pl.DataFrame({"id": ["a"], "time": [2], "c": [4]}), Layout.of(data)).n_rows == 1
    with pytest.raises(InputError, match="'c'"):
        future(write(tmp_path, "id,time,x\na,2,4\n", "none.csv"), Layout.of(data))
    with pytest.raises(InputError, match="without covariates"):
        future(tmp_path / "ahead.csv", Layout.of(read(tmp_path / "ahead.csv", id="id")))


def test_cells_of_pandas() -> None:
    """Its several ways of saying nothing, numbers as objects, a time index, names that are numbers."""
    stamps = pd.date_range("2013-01-01", periods=4, freq="h", tz="Europe/Berlin")
    missing = pd.DataFrame(
        {
            "time": stamps,
            "nullable": pd.array([1, None, 3, 4], dtype="Int64"),
            "text": ["1", None, "NA", "4.5"],
            "objects": pd.Series([1, "2", None, float("nan")], dtype=object),
            "flag": [True, False, True, True],
        }
    )
    data = from_frame(missing, values=["nullable", "text", "objects", "flag"])
    nan = np.nan
    np.testing.assert_array_equal(
        data.series[0].values, [[1, 1, 1, 1], [nan, nan, 2, 0], [3, nan, nan, 1], [4, 4.5, nan, 1]]
    )
    assert data.clock.zone == "Europe/Berlin"
    assert data.clock.show(float(data.series[0].times[0])) == "2013-01-01T00:00:00+01:00"
    indexed = from_frame(missing.drop(columns="time").set_index(stamps)[["nullable"]])
    assert indexed.fingerprint() == from_frame(missing, values="nullable").fingerprint()
    fixed = pd.DataFrame({"time": pd.to_datetime(["2013-01-01T00:00+02:00", "2013-01-02T00:00+02:00"]), "x": [1, 2]})
    assert from_frame(fixed).clock.zone == "+02:00"
    assert from_frame(pd.DataFrame(np.arange(6.0).reshape(3, 2))).columns == ("0", "1")


def test_frames_that_are_refused() -> None:
    with pytest.raises(InputError, match="from_arrays"):
        from_frame(np.ones((3, 2)))
    with pytest.raises(InputError, match="without rows"):
        from_frame(pl.DataFrame({"x": []}))
    with pytest.raises(InputError, match="twice"):
        from_frame(pd.DataFrame(np.ones((2, 2)), columns=["x", "x"]))
    with pytest.raises(InputError, match="it holds times"):
        from_frame(pd.DataFrame({"time": [1, 2], "x": pd.to_datetime(["2013-01-01", "2013-01-02"])}), values="x")

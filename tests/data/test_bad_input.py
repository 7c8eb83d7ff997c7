"""The matrix of bad input: each case one clear error that says what to do, or one note on what was done."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralsde.data import from_frame, read
from neuralsde.data.embedded import WEATHER
from neuralsde.data.files import SUFFIXES
from neuralsde.errors import InputError

HEAD = "id,time,x,y\n"
GOOD = HEAD + "a,0,1,2\na,1,2,3\na,2,4,1\nb,0,3,3\nb,1,1,2\n"

REFUSED = {
    "no row": (HEAD, {}, "has no rows"),
    "text among numbers": (GOOD + "b,2,oops,1\n", {"values": "x"}, "'oops' in row 6 of the column 'x'"),
    "text among numbers, values not named": (GOOD + "b,2,oops,1\n", {}, "'oops' in row 6 of the column 'x'"),
    "text as value": (GOOD, {"values": "id", "id": None}, "'a' in row 1 of the column 'id'"),
    "infinity": (GOOD + "b,2,inf,1\n", {}, "^inf in row 6 of the column 'x'"),
    "minus infinity": (GOOD + "b,2,1,-Infinity\n", {}, "row 6 of the column 'y'"),
    "infinite covariate": (GOOD + "b,2,1,inf\n", {"context": "y"}, "row 6 of the column 'y'"),
    "duplicated time": (GOOD + "a,1,7,7\n", {}, r"the time 1 twice in the series 'a' \(rows 2 and 6\)"),
    "series without id": (GOOD, {"id": None}, "an id column"),
    "all missing": (HEAD + "a,0,,1\na,1,NA,2\n", {}, "the column 'x'; all of its values are missing"),
    "covariate all missing": (HEAD + "a,0,,1\na,1,NA,2\n", {"context": "x"}, "the covariate 'x'"),
    "no usable series": (HEAD + "a,0,1,1\nb,0,2,2\n", {}, "none has two rows"),
    "nothing varies": (HEAD + "a,0,1,1\na,1,1,1\n", {}, "none of them ever changes"),
    "missing time": (GOOD + "b,,1,1\n", {}, "row 6 of the column 'time'; its time is missing"),
    "infinite time": (GOOD + "b,inf,1,1\n", {}, "its time is infinite"),
    "unreadable time": (GOOD + "b,soon,1,1\n", {}, "'soon' in row 6 of the column 'time'"),
    "missing id": (GOOD + ",5,1,1\n", {}, "row 6 of the column 'id'"),
    "wrong value name": (GOOD, {"values": ["xx"]}, "did you mean 'x'"),
    "wrong id name": (GOOD, {"id": "ID2"}, "did you mean 'id'"),
    "wrong time name": (GOOD, {"time": "tiem"}, "did you mean 'time'"),
    "wrong covariate": (GOOD, {"context": "hour-of-dy"}, "did you mean 'hour-of-day'"),
    "calendar of numbers": (GOOD, {"context": "hour-of-day"}, "plain numbers"),
    "one column twice": (GOOD, {"values": ["x", "y"], "context": ["y"]}, "'y' in two parts"),
    "time as value": (GOOD, {"values": ["time"], "time": "time"}, "'time' in two parts"),
    "name twice": ("id,time,x,x\na,0,1,2\na,1,2,3\n", {}, "'x' twice"),
    "ragged rows": (GOOD + "b,2,1,1,1,1\n", {}, "cannot be read as CSV"),
    "no numbers": ("id,time,x\na,0,red\na,1,blue\n", {}, "without a column of numbers"),
    "unknown positive": (GOOD, {"positive": "z"}, "positive 'z'; that is not a value column"),
    "unknown bounded": (GOOD, {"bounded": {"X": (0, 1)}}, "did you mean 'x'"),
    "empty range": (GOOD, {"bounded": {"x": (1, 1)}}, "LO < HI"),
    "endless bound": (GOOD, {"bounded": {"x": (0, np.inf)}}, "finite"),
    "both supports": (GOOD, {"bounded": {"x": (0, 9)}, "positive": "x"}, "positive and as bounded"),
    "range backwards": (GOOD, {"plausible": {"x": (2, 1)}}, "LO < HI"),
    "nothing plausible": (GOOD, {"plausible": {"x": (50, 60)}}, "all of its values are missing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    text, options, match = REFUSED[case]
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read(path, **{"id": "id", **options})

    assert re.search(match, caught.value.line), caught.value.line
    assert "\n" not in caught.value.line
    assert len(caught.value.line) < 300


FILES = {
    "empty.csv": (b"", "has no rows"),
    "zeros.csv": (bytes(1000), "cannot be read as CSV"),
    "picture.csv": (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe" * 50, "cannot be read as CSV"),
    "latin.csv": ("time,größe\n1,2\n".encode("latin-1"), "cannot be read as CSV"),
    "text.parquet": (b"not a parquet file", "cannot be read as Parquet"),
    "text.npz": (b"not a zip file at all", "cannot be read as NPZ"),
    "cut.npz": (b"PK\x03\x04" + bytes(40), "cannot be read as NPZ"),
    "cut.csv.gz": (WEATHER.read_bytes()[:5000], "cannot be read as CSV"),
    "table.xlsx": (b"PK", "its kind is not known"),
}


@pytest.mark.parametrize("name", FILES)
def test_broken_files(name: str, tmp_path: Path) -> None:
    content, match = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=match) as caught:
        read(tmp_path / name)
    assert name in caught.value.line


def test_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "weather.csv").write_text(GOOD)
    with pytest.raises(InputError, match="no such file") as caught:
        read(tmp_path / "wether.csv")
    assert "did you mean 'weather.csv'" in caught.value.line
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "nowhere" / "x.csv")
    with pytest.raises(InputError, match="is not a file"):
        read(tmp_path)


def test_a_cut_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"time": range(1000), "x": range(1000)}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read(path)


NOTED = {
    "unsorted": ("a,2,4,1\na,0,1,2\na,1,2,3\n", {}, "times out of order in 1 series, sorted: a"),
    "one row": ("a,0,1,2\na,1,2,3\nb,0,3,3\nc,1,1,1\n", {}, "2 series with one row, left out: b, c"),
    "series without a value": ("a,0,1,2\na,1,2,3\nb,0,,\nb,1,,\n", {}, "1 series with no value, left out: b"),
    "constant": ("a,0,1,7\na,1,2,7\na,2,3,\n", {}, "y: always 7, carried through and kept out of the model"),
    "implausible": (
        "a,0,1,2\na,1,99,3\na,2,3,4\n",
        {"plausible": {"x": (0, 9)}},
        r"x: 1 value lies outside the plausible range 0 to 9, taken as missing: 99 \(a at 1\)",
    ),
    "negative": (
        "a,0,1,2\na,1,-1,3\na,2,3,4\na,3,-5,2\n",
        {"positive": "x"},
        r"x: 2 values lie outside the range that was declared 0 and above, taken as missing: -1 \(a at 1\), -5",
    ),
    "out of bounds": ("a,0,1,2\na,1,8,3\na,2,3,4\n", {"bounded": {"x": (0, 5)}}, "x: 1 value lies outside"),
}


@pytest.mark.parametrize("case", NOTED)
def test_noted(case: str, tmp_path: Path) -> None:
    rows, options, match = NOTED[case]
    path = tmp_path / "table.csv"
    path.write_text(HEAD + rows)

    data = read(path, id="id", values=["x", "y"], **options)
    assert [note for note in data.notes if re.search(match, note)], data.notes
    for s in data:
        assert np.all(np.diff(s.times) > 0)


def test_sorting_moves_whole_rows() -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"id": list("ab") * 50, "time": np.arange(100) // 2, "x": rng.normal(size=100)})
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=1)
    straight = from_frame(frame, id="id")
    order = {s.id: s for s in from_frame(shuffled, id="id")}
    for s in straight:
        np.testing.assert_array_equal(order[s.id].times, s.times)
        np.testing.assert_array_equal(order[s.id].values, s.values)


def test_rows_without_any_value_stay() -> None:
    frame = pl.DataFrame({"time": [0, 1, 2], "x": [1.0, None, 2.0]})
    assert len(from_frame(frame).series[0]) == 3


def test_values_at_the_ends_of_a_support_are_kept() -> None:
    frame = pl.DataFrame({"time": [0, 1, 2], "x": [0.0, 5.0, 2.0]})
    assert not np.isnan(from_frame(frame, bounded={"x": (0.0, 5.0)}).series[0].values).any()
    assert not np.isnan(from_frame(frame, positive="x").series[0].values).any()


def test_a_gross_outlier_is_kept_and_pointed_out() -> None:
    x = np.random.default_rng(0).normal(size=500)
    x[100] = 200.0
    data = from_frame(pl.DataFrame({"time": np.arange(500), "x": x}))
    assert data.series[0].values[100, 0] == 200.0
    assert any("--plausible x LO HI" in note and "200 (series at 100)" in note for note in data.notes)


@pytest.mark.parametrize("rng_seed", range(3))
def test_ordinary_columns_have_no_outlier_note(rng_seed: int) -> None:
    rng = np.random.default_rng(rng_seed)
    rain = np.where(rng.random(500) < 0.8, 0.0, rng.gamma(1.0, 3.0, 500))
    frame = pl.DataFrame({"time": np.arange(500), "x": rng.standard_t(4, 500), "rain": rain})
    assert not any("robust" in note for note in from_frame(frame).notes)


CELLS = st.sampled_from(["", "1", "-2.5", "1e400", "inf", "NA", "x", "2013-01-01", "2013-01-01T00Z", '"', "é", " 3 "])


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    for suffix in SUFFIXES:
        path = folder / f"fuzz{suffix}"
        path.write_bytes(content)
        with contextlib.suppress(InputError):
            read(path)


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=6), st.booleans(), st.booleans())
def test_any_table_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], with_id: bool, with_context: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_text("\n".join(",".join(row) for row in [["id", "time", "x"], *rows]))
    with contextlib.suppress(InputError):
        data = read(path, id="id" if with_id else None, context="day-of-week" if with_context else ())
        for s in data:
            assert len(s) >= 2
            assert np.all(np.diff(s.times) > 0)
            assert np.isfinite(s.times).all()
            assert not np.isinf(s.values).any()

"""Bad input from the outside, as a user meets it: one line, the right status, and nothing half-written.

The commands are run in this process on a run that was fitted for a few steps; .ci/run does the same with the wheel.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from neuralsde.cli import app as cli


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good table, a run fitted on it, and everything that can be wrong."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    walks = [np.cumsum(rng.normal(size=(60, 2)), axis=0) for _ in range(2)]
    good = pl.DataFrame({
        "station": np.repeat(["a", "b"], 60),
        "hour": np.tile(np.arange(60.0), 2),
        "level": np.concatenate(walks)[:, 0],
        "flow": np.concatenate(walks)[:, 1],
    })  # fmt: skip
    good.write_csv(folder / "good.csv")
    good.drop("flow").write_csv(folder / "narrow.csv")
    texts = {
        "text.csv": "hour,level\n0,1\n1,2\n2,oops\n3,4\n",
        "twice.csv": "station,hour,level\na,0,1\na,0,2\nb,0,1\nb,1,2\n",
        "infinite.csv": "hour,level\n0,1\n1,inf\n2,3\n",
        "nothing.csv": "hour,level,flow\n0,1,\n1,2,\n2,3,\n",
        "single.csv": "station,hour,level\na,0,1\nb,0,1\n",
        "empty.csv": "",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    for name in ("garbled.csv", "garbled.parquet", "garbled.npz"):
        (folder / name).write_bytes(rng.bytes(400))
    (folder / "notes").mkdir()
    assert cli.run(fit(folder, "good.csv", "--out", str(folder / "run"), "--steps", "3")) == 0
    shutil.copytree(folder / "run", folder / "cut")
    weights = folder / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-200])
    return folder


def fit(folder: Path, table: str, *options: str) -> list[str]:
    named = ["--id", "station", "--time", "hour"] if table in ("good.csv", "twice.csv", "single.csv") else []
    return ["fit", str(folder / table), *named, *options]


def refused(tokens: list[str], says: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.run(tokens) == 2
    out, err = capsys.readouterr()
    line = err.splitlines()[-1]
    assert out == ""
    assert line.startswith("neuralsde: ")
    assert all(text.startswith("note: ") for text in err.splitlines()[:-1])
    for text in says:
        assert text in line


@pytest.mark.parametrize(
    ("table", "options", "says"),
    [
        ("goood.csv", "", ("no such file", "did you mean 'good.csv'?")),
        ("good.csv", "--values levle flow", ("levle", "did you mean 'level'?")),
        ("good.csv", "--positive flwo", ("flwo", "did you mean 'flow'?")),
        ("good.csv", "--bounded level 3 1", ("level 3 1", "LO < HI")),
        ("good.csv", "--bounded level 0 1 --bounded level 0 2", ("--bounded level", "twice")),
        ("good.csv", "--context hour-of-day", ("plain numbers", "no hour")),
        ("text.csv", "", ("oops", "row 3", "level")),
        ("twice.csv", "", ("'a'", "0")),
        ("infinite.csv", "", ("inf", "level")),
        ("nothing.csv", "--values level flow", ("flow", "missing")),
        ("single.csv", "", ("2 series", "none has two rows")),
        ("empty.csv", "", ("empty",)),
        ("garbled.csv", "", ("garbled.csv",)),
        ("garbled.parquet", "", ("cannot be read as Parquet",)),
        ("garbled.npz", "", ("cannot be read as NPZ",)),
        ("good.csv", "--steps 0", ("steps=0",)),
        ("good.csv", "--model sequence-sd", ("sequence-sd", "did you mean 'sequence-sde'?")),
        ("good.csv", "--set widht=3", ("widht", "did you mean 'width'?")),
        ("good.csv", "--set width=0", ("width=0",)),
        ("good.csv", "--held-out last-part=2", ("share", "between 0 and 1")),
        ("good.csv", "--resume", ("no such folder",)),
    ],
)
def test_fit_refuses(place: Path, table: str, options: str, says: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    refused(fit(place, table, *options.split(), "--out", str(place / "new")), says, capsys)
    assert not (place / "new").exists()


def test_fit_does_not_overwrite(place: Path, capsys: pytest.CaptureFixture[str]):
    before = {path: path.stat().st_mtime_ns for path in (place / "run").rglob("*")}
    refused(fit(place, "good.csv", "--out", str(place / "run")), ("a run is there already",), capsys)
    refused(fit(place, "good.csv", "--out", str(place / "run"), "--resume", "--seed", "5"), ("seed",), capsys)
    assert before == {path: path.stat().st_mtime_ns for path in (place / "run").rglob("*")}


@pytest.mark.parametrize(
    ("command", "run", "table", "options", "says"),
    [
        ("forecast", "notes", "good.csv", "", ("it is not a run",)),
        ("forecast", "rnu", "good.csv", "", ("no such folder",)),
        ("forecast", "cut", "good.csv", "", ("model.safetensors",)),
        ("forecast", "run", "narrow.csv", "", ("flow",)),
        ("forecast", "run", "nowhere.csv", "", ("no such file",)),
        ("forecast", "run", "good.csv", "--horizon 0", ("horizon",)),
        ("forecast", "run", "good.csv", "--horizon 36h", ("36h", "plain numbers")),
        ("forecast", "run", "good.csv", "--levels 120", ("120", "between 0 and 100")),
        ("forecast", "run", "good.csv", "--n 0", ("n=0",)),
        ("forecast", "run", "good.csv", "--times 3", ("ends at 59",)),
        ("sample", "run", "", "--start 0", ("level, flow",)),
        ("score", "run", "narrow.csv", "", ("flow",)),
    ],
)
def test_a_run_refuses(
    place: Path, command: str, run: str, table: str, options: str, says: tuple[str, ...], capsys, monkeypatch
):
    monkeypatch.chdir(place)
    refused([command, run, *([table] if table else []), *options.split()], says, capsys)


def test_what_can_be_mended_is_noted(place: Path, capsys: pytest.CaptureFixture[str]):
    good = pl.read_csv(place / "good.csv")
    lonely = pl.DataFrame({"station": ["c"], "hour": [0.0], "level": [1.0], "flow": [1.0]})
    mended = pl.concat([good.reverse(), lonely]).with_columns(pl.lit(7.0).alias("height"))
    mended.write_csv(place / "mended.csv")
    capsys.readouterr()
    tokens = ["fit", str(place / "mended.csv"), "--id", "station", "--time", "hour", "--steps", "3"]
    assert cli.run([*tokens, "--out", str(place / "mended")]) == 0
    said = capsys.readouterr().err
    for text in ("sorted", "one row", "height", "held out for the score: the last 20 %"):
        assert text in said


def test_a_config_repeats_a_run(place: Path, capsys: pytest.CaptureFixture[str]):
    tokens = ["fit", "--config", str(place / "run" / "config.json"), "--out", str(place / "again")]
    assert cli.run(tokens) == 0
    first, second = ((place / name / "model.safetensors").read_bytes() for name in ("run", "again"))
    assert first == second
    refused([*tokens[:3], "--id", "station", "--out", str(place / "other")], ("--config and --id",), capsys)


def test_paths_are_sampled_in_the_units_of_the_table(place: Path):
    out = place / "paths.csv"
    tokens = ["sample", str(place / "run"), "--start", "1.5", "-2", "--at", "10", "--horizon", "3", "--n", "2"]
    assert cli.run([*tokens, "--out", str(out)]) == 0
    paths = pl.read_csv(out)
    assert paths.columns == ["path", "time", "level", "flow"]
    assert paths["time"].to_list() == [10, 11, 12, 13] * 2
    assert paths.filter(pl.col("time") == 10).select("level", "flow").rows() == [(1.5, -2.0)] * 2

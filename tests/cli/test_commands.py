"""A command is the Python function: its options arrive there unchanged, its table leaves as it was.

The run here is a stand-in that remembers how it was called; the true one is met in tests/runs and in .ci/run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from neuralsde.cli import app as cli
from neuralsde.cli import reproduce as commands
from neuralsde.errors import InputError, NeuralSDEError
from neuralsde.train.loop import Interrupted

TABLE = pl.DataFrame({"id": ["a", "a"], "time": [1.0, 2.0], "mean": [0.25, -1e-9]})


class Remembered:
    """Stands for a run: every method notes its arguments and gives back a table."""

    layout = "the layout"

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def method(*args: Any, **options: Any) -> Any:
            self.calls.append((name, args, options))
            return Path("run/report.html") if name == "report" else TABLE

        return method


class Data:
    notes = ("2 series are unsorted; sorted",)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Remembered:
    fake = Remembered()
    monkeypatch.setattr("neuralsde.runs.load", lambda path: fake, raising=False)
    monkeypatch.setattr("neuralsde.data.read", lambda path, *, layout: Data())
    return fake


def test_forecast_passes_every_option(run: Remembered, capsys: pytest.CaptureFixture[str]):
    tokens = "forecast r d.csv --horizon 36h --levels 50 97.5 --n 7 --seed 3 --future f.csv --calibrate"
    assert cli.run(tokens.split()) == 0
    (name, (data,), options) = run.calls[0]
    assert name == "forecast"
    assert isinstance(data, Data)
    assert options == {
        "horizon": "36h", "times": None, "future": Path("f.csv"), "levels": (50.0, 97.5), "n": 7, "seed": 3,
        "calibrate": True,
    }  # fmt: skip
    out, err = capsys.readouterr()
    assert_frame_equal(pl.read_csv(out.encode()), TABLE)
    assert err == "note: 2 series are unsorted; sorted\n"


def test_a_bare_horizon_counts_steps(run: Remembered):
    cli.run(["forecast", "r", "d.csv", "--horizon", "24"])
    assert run.calls[0][2]["horizon"] == 24


def test_times_are_read_as_typed(run: Remembered):
    cli.run(["impute", "r", "d.csv", "--times", "2013-01-01T05:00:00Z", "2013-01-01T06:30:00Z"])
    assert run.calls[0][2]["times"] == ("2013-01-01T05:00:00Z", "2013-01-01T06:30:00Z")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_out_is_a_table(run: Remembered, tmp_path: Path, suffix: str):
    out = tmp_path / f"f{suffix}"
    assert cli.run(["forecast", "r", "d.csv", "--out", str(out)]) == 0
    assert_frame_equal(pl.read_csv(out) if suffix == ".csv" else pl.read_parquet(out), TABLE)


def test_report_prints_where_it_is(run: Remembered, capsys: pytest.CaptureFixture[str]):
    assert cli.run(["report", "r"]) == 0
    assert capsys.readouterr().out.strip() == "run/report.html"


def test_an_error_of_the_library_is_its_line(run: Remembered, monkeypatch, capsys: pytest.CaptureFixture[str]):
    def refuse(path: Path) -> None:
        raise InputError(f"the folder {path}", "it is not a run", "a folder that fit wrote", "neuralsde fit")

    monkeypatch.setattr("neuralsde.runs.load", refuse)
    assert cli.run(["report", "elsewhere"]) == 2
    said = capsys.readouterr().err
    parts = ("the folder elsewhere", "it is not a run", "expected a folder that fit wrote", "try neuralsde fit")
    assert said == f"neuralsde: {'; '.join(parts)}\n"


def test_an_experiment_that_is_stopped_names_the_way_on_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no `--resume`; what was told before the stop stays told."""

    class Stopped(Interrupted):
        def __init__(self) -> None:
            NeuralSDEError.__init__(self, "interrupted after 3 of 10 steps", hint="--resume")

    def target(**asked: Any) -> Iterator[str]:
        yield f"into {asked['out'].name}"
        raise Stopped

    known = commands.function
    monkeypatch.setattr(commands, "function", lambda path: target if "memory" in path else known(path))
    assert cli.run(["reproduce", "memory", "--out", str(tmp_path / "there")]) == 130
    out, err = capsys.readouterr()
    assert out == "into there\n"
    assert "interrupted after 3 of 10 steps" in err
    assert "try the same command again" in err
    assert "--resume" not in err

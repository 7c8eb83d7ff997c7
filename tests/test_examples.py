"""The examples run, and come to what they promise."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where a dataclass looks its annotations up
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_test_and_a_main():
    names = {"brownian_replay", "forecast_a_table", "known_physics", "ou_process"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == names
    assert all(callable(load(path.stem).main) for path in EXAMPLES.glob("*.py"))


def test_forecast_a_table(capsys: pytest.CaptureFixture[str]):
    forecast = load("forecast_a_table").main(steps=60)
    assert forecast.height == 24
    assert "CRPS" in capsys.readouterr().out


def test_ou_process(capsys: pytest.CaptureFixture[str]):
    load("ou_process").main()
    assert capsys.readouterr().out


def test_brownian_replay():
    """Replayed, the gradient is that of the law, .81; on a fresh path it is nothing."""
    replayed, fresh = load("brownian_replay").main(paths=4_000)
    assert abs(replayed - 0.81) < 0.15
    assert abs(fresh) < 0.08


def test_known_physics(capsys: pytest.CaptureFixture[str]):
    """Every rate within 20 % of the truth, and most inside their intervals, from six herds."""
    table = load("known_physics").main(herds_count=6)
    assert ((table["estimate"] / table["truth"] - 1).abs() < 0.2).all()
    inside = (table["lo-95"] <= table["truth"]) & (table["truth"] <= table["hi-95"])
    assert inside.sum() >= 3
    assert "parameter" in capsys.readouterr().out

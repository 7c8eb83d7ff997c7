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
    names = {
        "brownian_replay", "fewer_evaluations", "forecast_a_table", "known_physics", "ou_process", "policy_server",
        "probability_flow",
    }  # fmt: skip
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


def test_probability_flow():
    """One-time laws alike, the covariance of two times not: .164 for the SDE, .469 for its flow."""
    found = load("probability_flow").main(n=2_000)
    assert found["stationary flow moves"] < 1e-5
    assert found["affine map"] < 5e-3
    assert abs(found["covariance SDE"] - 0.164) < 0.06
    assert abs(found["covariance flow"] - 0.469) < 0.06


def test_fewer_evaluations():
    """With a step for every evaluation the flow is ahead of the SDE at 12, and every method improves."""
    found = load("fewer_evaluations").main(n=2_000, counts=(12, 48))
    sde, half, euler, solver = (found[name, 12] for name in dict.fromkeys(name for name, _ in found))
    assert sde > half > euler > solver
    assert all(found[name, 48] < 0.5 * found[name, 12] for name, _ in found)

"""Settings are read by the kind of their default; whatever else is typed is named with what was expected."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from neuralsde.cli.heldout import rule_of
from neuralsde.cli.settings import parse_settings
from neuralsde.data import LastDaysOfMonth, LastPart, SomeSeries
from neuralsde.errors import InputError


@dataclass(frozen=True)
class Config:
    width: int = 64
    rate: float = 1e-3
    loss: str = "gaussian"
    timed: bool = False
    clip: float | None = None
    noise: float | tuple[float, ...] = 0.0
    lags: tuple[int, ...] = ()


@dataclass(frozen=True)
class Training:
    batch: int = 32


def test_values_take_the_kind_of_the_default():
    given = ["width=128", "rate=3e-4", "loss=log", "timed=yes", "clip=2"]
    expected = {"width": 128, "rate": 3e-4, "loss": "log", "timed": True, "clip": 2.0}
    assert parse_settings(given, Config()) == (expected,)
    assert parse_settings(["clip=none"], Config()) == ({"clip": None},)


def test_a_setting_for_each_column_takes_several_numbers():
    assert parse_settings(["noise=0.1"], Config(noise=(1.0, 2.0))) == ({"noise": 0.1},)
    assert parse_settings(["noise=0.1, 2e-2"], Config()) == ({"noise": (0.1, 0.02)},)


def test_whole_numbers_in_a_row():
    for default in (Config(), Config(lags=(7,))):
        assert parse_settings(["lags=23,24"], default) == ({"lags": (23, 24)},)
        assert parse_settings(["lags=none"], default) == ({"lags": ()},)
    with pytest.raises(InputError, match="whole numbers"):
        parse_settings(["lags=0.5"], Config())


def test_a_setting_goes_where_it_is_a_field():
    assert parse_settings(["batch=8", "width=3"], Config(), Training()) == ({"width": 3}, {"batch": 8})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("width", "NAME=VALUE"),
        ("widht=3", "did you mean 'width'?"),
        ("width=3.5", "a whole number"),
        ("rate=fast", "a number"),
        ("timed=maybe", "true or false"),
        ("noise=0.1,much", "a number, or several"),
    ],
)
def test_misuse_is_named(text: str, says: str):
    with pytest.raises(InputError) as error:
        parse_settings([text], Config())
    assert says in error.value.line


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("auto", None),
        ("last-part", LastPart()),
        ("last-part=0.3", LastPart(0.3)),
        ("some-series=0.5", SomeSeries(0.5)),
        ("last-days-of-month=7", LastDaysOfMonth(7)),
    ],
)
def test_held_out_rules_have_names(text: str, rule: object):
    assert rule_of(text) == rule

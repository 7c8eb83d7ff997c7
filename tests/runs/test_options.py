"""Every option of the model, in runs of a few steps that go on to be used.

Options that do not exclude each other share a fit, so that four fits meet them all. The one with the most options is
typed at the command line; that every other choice can be typed is asked of the parser, without a fit.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import equinox as eqx
import jax
import numpy as np
import pytest
import tiny

from neuralsde.cli import app as cli
from neuralsde.cli.settings import parse_settings
from neuralsde.data import Trajectories, from_arrays, read
from neuralsde.errors import InputError
from neuralsde.models.sequence_sde import Config
from neuralsde.runs import Run, fit, load
from neuralsde.runs.fit import TRAINING as DEFAULT
from neuralsde.tasks.score import MODEL
from neuralsde.train.loop import Interrupted
from neuralsde.train.weights import save_model

SMALL: dict[str, Any] = {"history": 0, "width": 4, "depth": 1}
TRAINING = {"batch_size": 16, "log_every": 10, "validate_every": 10, "learning_rate": 0.003}
STEPS = 20

MOST = "factors, tails, memory"
GROUPS: dict[str, dict[str, Any]] = {
    "factors, tails, memory": {
        "noise": "low-rank", "rank": 1, "tails": "student", "memory": 3, "summary": "gru", "lags": (4,), "reach": 3,
        "denoiser": "fixed", "strength": 0.5, "denoiser_noise": (0.1, 0.2), "backbone": "shared", "network": "residual",
        "flow_loss": "student", "input_noise": (0.1, 0.05), "noise_scale": "random", "noise_target": "return",
    },
    "chord": {
        "noise": "full", "interpolation": "chord", "denoiser": "consistent", "memory": 2, "summary": "attention",
        "flow_loss": "log", "log_delta": 0.01, "time_dependent": True,
    },
    "several steps": {"law": "local-linear", "substeps": 2, "objective": "joint", "denoiser": "calibrated",
        "confined": False, "history": 1},
    "bridge": {
        "interpolation": "bridge", "denoiser": "state", "diffusion_loss": "log-regression", "flow_loss": "mse",
        "tune_steps": 4, "tune_horizon": 2, "tune_paths": 2, "tune_score": "energy", "network": "residual",
    },
}  # fmt: skip


def typed(options: Mapping[str, Any]) -> list[str]:
    """The options as they are typed after `--set`."""

    def text(value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()

    return [f"{name}={text(value)}" for name, value in options.items()]


def config_of(group: str) -> Config:
    return Config(**{**SMALL, **GROUPS[group]})


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short series of two channels as a CSV file."""
    path, data = tmp_path_factory.mktemp("options") / "table.csv", tiny.ou_table(series=2, rows=40)
    lines = ["id,time,level,flow"]
    for series in data.series:
        rows = zip(series.times, series.values, strict=True)
        lines += [f"{series.id},{float(t)!r},{float(x[0])!r},{float(x[1])!r}" for t, x in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def typed_fit(table: Path, out: Path, options: Mapping[str, Any]) -> Run:
    """`neuralsde fit` with everything that is not a default behind `--set`, and the run that it has left."""
    settings = typed({**SMALL, **TRAINING, **options})
    tokens = ["fit", str(table), "--id", "id", "--time", "time", "--steps", str(STEPS), "--out", str(out), "--set"]
    assert cli.run([*tokens, *settings]) == 0
    return load(out, data=read(table, id="id", time="time"))


@pytest.fixture(scope="module")
def whole(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run with the most options, fitted once."""
    return typed_fit(table, tmp_path_factory.mktemp("whole") / "run", GROUPS[MOST])


def check(run: Run, group: str) -> None:
    """The run has the options, and the parts that go with them; it forecasts."""
    assert run.plan.config == config_of(group)
    forecast = run.forecast(horizon=2, n=20)
    assert forecast.height == 2 * 2 * 2
    assert (forecast["lo-95"] < forecast["hi-95"]).all()
    names = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(run.model)}
    for option, part in (("memory", "memory_net"), ("denoiser", "denoiser_net"), ("tails", "tail")):
        wanted = getattr(run.plan.config, option) not in (0, "none", "gaussian")
        assert any(part in name for name in names) == wanted


@pytest.mark.parametrize("group", [group for group in GROUPS if group != MOST])
def test_an_option_that_is_given_is_the_one_that_is_fitted_and_used(group: str, table: Path, tmp_path: Path) -> None:
    """In memory; with a second stage of training, from its folder."""
    config, training = config_of(group), dataclasses.replace(DEFAULT, **TRAINING)
    data, folder = read(table, id="id", time="time"), tmp_path / "run" if config.tune_steps else None
    run = fit(data, model=config, training=training, steps=STEPS, out=folder)
    check(run if folder is None else load(folder, data=data), group)


def test_a_run_with_most_of_the_options_is_scored(whole: Run) -> None:
    check(whole, MOST)
    scores = whole.score(leads=[1], n=8)
    assert all(np.isfinite(score.value) for score in scores.scores if score.method == MODEL)


class _Stop:
    """A reporter that presses Ctrl-C at a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def start(self, done: int, total: int) -> None: ...
    def note(self, text: str) -> None: ...
    def finish(self) -> None: ...

    def update(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_stopped_run_goes_on_to_the_same_bits(whole: Run, table: Path, tmp_path: Path) -> None:
    """With long transitions, a denoiser, a memory, common factors and Student's law; Python equals the command."""
    config = config_of(MOST)
    data, training = read(table, id="id", time="time"), dataclasses.replace(DEFAULT, **TRAINING)
    options: dict[str, Any] = {"model": config, "training": training, "steps": STEPS, "out": tmp_path / "stopped"}
    with pytest.raises(Interrupted):
        fit(data, progress=_Stop(10), **options)
    again = fit(data, resume=True, **options)
    for a, b in zip(jax.tree.leaves(again.model), jax.tree.leaves(whole.model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_folder_from_before_the_options_loads(run: Run, tmp_path: Path) -> None:
    """What config.json does not name has its default; the weights have the names they had."""
    folder, path = tmp_path / "old", tiny.folder_of(run).path
    shutil.copytree(path, folder)
    content = json.loads((folder / "config.json").read_text())
    known = ("name", "history", "width", "depth", "objective", "flow_loss", "log_delta", "time_dependent",
             "input_noise", "noise_target")  # fmt: skip
    saved = content["config"]
    saved["model"] = {name: value for name, value in saved["model"].items() if name in known}
    for name in ("travel", "bounds"):
        saved.pop(name)
    (folder / "config.json").write_text(json.dumps(content))
    old = eqx.tree_at(lambda m: m.bounds, run.model, None)
    save_model(folder / "model.safetensors", old)
    again = load(folder, data=tiny.data_of(run))
    assert again.plan.config == run.plan.config
    for a, b in zip(jax.tree.leaves(again.model), jax.tree.leaves(old), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isfinite(again.forecast(horizon=2, n=10)["mean"].to_numpy()).all()


# -- without a fit -----------------------------------------------------------------------------------------------------

CHOICES = [
    (name, value) for name, kind in get_type_hints(Config).items() for value in get_args(kind) if isinstance(value, str)
]
NEEDS = {"consistent": ["interpolation=chord"], "local-linear": ["substeps=4"]}
"""What a choice cannot be meant without."""


@pytest.mark.parametrize(("name", "value"), CHOICES)
def test_every_choice_can_be_typed(name: str, value: str) -> None:
    parsed = parse_settings([f"{name}={value}", *NEEDS.get(value, [])], Config())[0]
    assert getattr(Config(**parsed), name) == value


def test_every_field_can_be_typed() -> None:
    for field in dataclasses.fields(Config):
        value = getattr(Config(), field.name)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
        assert parse_settings([f"{field.name}={text}"], Config()) == ({field.name: value},)


CONTRADICTIONS = [
    {"denoiser": "consistent"},
    {"interpolation": "chord", "substeps": 2},
    {"objective": "joint", "interpolation": "bridge"},
    {"objective": "joint", "diffusion_loss": "square"},
    {"noise": "full", "diffusion_loss": "square"},
    {"tails": "student", "diffusion_loss": "log-regression"},
    {"tails": "student", "substeps": 2},
    {"law": "local-linear"},
]


@pytest.mark.parametrize("options", CONTRADICTIONS, ids=lambda options: " ".join(map(str, options.values())))
def test_what_cannot_be_meant_together_is_refused_in_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        Config(**options)
    assert "\n" not in error.value.line
    for name in options:
        assert name in error.value.line


def test_one_number_for_each_column_is_checked_against_the_table() -> None:
    data: Trajectories = from_arrays(np.arange(30.0), np.random.default_rng(0).normal(size=(30, 3)))
    with pytest.raises(InputError, match="3 columns"):
        fit(data, model=Config(**SMALL, denoiser="fixed", denoiser_noise=(0.1, 0.2)), steps=1)

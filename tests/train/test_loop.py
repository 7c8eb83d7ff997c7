"""What a run writes, which weights it hands back, and how it stops."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.errors import InputError, RunFailed
from neuralsde.train.loop import Interrupted, train
from neuralsde.train.problem import Problem, TrainConfig
from neuralsde.train.progress import Silent

CONFIG = TrainConfig(steps=25, log_every=10, validate_every=4, learning_rate=0.1, warmup=0, ema=0.0, save_seconds=1e9)


class _Walk(eqx.Module):
    """One weight that walks down with every step."""

    w: Any


def _problem(validate: Any = lambda model: abs(float(model.w) - 4.0), fails_at: int = 10**6) -> Problem:
    def loss(model: _Walk, batch: Any, aux: Any, *, key: Any) -> Any:
        value = model.w / jnp.where(aux == fails_at, 0.0, 1.0)
        return value, ({"weight": model.w, "odd": jnp.nan * model.w}, aux + 1)

    return Problem(_Walk(jnp.asarray(5.0)), loss, lambda data, key: data, np.zeros(1, np.float32), validate, aux=0)


class _Told(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[int] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def update(self, step: int, values: Mapping[str, float]) -> None:
        self.steps.append(step)


def test_lines_validations_and_the_best(tmp_path: Path) -> None:
    told = _Told()
    result = train(_problem(), CONFIG, tmp_path, progress=told)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == result.metrics
    assert [row["step"] for row in rows] == [4, 8, 10, 12, 16, 20, 24, 25]
    assert [row["step"] for row in rows if "loss" in row] == [10, 20, 25]
    assert [row["step"] for row in rows if "validation" in row] == [4, 8, 12, 16, 20, 24, 25]
    # Adam at a constant gradient moves by the rate, here a cosine; the means are over the steps since the last line
    rate = 0.1 * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * np.arange(25) / 25)))
    w = 5.0 - np.concatenate([[0.0], np.cumsum(rate)])
    for row, span in zip([row for row in rows if "loss" in row], [(0, 10), (10, 20), (20, 25)], strict=True):
        assert row["weight"] == row["loss"] == pytest.approx(w[slice(*span)].mean(), rel=1e-5)
        assert row["learning_rate"] == pytest.approx(rate[slice(*span)].mean(), rel=1e-5)
        assert row["odd"] is None
    scores = {row["step"]: row["validation"] for row in rows if "validation" in row}
    assert result.best_step == min(scores, key=lambda step: scores[step])
    assert result.best_score == pytest.approx(scores[result.best_step])
    assert float(result.model.w) == pytest.approx(w[result.best_step], rel=1e-5)
    assert (result.steps, int(result.state.aux), result.nothing_to_do) == (25, 25, False)
    assert told.steps[-1] == 25
    assert result.seconds > 0


def test_the_earlier_of_equal_scores_wins() -> None:
    assert train(_problem(validate=lambda model: 1.0), CONFIG).best_step == 4


def test_in_memory_equals_in_a_folder(tmp_path: Path) -> None:
    there, here = train(_problem(), CONFIG, tmp_path), train(_problem(), CONFIG)
    assert there.metrics == here.metrics
    assert float(there.model.w) == float(here.model.w)


def test_a_finished_run_has_nothing_to_do(tmp_path: Path) -> None:
    first, told = train(_problem(), CONFIG, tmp_path), _Told()
    before = (tmp_path / "metrics.jsonl").read_bytes()
    again = train(_problem(), CONFIG, tmp_path, resume=True, progress=told)
    assert again.nothing_to_do
    assert "nothing to do" in told.notes[0]
    assert float(again.model.w) == float(first.model.w)
    assert (again.best_step, again.metrics) == (first.best_step, first.metrics)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_folder_with_a_run_needs_resume(tmp_path: Path) -> None:
    train(_problem(), CONFIG, tmp_path)
    with pytest.raises(InputError, match="--resume"):
        train(_problem(), CONFIG, tmp_path)


def test_resume_without_a_checkpoint_begins_again(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 10, "loss": 1.0}\n{"step": 2')
    assert train(_problem(), CONFIG, tmp_path, resume=True).metrics == train(_problem(), CONFIG).metrics


def test_resume_with_other_options_is_refused(tmp_path: Path) -> None:
    train(_problem(), CONFIG, tmp_path)
    with pytest.raises(InputError, match=r"steps 25 -> 50[\s\S]*cosine"):
        train(_problem(), dataclasses.replace(CONFIG, steps=50), tmp_path, resume=True)
    with pytest.raises(InputError, match=r"ema 0.0 -> 0.5"):
        train(_problem(), dataclasses.replace(CONFIG, ema=0.5), tmp_path, resume=True)
    assert train(_problem(), dataclasses.replace(CONFIG, save_seconds=1.0), tmp_path, resume=True).nothing_to_do


def _stops(number: int, calls: list[int]) -> Any:
    """A validation that is interrupted by a signal the second time."""

    def validate(model: _Walk) -> float:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return abs(float(model.w) - 4.0)

    return validate


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"after 8 of 25 steps[\s\S]*saved in [\s\S]*--resume") as caught:
        train(_problem(_stops(number, [])), CONFIG, tmp_path)
    assert signal.getsignal(number) is before
    assert caught.value.exit_status == 130
    assert caught.value.step == 8
    assert (caught.value.result.steps, caught.value.result.best_step) == (8, 8)
    result = train(_problem(), CONFIG, tmp_path, resume=True)
    assert result.metrics == train(_problem(), CONFIG).metrics
    assert result.seconds > caught.value.result.seconds


def test_a_signal_without_a_folder_says_that_nothing_was_saved() -> None:
    with pytest.raises(Interrupted, match="nothing was saved"):
        train(_problem(_stops(signal.SIGINT, [])), CONFIG)


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    def validate(model: _Walk) -> float:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("still running")

    with pytest.raises(KeyboardInterrupt):
        train(_problem(validate), CONFIG, tmp_path)


def test_a_loss_that_is_not_finite_fails_with_causes(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"loss[\s\S]*not finite at step 14[\s\S]*learning rate of 0.033") as caught:
        train(_problem(fails_at=13), CONFIG, tmp_path)
    assert caught.value.exit_status == 1
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 12


def test_no_finite_validation_fails(tmp_path: Path) -> None:
    problem = _problem(validate=lambda model: float("nan"))
    for resume in (False, True):
        with pytest.raises(RunFailed, match="no finite validation"):
            train(problem, CONFIG, tmp_path, resume=resume)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"batch_size": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"clip": 0.0},
        {"ema": 1.0},
        {"seed": -1},
        {"log_every": 0},
        {"warmup": -1},
        {"final_rate": 2.0},
        {"save_seconds": -1.0},
    ],
)
def test_options_without_a_meaning_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        TrainConfig(**change)


def test_remarks_stand_in_the_log_and_are_told_once(tmp_path: Path) -> None:
    def remarks(model: _Walk) -> list[str]:
        return [f"the weight is small ({float(model.w):.3f})"] if float(model.w) < 4 else []

    told = _Told()
    result = train(dataclasses.replace(_problem(), remarks=remarks), CONFIG, tmp_path, progress=told)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == result.metrics
    assert [row["step"] for row in rows if "notes" in row] == [12, 16, 20, 24, 25]
    (note,) = [text for text in told.notes if "small" in text]
    assert note.startswith("at step 12: the weight is small (3.9")

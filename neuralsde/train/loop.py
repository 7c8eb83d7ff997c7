"""`train`: from a problem to the best weights, through log lines, validations, checkpoints and interruptions.

The order at every event is fixed: steps -> line in metrics.jsonl (on disk) -> checkpoint. A kill therefore leaves a
checkpoint and a log that reaches at least as far; `resume` cuts the log back to the checkpoint and repeats the rest.
Since a step is a pure function of (state, seed, step number) it repeats it bit for bit (on one machine with one
version of JAX; on a GPU with XLA_FLAGS=--xla_gpu_deterministic_ops=true).
Best rule: the EMA weights are validated every `validate_every` steps and after the last one; the lowest score wins, the
earlier of equals. Ctrl-C (or SIGTERM) saves and raises `Interrupted`; a second Ctrl-C stops at once.
One compiled call makes as many steps as fit in a quarter of a second, up to the next validation, so Ctrl-C is answered
soon and the cost of a call is lost in it; lines that are due on the way come back from it.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import equinox as eqx
import jax
import numpy as np

from neuralsde.errors import INTERRUPTED, InputError, NeuralSDEError, RunFailed
from neuralsde.train.checkpoint import Checkpoints
from neuralsde.train.files import CHECKPOINTS, METRICS, MetricsLog, only_writer
from neuralsde.train.problem import Problem, TrainConfig
from neuralsde.train.progress import Reporter, Silent
from neuralsde.train.state import Best, TrainState
from neuralsde.train.step import LINES, Lines, initial_state, make_advance

CALL_SECONDS = 0.25


@dataclass(frozen=True)
class Result:
    """What training came to.

    model:      the best model (EMA weights of the lowest validation score); the current EMA weights before the first
                finite score.
    best_score: its validation score, infinite when there was none; best_step: the step it is from, or -1.
    steps:      steps done.
    state:      the last state, for example the running statistics `state.aux`.
    metrics:    the lines of metrics.jsonl.
    seconds:    time spent training, all sessions together.
    nothing_to_do: the run was finished before it began.
    """

    model: Any
    best_score: float
    best_step: int
    steps: int
    state: TrainState
    metrics: list[dict[str, Any]]
    seconds: float
    nothing_to_do: bool = False


class Interrupted(NeuralSDEError):
    """Ctrl-C or SIGTERM: the run is saved. `step` steps are done, `result` is what they came to."""

    exit_status = INTERRUPTED

    def __init__(self, step: int, steps: int, folder: Path | None, result: Result) -> None:
        self.step, self.steps, self.folder, self.result = step, steps, folder, result
        done = f"interrupted after {step} of {steps} steps"
        if folder is None:
            super().__init__(done, "nothing was saved, because the run has no folder", hint="an output folder")
        else:
            saved = f"the run is saved in {folder}"
            super().__init__(done, saved, hint="--resume (in Python: resume=True) to go on from there")


def train(
    problem: Problem,
    config: TrainConfig,
    folder: Path | None = None,
    *,
    resume: bool = False,
    progress: Reporter | None = None,
) -> Result:
    """Train `problem` for `config.steps` steps.

    folder:   where `metrics.jsonl` and `checkpoints/` live; it must exist. None keeps everything in memory.
    resume:   go on from the newest checkpoint in `folder`; without one, begin. The end is bit for bit that of a run
              that was never stopped. A finished run is returned as it is, with a note.
    progress: who is told; nobody by default.

    Raises InputError (a folder that holds a run already, or one with other options), RunFailed (a loss or gradient
    that is not finite) and Interrupted.
    """
    with ExitStack() as stack:
        log, checkpoints = MetricsLog(None if folder is None else folder / METRICS), None
        if folder is not None:
            stack.enter_context(only_writer(folder))
            checkpoints = stack.enter_context(Checkpoints(folder / CHECKPOINTS))
            if checkpoints.steps() and not resume:
                raise InputError(
                    f"the folder {folder}",
                    "it holds a training run already",
                    hint="--resume to go on with it, or another folder",
                )
        session = _Session(problem, config, folder, log, checkpoints, progress or Silent())
        return session.run(stack.enter_context(_StopRequest()))


class _Session:
    """One process's share of a run."""

    def __init__(
        self,
        problem: Problem,
        config: TrainConfig,
        folder: Path | None,
        log: MetricsLog,
        checkpoints: Checkpoints | None,
        progress: Reporter,
    ) -> None:
        self.problem, self.config, self.folder = problem, config, folder
        self.log, self.checkpoints, self.progress = log, checkpoints, progress
        self.data = jax.device_put(problem.data)
        self.static = problem.split()[1]
        self.state = initial_state(problem, config)
        self.best = Best.none_yet(self.state.params)
        self.seconds = 0.0
        self.shown: dict[str, float] = {}
        self.told: set[str] = set()
        self.step = self.saved = self._restore()

    def _restore(self) -> int:
        """Take over the newest checkpoint, and wind the log back to it."""
        found = self.checkpoints and self.checkpoints.restore({"state": self.state, "best": self.best})
        if not found:
            self.log.rewind(0)
            return 0
        tree, note, remarks = found
        _same_config(note["config"], self.config)
        self.state, self.best, self.seconds = tree["state"], tree["best"], note["seconds"]
        for remark in remarks:
            self.progress.note(remark)
        step = int(self.state.step)
        self.log.rewind(step)
        return step

    def run(self, stop: _StopRequest) -> Result:
        """Steps and events until the end or a request to stop."""
        config, began_at = self.config, self.step
        if began_at == config.steps:
            self.progress.note(f"the run has all its {config.steps} steps already; nothing to do")
            return self._finished(nothing_to_do=True)
        self.progress.start(began_at, config.steps)
        try:
            self._steps(stop)
        finally:
            self.progress.finish()
        if self.step < config.steps:
            raise Interrupted(self.step, config.steps, self.folder, self._result())
        return self._finished()

    def _steps(self, stop: _StopRequest) -> None:
        advance = make_advance(self.problem, self.config)
        seconds_per_step: float | None = None  # unknown until compiled
        last_save = began = time.monotonic()
        while self.step < self.config.steps and not stop.requested:
            target = self._next_event()
            allowed = 1 if seconds_per_step is None else max(1, int(CALL_SECONDS / seconds_per_step))
            target = min(target, self.step + allowed)
            before, clock = self.step, time.monotonic()
            self.state, lines = advance(self.state, self.data, target)
            # one transfer, which waits for the device
            step, lines, tally = jax.device_get((self.state.step, lines, self.state.tally.sums))
            self.step = int(step)
            took = (time.monotonic() - clock) / (target - before)
            seconds_per_step = CALL_SECONDS / 10 if seconds_per_step is None else took  # the first call compiles
            self._event(self._lines(before, lines), tally)
            now = time.monotonic()
            self.seconds, began = self.seconds + now - began, now
            if now - last_save >= self.config.save_seconds:
                self._save()
                last_save = time.monotonic()
        self._save()

    def _next_event(self) -> int:
        """The next validation, the end, or as many lines as a call can bring back."""
        config = self.config
        rhythms = ((config.validate_every, 1), (config.log_every, LINES))
        return min(config.steps, *((self.step // every + count) * every for every, count in rhythms))

    def _lines(self, before: int, lines: Lines) -> list[dict[str, Any]]:
        """The lines that were due since the step `before`, with their steps."""
        every, last = self.config.log_every, self.config.steps
        means = lines.means(tuple(self.state.tally.sums))
        return [{"step": min((before // every + k + 1) * every, last), **row} for k, row in enumerate(means)]

    def _event(self, rows: list[dict[str, Any]], tally: dict[str, Any]) -> None:
        """Lines of means, and at its time a validation, in the line of the same step if there is one."""
        try:
            self._check_finite(tally)
            if self.step == self.config.steps or self.step % self.config.validate_every == 0:
                if not rows or rows[-1]["step"] < self.step:
                    rows.append({"step": self.step})
                rows[-1] |= {**self._validate(), **self._remarks()}
        finally:
            self.log.append(*rows)
        for row in rows:
            self.shown |= {name: row[name] for name in ("loss", "validation") if name in row}
        self.progress.update(self.step, self.shown)

    def _validate(self) -> dict[str, float]:
        """The score as `validation`, and whatever was measured with it."""
        found = self.problem.validate(eqx.combine(self.state.ema, self.static))
        given = found if isinstance(found, Mapping) else {"validation": found}
        measured = {name: float(value) for name, value in given.items()}
        self.best = self.best.challenge(self.state.ema, measured["validation"], self.step)
        return measured

    def _remarks(self) -> dict[str, list[str]]:
        """What looks wrong with the weights that were just validated, under `notes`; each is told once."""
        if self.problem.remarks is None:
            return {}
        remarks = list(self.problem.remarks(eqx.combine(self.state.ema, self.static)))
        for remark in remarks:
            words = "".join(filter(str.isalpha, remark))  # the same remark with another number in it is no news
            if words not in self.told:
                self.progress.note(f"at step {self.step}: {remark}")
            self.told.add(words)
        return {"notes": remarks} if remarks else {}

    def _check_finite(self, sums: dict[str, Any]) -> None:
        if np.isfinite(sums["loss"]) and np.isfinite(sums["grad_norm"]):
            return
        bad = ", ".join(name for name, value in sums.items() if not np.isfinite(value))
        raise RunFailed(
            f"{bad} not finite at step {self.step}",
            "the weights are lost from here on; causes in order of likelihood: a learning rate that is too high, an "
            "extreme value in the data, a diffusion that went to zero",
            f"finite numbers (the last good checkpoint stays in {self.folder})" if self.folder else "finite numbers",
            f"a learning rate of {self.config.learning_rate / 3:.2g}, or a look at the notes about the data",
        )

    def _save(self) -> None:
        if self.checkpoints is None or self.step == self.saved:
            return
        self.log.force()
        note = {"config": self.config.to_dict(), "seconds": self.seconds}
        self.checkpoints.save(self.step, {"state": self.state, "best": self.best}, note)
        self.saved = self.step

    def _finished(self, nothing_to_do: bool = False) -> Result:
        if int(self.best.step) < 0:
            raise RunFailed(
                f"no finite validation score in {self.step} steps",
                "the training loss is finite, but the held-out part is out of the model's reach",
                hint="a look at the held-out data for extreme values, or a smaller learning rate",
            )
        return self._result(nothing_to_do)

    def _result(self, nothing_to_do: bool = False) -> Result:
        found = int(self.best.step) >= 0
        return Result(
            model=eqx.combine(self.best.params if found else self.state.ema, self.static),
            best_score=float(self.best.score),
            best_step=int(self.best.step),
            steps=self.step,
            state=self.state,
            metrics=self.log.rows,
            seconds=self.seconds,
            nothing_to_do=nothing_to_do,
        )


class _StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a flag, and the second into KeyboardInterrupt.

    Signals reach only the main thread; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def _same_config(saved: dict[str, Any], config: TrainConfig) -> None:
    """Refuse to go on under other options: the result would be that of no configuration."""
    wanted = config.to_dict()
    free = {"save_seconds"}
    changed = [name for name in wanted if name not in free and saved.get(name) != wanted[name]]
    if not changed:
        return
    what = ", ".join(f"{name} {saved.get(name)} -> {wanted[name]}" for name in changed)
    meaning = "a resumed run must have the options it was started with"
    if "steps" in changed:
        meaning += "; the learning rate follows one cosine over all its steps, so their number cannot change on the way"
    raise InputError(
        f"resume with other options: {what}",
        meaning,
        ", ".join(f"{name}={saved.get(name)}" for name in changed),
        "these values, or another folder for a new run",
    )

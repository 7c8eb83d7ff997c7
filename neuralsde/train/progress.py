"""How far a run is: a bar on a terminal, lines in a log otherwise, nothing when not wanted.

Everything goes to one text stream (standard error by default), never to standard output, which belongs to results.
A log gets its first line at once and then one every `seconds`, so a long run fills no disk.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, Protocol, cast, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@runtime_checkable
class Stream(Protocol):
    """What is asked of a text stream."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...
    def isatty(self) -> bool: ...


@runtime_checkable
class Reporter(Protocol):
    """What the loop tells. `start` comes first, `finish` always last."""

    def start(self, done: int, total: int) -> None: ...
    def update(self, step: int, values: Mapping[str, float]) -> None: ...
    def note(self, text: str) -> None: ...
    def finish(self) -> None: ...


class Silent:
    """Says nothing."""

    def start(self, done: int, total: int) -> None: ...
    def update(self, step: int, values: Mapping[str, float]) -> None: ...
    def note(self, text: str) -> None: ...
    def finish(self) -> None: ...


class Bar:
    """A progress bar with the newest values behind it."""

    def __init__(self, stream: Stream | None = None) -> None:
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[values]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(file=cast(IO[str], stream or sys.stderr)),
            expand=True,
        )

    def start(self, done: int, total: int) -> None:
        self._task = self._bar.add_task("training", total=total, completed=done, values="")
        self._bar.start()

    def update(self, step: int, values: Mapping[str, float]) -> None:
        self._bar.update(self._task, completed=step, values=_text(values))

    def note(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)

    def finish(self) -> None:
        self._bar.stop()


class Lines:
    """Plain lines, at most one every `seconds` of `clock`; the last one always."""

    def __init__(
        self, stream: Stream | None = None, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._seconds, self._clock = stream or sys.stderr, seconds, clock
        self._total, self._said, self._waiting = 0, -float("inf"), ""

    def start(self, done: int, total: int) -> None:
        self._total = total
        self.note(f"training: step {done} of {total}")

    def update(self, step: int, values: Mapping[str, float]) -> None:
        self._waiting = f"step {step} of {self._total}  {_text(values)}".rstrip()
        if self._clock() - self._said >= self._seconds:
            self._say_waiting()

    def note(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def finish(self) -> None:
        self._say_waiting()

    def _say_waiting(self) -> None:
        if self._waiting:
            self.note(self._waiting)
            self._said, self._waiting = self._clock(), ""


def automatic(stream: Stream | None = None) -> Reporter:
    """A bar when the stream is a terminal, lines otherwise."""
    target: Stream = stream or sys.stderr
    return Bar(target) if target.isatty() else Lines(target)


def _text(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())

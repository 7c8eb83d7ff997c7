"""A log stays short and readable; a terminal gets a bar."""

from __future__ import annotations

import io
import itertools

import pytest

from neuralsde.train.progress import Bar, Lines, Reporter, Silent, automatic


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _told(reporter: Reporter) -> None:
    reporter.start(0, 1_000)
    for step in range(100, 1_001, 100):
        reporter.update(step, {"loss": 1 / step})
    reporter.note("a [note] with brackets")
    reporter.finish()


def test_lines_are_rare_but_the_first_and_the_last_are_there() -> None:
    seconds, stream = itertools.count(), io.StringIO()
    _told(Lines(stream, seconds=6.0, clock=lambda: float(next(seconds))))  # one second a call
    assert stream.getvalue().splitlines() == [
        "training: step 0 of 1000",
        "step 100 of 1000  loss 0.01",
        "step 700 of 1000  loss 0.001429",
        "a [note] with brackets",
        "step 1000 of 1000  loss 0.001",
    ]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = _Terminal()
    reporter = automatic(stream)
    assert isinstance(reporter, Bar)
    _told(reporter)
    assert "1000/1000" in stream.getvalue()
    assert "loss 0.001" in stream.getvalue()
    assert "a [note] with brackets" in stream.getvalue()


def test_a_log_file_gets_lines() -> None:
    assert isinstance(automatic(io.StringIO()), Lines)
    _told(Silent())


def test_finish_without_steps() -> None:
    stream = io.StringIO()
    for reporter in (Lines(stream), Bar(stream), Silent()):
        reporter.start(0, 10)
        reporter.finish()

"""The first facts of a result: the same from Python as from its file, and none without a seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuralsde.errors import InputError
from neuralsde.experiments.interpolation import SMALL
from neuralsde.experiments.results import on_file, opening, write_results


def test_what_was_written_is_found_by_the_same_command_only(tmp_path: Path) -> None:
    facts = opening("interpolation", seed=1, seeds=2, full=False, size=SMALL)
    write_results("interpolation", {**facts, "found": 3}, "a table", tmp_path)
    assert on_file(facts, tmp_path)["found"] == 3
    assert on_file(opening("interpolation", seed=1, seeds=2, full=True, size=SMALL), tmp_path) == {}


def test_no_seed_is_refused() -> None:
    with pytest.raises(InputError, match="seeds=0"):
        opening("interpolation", seed=0, seeds=0, full=False, size=SMALL)

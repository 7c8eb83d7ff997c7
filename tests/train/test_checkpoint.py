"""A checkpoint gives back the bits it was given, and whatever a kill leaves lying about does no harm."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.train.checkpoint import Checkpoints


def _tree(number: float = 0.0) -> dict[str, Any]:
    return {
        "odd/na.me": [jnp.asarray([number, jnp.nan, jnp.inf, -0.0]), None],
        "step": jnp.asarray(3, jnp.int32),
        "half": jnp.ones((2, 3), jnp.bfloat16),
        "empty": jnp.zeros((0, 4)),
        "flag": jnp.asarray(True),
    }


def _bits(tree: Any) -> list[tuple[str, bytes]]:
    return [(str(leaf.dtype), np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def _saved(folder: Path, *steps: int) -> None:
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, _tree(step), {"seconds": step / 2})


def test_bits_and_note_come_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _saved(tmp_path / "c", 5)
        with Checkpoints(tmp_path / "c") as checkpoints:
            found = checkpoints.restore(_tree())
    assert found is not None
    assert _bits(found[0]) == _bits(_tree(5))
    assert jax.tree.structure(found[0]) == jax.tree.structure(_tree())
    assert found[1:] == ({"seconds": 2.5}, [])
    assert caplog.records == []


def test_nothing_saved_is_nothing_found(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == []
        assert checkpoints.restore(_tree()) is None


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    _saved(tmp_path, 1, 20, 300)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [20, 300]


def test_leftovers_of_a_kill_are_passed_over_and_cleared(tmp_path: Path) -> None:
    _saved(tmp_path, 10, 20)
    for name in ("30.orbax-checkpoint-tmp", "40.orbax-checkpoint-tmp-123"):
        shutil.copytree(tmp_path / "20", tmp_path / name)
    (tmp_path / "10" / "commit_success.txt").unlink()  # an old one whose removal was cut off
    shutil.rmtree(tmp_path / "10" / "state")
    (tmp_path / "letter.txt").write_text("dear")
    with Checkpoints(tmp_path) as checkpoints:
        found = checkpoints.restore(_tree())
        assert found is not None
        assert _bits(found[0]) == _bits(_tree(20))
        checkpoints.save(30, _tree(30), {})
        assert checkpoints.steps()[-1] == 30
        checkpoints.save(40, _tree(40), {})
    assert {path.name for path in tmp_path.iterdir()} == {"30", "40", "letter.txt"}


@pytest.mark.parametrize("harm", ["empty files", "no state", "no note", "cut note"])
def test_an_unreadable_newest_gives_way_to_the_one_before(tmp_path: Path, harm: str) -> None:
    _saved(tmp_path, 10, 20)
    newest = tmp_path / "20"
    if harm == "empty files":
        for path in (path for path in newest.rglob("*") if path.is_file()):
            path.write_bytes(b"")
    elif harm == "cut note":
        (newest / "note" / "metadata").write_text('{"seco')
    else:
        shutil.rmtree(newest / harm.removeprefix("no "))
    with Checkpoints(tmp_path) as checkpoints:
        found = checkpoints.restore(_tree())
        assert found is not None
        assert _bits(found[0]) == _bits(_tree(10))
        assert "step 20" in found[2][0]
        checkpoints.save(20, _tree(21), {})
        again = checkpoints.restore(_tree())
    assert again is not None
    assert _bits(again[0]) == _bits(_tree(21))


def test_none_readable_says_so_and_removes_nothing(tmp_path: Path) -> None:
    _saved(tmp_path, 10, 20)
    for step in ("10", "20"):
        shutil.rmtree(tmp_path / step / "state")
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(InputError, match="none of them can be read"):
            checkpoints.restore(_tree())
        assert checkpoints.steps() == [10, 20]


@pytest.mark.parametrize(
    "change", [{"step": jnp.zeros(2, jnp.int32)}, {"more": jnp.zeros(1)}, {"half": jnp.ones((2, 3), jnp.float32)}]
)
def test_another_models_checkpoint_is_refused_by_name(tmp_path: Path, change: dict[str, Any]) -> None:
    _saved(tmp_path, 10)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(InputError, match="another model") as caught:
        checkpoints.restore(_tree() | change)
    assert next(iter(change)) in str(caught.value)
    assert (tmp_path / "10").is_dir()

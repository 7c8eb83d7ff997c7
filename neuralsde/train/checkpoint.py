"""The memory of a run on disk, so that a kill at any moment leaves a whole one (orbax).

Orbax writes a checkpoint into a temporary folder and then renames it, so a folder whose name is a plain step
number is complete; what a kill leaves half-written keeps its temporary name and is cleared away by the next start.
The two newest are kept: an old one is removed only after a newer one stands. Each holds `state` (the arrays,
numbered) and `note` (JSON: the names, shapes and dtypes of these arrays, and what the loop adds). Should the newest be
unreadable (a disk that lost power), the one before it is used; by the law of exact resume that changes nothing but
the time.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp

from neuralsde.errors import InputError
from neuralsde.train.state import PyTree

Note = dict[str, Any]


class Checkpoints:
    """The checkpoints in one folder; a context manager.

    folder: made when it does not exist.
    keep:   how many of the newest are kept.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder.absolute()  # orbax wants it so
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=False
        )
        with _quiet():
            self._manager = ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with _quiet():
            self._manager.close()

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        with _quiet():
            return sorted(self._manager.all_steps(read=True))

    def save(self, step: int, tree: PyTree, note: Note) -> None:
        """Write `tree` (arrays only) and `note` (JSON values) as the checkpoint of `step`; on return it is complete."""
        arrays, names = _numbered(tree)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(arrays),
            note=ocp.args.JsonSave({**note, "arrays": names}),
        )
        with _quiet():
            self._manager.save(step, args=items, force=True)
            self._manager.wait_until_finished()

    def restore(self, like: PyTree) -> tuple[PyTree, Note, list[str]] | None:
        """(tree, note, remarks) of the newest readable checkpoint; None when there is none.

        like: a tree of the same structure, shapes and dtypes; gives the placement on devices too.
        Raises InputError when the checkpoint belongs to another model, or when none can be read.
        """
        remarks: list[str] = []
        for step in reversed(self.steps()):
            try:
                note = self._item("note", step, ocp.args.JsonRestore())
                _same_arrays(note.pop("arrays"), _numbered(like)[1], self.folder / str(step))
                arrays, _ = _numbered(like)
                abstract = {name: ocp.utils.to_shape_dtype_struct(leaf) for name, leaf in arrays.items()}
                found = self._item("state", step, ocp.args.StandardRestore(abstract))
            except InputError:
                raise
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                remarks.append(f"the checkpoint of step {step} cannot be read ({type(error).__name__}) and was removed")
                continue
            for unreadable in self.steps():
                if unreadable > step:  # its place is needed again
                    shutil.rmtree(self.folder / str(unreadable))
            with _quiet():
                self._manager.reload()
            leaves = [found.get(f"{i:05d}", leaf) for i, leaf in enumerate(jax.tree.leaves(like))]
            return jax.tree.unflatten(jax.tree.structure(like), leaves), note, remarks
        if remarks:
            raise InputError(
                f"the checkpoints in {self.folder}",
                "none of them can be read",
                hint="removing the run folder and starting again",
            )
        return None

    def _item(self, name: str, step: int, args: Any) -> Any:
        with _quiet():
            return self._manager.restore(step, args=ocp.args.Composite(**{name: args}))[name]


def _numbered(tree: PyTree) -> tuple[dict[str, Any], list[list[Any]]]:
    """Arrays under running numbers (names in a tree may hold any character), and [name, shape, dtype] of each.

    Orbax takes no array without entries; such a one has a name but no number, and nothing to remember.
    """
    named = jax.tree_util.tree_flatten_with_path(tree)[0]
    arrays = {f"{i:05d}": leaf for i, (_, leaf) in enumerate(named) if leaf.size}
    keystr = jax.tree_util.keystr
    return arrays, [[keystr(p, simple=True, separator="."), list(a.shape), str(a.dtype)] for p, a in named]


def _same_arrays(saved: list[list[Any]], wanted: list[list[Any]], where: Path) -> None:
    if saved == wanted:
        return
    found, expected = next(
        ((s, w) for s, w in zip(saved, wanted, strict=False) if s != w),
        (f"{len(saved)} arrays", f"{len(wanted)} arrays"),
    )
    raise InputError(
        f"the checkpoint {where} with {_text(found)}",
        "it was written by another model or another version of it",
        f"{_text(expected)} at this place",
        "the options the run was started with, or another run folder",
    )


def _text(entry: list[Any] | str) -> str:
    return entry if isinstance(entry, str) else f"{entry[0]} {tuple(entry[1])} {entry[2]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Orbax logs through absl what is no concern of a user; its errors still arrive as exceptions."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)

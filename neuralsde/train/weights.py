"""A model's arrays as one safetensors file: names, shapes, numbers and a few strings; no code, no pickle.

An array's name is its path in the model (`flow.layers.0.weight`). What is not an array (sizes, activation functions)
is not in the file: whoever loads builds the model from its configuration first and fills the arrays in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from neuralsde.errors import InputError, closest
from neuralsde.train.files import write_atomic

Model = TypeVar("Model")


def save_model(path: Path, model: Any, meta: Mapping[str, str] | None = None) -> None:
    """Write every array of `model` (any pytree) and `meta` to `path`, wholly or not at all."""
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in _named(model) if eqx.is_array(leaf)}
    write_atomic(path, save(arrays, dict(meta or {})))


def load_model(path: Path, like: Model) -> Model:
    """`like` with its arrays replaced by those of the file; device arrays.

    like: a model of the same configuration; its arrays may be `jax.ShapeDtypeStruct` (`equinox.filter_eval_shape`).
    Raises InputError when there is no such file, when it was cut off or is something else, and when a name, a shape or
    a dtype is not the model's.
    """
    found, _ = _read(path)
    wanted = {name: leaf for name, leaf in _named(like) if _is_slot(leaf)}
    _same_names(path, set(found), set(wanted))
    for name, slot in wanted.items():
        array = found[name]
        if array.shape != slot.shape or array.dtype != slot.dtype:
            raise InputError(
                f"{path}: array '{name}' {array.shape} {array.dtype}",
                "the file belongs to a model of another size",
                f"{slot.shape} {slot.dtype}",
                "the configuration the model was trained with",
            )
    # not `jnp.asarray`, which compiles a program for every shape
    leaves = [jax.device_put(found[name]) if _is_slot(leaf) else leaf for name, leaf in _named(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def load_meta(path: Path) -> dict[str, str]:
    """The strings saved beside the arrays. Raises InputError as `load_model` for a file that cannot be read."""
    return _read(path)[1]


def _is_slot(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _named(model: Any) -> list[tuple[str, Any]]:
    keystr = jax.tree_util.keystr
    return [(keystr(p, simple=True, separator="."), a) for p, a in jax.tree_util.tree_flatten_with_path(model)[0]]


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    if not path.is_file():
        raise InputError(f"the model file {path}", "there is no such file", "a .safetensors file")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"the model file {path} ({path.stat().st_size} bytes)",
            f"it was cut off or is not a safetensors file ({error})",
            hint="copying it again, or training again",
        ) from error


def _same_names(path: Path, found: set[str], wanted: set[str]) -> None:
    if found == wanted:
        return
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    meaning = f"{len(missing)} arrays of the model are missing and {len(extra)} are unknown to it"
    name = missing[0] if missing else extra[0]
    hint = closest(name, extra if missing else missing) if missing and extra else ""
    raise InputError(f"the model file {path}", meaning, f"the model's names; the first that differs: '{name}'", hint)

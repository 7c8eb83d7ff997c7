"""Weights come back bit for bit, and a file that is not the model's says what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.train.weights import load_meta, load_model, save_model


def _model(width: int = 4, depth: int = 1, seed: int = 0) -> Any:
    return eqx.nn.MLP(2, 3, width, depth, key=jax.random.key(seed))


def test_bits_and_strings_come_back(tmp_path: Path) -> None:
    model, path = _model(seed=1), tmp_path / "m.safetensors"
    save_model(path, model, {"kind": "toy", "unicode": "σ"})
    for like in (_model(seed=2), eqx.filter_eval_shape(_model)):
        found = load_model(path, like)
        assert eqx.tree_equal(found, model)
        np.testing.assert_array_equal(jax.vmap(found)(jnp.ones((5, 2))), jax.vmap(model)(jnp.ones((5, 2))))
    assert load_meta(path) == {"kind": "toy", "unicode": "σ"}


def test_any_dtype_and_shape(tmp_path: Path) -> None:
    tree = {
        "scalar": jnp.asarray(1.5),
        "whole": jnp.arange(3),
        "flag": jnp.asarray([True, False]),
        "half": jnp.ones((2, 2), jnp.bfloat16) / 3,
        "turned": np.arange(6.0, dtype=np.float32).reshape(2, 3).T,
        "empty": jnp.zeros((0, 2)),
        "text": "kept from like",
    }
    save_model(tmp_path / "m", tree)
    found = load_model(tmp_path / "m", tree)
    for name, leaf in tree.items():
        assert np.array_equal(found[name], leaf), name
    assert found["half"].dtype == jnp.bfloat16


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_file_that_was_cut_off(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, _model())
    path.write_bytes(path.read_bytes()[:keep])
    for reader in (lambda: load_model(path, _model()), lambda: load_meta(path)):
        with pytest.raises(InputError, match="cut off"):
            reader()


def test_no_file_and_no_safetensors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_model(tmp_path / "m", _model())
    (tmp_path / "m").write_text("not weights at all, but text that is long enough")
    with pytest.raises(InputError, match="not a safetensors file"):
        load_model(tmp_path / "m", _model())


def test_another_model_is_named(tmp_path: Path) -> None:
    save_model(tmp_path / "m", _model())
    with pytest.raises(InputError, match=r"layers\.0\.weight[\s\S]*\(4, 2\)[\s\S]*\(5, 2\)"):
        load_model(tmp_path / "m", _model(width=5))
    with pytest.raises(InputError, match=r"2 arrays of the model are missing[\s\S]*layers\.2\.bias"):
        load_model(tmp_path / "m", _model(depth=2))
    with pytest.raises(InputError, match=r"2 are unknown"):
        load_model(tmp_path / "m", _model(depth=0))
    save_model(tmp_path / "a", {"wieght": jnp.zeros(1)})
    with pytest.raises(InputError, match=r"'weight'[\s\S]*wieght"):
        load_model(tmp_path / "a", {"weight": jnp.zeros(1)})
    with pytest.raises(InputError, match=r"float32[\s\S]*int32"):
        load_model(tmp_path / "a", {"wieght": jnp.zeros(1, jnp.int32)})

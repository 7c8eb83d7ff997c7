"""Every rule of the ONNX graph against JAX, row by row, and an operation that there is no rule for."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from neuralsde.errors import InputError
from neuralsde.robot.onnx_graph import onnx_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that are tried
    onnx: Any = pytest.importorskip("onnx", reason="needs the extra 'onnx': pip install 'neuralsde[onnx]'")
    runtime: Any = pytest.importorskip("onnxruntime", reason="needs a runtime: pip install onnxruntime")

WEIGHT = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def program(x: jax.Array, y: jax.Array) -> jax.Array:
    """Of (2, 3) and (4,): products, broadcasting, reductions, choices and pieces."""
    h = lax.dot_general(x, WEIGHT, (((1,), (1,)), ((), ())))
    h = h * lax.logistic(h) + lax.broadcast_in_dim(y, (2, 4), (1,))
    total = lax.reduce_sum(h, axes=(1,))
    h = h * lax.rsqrt(lax.broadcast_in_dim(lax.square(total) + 1.0, (2, 4), (0,)))
    h = lax.concatenate([h, np.ones((2, 1), np.float32)], 1)
    first, rest = lax.split(lax.transpose(h, (1, 0)), (2, 3), axis=0)
    sums = lax.cumsum(rest, axis=0, reverse=True)
    part = lax.slice(y, (1,), (4,), (2,))
    chosen = lax.select(lax.gt(total, np.zeros(2, np.float32)), total, lax.integer_pow(total, 3))
    inner = lax.dot_general(sums, sums, (((0,), (0,)), ((1,), (1,))))
    same = lax.convert_element_type(lax.eq(part, part), jnp.float32)
    pieces = [lax.reshape(first, (4,)), part, lax.clamp(np.float32(-1), chosen, np.float32(1)), inner, same]
    return lax.concatenate(pieces, 0)


def test_every_rule_of_the_graph_is_the_operation_of_jax():
    held = onnx_model(program, {"x": (2, 3), "y": (4,)}, "out", {"told": "yes"})
    onnx.checker.check_model(onnx.load_from_string(held), full_check=True)
    session = runtime.InferenceSession(held)
    assert session.get_modelmeta().custom_metadata_map == {"told": "yes"}
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=(5, *shape)).astype(np.float32) for shape in ((2, 3), (4,)))
    for rows in (1, 5):
        found = session.run(None, {"x": x[:rows], "y": y[:rows]})[0]
        np.testing.assert_allclose(found, jax.jit(jax.vmap(program))(x[:rows], y[:rows]), atol=1e-5)


def test_what_does_not_depend_on_the_input_stands_in_every_row():
    session = runtime.InferenceSession(onnx_model(lambda x: jnp.arange(3.0) * 2, {"x": (1,)}, "out", {}))
    np.testing.assert_array_equal(session.run(None, {"x": np.ones((2, 1), np.float32)})[0], [[0, 2, 4]] * 2)


def test_an_operation_without_a_rule_is_named():
    with pytest.raises(InputError, match="the operation 'sort' as ONNX"):
        onnx_model(lambda x: lax.sort(x), {"x": (3,)}, "out", {})

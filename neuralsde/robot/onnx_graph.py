"""A program of one row as an ONNX graph of any number of rows.

The program must be written out (`driven.py`): then each equation is one operator or a few. What depends on an input has
the rows as a first axis in the graph, (B, *shape) for an array of this shape in the program; what does not is computed
here and stored as a constant. Products are Einsum, so that any contraction is one operator. An operation that is not in
the tables below is refused by its name.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal

from neuralsde.errors import InputError, extra

OPSET, IR = 18, 9
"""ONNX 1.13, of December 2022, so that older runtimes read it too."""

_UNARY = {
    "abs": "Abs", "copy": "Identity", "cos": "Cos", "erf": "Erf", "exp": "Exp", "floor": "Floor",
    "log": "Log", "logistic": "Sigmoid", "neg": "Neg", "not": "Not", "sign": "Sign", "sin": "Sin", "sqrt": "Sqrt",
    "stop_gradient": "Identity", "tanh": "Tanh",
}  # fmt: skip
_BINARY = {
    "add": "Add", "add_any": "Add", "and": "And", "div": "Div", "eq": "Equal", "ge": "GreaterOrEqual", "gt": "Greater",
    "le": "LessOrEqual", "lt": "Less", "max": "Max", "min": "Min", "mul": "Mul", "or": "Or", "pow": "Pow", "sub": "Sub",
}  # fmt: skip
_REDUCED = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}


@dataclass(frozen=True)
class Rows:
    """An array of the graph with the rows in front; shape is that of one row."""

    name: str
    shape: tuple[int, ...]


Value = Rows | np.ndarray


def onnx_model(
    program: Callable[..., Any], inputs: Mapping[str, tuple[int, ...]], output: str, facts: Mapping[str, str]
) -> bytes:
    """The file of a program of float32 arrays, one row each; facts go into its metadata.

    Raises InputError for a program with an operation that is not known here, and without the extra `onnx`.
    """
    with extra("onnx", "an ONNX file"):
        from onnx import TensorProto, helper, numpy_helper
    closed = jax.make_jaxpr(program)(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs.values()))
    graph = Graph()
    known: dict[Any, Value] = dict(zip(closed.jaxpr.constvars, map(np.asarray, closed.consts), strict=True))
    known |= {v: Rows(name, shape) for v, (name, shape) in zip(closed.jaxpr.invars, inputs.items(), strict=True)}
    for eqn in closed.jaxpr.eqns:
        given = [_value(known, atom) for atom in eqn.invars]
        known.update(zip(eqn.outvars, _computed(graph, eqn, given), strict=True))
    last = graph.rows(_value(known, closed.jaxpr.outvars[0]), next(iter(inputs)))
    graph.nodes.append(("Identity", [last.name], output, {}))
    declared = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", *shape])
        for name, shape in (*inputs.items(), (output, last.shape))
    ]
    nodes = [
        helper.make_node(op, given, [out], **{k: _attribute(helper, v) for k, v in attributes.items()})
        for op, given, out, attributes in graph.nodes
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "neuralsde_policy", declared[:-1], declared[-1:], constants),
        producer_name="neuralsde", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR,
    )  # fmt: skip
    helper.set_model_props(made, dict(facts))
    return made.SerializeToString()


class Graph:
    """Nodes (operator, inputs, output, attributes) and constants so far."""

    def __init__(self) -> None:
        self.nodes: list[tuple[str, list[str], str, dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}
        self._held: dict[int, tuple[np.ndarray, str]] = {}

    def node(self, op: str, *given: Rows | np.ndarray | str, shape: tuple[int, ...] = (), **attributes: Any) -> Rows:
        out = f"v{len(self.nodes)}"
        self.nodes.append((op, [self.name(value) for value in given], out, attributes))
        return Rows(out, shape)

    def name(self, value: Rows | np.ndarray | str) -> str:
        """Of a value in the graph; a constant is stored once, however often it is used."""
        if isinstance(value, Rows):
            return value.name
        if isinstance(value, str):
            return value
        if id(value) not in self._held:
            self._held[id(value)] = value, f"c{len(self.constants)}"  # held, so that no other array gets its id
            self.constants[self._held[id(value)][1]] = value
        return self._held[id(value)][1]

    def reshaped(self, x: Rows, shape: tuple[int, ...]) -> Rows:
        return x if x.shape == shape else self.node("Reshape", x, _numbers(0, *shape), shape=shape)

    def rows(self, x: Value, like: str) -> Rows:
        """A constant once for every row of the array `like`."""
        if isinstance(x, Rows):
            return x
        count = self.node("Shape", like, start=0, end=1)
        target = self.node("Concat", count, _numbers(*x.shape), axis=0)
        return self.node("Expand", x[None], target, shape=x.shape)


def _computed(graph: Graph, eqn: JaxprEqn, given: list[Value]) -> list[Value]:
    """The outputs of an equation, as constants if all its inputs are."""
    name, out = eqn.primitive.name, _like(eqn.outvars[0]).shape
    if not any(isinstance(value, Rows) for value in given):
        found = eqn.primitive.bind(*given, **eqn.params)
        return [np.asarray(part) for part in (found if eqn.primitive.multiple_results else [found])]
    if name in _UNARY:
        return [graph.node(_UNARY[name], given[0], shape=out)]
    if name in _BINARY:
        return [graph.node(_BINARY[name], *(_aligned(graph, x, len(out)) for x in given), shape=out)]
    if name not in _RULES:
        raise InputError(f"a policy with the operation '{name}' as ONNX", "it has no counterpart here",
                         hint="format stablehlo")  # fmt: skip
    return _RULES[name](graph, eqn, given, out)


def _aligned(graph: Graph, x: Value, rank: int) -> Value:
    """One number a row, beside arrays of more axes."""
    return graph.reshaped(x, (1,) * rank) if isinstance(x, Rows) and not x.shape else x


def _broadcast(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    (x,), at = given, eqn.params["broadcast_dimensions"]
    assert isinstance(x, Rows)
    thin = tuple(x.shape[at.index(axis)] if axis in at else 1 for axis in range(len(out)))
    x = graph.reshaped(x, thin)
    return [x if thin == out else graph.node("Expand", x, _numbers(1, *out), shape=out)]


def _reshape(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    assert isinstance(given[0], Rows)
    return [graph.reshaped(given[0], out)]


def _transpose(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    return [
        graph.node("Transpose", given[0], shape=out, perm=[0, *(int(axis) + 1 for axis in eqn.params["permutation"])])
    ]


def _slice(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    begin, end, step = (eqn.params[name] for name in ("start_indices", "limit_indices", "strides"))
    axes, step = _numbers(*(axis + 1 for axis in range(len(out)))), step or (1,) * len(out)
    return [graph.node("Slice", given[0], _numbers(*begin), _numbers(*end), axes, _numbers(*step), shape=out)]


def _split(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    axis, bounds = _numbers(eqn.params["axis"] + 1), pairwise(accumulate(eqn.params["sizes"], initial=0))
    return [
        graph.node("Slice", given[0], _numbers(a), _numbers(b), axis, shape=_like(out).shape)
        for (a, b), out in zip(bounds, eqn.outvars, strict=True)
    ]


def _concatenate(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    return [_joined(graph, given, eqn.params["dimension"], out)]


def _stack(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    axis = eqn.params["axis"]
    one = (*out[:axis], 1, *out[axis + 1 :])
    parts = [graph.reshaped(x, one) if isinstance(x, Rows) else x.reshape(one) for x in given]
    return [_joined(graph, parts, axis, out)]


def _joined(graph: Graph, given: list[Value], axis: int, out: tuple[int, ...]) -> Rows:
    some = next(x.name for x in given if isinstance(x, Rows))
    return graph.node("Concat", *(graph.rows(x, some) for x in given), shape=out, axis=int(axis) + 1)


def _reduce(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    axes = _numbers(*(axis + 1 for axis in eqn.params["axes"]))
    return [graph.node(_REDUCED[eqn.primitive.name], given[0], axes, shape=out, keepdims=0)]


def _cumsum(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    axis = np.array(eqn.params["axis"] + 1, np.int64)
    return [graph.node("CumSum", given[0], axis, shape=out, reverse=int(eqn.params["reverse"]))]


def _select(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    which, no, yes = (_aligned(graph, x, len(out)) for x in given)
    return [graph.node("Where", which, yes, no, shape=out)]


def _clamp(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    low, x, high = (_aligned(graph, x, len(out)) for x in given)
    return [graph.node("Min", graph.node("Max", x, low), high, shape=out)]


def _power(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    exponent = 2 if eqn.primitive.name == "square" else eqn.params["y"]
    if exponent == 2:
        return [graph.node("Mul", given[0], given[0], shape=out)]
    return [graph.node("Pow", given[0], np.array(exponent, _like(eqn.outvars[0]).dtype), shape=out)]


def _inverse_root(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    return [graph.node("Reciprocal", graph.node("Sqrt", given[0]), shape=out)]


def _cast(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    return [graph.node("Cast", given[0], shape=out, to=np.dtype(eqn.params["new_dtype"]))]


def _product(graph: Graph, eqn: JaxprEqn, given: list[Value], out: tuple[int, ...]) -> list[Value]:
    """Einsum over the letters that both sides share; B is the rows."""
    (summed, shared), free = eqn.params["dimension_numbers"], iter(string.ascii_lowercase)
    sides = [[""] * len(x.shape) for x in given]
    for pairs in (shared, summed):
        for left, right in zip(*pairs, strict=True):
            sides[0][left] = sides[1][right] = next(free)
    sides = [[letter or next(free) for letter in side] for side in sides]
    rest = [[side[k] for k in range(len(side)) if k not in (*summed[s], *shared[s])] for s, side in enumerate(sides)]
    result = "".join(["B", *(sides[0][axis] for axis in shared[0]), *rest[0], *rest[1]])
    words = ["B" * isinstance(x, Rows) + "".join(side) for x, side in zip(given, sides, strict=True)]
    return [graph.node("Einsum", *given, shape=out, equation=f"{','.join(words)}->{result}")]


_RULES: dict[str, Callable[[Graph, JaxprEqn, list[Value], tuple[int, ...]], list[Value]]] = {
    "broadcast_in_dim": _broadcast, "reshape": _reshape, "squeeze": _reshape, "expand_dims": _reshape,
    "transpose": _transpose, "slice": _slice, "split": _split, "concatenate": _concatenate, "stack": _stack,
    **dict.fromkeys(_REDUCED, _reduce), "cumsum": _cumsum, "select_n": _select, "clamp": _clamp,
    "integer_pow": _power, "square": _power, "rsqrt": _inverse_root, "convert_element_type": _cast,
    "dot_general": _product,
}  # fmt: skip


def _numbers(*values: Any) -> np.ndarray:
    """Whole numbers, of Python or of numpy."""
    return np.array(values, np.int64)


def _like(atom: Any) -> Any:
    """Shape and dtype."""
    return atom.aval


def _attribute(helper: Any, value: Any) -> Any:
    return helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value


def _value(known: Mapping[Any, Value], atom: Any) -> Value:
    return np.asarray(atom.val, _like(atom).dtype) if isinstance(atom, Literal) else known[atom]

"""What a network reads beside its input: the time, and the class of what is wanted. And an MLP that reads both.

    features(t) = cos, sin of 2 pi f_k t,   f_k geometric from 1/4 to 16 cycles          Fourier features
    c(t, label) = W2 silu(W1 features(t)) + table[label]                                 what layers are modulated by

The clock t of a network is a number of order one: the time of a schedule on [0, 1], or its noise level as ¼ log sigma
(Karras et al. 2022), which is -⅛ of the log-SNR. Features of a raw log-SNR of ±20 would be too fast to learn.
A network of `classes` > 0 has one more row in its table for "of any class" (Ho & Salimans 2022): label None or -1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key, Real

from neuralsde.errors import InputError
from neuralsde.nets.mlp import MLP

SLOWEST, FASTEST = 0.25, 16.0
"""Cycles of the Fourier features in one unit of the clock."""

Label = Integer[Array, ""] | int | None
Clock = Real[Array, ""] | float


def fourier(t: Clock, count: int) -> Float[Array, " features"]:
    """Cosines and sines of the clock at `count` frequencies, geometric from `SLOWEST` to `FASTEST`."""
    t = jnp.asarray(t, jnp.result_type(t, float))
    ratio = (FASTEST / SLOWEST) ** (1 / max(count - 1, 1))
    angle = 2 * math.pi * SLOWEST * jnp.asarray([ratio**k for k in range(count)], t.dtype) * t
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)])


class Dense(eqx.Module):
    """x W + b along the last axis of any array: one matrix product for all rows, also under `vmap`.

    gain: the s.d. of the weights is gain / √in; 0 starts them at zero.
    """

    weight: Float[Array, "in out"]
    bias: Float[Array, " out"]

    def __init__(self, in_size: int, out_size: int, *, gain: float = 1.0, key: Key[Array, ""]) -> None:
        self.weight = gain / math.sqrt(in_size) * jax.random.normal(key, (in_size, out_size))
        self.bias = jnp.zeros(out_size)

    def __call__(self, x: Float[Array, "*rows in"]) -> Float[Array, "*rows out"]:
        return x @ self.weight + self.bias


class Conditions(eqx.Module):
    """c(t, label) (width,): the time, and with `classes` > 0 the class, as what modulates a network's layers."""

    first: Dense
    second: Dense
    table: Float[Array, "rows width"] | None
    classes: int = eqx.field(static=True)

    def __init__(self, width: int, classes: int = 0, *, count: int = 16, key: Key[Array, ""]) -> None:
        keys = jax.random.split(key, 3)
        self.first = Dense(2 * count, width, key=keys[0])
        self.second = Dense(width, width, key=keys[1])
        self.table = 0.5 * jax.random.normal(keys[2], (classes + 1, width)) if classes else None
        self.classes = classes

    def __call__(self, t: Clock, label: Label = None) -> Float[Array, " width"]:
        features = fourier(t, self.first.weight.shape[0] // 2).astype(self.first.weight.dtype)
        told = self.second(jax.nn.silu(self.first(features)))
        return told if self.table is None else told + self.table[row(label, self.classes)]


def row(label: Label, classes: int) -> Array:
    """The row of a table of `classes` + 1: that of the label, the last one for None and -1."""
    if isinstance(label, int) and not -1 <= label < classes:
        raise InputError(f"the class {label}", f"there are {classes}", f"0 to {classes - 1}, -1 for any")
    known = jnp.asarray(-1 if label is None else label)
    return jnp.where(known < 0, classes, known)


def require_shape(x: Array, shape: Sequence[int]) -> None:
    """InputError unless `x` is of the shape that the network was made for."""
    if jnp.shape(x) != tuple(shape):
        what = "an image" if len(shape) > 1 else "a point"
        raise InputError(
            f"{what} of shape {tuple(jnp.shape(x))}", f"the network was made for {tuple(shape)}", "that shape",
            "jax.vmap for several" if jnp.ndim(x) == len(shape) + 1 else "",
        )  # fmt: skip


class TimeMLP(eqx.Module):
    """net(x, t, label=None) -> like x, for points of any shape: an `MLP` of x beside c(t, label).

    Zero at the start. For tables and low dimensions; images have `Patches` and `UNet`.
    """

    conditions: Conditions
    mlp: MLP
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: int = 128,
        depth: int = 3,
        classes: int = 0,
        key: Key[Array, ""],
    ) -> None:
        first, second = jax.random.split(key)
        size, clock = math.prod(shape), 32
        self.conditions = Conditions(clock, classes, key=first)
        self.mlp = MLP(size + clock, size, width=width, depth=depth, key=second)
        self.shape = tuple(shape)

    def __call__(self, x: Float[Array, "*shape"], t: Clock, label: Label = None) -> Float[Array, "*shape"]:
        require_shape(x, self.shape)
        told = jax.nn.silu(self.conditions(t, label)).astype(x.dtype)
        return self.mlp(jnp.concatenate([jnp.ravel(x), told])).reshape(x.shape)

"""A backbone of matrix products for images: fast where convolutions are slow, as on a CPU.

An image is cut into patches of p x p, and each becomes a token of `width` numbers. A block lets all tokens speak
through `rank` numbers, then works on each by itself; both are told of time and class (Peebles & Xie 2023):

    x <- x + U silu((1 + s) D a(x) + r),   x <- x + C(b(x)),    a(x), b(x) = norm(x) (1 + scale) + shift

D: the whole image -> rank, U back; C a perceptron on one token. In the MLP-Mixer (Tolstikhin et al. 2021) tokens mix in
the same way for every channel; here they need not, and it is one large product. s, r, scale, shift are linear in
c(t, label), norm is to unit mean square. The last layer is zero at the start. D and U have a place for each token, so
the image's shape is part of the network.
"""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.nets.embeddings import Clock, Conditions, Dense, Label, require_shape

TOLD = 128
"""Width of what layers are told of time and class."""
_SMALL = 0.2
"""Gain of the last layer of a branch: a deep stack starts near the identity."""


class Perceptron(eqx.Module):
    """W2 gelu(W1 x + b1) + b2 along the last axis, size -> hidden -> size."""

    first: Dense
    second: Dense

    def __init__(self, size: int, hidden: int, *, key: Key[Array, ""]) -> None:
        first, second = jax.random.split(key)
        self.first = Dense(size, hidden, key=first)
        self.second = Dense(hidden, size, gain=_SMALL, key=second)

    def __call__(self, x: Float[Array, "*rows size"]) -> Float[Array, "*rows size"]:
        return self.second(jax.nn.gelu(self.first(x)))


class AdaptiveNorm(eqx.Module):
    """norm(x) (1 + scale) + shift over the last axis, scale and shift linear in the conditions, zero at the start."""

    modulation: Dense

    def __init__(self, width: int, told: int, *, key: Key[Array, ""]) -> None:
        self.modulation = Dense(told, 2 * width, gain=0.0, key=key)

    def __call__(self, x: Float[Array, "*rows width"], told: Float[Array, " told"]) -> Float[Array, "*rows width"]:
        scale, shift = jnp.split(self.modulation(told), 2)
        return unit(x) * (1 + scale) + shift


def unit(x: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
    """Each row divided by its root mean square."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-6)


class Block(eqx.Module):
    """All tokens (n, width) through `rank` numbers, then each token by itself."""

    before: AdaptiveNorm
    down: Dense
    modulation: Dense
    up: Dense
    before_channels: AdaptiveNorm
    channels: Perceptron

    def __init__(self, count: int, width: int, rank: int, told: int, *, key: Key[Array, ""]) -> None:
        keys = jax.random.split(key, 6)
        self.before = AdaptiveNorm(width, told, key=keys[0])
        self.down = Dense(count * width, rank, key=keys[1])
        self.modulation = Dense(told, 2 * rank, gain=0.0, key=keys[2])
        self.up = Dense(rank, count * width, gain=_SMALL, key=keys[3])
        self.before_channels = AdaptiveNorm(width, told, key=keys[4])
        self.channels = Perceptron(width, 2 * width, key=keys[5])

    def __call__(self, x: Float[Array, "n width"], told: Float[Array, " told"]) -> Float[Array, "n width"]:
        scale, shift = jnp.split(self.modulation(told), 2)
        whole = self.down(jnp.ravel(self.before(x, told)))
        x = x + self.up(jax.nn.silu(whole * (1 + scale) + shift)).reshape(x.shape)
        return x + self.channels(self.before_channels(x, told))


class Patches(eqx.Module):
    """net(x, t, label=None) -> like x, for images (h, w) or (h, w, c) whose sides are multiples of `patch`.

    Zero at the start. InputError for another shape than the one it was made for.
    """

    enter: Dense
    place: Float[Array, "n width"]
    conditions: Conditions
    blocks: tuple[Block, ...]
    last: AdaptiveNorm
    leave: Dense
    shape: tuple[int, ...] = eqx.field(static=True)
    patch: int = eqx.field(static=True)

    def __init__(
        self,
        shape: Sequence[int],
        *,
        patch: int = 4,
        width: int = 64,
        depth: int = 3,
        rank: int = 384,
        classes: int = 0,
        key: Key[Array, ""],
    ) -> None:
        h, w, c = image_shape(shape)
        if h % patch or w % patch:
            fitting = [str(p) for p in range(2, 9) if h % p == 0 and w % p == 0]
            raise InputError(
                f"patches of {patch} x {patch} for images of {h} x {w}", "they do not fill it",
                "a patch size that divides both sides" + (f": {', '.join(fitting)}" if fitting else ""),
            )  # fmt: skip
        keys = jax.random.split(key, depth + 4)
        count, size = (h // patch) * (w // patch), patch * patch * c
        self.enter = Dense(size, width, key=keys[0])
        self.place = 0.5 * jax.random.normal(keys[1], (count, width))
        self.conditions = Conditions(TOLD, classes, key=keys[2])
        self.blocks = tuple(Block(count, width, rank, TOLD, key=k) for k in keys[4:])
        self.last = AdaptiveNorm(width, TOLD, key=keys[3])
        self.leave = Dense(width, size, gain=0.0, key=keys[3])
        self.shape, self.patch = tuple(shape), patch

    def __call__(self, x: Float[Array, "*shape"], t: Clock, label: Label = None) -> Float[Array, "*shape"]:
        require_shape(x, self.shape)
        told = jax.nn.silu(self.conditions(t, label)).astype(x.dtype)
        y = self.enter(to_patches(x, self.patch)) + self.place
        for block in self.blocks:
            y = block(y, told)
        return from_patches(self.leave(self.last(y, told)), self.shape, self.patch)


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """(h, w, c) of (h, w) or (h, w, c); InputError for anything else."""
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise InputError(f"points of shape {tuple(shape)}", "they are no images", "(h, w) or (h, w, c)", "the mlp")
    h, w, c = (*shape, 1)[:3]
    return h, w, c


def to_patches(x: Float[Array, "*shape"], patch: int) -> Float[Array, "n size"]:
    """An image (h, w) or (h, w, c) as its patches, row by row."""
    h, w, c = image_shape(x.shape)
    cut = x.reshape(h // patch, patch, w // patch, patch, c)
    return cut.transpose(0, 2, 1, 3, 4).reshape(-1, patch * patch * c)


def from_patches(tokens: Float[Array, "n size"], shape: Sequence[int], patch: int) -> Float[Array, ...]:
    """The image of that shape whose `to_patches` these are."""
    h, w, c = image_shape(shape)
    cut = tokens.reshape(h // patch, w // patch, patch, patch, c)
    return cut.transpose(0, 2, 1, 3, 4).reshape(shape)

"""A small U-Net for images on a GPU (Ronneberger et al. 2015; for diffusion Ho et al. 2020).

Two residual blocks at each resolution, half of it from level to level and back up with what was there on the way down
beside; attention between all places at the lowest one. A residual block is

    x <- skip(x) + conv(silu(norm(conv(silu(norm(x)))) (1 + scale) + shift)),   (scale, shift) linear in c(t, label)

with a group norm. The last convolution of each block, and of the whole, is zero at the start. Images travel inside as
(c, h, w), which convolutions want, and are (h, w) or (h, w, c) outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.nets.embeddings import Clock, Conditions, Dense, Label, require_shape
from neuralsde.nets.patches import image_shape

Image = Float[Array, "c h w"]


class Residual(eqx.Module):
    """A residual block, in_channels -> out_channels."""

    before: eqx.nn.GroupNorm
    first: eqx.nn.Conv2d
    between: eqx.nn.GroupNorm
    second: eqx.nn.Conv2d
    modulation: Dense
    skip: eqx.nn.Conv2d | None

    def __init__(self, in_channels: int, out_channels: int, told: int, *, key: Key[Array, ""]) -> None:
        keys = jax.random.split(key, 4)
        self.before = _norm(in_channels)
        self.first = _conv(in_channels, out_channels, key=keys[0])
        self.between = _norm(out_channels)
        self.second = _silent(_conv(out_channels, out_channels, key=keys[1]))
        self.modulation = Dense(told, 2 * out_channels, gain=0.0, key=keys[2])
        same = in_channels == out_channels
        self.skip = None if same else eqx.nn.Conv2d(in_channels, out_channels, 1, key=keys[3])

    def __call__(self, x: Image, told: Float[Array, " told"]) -> Float[Array, "k h w"]:
        scale, shift = jnp.split(self.modulation(told)[:, None, None], 2)
        y = self.between(self.first(jax.nn.silu(self.before(x))))
        y = self.second(jax.nn.silu(y * (1 + scale) + shift))
        return y + (x if self.skip is None else self.skip(x))


class Attention(eqx.Module):
    """x + attention between all places of an image, `heads` of it; silent at the start."""

    before: eqx.nn.GroupNorm
    enter: Dense
    leave: Dense
    heads: int = eqx.field(static=True)

    def __init__(self, channels: int, heads: int, *, key: Key[Array, ""]) -> None:
        first, second = jax.random.split(key)
        self.before = _norm(channels)
        self.enter = Dense(channels, 3 * channels, key=first)
        self.leave = Dense(channels, channels, gain=0.0, key=second)
        self.heads = heads

    def __call__(self, x: Image) -> Image:
        c = x.shape[0]
        tokens = self.before(x).reshape(c, -1).T
        query, key, value = jnp.split(self.enter(tokens).reshape(tokens.shape[0], self.heads, -1), 3, axis=-1)
        weight = jax.nn.softmax(jnp.einsum("qhc,khc->hqk", query, key) / math.sqrt(query.shape[-1]))
        found = jnp.einsum("hqk,khc->qhc", weight, value).reshape(tokens.shape)
        return x + self.leave(found).T.reshape(x.shape)


class UNet(eqx.Module):
    """net(x, t, label=None) -> like x, for images (h, w) or (h, w, c).

    channels: of each level, from the full resolution down; the sides must halve evenly between them.
    Zero at the start. InputError for another shape than the one it was made for.
    """

    enter: eqx.nn.Conv2d
    conditions: Conditions
    down: tuple[tuple[Residual, Residual], ...]
    middle: tuple[Residual, Attention, Residual]
    up: tuple[tuple[Residual, Residual], ...]
    last: eqx.nn.GroupNorm
    leave: eqx.nn.Conv2d
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        shape: Sequence[int],
        *,
        channels: Sequence[int] = (64, 128, 128),
        heads: int = 4,
        classes: int = 0,
        key: Key[Array, ""],
    ) -> None:
        h, w, c = image_shape(shape)
        halvings = 2 ** (len(channels) - 1)
        if h % halvings or w % halvings:
            meaning = f"{len(channels)} levels halve the sides {len(channels) - 1} times"
            raise InputError(f"images of {h} x {w}", meaning, f"sides that are multiples of {halvings}", "fewer levels")
        if any(width % heads or width < heads for width in channels):
            raise InputError(f"channels={tuple(channels)}", f"heads={heads}", f"multiples of {heads}")
        keys = iter(jax.random.split(key, 4 * len(channels) + 6))
        told = 2 * channels[0]
        above = (channels[0], *channels[:-1])
        self.enter = _conv(c, channels[0], key=next(keys))
        self.conditions = Conditions(told, classes, key=next(keys))
        self.down = tuple(
            (Residual(a, b, told, key=next(keys)), Residual(b, b, told, key=next(keys)))
            for a, b in zip(above, channels, strict=True)
        )
        low = channels[-1]
        self.middle = (
            Residual(low, low, told, key=next(keys)),
            Attention(low, heads, key=next(keys)),
            Residual(low, low, told, key=next(keys)),
        )
        self.up = tuple(
            (Residual(2 * b, b, told, key=next(keys)), Residual(b, a, told, key=next(keys)))
            for a, b in reversed(list(zip(above, channels, strict=True)))
        )
        self.last = _norm(channels[0])
        self.leave = _silent(_conv(channels[0], c, key=next(keys)))
        self.shape = tuple(shape)

    def __call__(self, x: Float[Array, "*shape"], t: Clock, label: Label = None) -> Float[Array, "*shape"]:
        require_shape(x, self.shape)
        told = jax.nn.silu(self.conditions(t, label)).astype(x.dtype)
        y = self.enter(x.reshape(image_shape(self.shape)).transpose(2, 0, 1))
        kept = []
        for level, (first, second) in enumerate(self.down):
            y = second(first(halved(y) if level else y, told), told)
            kept.append(y)
        first, attention, second = self.middle
        y = second(attention(first(y, told)), told)
        for level, (first, second) in zip(reversed(range(len(self.up))), self.up, strict=True):
            y = second(first(jnp.concatenate([y, kept[level]]), told), told)
            y = doubled(y) if level else y
        return self.leave(jax.nn.silu(self.last(y))).transpose(1, 2, 0).reshape(self.shape)


def halved(x: Image) -> Float[Array, "c less fewer"]:
    """Means of 2 x 2 places."""
    c, h, w = x.shape
    return x.reshape(c, h // 2, 2, w // 2, 2).mean((2, 4))


def doubled(x: Image) -> Float[Array, "c more further"]:
    """Each place four times."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def _norm(channels: int) -> eqx.nn.GroupNorm:
    """Up to 8 groups of two channels or more: in a group of one the bias before it would be lost."""
    return eqx.nn.GroupNorm(math.gcd(8, max(channels // 2, 1)), channels)


def _conv(in_channels: int, out_channels: int, *, key: Key[Array, ""]) -> eqx.nn.Conv2d:
    return eqx.nn.Conv2d(in_channels, out_channels, 3, padding=1, key=key)


def _silent(layer: eqx.nn.Conv2d) -> eqx.nn.Conv2d:
    return jax.tree.map(jnp.zeros_like, layer)

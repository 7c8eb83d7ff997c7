"""A small convolutional network that finds points in an image: every place votes for where each of them lies.

    point_k = Σ_c softmax_c(l_kc) (place_c + v_kc),     (l, v) linear in h_c,     h <- h + B silu(A around(norm(h)))

over the cells c of a coarse grid; `around` is the neighbourhood of 3 x 3 cells. Without the votes v this is the spatial
soft-argmax of Levine et al. 2016 and Finn et al. 2016; with them (Hough's idea, learnt) a grid of cells eight pixels
wide is fine enough for a fraction of a pixel. Moved by whole cells an image gives moved points, but for the edges.

Cells are patches of 4 x 4 pixels, then of 2 x 2 of those; only then do neighbours meet, so that it is cheap enough to
be trained on a CPU. A convolution is written as one product with the nine neighbours of each cell: XLA's own is no
slower on a CPU, but many times slower inside a loop of training steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.nets.embeddings import Dense
from neuralsde.nets.patches import unit

PATCH, MERGED = 4, 2
CELL = PATCH * MERGED
"""Sides in pixels of a patch and of a cell."""


class Around(eqx.Module):
    """h + B silu(A around(norm(h))) over a grid (*rows, h, w, channels); B starts small."""

    first: Dense
    second: Dense

    def __init__(self, channels: int, *, key: Key[Array, ""]) -> None:
        keys = jax.random.split(key)
        self.first = Dense(9 * channels, channels, gain=2**0.5, key=keys[0])
        self.second = Dense(channels, channels, gain=0.5, key=keys[1])

    def __call__(self, h: Float[Array, "*rows h w c"]) -> Float[Array, "*rows h w c"]:
        return h + self.second(jax.nn.silu(self.first(around(unit(h)))))


class Votes(eqx.Module):
    """net(images (*rows, h, w, c)) -> points (*rows, points, 2) as (x, y), -1 at the left and upper edge, 1 opposite.

    All points lie in the middle before training. InputError for sides that cells do not fill, and for images of another
    shape than the one it was made for.
    """

    enter: Dense
    merge: Dense
    blocks: tuple[Around, ...]
    leave: Dense
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self, shape: Sequence[int], points: int, *, channels: int = 64, blocks: int = 4, key: Key[Array, ""]
    ) -> None:
        h, w, c = shape
        if h % CELL or w % CELL:
            raise InputError(f"images of {h} x {w}", f"they are cut into cells of {CELL} x {CELL}",
                             f"sides that are multiples of {CELL}")  # fmt: skip
        keys = jax.random.split(key, blocks + 3)
        half = max(channels // 2, 1)
        self.enter = Dense(PATCH * PATCH * c, half, key=keys[0])
        self.merge = Dense(MERGED * MERGED * half, channels, gain=2**0.5, key=keys[1])
        self.blocks = tuple(Around(channels, key=k) for k in keys[3:])
        self.leave = Dense(channels, 3 * points, gain=0.0, key=keys[2])
        self.shape = tuple(shape)

    def __call__(self, images: Float[Array, "*rows h w c"]) -> Float[Array, "*rows points 2"]:
        if images.shape[-3:] != self.shape:
            raise InputError(f"images of shape {images.shape}", f"the network was made for {self.shape}", "that shape")
        h = self.merge(cut(jax.nn.silu(self.enter(cut(images, PATCH))), MERGED))
        for block in self.blocks:
            h = block(h)
        logits, x, y = jnp.split(self.leave(unit(h)), 3, -1)
        rows, columns = (-1 + (2 * jnp.arange(n) + 1) / n for n in h.shape[-3:-1])
        weight = jax.nn.softmax(logits, axis=(-3, -2))
        votes = jnp.stack([columns[:, None] + x, rows[:, None, None] + y], -1)
        return jnp.sum(weight[..., None] * votes, axis=(-4, -3))


def cut(x: Float[Array, "*rows h w c"], side: int) -> Float[Array, "*rows less fewer size"]:
    """Squares of side x side, each as one vector."""
    *rows, h, w, c = x.shape
    squares = x.reshape(*rows, h // side, side, w // side, side, c)
    return jnp.swapaxes(squares, -4, -3).reshape(*rows, h // side, w // side, side * side * c)


def around(x: Float[Array, "*rows h w c"]) -> Float[Array, "*rows h w nine_c"]:
    """Each cell with its eight neighbours, row by row, zeros beyond the edge."""
    h, w = x.shape[-3:-1]
    wide = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)])
    return jnp.concatenate([wide[..., i : i + h, j : j + w, :] for i in range(3) for j in range(3)], -1)

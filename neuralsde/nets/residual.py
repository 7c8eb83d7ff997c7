"""A residual multilayer perceptron beside a linear map (the network of the Push-T policies of arXiv 2501.18871).

    h_0 = W x + b,   h_k = h_(k-1) + B_k silu(A_k norm(h_(k-1))),   y = A x + b + L norm(h_n)

with two layers a block and the normalisation before them (Ba et al. 2016; He et al. 2016), so that the way from the
input to the output is a sum, and a deep network learns like a shallow one. A, b and L start at zero, as in `MLP`: what
is built on either starts as the same function.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.nets.embeddings import Dense

_EPS = 1e-5


class Block(eqx.Module):
    """h + B silu(A norm(h)); B starts small, so that a new network is nearly its first layer."""

    first: Dense
    second: Dense

    def __init__(self, width: int, *, key: Key[Array, ""]) -> None:
        keys = jax.random.split(key)
        self.first = Dense(width, width, gain=2**0.5, key=keys[0])
        self.second = Dense(width, width, gain=0.5, key=keys[1])

    def __call__(self, h: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
        return h + self.second(jax.nn.silu(self.first(_normalised(h))))


class ResidualTrunk(eqx.Module):
    """`(*rows, in) -> (*rows, width)`: what heads are put on."""

    enter: Dense
    blocks: tuple[Block, ...]

    def __init__(self, in_size: int, *, width: int, blocks: int, key: Key[Array, ""]) -> None:
        keys = jax.random.split(key, blocks + 1)
        self.enter = Dense(in_size, width, key=keys[0])
        self.blocks = tuple(Block(width, key=k) for k in keys[1:])

    def __call__(self, x: Float[Array, "*rows in"]) -> Float[Array, "*rows width"]:
        h = self.enter(x)
        for block in self.blocks:
            h = block(h)
        return _normalised(h)


class ResidualMLP(eqx.Module):
    """`(*rows, in) -> (*rows, out)` with `blocks` residual blocks of `width`; zero at the start."""

    linear: Dense
    trunk: ResidualTrunk
    out: Dense

    def __init__(self, in_size: int, out_size: int, *, width: int, blocks: int, key: Key[Array, ""]) -> None:
        keys = jax.random.split(key, 3)
        self.linear = Dense(in_size, out_size, gain=0.0, key=keys[0])
        self.trunk = ResidualTrunk(in_size, width=width, blocks=blocks, key=keys[1])
        self.out = Dense(width, out_size, gain=0.0, key=keys[2])

    def __call__(self, x: Float[Array, "*rows in"]) -> Float[Array, "*rows out"]:
        return self.linear(x) + self.out(self.trunk(x))


def _normalised(h: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
    """To mean 0 and variance 1 over a row; the scale and the shift are those of the layer after it."""
    off = h - h.mean(-1, keepdims=True)
    return off * lax.rsqrt(jnp.square(off).mean(-1, keepdims=True) + _EPS)

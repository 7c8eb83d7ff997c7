"""A multilayer perceptron beside a linear map.

    y = A x + b + M(x),   M = L_out . silu . L_k . ... . silu . L_1

The linear map costs nothing and holds what a linear model of the same inputs would find, so M only learns what is
left. A, b and the last layer of M start at zero: a drift starts as a random walk, a log-diffusion as a constant.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


class MLP(eqx.Module):
    """`(in_size,) -> (out_size,)` with `depth` hidden layers of `width`; `depth=0` is the linear map alone."""

    linear: eqx.nn.Linear
    hidden: tuple[eqx.nn.Linear, ...]
    out: eqx.nn.Linear | None

    def __init__(self, in_size: int, out_size: int, *, width: int, depth: int, key: Key[Array, ""]) -> None:
        keys = jax.random.split(key, depth + 2)
        sizes = [in_size] + [width] * depth
        self.linear = _zero(eqx.nn.Linear(in_size, out_size, key=keys[0]))
        self.hidden = tuple(eqx.nn.Linear(a, b, key=k) for a, b, k in zip(sizes, sizes[1:], keys[2:], strict=False))
        self.out = _zero(eqx.nn.Linear(width, out_size, use_bias=False, key=keys[1])) if depth else None

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        y = self.linear(x)
        if self.out is None:
            return y
        for layer in self.hidden:
            x = jax.nn.silu(layer(x))
        return y + self.out(x)


def _zero(layer: eqx.nn.Linear) -> eqx.nn.Linear:
    return jax.tree.map(jnp.zeros_like, layer)

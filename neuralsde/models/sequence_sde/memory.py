"""A learned summary of the past, as context: what a Markov state of a few stacked rows cannot hold.

Each row before the present is a token (values, what of them is fresh, their ages, time to the row after it, time to
the present). A gated recurrent unit (Cho et al. 2014) reads the tokens in order; attention (Vaswani et al. 2017) lets
each head ask all of them at once, with the row before the present as the question. Irregular gaps are part of the
tokens. The present is not: while it moves inside a gap the summary stays as it is, so that the gap is an SDE with a
constant parameter. Nor are the rows that fill a window up before the first of its series: a gap of zero tells them.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Key

from neuralsde.models.sequence_sde.window import Window, log_age, moved_by_walk

HEADS = 4
_NEVER = -1e30


def tokens(window: Window, walk: Float[Array, " d"] | None = None) -> Float[Array, "rows features"]:
    """The rows before the present, the oldest first: (values, fresh, log age, log gap to the next row, log lag).

    With `walk` (d,) not the values but how they moved since the row before, in units of that walk.
    """
    value, age, lag = window.value[:-1], window.age[:-1], window.lag
    if walk is not None:
        moves = jnp.diff(value, axis=0) / moved_by_walk(walk, lag[:-2] - lag[1:-1])
        value = jnp.concatenate([jnp.zeros_like(value[:1]), moves])
    fresh = (age == 0).astype(value.dtype)
    times = jnp.stack([log_age(lag[:-1] - lag[1:]), log_age(lag[:-1])], axis=1)
    return jnp.concatenate([value, fresh, log_age(age), times], axis=1)


def known(window: Window) -> Bool[Array, " rows"]:
    """Which rows before the present are rows of the series, and not repetitions of its first one."""
    return window.lag[:-1] > window.lag[1:]


def token_size(d: int) -> int:
    """Length of a token of d channels."""
    return 3 * d + 2


class Recurrent(eqx.Module):
    """A gated recurrent unit over the tokens; its last state is the summary. O(rows) steps, one after the other."""

    cell: eqx.nn.GRUCell

    def __init__(self, d: int, width: int, *, key: Key[Array, ""]) -> None:
        self.cell = eqx.nn.GRUCell(token_size(d), width, key=key)

    def __call__(self, window: Window, walk: Float[Array, " d"] | None = None) -> Float[Array, " width"]:
        def step(state: Array, row: tuple[Array, Array]) -> tuple[Array, None]:
            token, is_known = row
            return jnp.where(is_known, self.cell(token, state), state), None

        rows = tokens(window, walk)
        return lax.scan(step, jnp.zeros(self.cell.hidden_size, rows.dtype), (rows, known(window)))[0]


class Attention(eqx.Module):
    """Heads that look back from the row before the present to all rows before it. O(rows) at once."""

    embed: eqx.nn.Linear
    ask: eqx.nn.Linear
    offer: eqx.nn.Linear
    heads: int = eqx.field(static=True)

    def __init__(self, d: int, width: int, *, key: Key[Array, ""]) -> None:
        self.heads = max(heads for heads in range(1, HEADS + 1) if width % heads == 0)
        keys = jax.random.split(key, 3)
        self.embed = eqx.nn.Linear(token_size(d), width, key=keys[0])
        self.ask = eqx.nn.Linear(width, width, key=keys[1])
        self.offer = eqx.nn.Linear(width, 2 * width, key=keys[2])

    def __call__(self, window: Window, walk: Float[Array, " d"] | None = None) -> Float[Array, " width"]:
        rows = jax.nn.silu(jax.vmap(self.embed)(tokens(window, walk)))
        question = self.ask(rows[-1]).reshape(self.heads, -1)
        key, value = jnp.split(jax.vmap(self.offer)(rows).reshape(len(rows), self.heads, -1), 2, axis=-1)
        match = jnp.einsum("hk,rhk->hr", question, key) / jnp.sqrt(key.shape[-1])
        there = known(window)
        weight = jnp.where(there, jax.nn.softmax(jnp.where(there, match, _NEVER), axis=-1), 0.0)
        return jnp.einsum("hr,rhk->hk", weight, value).ravel()


SUMMARIES: dict[str, Any] = {"gru": Recurrent, "attention": Attention}

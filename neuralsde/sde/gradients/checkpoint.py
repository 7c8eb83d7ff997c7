"""Exact gradients by reverse mode through the steps: keep everything, or keep states and compute the rest again.

`Backprop` lets JAX keep every intermediate of every step. `Checkpointed` keeps the state at the start of each step and
computes the rest again in the backward pass, noise included, which costs one more forward pass, and less time in all
because less memory moves (41 ms against 56 ms for 100 steps of two networks on two cores).

With `segments=S` not even the states of all steps are kept: N steps are cut into at most S parts, each part again into
at most S, until a part has at most S steps. Of every level the states at the starts of the parts of *one* part are
kept: S ⌈log_S N⌉ states in all, for ⌈log_S N⌉ + 1 forward passes (Griewank 1992; two levels with S = √N: Chen et al.
2016, "Training deep nets with sublinear memory cost"). It works for every method, calculus and noise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from neuralsde.errors import InputError
from neuralsde.sde.gradients.base import Gradient, Loop, Ran, scan_gaps

Advance = Callable[[Any, Any], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Backprop(Gradient):
    """Keep everything: memory grows with steps times the intermediates of a step."""

    def run(self, loop: Loop, carry: Any) -> Ran:
        """The loop as it is."""
        return scan_gaps(loop, carry, loop.step)


@dataclasses.dataclass(frozen=True)
class Checkpointed(Gradient):
    """Keep states and compute the steps between them again.

    segments: None, one state a step: one more forward pass. S >= 2, at most S states for each level of the recursion
              above. "sqrt", S = ⌈√N⌉: about 2 √N states for two more forward passes than `Backprop`.
    Every mode keeps the states at `ts` anyway, and the levels begin anew inside every gap of `ts`. A `progress`
    callback hears of steps that are computed again as well.
    """

    segments: int | Literal["sqrt"] | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.segments, int) and not isinstance(self.segments, bool) and self.segments >= 2
        if not (number or self.segments in (None, "sqrt")):
            raise InputError(f"segments={self.segments!r}", expected='None, "sqrt" or a number >= 2')

    def run(self, loop: Loop, carry: Any) -> Ran:
        """Every step under `jax.checkpoint`; a scan is around it, so XLA needs no fences against merging the passes."""
        step = jax.checkpoint(loop.step, prevent_cse=False)
        if self.segments is None:
            return scan_gaps(loop, carry, step)
        return self._in_parts(loop, carry, step)

    def parts(self, gaps: int, substeps: int) -> tuple[int, int]:
        """At most how many parts a level has: over gaps, and over the steps of a gap."""
        if isinstance(self.segments, int):
            return self.segments, self.segments
        return tuple(max(2, math.ceil(math.sqrt(n))) for n in (gaps, substeps))  # type: ignore[return-value]

    def _in_parts(self, loop: Loop, carry: Any, step: Callable[[Any, Any], Any]) -> Ran:
        of_gaps, of_steps = self.parts(loop.gaps, loop.substeps)

        def one(carry: Any, i: Any) -> tuple[Any, None]:
            inner, seen = carry
            inner = step(inner, i)
            return (inner, seen if loop.watch is None else loop.watch(seen, inner, i)), None

        def gap(carry: Any, k: Any) -> tuple[Any, Any]:
            carry, _ = nested(one, carry, k * loop.substeps, loop.substeps, of_steps)
            return carry, loop.state(carry[0])

        start = (carry, jnp.zeros((), jnp.int32))
        (last, seen), states = nested(gap, start, 0, loop.gaps, of_gaps)
        return Ran(last, states, seen)


def nested(advance: Advance, carry: Any, first: Any, n: int, parts: int) -> tuple[Any, Any]:
    """A scan of `advance(carry, i)` over i = first ... first + n - 1 that keeps parts · ⌈log n / log parts⌉ carries."""
    if n <= parts:
        return lax.scan(advance, carry, first + jnp.arange(n))
    size = parts
    while size * parts < n:
        size *= parts

    @jax.checkpoint
    def part(carry: Any, k: Any) -> tuple[Any, Any]:
        return nested(advance, carry, first + k * size, size, parts)

    whole, rest = divmod(n, size)
    carry, saved = lax.scan(part, carry, jnp.arange(whole))
    saved = jax.tree.map(lambda leaf: leaf.reshape(whole * size, *leaf.shape[2:]), saved)
    if not rest:
        return carry, saved
    carry, more = jax.checkpoint(lambda c: nested(advance, c, first + whole * size, rest, parts))(carry)
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), saved, more)

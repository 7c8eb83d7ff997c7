"""The loop of a solve, and the contract of a gradient mode: how it runs that loop.

    carry_{i+1} = step(carry_i, i),     i = 0 ... gaps · substeps - 1,     saved at the end of every gap.

Every mode runs the same steps forward, so it never changes a number of the solution. Modes differ in what they keep
for the way back: everything, some states, or none.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from neuralsde.sde.brownian import BrownianPath
from neuralsde.sde.events import Changes
from neuralsde.sde.methods.base import Method
from neuralsde.sde.process import SDE


class Loop(NamedTuple):
    """A solve that is ready to run.

    process, method, path, args: what is solved; the process takes and returns one array of one dtype.
    brownian: the shape of the Brownian motion.
    gaps, substeps: saved `gaps` times, after every `substeps` steps.
    changes:  what events do to the carry after a step; None without events.
    watch:    (seen, carry, i) -> seen, run after every step of the forward pass: counts finite steps, shows progress.
              `seen` is an integer; nothing is differentiated through it.
    """

    process: SDE
    method: Method
    path: BrownianPath
    args: Any
    brownian: tuple[int, ...]
    gaps: int
    substeps: int
    changes: Changes | None
    watch: Callable[[Array, Any, Any], Array] | None

    def step(self, carry: Any, i: Int[Array, ""] | int) -> Any:
        """The carry after step i."""
        state = self.changes.going(carry) if self.changes else carry
        dtype = self.method.state(state).dtype
        cell = self.path.cell(i, self.brownian, dtype, self.method.needs)
        after = self.method.step(self.process, state, cell, self.args)
        return self.changes(carry, after, cell.t1) if self.changes else after

    def state(self, carry: Any) -> Array:
        """The state to save."""
        return self.method.state(carry[0] if self.changes else carry)


class Ran(NamedTuple):
    """What came of a loop.

    last:   the last carry; only in modes that differentiate it can gradients pass through it.
    states: (gaps, *y.shape) at the end of every gap.
    seen:   what `watch` saw, an int32.
    lost:   whether the path could not be reconstructed; None where nothing was reconstructed.
    """

    last: Any
    states: Array
    seen: Array
    lost: Bool[Array, ""] | None = None


class Gradient(abc.ABC):
    """A way to differentiate a solve; a frozen value."""

    @abc.abstractmethod
    def run(self, loop: Loop, carry: Any) -> Ran:
        """Run the loop from `carry`: what `method.init` gave, or with events what `Changes.start` made of it."""


def count(
    advance: Callable[[Any, Any], tuple[Any, Any]], carry: Any, first: Any, n: int, step: int = 1
) -> tuple[Any, Any]:
    """A scan of `advance(carry, i)` over i = first, first + step, ..., n of them.

    The index is carried: as an input of the scan it would be an array as long as the solve.
    """

    def one(state: Any, _: None) -> tuple[Any, Any]:
        carry, i = state
        carry, out = advance(carry, i)
        return (carry, i + step), out

    (carry, _), outs = lax.scan(one, (carry, jnp.asarray(first, jnp.int32)), None, length=n)
    return carry, outs


def scan_gaps(loop: Loop, carry: Any, step: Callable[[Any, Any], Any]) -> Ran:
    """The plain loop, with `step` in place of `loop.step`: one scan over gaps, one over substeps in it."""

    def one(carry: Any, i: Any) -> tuple[Any, None]:
        inner, seen = carry
        inner = step(inner, i)
        return (inner, seen if loop.watch is None else loop.watch(seen, inner, i)), None

    def gap(carry: Any, k: Any) -> tuple[Any, Array]:
        if loop.substeps == 1:
            carry, _ = one(carry, k)
        else:
            carry, _ = count(one, carry, k * loop.substeps, loop.substeps)
        return carry, loop.state(carry[0])

    start = (carry, jnp.zeros((), jnp.int32))
    if loop.gaps == 1:  # no outer loop: the sequence model solves one gap inside a scan of its own
        (last, seen), state = gap(start, 0)
        return Ran(last, state[None], seen)
    (last, seen), states = lax.scan(gap, start, jnp.arange(loop.gaps))
    return Ran(last, states, seen)

"""Methods that can be run backward exactly: what a gradient mode needs to reconstruct a path instead of keeping it.

A reversible step is a chain of links. A link changes one part of the position x and evaluates the coefficients only at
a part that it leaves alone, so its inverse evaluates them at the same place:

    x' = link.step(x),     x = link.undo(x').

That is why the way back costs so little: the evaluation that undoes a link is the one through which the gradient is
pulled (the compiler merges the two). A link may also use the cell before its own: reversible Heun evaluates each point
once for the end of one cell and the start of the next.

Every such method carries a second copy z of the state. Where the solution contracts, y - z is a mode of the method and
not of the equation, and it grows as e^(contraction · time): the parasite. Its own size tells of it (`astray`).
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool

from neuralsde.sde.brownian import Cell
from neuralsde.sde.methods.base import Method
from neuralsde.sde.process import SDE


class Link(NamedTuple):
    """One invertible part of a step; both functions take (process, x, the cell before, the cell, args).

    step: the position after, and the state y at the start of the cell (None from every link but the first).
    undo: the position before.
    """

    step: Callable[[SDE, Any, Cell, Cell, Any], tuple[Any, Array | None]]
    undo: Callable[[SDE, Any, Cell, Cell, Any], Any]


class ReversibleMethod(Method):
    """A method with `undo`, and the links that `Reversible` pulls gradients through.

    A position x is what is known between two steps without a new evaluation; x at the start is (y0, y0).

    far: the distance of the copies, beside the size of the state, from which on a solve is given up; set where it costs
         the state about a unit at long steps, much less at short ones. In a healthy solve they are some σ √h apart.
    """

    reversible: ClassVar[bool] = True
    far: ClassVar[float]

    @property
    @abc.abstractmethod
    def reach(self) -> int | None:
        """Steps that may be undone from one stored carry before rounding spoils them; None: the problem decides."""

    @property
    @abc.abstractmethod
    def links(self) -> tuple[Link, ...]:
        """The step, as a chain."""

    def astray(self, carry: Any) -> Bool[Array, ""]:
        """Whether the copies ended further apart than `far` + the largest entry of y: then the coefficients are
        evaluated where the path is not, and the states are the parasite's. Once it has grown it does not shrink.
        """
        y = self.state(carry)
        return jnp.max(jnp.abs(y - self.copy(carry)), initial=0.0) > self.far + jnp.max(jnp.abs(y), initial=0.0)

    @abc.abstractmethod
    def copy(self, carry: Any) -> Array:
        """The second copy of the state."""

    @abc.abstractmethod
    def position(self, process: SDE, carry: Any, cell: Cell) -> tuple[Array, Array]:
        """The position at the end of `cell`, from the carry there."""

    @abc.abstractmethod
    def arrive(self, process: SDE, x: tuple[Array, Array], cell: Cell, args: Any) -> Array:
        """The state y at the end of `cell`, the last of the solve, from x there."""

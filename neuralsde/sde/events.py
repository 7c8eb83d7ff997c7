"""What may happen to a path between two steps: it stops, or it is moved and goes on.

Conditions are tested at the end of every step, in the order given, so an event is found one step late at most; a finer
step finds it earlier. Gradients pass through the states, not through the time of an event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from neuralsde.errors import InputError
from neuralsde.sde.methods.base import Method
from neuralsde.sde.process import SDE, check_arguments

Condition: TypeAlias = Callable[[Any, Any, Any], Any]


class Stop(eqx.Module):
    """The path ends where `when(t, y, args)` (a boolean) first holds, y0 included: later `ys` repeat that state, and
    `solution.stop_time` is its time.
    """

    when: Condition

    def __check_init__(self) -> None:
        check_arguments("when", self.when)


class Change(eqx.Module):
    """Wherever `when(t, y, args)` holds after a step, the path goes on from `to(t, y, args)`, a state like y.

    A reflecting wall: Change(lambda t, y, args: y < 0, lambda t, y, args: -y), for a state of shape ().
    """

    when: Condition
    to: Condition

    def __check_init__(self) -> None:
        check_arguments("when", self.when)
        check_arguments("to", self.to)


Event: TypeAlias = Stop | Change


class Changes(eqx.Module):
    """The events of a solve, applied to the carry (carry of the method, time of the stop or inf)."""

    events: tuple[Event, ...]
    process: SDE
    method: Method = eqx.field(static=True)
    restore: Callable[[Array], Any] = eqx.field(static=True)
    args: Any
    rest: Any

    def start(self, t0: Array) -> tuple[Any, Array]:
        """The first carry; a path that begins where it is to stop never moves."""
        carry = self.rest
        y = self.method.state(carry)
        stop = jnp.asarray(jnp.inf, y.dtype)
        for event in self.events:
            if isinstance(event, Stop):
                stop = jnp.where(self._holds(event, t0, y), t0.astype(y.dtype), stop)
        return carry, stop

    def going(self, carry: tuple[Any, Array]) -> Any:
        """What the next step begins from. A stopped path is stepped too, and the step thrown away: from the start and
        not from where it stopped, which may be outside the domain of the coefficients, and would make gradients NaN.
        """
        state, stop = carry
        return _choose(jnp.isinf(stop), state, self.rest)

    def __call__(self, before: tuple[Any, Array], after: Any, t: Array) -> tuple[Any, Array]:
        """The carry at t, the end of a step that led from `before` to `after`."""
        last, stop = before
        moving = jnp.isinf(stop)
        for event in self.events:
            y = self.method.state(after)
            hit = self._holds(event, t, y)
            if isinstance(event, Stop):
                stop = jnp.where(moving & hit & jnp.isinf(stop), t, stop)
            else:
                moved = jnp.where(hit, self._moved(event, t, y), y)
                after = _choose(hit, self.method.init(self.process, t, moved, self.args), after)
        return _choose(moving, after, last), stop

    def _holds(self, event: Event, t: Array, y: Array) -> Array:
        held = event.when(t, self.restore(y), self.args)
        shape, dtype = jnp.shape(held), jnp.result_type(held)
        if shape != () or not jnp.issubdtype(dtype, jnp.bool_):
            raise InputError(
                f"{type(event).__name__}: when(t, y, args) of shape {shape} and dtype {dtype}",
                "an event happens to the whole path or not at all",
                "one boolean",
                "jnp.any(...) or jnp.all(...)",
            )
        return held

    def _moved(self, event: Change, t: Array, y: Array) -> Array:
        state = self.restore(y)
        to = event.to(t, state, self.args)
        given, wanted = (jax.tree.map(jnp.shape, tree) for tree in (to, state))
        if jax.tree.structure(to) != jax.tree.structure(state) or given != wanted:
            raise InputError(
                f"Change: to(t, y, args) of shape {given}",
                f"the state has {wanted}",
                "a state of the structure and the shapes of y",
            )
        return ravel_pytree(to)[0].reshape(y.shape).astype(y.dtype)


def checked_events(events: Any) -> tuple[Event, ...]:
    """One event or several, as a tuple."""
    given = (events,) if isinstance(events, Stop | Change) else events
    if isinstance(given, Sequence) and all(isinstance(event, Stop | Change) for event in given):
        return tuple(given)
    raise InputError(f"events={events!r}", "not events", "sde.Stop(when), sde.Change(when, to), or a list of them")


def _choose(condition: Array, one: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)

"""Paths of a sequence SDE through what was observed on both sides: its one-step law as a kernel of `sde.bridge`.

A path visits points. A point that closes a gap (a row of the table, or a division of a long gap) moves into the window,
as in a rollout. A point inside a gap does not: there only the present moves, like a sub-step (`SequenceSDE.process`),
so that to ask for one more time changes neither the past nor the lags that the networks read.

Of a window only the values are random; ages, lags, time and context run on a fixed course (`_Frame`). So the state of
the kernel is the values alone, (h + 2, d): the window's, and the present. Common factors of the noise are drawn one
step ahead, so that given them every channel has noise of its own. A step of Student's law is taken as the Gaussian of
its variance. A channel that was never seen starts from N(0, 1), the climatology in model units, and from there is
conditioned on whatever comes later.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Key

from neuralsde.errors import InputError
from neuralsde.models.sequence_sde.module import SequenceSDE
from neuralsde.models.sequence_sde.window import OLDEST, Window
from neuralsde.sde import ConditionalPaths, conditional_paths

PILOTS = 8
"""Paths that shape the look-ahead: see `sde.conditional_paths`."""

SURPRISE = 4.0
"""An observation further off than this many s.d. counts as one of a law that is as wide as it takes.

A learned one-step Gaussian has lighter tails than data have. Under it a jump in one column, nine s.d. off, would move a
missing entry of another to wherever the diffusion is largest, to make the jump less of a surprise. With the bound it
says so little about the diffusion as it should: the density goes on as 1/|x - mean|. 6e-5 of a Gaussian lie out there.
"""


class Points(eqx.Module):
    """K points of a path, in model time.

    dt:      time since the point before. 0 at the first row of a series, which is drawn from the prior, and in padding.
    gap:     length of the gap in which the point lies.
    closes:  whether it ends that gap.
    context: (K, c) covariates at the point; read where it closes.
    """

    dt: Float[Array, " K"]
    gap: Float[Array, " K"]
    closes: Bool[Array, " K"]
    context: Float[Array, "K c"]


def unseen(window: Window) -> Window:
    """Before the first row of a series: nothing known but the context of that row, which is the next point."""
    return Window(
        value=jnp.zeros_like(window.value),
        age=jnp.full_like(window.age, jnp.inf),
        lag=jnp.zeros_like(window.lag),
        time=jnp.zeros_like(window.time),
        context=window.context,
    )


def conditional(
    model: SequenceSDE,
    window: Window,
    points: Points,
    target: Float[Array, "K d"],
    mask: Bool[Array, "K d"],
    *,
    key: Key[Array, ""],
    n: int,
    pilots: int = PILOTS,
) -> ConditionalPaths:
    """Weighted paths from `window` over `points`, given the entries `target[mask]`; model units.

    Exact as their number n -> ∞ for the model's law, a chain of Euler-Maruyama steps from point to point. A window
    with nothing missing makes what follows independent of what came before it.
    """
    if model.config.noise == "full":
        raise InputError(
            "paths between observations of a model with noise='full'",
            "its channels have no noise of their own, which a guided path needs",
            hint="noise='low-rank' with a rank of up to the number of columns",
        )
    d, factors = model.dim, model.config.rank if model.config.noise == "low-rank" else 0
    start = _State(jnp.concatenate([window.value, window.value[-1:]]), jnp.zeros(factors, window.value.dtype))
    frames = _frames(window, points)
    if factors:  # the first factors are drawn by a step of their own, which moves nothing
        frames = jax.tree.map(lambda leaf, idle: jnp.concatenate([idle[None], leaf]), frames, _idle(frames))
        target, mask = (jnp.pad(part, ((1, 0), (0, factors))) for part in (target, mask))
    widen = None if model.dof is None else model.dof / (model.dof - 2)

    def kernel(state: _State, given: tuple[_Frame, Array, Array]) -> tuple[Array, Array]:
        frame, seen, is_seen = given
        values = jnp.concatenate([state.values[:-2], state.values[-1:]])
        law = model.step(eqx.tree_at(lambda w: w.value, frame.window, values), frame.span)
        prior = frame.fresh | frame.still
        law = law if widen is None else law.on(widen)
        mean = jnp.where(prior, 0.0, law.mean + law.loading @ state.factors)
        sd = jnp.where(prior, 1.0, law.sd)
        mean, sd = jnp.append(mean, jnp.zeros(factors)), jnp.append(sd, jnp.ones(factors))
        return mean, jnp.where(is_seen, jnp.maximum(sd, jnp.abs(seen - mean) / SURPRISE), sd)

    def advance(state: _State, x: Array, given: tuple[_Frame, Array, Array]) -> _State:
        return _State(_advance(state.values, x[:d], given[0]), x[d:])

    inputs = (frames, target, mask)
    found = conditional_paths(kernel, start, inputs, target, mask, key=key, n=n, advance=advance, pilots=pilots)
    if not factors:
        return found
    return eqx.tree_at(lambda f: (f.paths, f.support), found, (found.paths[:, 1:, :d], found.support[1:]))


class _State(NamedTuple):
    """Values (h + 2, d) of the window and the present; common factors (r,) of the noise of the next step."""

    values: Float[Array, "rows d"]
    factors: Float[Array, " r"]


class _Frame(NamedTuple):
    """One step without its values: the window, each channel's own time span, which channels begin, what happens."""

    window: Window
    span: Float[Array, " d"]
    fresh: Bool[Array, " d"]
    closes: Bool[Array, ""]
    still: Bool[Array, ""]


def _frames(window: Window, points: Points) -> _Frame:
    """The course of the window over the points, with a leading axis K."""

    def step(now: Window, point: Points) -> tuple[Window, _Frame]:
        fresh = now.age[-1] >= OLDEST
        still = (point.dt == 0) & ~fresh.any()
        # a channel that was last seen a time ago catches up evenly over its first gap (THEORY 20)
        stretch = 1 + jnp.where(fresh, 0.0, now.staleness) / jnp.where(point.gap > 0, point.gap, 1.0)
        frame = _Frame(now, point.dt * stretch, fresh, point.closes, still)
        begun = eqx.tree_at(lambda w: w.age, now, jnp.where(fresh, 0.0, now.age))
        closed = begun.pushed(now.present, point.gap, point.context)
        return jax.tree.map(lambda new, old: jnp.where(point.closes & ~still, new, old), closed, begun), frame

    return lax.scan(step, window, points)[1]


def _idle(frames: _Frame) -> _Frame:
    """A step that moves nothing, before the first of `frames`."""
    first = jax.tree.map(lambda leaf: leaf[0], frames)
    return first._replace(fresh=jnp.zeros_like(first.fresh), still=jnp.ones_like(first.still))


def _advance(values: Float[Array, "rows d"], x: Float[Array, " d"], frame: _Frame) -> Float[Array, "rows d"]:
    """The values (h + 2, d) after the state x: pushed where a gap closes, else only the present."""
    values = jnp.where(frame.fresh, x, values)  # as at the start of a series, whose window repeats the first row
    closed = jnp.concatenate([values[1:-1], x[None], x[None]])
    inside = jnp.concatenate([values[:-1], x[None]])
    return jnp.where(frame.still, values, jnp.where(frame.closes, closed, inside))

"""What a sequence model knows at one moment, and how it reads it.

A `Window` is the present and h rows before it. A channel that is missing in a row is there three times (THEORY 20):
its last observed value, the model time that has passed since (its age), and through age = 0 the mask of what was
observed just then. The network reads the present, the past as differences from the present (so that a level is not
learnt once for every lag), ages on a log scale, the past rows' distances in time, and the context.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

OLDEST = 100.0
"""Ages are cut here, in units of the typical gap: what is older says nothing more, and `inf` (never seen) is finite."""


FARTHEST = 8.0
"""Moves of the past in units of the walk are squashed beyond this: one outlier must not drive a network far out."""


class Window(eqx.Module):
    """h + 1 rows, the present last; all in model units.

    value: last observed value of each channel, up to each row.
    age:   model time since that observation, `inf` before the first.
    lag:   model time from each row to the present; the last is 0.
    time:  model time of the present since the start of the series (read only by a time-dependent model).
    context: covariates that are known at the present.
    summary: of the rows before the present, where a model has made one (`SequenceSDE.recall`).
    """

    value: Float[Array, "rows d"]
    age: Float[Array, "rows d"]
    lag: Float[Array, " rows"]
    time: Float[Array, ""]
    context: Float[Array, " c"]
    summary: Float[Array, " s"] | None = None

    @property
    def present(self) -> Float[Array, " d"]:
        """The last observed value of each channel."""
        return self.value[-1]

    @property
    def staleness(self) -> Float[Array, " d"]:
        """Age of each channel's present value, at most `OLDEST`."""
        return jnp.minimum(self.age[-1], OLDEST)

    def last(self, rows: int) -> Window:
        """The same moment with its last rows only."""
        first = self.value.shape[0] - rows
        return Window(self.value[first:], self.age[first:], self.lag[first:], self.time, self.context, self.summary)

    def within(self, low: Float[Array, " d"], high: Float[Array, " d"]) -> Window:
        """The same window with every value between `low` and `high`."""
        return eqx.tree_at(lambda w: w.value, self, jnp.clip(self.value, low, high))

    def moved(self, y: Float[Array, " d"]) -> Window:
        """The same window with `y` in the place of the present values: what a drift sees at state y."""
        return eqx.tree_at(lambda w: w.value, self, self.value.at[-1].set(y))

    def pushed(self, y: Float[Array, " d"], dt: Float[Array, ""], context: Float[Array, " c"]) -> Window:
        """The window one gap `dt` later, when all channels have become `y`."""
        return Window(
            value=jnp.concatenate([self.value[1:], y[None]]),
            age=jnp.concatenate([self.age[1:], jnp.zeros_like(self.age[:1])]),
            lag=jnp.append(self.lag[1:] + dt, jnp.zeros((), self.lag.dtype)),
            time=self.time + dt,
            context=context,
        )

    def features(
        self,
        history: int,
        time_scale: float | None,
        lags: tuple[int, ...] = (),
        *,
        level: bool = True,
        walk: Float[Array, " d"] | None = None,
    ) -> Float[Array, " features"]:
        """The network's input from the last `history` rows and the present, and the rows `lags` before the present.

        With the time since the start, in units of `time_scale`, unless that is None; with the present itself if
        `level`. With `walk` (d,), the s.d. of a walk per √time, the past is read in its units: what a walk would have
        moved since, squashed at `FARTHEST` of it; and for each channel how large its last moves were.
        """
        near = self.last(history + 1)
        back = [-1 - lag for lag in lags]
        past, further = near.value[:-1] - self.present, self.value[jnp.array(back, int)] - self.present
        if walk is not None:
            past = _squashed(past / moved_by_walk(walk, near.lag[:-1]))
            further = _squashed(further / moved_by_walk(walk, self.lag[jnp.array(back, int)]))
        parts = [self.present] if level else []
        parts += [past.ravel(), log_age(near.age).ravel(), (self.age[-1] == 0).astype(self.value.dtype)]
        parts += [log_age(near.lag[:-1]), self.context, further.ravel()]
        if walk is not None and history:
            moves = jnp.diff(near.value, axis=0) / moved_by_walk(walk, near.lag[:-1] - near.lag[1:])
            parts.append(jnp.log1p(jnp.abs(moves)).mean(0))
        if time_scale is not None:
            parts.append(self.time[None] / time_scale)
        return jnp.concatenate(parts)


def feature_size(
    d: int, c: int, history: int, timed: bool, lags: int = 0, *, level: bool = True, in_walks: bool = False
) -> int:
    """Length of `Window.features` for d channels, c covariates, `history` rows before the present and `lags` more."""
    size = history * d + (history + 1) * d + d + history + c + lags * d + timed
    return size + (d if level else 0) + (d if in_walks and history else 0)


def moved_by_walk(walk: Float[Array, " d"], span: Float[Array, " k"]) -> Float[Array, "k d"]:
    """S.d. (k, d) of what a walk moves in the times `span` (k,); that of one unit of time where a span is zero."""
    return walk * jnp.sqrt(jnp.where(span > 0, span, 1.0))[:, None]


def _squashed(moves: Array) -> Array:
    return FARTHEST * jnp.tanh(moves / FARTHEST)


def log_age(age: Array) -> Array:
    """Ages and lags as a network reads them: log(1 + age), cut at `OLDEST`."""
    return jnp.log1p(jnp.minimum(age, OLDEST))

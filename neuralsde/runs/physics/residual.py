"""A residual network beside a stated SDE: both are trained together, on segments of series.

    loss = - mean nats of a counted entry  +  w · ½ |h|² dt per entry        (Residual.penalty = w)

The second term is what the residual is away from the physics, in nats (Girsanov). Were h alone free and right, the
likelihood would pay s - s²/2 for the share s of it and the penalty w s²/2: what is left is s = 1 / (1 + w). Segments
are filtered from the columns' own law, and their first rows do not count. To be cheap, the filter is of first order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.models.physics import Panel, PhysicsSDE, Residual
from neuralsde.sde.filter import Filtered
from neuralsde.train.problem import Problem, TrainConfig

TRAINING = TrainConfig(steps=1_500, learning_rate=3e-3, ema=0.99, validate_every=100)
"""The default training of a residual."""


def residual_problem(model: PhysicsSDE, panel: Panel, validation: Panel, options: Residual) -> Problem:
    """What the training loop is given; in float64, as the panels are."""
    n = panel.ts.shape[1]
    rows = min(options.rows, n)
    last = np.asarray(panel.counted.any(-1)).cumsum(1)
    ends = last[:, rows - 1 :]
    before = np.pad(last, ((0, 0), (1, 0)))[:, options.warm : options.warm + ends.shape[1]]
    # segments in which something counts, repeated up to a number that depends on shapes alone: one program serves many
    places = jnp.asarray(np.resize(np.argwhere(ends > before), (ends.size, 2)))

    def sample_batch(data: tuple[Panel, Array], key: Key[Array, ""]) -> Panel:
        panel, places = data
        chosen = places[jax.random.randint(key, (options.batch,), 0, len(places))]

        def segment(place: Array) -> Panel:
            return jax.tree.map(lambda part: lax.dynamic_slice_in_dim(part[place[0]], place[1], rows), panel)

        return jax.vmap(segment)(chosen)

    def loss(model: PhysicsSDE, batch: Panel, aux: Any, *, key: Key[Array, ""]) -> tuple[Array, tuple[dict, Any]]:
        counted = batch.counted & (jnp.arange(rows) >= options.warm)[:, None]
        found = model.filter_panel(batch, "first")
        count = jnp.maximum(counted.sum(), 1)
        nats = jnp.where(counted, found.nats, 0.0).sum() / count
        away = jnp.where(counted.any(-1), distance(model, batch, found), 0.0).sum() / count
        return -nats + options.penalty * away, ({"nats": -nats, "away": away}, aux)

    return Problem(model, loss, sample_batch, (panel, places), _validate(validation), trainable=model.trainable())


def distance(model: PhysicsSDE, panel: Panel, found: Filtered) -> Float[Array, "series n"]:
    """½ |h|² dt of the gap before every row, at what is known of the state at its start: nats away from the physics."""
    h = jax.vmap(jax.vmap(model.residual))(found.after.mean)
    size = 0.5 * jnp.square(h).reshape(*h.shape[:2], -1).sum(-1)
    gap = jnp.diff(panel.ts, axis=1)
    return jnp.pad(size[:, :-1] * gap, ((0, 0), (1, 0)))


def _validate(panel: Panel) -> Callable[[PhysicsSDE], float]:
    @eqx.filter_jit
    def nats(model: PhysicsSDE, panel: Panel) -> Array:
        found = model.filter_panel(panel, "first").nats
        return -jnp.where(panel.counted, found, 0.0).sum() / jnp.maximum(panel.counted.sum(), 1)

    return lambda model: float(nats(model, panel))

"""Paths of a sequence SDE over many gaps, simulated as they were fitted: `substeps` Euler-Maruyama steps a gap.

Inside a gap the past and the context stay as they are (`SequenceSDE.process`); at its end the new state moves into
the window. The law of the last step, N(mean, sd²), comes with every state: averaged over paths it is the forecast
density (THEORY 21).
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.models.sequence_sde.module import SequenceSDE
from neuralsde.models.sequence_sde.window import Window
from neuralsde.sde import Backprop, EulerMaruyama, simulate
from neuralsde.sde.brownian import normals, subkey


class Steps(eqx.Module):
    """The gaps ahead: `dt (K,)` in model time, `context (K, c)` at the end of each. dt = 0 stands still (padding)."""

    dt: Float[Array, "*batch K"]
    context: Float[Array, "*batch K c"]


class Rollout(eqx.Module):
    """States at the ends of the gaps, and the mean and s.d. of the last step that led to each; all `(K, d)`."""

    states: Float[Array, "K d"]
    mean: Float[Array, "K d"]
    sd: Float[Array, "K d"]


def rollout(model: SequenceSDE, window: Window, steps: Steps, *, key: Key[Array, ""], substeps: int = 1) -> Rollout:
    """One path from `window` over the gaps of `steps`; many by `jax.vmap` over keys."""

    def gap(window: Window, at: tuple[Array, Array, Array]) -> tuple[Window, tuple[Array, Array, Array]]:
        dt, context, k = at
        span = dt + window.staleness
        before = _but_last_substep(model, window, dt, subkey(key, k, 0), substeps)
        mean, sd = model.step(before, span / substeps)
        state = mean + sd * normals(key, k, mean.shape, mean.dtype)
        after = window.pushed(state, dt, context)
        moves = dt > 0
        state, mean, sd = (
            jnp.where(moves, *pair) for pair in ((state, window.present), (mean, window.present), (sd, 0))
        )
        return jax.tree.map(lambda new, old: jnp.where(moves, new, old), after, window), (state, mean, sd)

    return Rollout(*lax.scan(gap, window, (steps.dt, steps.context, jnp.arange(steps.dt.shape[0])))[1])


def _but_last_substep(model: SequenceSDE, window: Window, dt: Array, key: Key[Array, ""], substeps: int) -> Window:
    """The window after all substeps of a gap but the last; its past stays, only the present moves."""
    if substeps == 1:
        return window
    length = jnp.where(dt > 0, dt, 1.0)
    solution = simulate(
        model.process(),
        window.present,
        jnp.stack([jnp.zeros_like(length), length * (substeps - 1) / substeps]),
        key=key,
        method=EulerMaruyama(),
        substeps=substeps - 1,
        gradient=Backprop(),
        args=(window, (length + window.staleness) / length),
    )
    return window.moved(solution.ys[-1])

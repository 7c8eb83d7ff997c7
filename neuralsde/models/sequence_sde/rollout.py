"""Paths of a sequence SDE over many gaps: `substeps` Euler-Maruyama steps a gap.

Inside a gap the past and the context stay as they are (`SequenceSDE.process`); at its end the new state moves into
the window. A Student model draws its clock once a gap. The law of the last step comes with every state: averaged over
paths it is the forecast density (THEORY 21).
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.models.sequence_sde.law import random_clock
from neuralsde.models.sequence_sde.module import InGap, SequenceSDE
from neuralsde.models.sequence_sde.window import Window
from neuralsde.sde import Backprop, EulerMaruyama, simulate
from neuralsde.sde.brownian import subkey


class Steps(eqx.Module):
    """The gaps ahead: `dt (K,)` in model time, `context (K, c)` at the end of each. dt = 0 stands still (padding)."""

    dt: Float[Array, "*batch K"]
    context: Float[Array, "*batch K c"]


class Rollout(eqx.Module):
    """States at the ends of the gaps, and the mean and the scale of the last step that led to each; all `(K, d)`.

    The last step has Student's law with the model's degrees of freedom if it is the only one of its gap, else it is
    Gaussian; `sd` is its marginal scale.
    """

    states: Float[Array, "K d"]
    mean: Float[Array, "K d"]
    sd: Float[Array, "K d"]


def rollout(model: SequenceSDE, window: Window, steps: Steps, *, key: Key[Array, ""], substeps: int = 1) -> Rollout:
    """One path from `window` over the gaps of `steps`; many by `jax.vmap` over keys. Differentiable in the model."""

    def gap(window: Window, at: tuple[Array, Array, Array]) -> tuple[Window, tuple[Array, Array, Array]]:
        dt, context, k = at
        span = dt + window.staleness
        before = model.recall(window)
        if substeps > 1:
            clock = random_clock(model.dof, model.config.noise != "diagonal", key, k, window.present)
            before = _but_last_substep(model, before, dt, subkey(key, k, 0), substeps, clock)
            law = model.step(before, span / substeps).on(clock)
        else:
            law = model.step(before, span)
        state, mean, sd = law.sample(key, k), law.mean, law.spread
        after = window.pushed(state, dt, context)
        moves = dt > 0
        state, mean, sd = (
            jnp.where(moves, *pair) for pair in ((state, window.present), (mean, window.present), (sd, 0))
        )
        return jax.tree.map(lambda new, old: jnp.where(moves, new, old), after, window), (state, mean, sd)

    return Rollout(*lax.scan(gap, window, (steps.dt, steps.context, jnp.arange(steps.dt.shape[0])))[1])


def _but_last_substep(
    model: SequenceSDE, window: Window, dt: Array, key: Key[Array, ""], substeps: int, clock: Array
) -> Window:
    """The window after all substeps of a gap but the last; its past stays, only the present moves."""
    length = jnp.where(dt > 0, dt, 1.0)
    solution = simulate(
        model.process(),
        window.present,
        jnp.stack([jnp.zeros_like(length), length * (substeps - 1) / substeps]),
        key=key,
        method=EulerMaruyama(),
        substeps=substeps - 1,
        gradient=Backprop(),
        args=InGap(window, (length + window.staleness) / length, clock, length / substeps),
    )
    return window.moved(solution.ys[-1])

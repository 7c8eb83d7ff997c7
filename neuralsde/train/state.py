"""Everything that a training step changes, as one pytree of arrays.

A run is a deterministic map s -> F(s, step); the whole of its memory is this state, so a checkpoint of it plus
the configuration is the run. No random key is part of it: the key of step i is `fold_in(key(seed), i)`. The metric
sums since the last log line are part of it, so a log interval may be cut anywhere by a save.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

PyTree = Any


class Tally(eqx.Module):
    """Sums of the metrics over the `count` steps since the last log line."""

    sums: dict[str, Float[Array, ""]]
    count: Int[Array, ""]


class Best(eqx.Module):
    """Beside the `TrainState`, the other half of a run's memory; no step reads it.

    The EMA weights with the lowest validation score so far; the earlier wins a tie. Step -1: none yet.
    """

    params: PyTree
    score: Float[Array, ""]
    step: Int[Array, ""]

    @staticmethod
    def none_yet(params: PyTree) -> Best:
        """A best that any finite score beats."""
        return Best(copied(params), jnp.asarray(np.float32(np.inf)), jnp.asarray(np.int32(-1)))

    def challenge(self, params: PyTree, score: float, step: int) -> Best:
        """The better of this and the challenger, which must be strictly lower to win (NaN never is).

        Scores are compared as they are stored, so that a resumed run decides like one that never stopped.
        """
        rounded = np.float32(score)
        if not rounded < np.asarray(self.score):
            return self
        return Best(copied(params), jnp.asarray(rounded), jnp.asarray(np.int32(step)))


class TrainState(eqx.Module):
    """What one step turns into the next; `step` counts the steps done.

    params and ema (and `Best.params`) have the structure of the model with None in place of what is not trained.
    """

    step: Int[Array, ""]
    params: PyTree
    opt_state: PyTree
    ema: PyTree
    aux: PyTree
    tally: Tally


@jax.jit
def copied(tree: PyTree) -> PyTree:
    """The same values in buffers of their own: a step gives its input buffers away (donation)."""
    return jax.tree.map(jnp.copy, tree)

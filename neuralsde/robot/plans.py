"""Demonstrations as what a policy is trained on: what had been seen, what was being done, what was done next.

At time t a policy knows the observations o_(t-n+1) ... o_t (the first one repeated before the start of an episode) and
the last commanded action a_(t-1) (at the start of an episode: where the agent stands), and decides on the plan
a_t, a_(t+1), ..., a_(t+H-1). Past the end of an episode nothing was done: there `seen` is False and the last action is
repeated. Everything is in model units: the arena is [-1, 1].
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from neuralsde.errors import InputError


class Batch(eqx.Module):
    """b moments of demonstrations, in model units.

    history: the last n_obs observations, the newest last. action: the last commanded one.
    plan:    the next actions. future: the observations after each of them. seen: whether it was in the episode.
    """

    history: Float[Array, "b n_obs f"]
    action: Float[Array, "b a"]
    plan: Float[Array, "b H a"]
    future: Float[Array, "b H f"]
    seen: Bool[Array, "b H"]

    def noisy(self, sd: float, *, key: Key[Array, ""]) -> Batch:
        """With noise of this s.d. on the history."""
        return eqx.tree_at(lambda b: b.history, self, self.history + sd * jax.random.normal(key, self.history.shape))


class Plans(eqx.Module):
    """Rows of many episodes one after the other, in model units; `first` and `last` row of the episode of each.

    before: the last commanded action (n, a) at each row. at: the rows (m,) that batches start from.
    """

    observations: Float[Array, "n f"]
    actions: Float[Array, "n a"]
    before: Float[Array, "n a"]
    first: Int[Array, " n"]
    last: Int[Array, " n"]
    at: Int[Array, " m"]

    @classmethod
    def of(
        cls,
        observations: Float[np.ndarray, "n f"],
        actions: Float[np.ndarray, "n a"],
        positions: Float[np.ndarray, "n a"],
        ends: Int[np.ndarray, " e"],
        *,
        rows: Int[np.ndarray, " m"] | None = None,
    ) -> Plans:
        """From arrays in model units. positions: of the agent, like actions; ends: the row after each episode."""
        ends = np.asarray(ends)
        if not len(ends) or ends[-1] != len(actions) or (np.diff(ends, prepend=0) <= 0).any():
            raise InputError(
                f"episode ends {ends.tolist()[:5]} ... for {len(actions)} rows", expected="rising to the number of rows"
            )
        starts = np.concatenate([[0], ends[:-1]])
        lengths = ends - starts
        first, last = np.repeat(starts, lengths), np.repeat(ends - 1, lengths)
        before = np.concatenate([positions[:1], actions[:-1]])
        before[starts] = positions[starts]
        rows = np.arange(len(actions)) if rows is None else rows
        return cls(
            *(jnp.asarray(a, jnp.float32) for a in (observations, actions, before)),
            *(jnp.asarray(i, jnp.int32) for i in (first, last, rows)),
        )

    def take(self, t: Int[Array, " b"], n_obs: int, horizon: int) -> Batch:
        """The moments t."""
        back = t[:, None] + jnp.arange(1 - n_obs, 1)
        ahead = t[:, None] + jnp.arange(horizon)
        last = self.last[t][:, None]
        return Batch(
            history=self.observations[jnp.maximum(back, self.first[t][:, None])],
            action=self.before[t],
            plan=self.actions[jnp.minimum(ahead, last)],
            future=self.observations[jnp.minimum(ahead + 1, last)],
            seen=ahead <= last,
        )

    def sample(self, size: int, n_obs: int, horizon: int, *, key: Key[Array, ""]) -> Batch:
        """Moments drawn evenly from `at`."""
        return self.take(self.draw(size, key=key), n_obs, horizon)

    def draw(self, size: int, *, key: Key[Array, ""]) -> Int[Array, " size"]:
        """Rows drawn evenly from `at`."""
        return self.at[jax.random.randint(key, (size,), 0, len(self.at))]

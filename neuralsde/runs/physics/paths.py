"""Paths of a stated SDE from what is known at a row: the filter's belief there, then Euler-Maruyama steps.

A path starts from a draw of N(mean, cov), so a missing entry is as uncertain as the rows around it leave it. Between
two targets it takes steps of about the typical gap, each of `substeps` Euler-Maruyama steps: the coefficients are those
of the SDE and not of a gap, so more of them only refine (THEORY 15). The law of a target, for densities, is that of the
moment equations from the same belief.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.data import Encoder, Rows, Trajectories
from neuralsde.data.transforms import Identity, Logarithm
from neuralsde.errors import RunFailed
from neuralsde.models.physics import PhysicsSDE
from neuralsde.sde import Backprop, EulerMaruyama, simulate
from neuralsde.sde.brownian import subkey
from neuralsde.sde.filter import Belief, predict
from neuralsde.tasks.ahead import Ahead, grid

_PATHS_AT_ONCE = 16_384


def physics_encoder(
    data: Trajectories, logs: tuple[bool, ...], mean: tuple[float, ...], sd: tuple[float, ...]
) -> Encoder:
    """An encoder whose model units are the coordinates of a stated SDE, over their spread."""
    transforms = tuple(Logarithm() if log else Identity() for log in logs)
    return dataclasses.replace(Encoder.fit(data), transforms=transforms, mean=mean, sd=sd)


@dataclass(frozen=True)
class PhysicsPaths:
    """Draws paths for `tasks.ahead.paths_ahead`. unit: one unit of the SDE's time, in clock units."""

    model: PhysicsSDE
    encoder: Encoder
    unit: float
    substeps: int

    def __call__(
        self, rows: Rows, origins: np.ndarray, targets: np.ndarray, *, n: int, seed: int, substeps: int | None = None
    ) -> Ahead:
        """`Ahead` of n paths from the rows `origins (m,)` to `targets (m, q)`, in model units."""
        steps, scale = grid(targets), self.encoder.tau / self.unit
        with jax.enable_x64(True):
            belief = self._beliefs(rows, origins)
            t0 = self.times(rows)[origins]
            dt, key = steps.dt * scale, jax.random.key(seed)
            law = _laws(self.model, belief, jnp.asarray(t0), jnp.asarray(dt))
            size = max(1, _PATHS_AT_ONCE // n)
            parts = []
            for first in range(0, len(origins), size):
                # the last batch is filled up with its own last origin, so that one compiled program serves all
                index = np.minimum(np.arange(first, first + min(size, len(origins))), len(origins) - 1)
                start = jax.tree.map(lambda part, index=index: part[index], belief)
                times, ahead, number = (jnp.asarray(part) for part in (t0[index], dt[index], index))
                found = _draw(self.model, start, times, ahead, number, key, n, substeps or self.substeps)
                parts.append(np.asarray(found)[: len(origins) - first])
            here = np.arange(len(origins))[:, None]
            u = np.concatenate(parts)[here, :, steps.at].swapaxes(1, 2)
            mean, cov = np.asarray(law.mean)[here, steps.at], np.asarray(law.cov)[here, steps.at]
        if not np.isfinite(u).all():
            raise RunFailed(
                f"{(~np.isfinite(u).all((2, 3))).sum()} of {u.shape[0] * n} simulated paths are not finite",
                "the stated drift is stiff or explodes at these steps",
                hint="more substeps, or in_logs for columns above 0",
            )
        centre, spread = np.array(self.encoder.mean), np.array(self.encoder.sd)
        sd = np.sqrt(np.maximum(np.diagonal(cov, axis1=-2, axis2=-1), 0.0)) / spread
        return Ahead((u - centre) / spread, ((mean - centre) / spread)[:, None], sd[:, None])

    def times(self, rows: Rows) -> np.ndarray:
        """The SDE's time (R,) of every row."""
        return (rows.origin[rows.series] + rows.time * self.encoder.tau) / self.unit

    def _beliefs(self, rows: Rows, origins: np.ndarray) -> Belief:
        """The belief after each of the rows `origins`."""
        wanted = [int(s) for s in np.unique(rows.series[origins])]
        n, d = int(max(rows.of(s).stop - rows.of(s).start for s in wanted)), self.encoder.dim
        ts, us = np.zeros((len(wanted), n)), np.zeros((len(wanted), n, d))
        seen, times = np.zeros(us.shape, bool), self.times(rows)
        for i, s in enumerate(wanted):
            part = rows.of(s)
            m = part.stop - part.start
            ts[i], ts[i, :m], seen[i, :m] = times[part][-1], times[part], rows.observed[part]
            us[i, :m] = rows.value[part] * np.array(self.encoder.sd) + np.array(self.encoder.mean)
        after = _filter(self.model, *map(jnp.asarray, (ts, us, seen)))
        place = np.searchsorted(wanted, rows.series[origins]), origins - rows.start[rows.series[origins]]
        return jax.tree.map(lambda part: part[place], after)


@eqx.filter_jit
def _filter(model: PhysicsSDE, ts: Array, us: Array, seen: Array) -> Belief:
    return jax.vmap(model.filter)(ts, us, seen).after


@eqx.filter_jit
def _laws(model: PhysicsSDE, start: Belief, t0: Float[Array, " m"], dt: Float[Array, "m K"]) -> Belief:
    """Beliefs (m, K) at the ends of the steps, of the true state."""

    def one(start: Belief, t0: Array, dt: Array) -> Belief:
        def step(carry: tuple[Belief, Array], h: Array) -> tuple[tuple[Belief, Array], Belief]:
            now, t = carry
            after = predict(model.process(), now, t, h, substeps=model.substeps, order=model.order)
            return (after, t + h), after

        return lax.scan(step, (start, t0), dt)[1]

    return jax.vmap(one)(start, t0, dt)


@eqx.filter_jit
def _draw(
    model: PhysicsSDE, start: Belief, t0: Array, dt: Array, index: Array, key: Key[Array, ""], n: int, substeps: int
) -> Float[Array, "m n K d"]:
    """States at the ends of the steps; path j of origin i has the key fold_in(fold_in(key, i), j)."""

    def one(start: Belief, t0: Array, dt: Array, i: Array) -> Array:
        values, vectors = jnp.linalg.eigh(start.cov)
        root = vectors * jnp.sqrt(jnp.maximum(values, 0.0))
        keys = jax.vmap(lambda j: jax.random.fold_in(jax.random.fold_in(key, i), j))(jnp.arange(n))

        def path(key: Key[Array, ""]) -> Array:
            first = start.mean + root @ jax.random.normal(jax.random.fold_in(key, 0), start.mean.shape)
            return follow(model, first, t0, dt, key=jax.random.fold_in(key, 1), substeps=substeps)

        return jax.vmap(path)(keys)

    return jax.vmap(one)(start, t0, dt, index)


def follow(
    model: PhysicsSDE,
    u0: Float[Array, " d"],
    t0: Float[Array, ""],
    dt: Float[Array, " K"],
    *,
    key: Key[Array, ""],
    substeps: int,
) -> Float[Array, "K d"]:
    """One path in coordinates over K steps of the SDE's time, each in `substeps`; a step of 0 stands still."""

    def step(carry: tuple[Array, Array], at: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        (u, t), (h, k) = carry, at
        length = jnp.where(h > 0, h, 1.0)
        moved = simulate(
            model.process(), u, jnp.stack([t, t + length]), key=subkey(key, k, 0), method=EulerMaruyama(),
            substeps=substeps, gradient=Backprop(),
        ).ys[-1]  # fmt: skip
        u = jnp.where(h > 0, moved, u)
        return (u, t + h), u

    return lax.scan(step, (u0, t0), (dt, jnp.arange(dt.shape[0])))[1]

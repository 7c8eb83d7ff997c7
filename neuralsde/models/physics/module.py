"""A stated SDE at given parameters, and its likelihood over whole series.

Coordinates u are the columns themselves, or their logarithms, where Itô's formula turns dy = f dt + G dW into

    du = (f / y - ½ (G Gᵀ)_ii / y²) dt + (G / y) dW,      y = e^u.

The likelihood of a series is that of `sde.filter`; entries count from the row on before which every column has been
seen once, so that little rests on the start N(mean, sd²) of the columns. With a residual h the drift is f + G h.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from neuralsde.models.physics.config import Physics
from neuralsde.models.physics.parameters import Parameters
from neuralsde.nets import MLP
from neuralsde.sde import SDE, Ito
from neuralsde.sde.filter import Belief, Closure, Filtered, Order, gaussian_filter
from neuralsde.sde.process import Diagonal, Noise, Scalar


class Panel(eqx.Module):
    """Series side by side, in coordinates u and units of the user's time; the short ones padded with their last time.

    counted: entries whose density makes the likelihood. block: which rows belong together for the sandwich.
    """

    ts: Float[Array, "*series n"]
    us: Float[Array, "*series n d"]
    seen: Bool[Array, "*series n d"]
    counted: Bool[Array, "*series n d"]
    block: Int[Array, "*series n"]


class PhysicsSDE(eqx.Module):
    """The stated SDE with the parameters z, and a residual network or None.

    mean, sd: (d,) of the columns in coordinates; gap: the typical gap, in the user's time. Constants: scales of the
    network's input, and the law from which a series starts.
    """

    z: Float[Array, " p"]
    net: MLP | None
    parameters: Parameters
    noise: Noise = eqx.field(static=True)
    calculus: Any = eqx.field(static=True)
    logs: tuple[bool, ...] = eqx.field(static=True)
    mean: Float[Array, " d"]
    sd: Float[Array, " d"]
    gap: Float[Array, ""]
    substeps: int = eqx.field(static=True)
    order: Order = eqx.field(static=True)

    def __init__(
        self,
        config: Physics,
        columns: tuple[str, ...],
        *,
        mean: tuple[float, ...],
        sd: tuple[float, ...],
        gap: float,
        key: Key[Array, ""],
    ) -> None:
        given = {} if config.observation_noise is None else {"observation_noise": config.observation_noise}
        self.parameters = Parameters.of(drift=config.drift, diffusion=config.diffusion, **given)
        self.z = jnp.asarray(self.parameters.start)
        self.noise, self.calculus, self.logs = config.noise, config.calculus, config.logs(columns)
        self.mean, self.sd, self.gap = (jnp.asarray(part) for part in (mean, sd, gap))
        self.substeps, self.order = config.substeps, config.order
        d, net = len(columns), config.residual
        size = int(np.prod(self.noise.brownian_shape((d,))))
        self.net = None if net is None else MLP(d, size, width=net.width, depth=net.depth, key=key)

    @property
    def dim(self) -> int:
        """Number d of columns."""
        return len(self.mean)

    @property
    def dof(self) -> None:
        """Degrees of freedom of a step's law: none, it is a Gaussian."""
        return None

    def data(self, u: Float[Array, " d"]) -> Float[Array, " d"]:
        """The state in data units."""
        logs = jnp.array(self.logs)
        return jnp.where(logs, jnp.exp(jnp.where(logs, u, 0.0)), u)

    def stated(self) -> SDE:
        """The user's SDE in data units, Itô's form, with the parameters as numbers and without the residual."""
        modules = self.parameters.fill(self.z)
        return SDE(modules["drift"], modules["diffusion"], self.noise, self.calculus).to(Ito())

    def process(self) -> SDE:
        """The SDE of the coordinates u, residual included, in Itô's form."""
        return SDE(self._drift, self._diffusion, self.noise, Ito())

    def residual(self, u: Float[Array, " d"]) -> Float[Array, "*m"]:
        """The network's h at u, per square root of the user's time, one entry for each Brownian motion; 0 without."""
        shape = self.noise.brownian_shape((self.dim,))
        if self.net is None:
            return jnp.zeros(shape, u.dtype)
        return self.net((u - self.mean) / self.sd).reshape(shape) / jnp.sqrt(self.gap)

    def _drift(self, t: Any, u: Any, args: Any) -> Array:
        y, process = self.data(u), self.stated()
        f = jnp.asarray(process.drift(t, y, args), u.dtype)
        if self.net is None and not any(self.logs):
            return f
        g = jnp.asarray(process.diffusion(t, y, args), u.dtype)
        f = f + self.noise.apply(g, self.residual(u))
        variance = g**2 if isinstance(self.noise, Diagonal | Scalar) else (g**2).sum(-1)
        logs = jnp.array(self.logs)
        scale = jnp.where(logs, y, 1.0)
        return jnp.where(logs, f / scale - 0.5 * variance / scale**2, f)

    def _diffusion(self, t: Any, u: Any, args: Any) -> Array:
        y = self.data(u)
        g = jnp.asarray(self.stated().diffusion(t, y, args), u.dtype)
        scale = jnp.where(jnp.array(self.logs), y, 1.0)
        return g / (scale if isinstance(self.noise, Diagonal | Scalar) else scale[:, None])

    def observation_noise(self) -> Float[Array, " d"]:
        """S.d. (d,) of the error of a reading, in coordinates."""
        given = self.parameters.fill(self.z).get("observation_noise", 0.0)
        return jnp.broadcast_to(jnp.asarray(given, self.z.dtype), (self.dim,))

    def start(self) -> Belief:
        """What is known before the first row: each column's own mean and spread."""
        return Belief(self.mean, jnp.diag(self.sd**2))

    def trainable(self) -> Any:
        """Which leaves are trained: the parameters and the network, not the scales."""
        none = jax.tree.map(lambda _: False, self)
        return eqx.tree_at(lambda m: (m.z, m.net), none, (True, jax.tree.map(eqx.is_inexact_array, self.net)))

    def filter(
        self, ts: Float[Array, " n"], us: Float[Array, "n d"], seen: Bool[Array, "n d"], closure: Closure = "second"
    ) -> Filtered:
        """Beliefs at the rows of one series, and what its entries say, in coordinates."""
        return gaussian_filter(
            self.process(), self.start(), ts, us, seen, noise_sd=self.observation_noise(), substeps=self.substeps,
            order=self.order, closure=closure,
        )  # fmt: skip

    def filter_panel(self, panel: Panel, closure: Closure = "second") -> Filtered:
        """`filter` of every series."""
        return jax.vmap(lambda ts, us, seen: self.filter(ts, us, seen, closure))(panel.ts, panel.us, panel.seen)

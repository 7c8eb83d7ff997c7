"""A fitted stated SDE: its parameters with intervals, its folder, and what one does with it.

A folder cannot hold a user's code, only what was estimated: `config.json` says what the modules looked like, and
`load(folder, model=Physics(...))` asks for them again and checks that they are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from neuralsde.data import Encoder, Layout, Split, Trajectories, read
from neuralsde.data.rules import Rule
from neuralsde.data.split import TEST
from neuralsde.errors import InputError
from neuralsde.models.physics import Panel, Physics, PhysicsSDE
from neuralsde.runs.folder import RunFolder
from neuralsde.runs.physics.estimate import Estimate, Kind, default_kind, parameter_table
from neuralsde.runs.physics.panel import make_panel
from neuralsde.runs.physics.paths import PhysicsPaths, follow
from neuralsde.sde import SDE
from neuralsde.tasks.ahead import grid
from neuralsde.tasks.fitted import Fitted, GapLaw
from neuralsde.tasks.forecast import forecast
from neuralsde.tasks.score import Scores, backtest, score
from neuralsde.typing import PRNGKey

NAME = "physics"
"""The name of the model in `config.json`."""


@dataclass(frozen=True)
class PhysicsRun:
    """What `fit(data, model=Physics(...))` returns. `data` is the table it was fitted on, when that is at hand.

    unit: one unit of the SDE's time, in clock units. found: the estimates with their information and scores.
    """

    config: Physics
    model: PhysicsSDE
    found: Estimate
    encoder: Encoder
    law: GapLaw
    rule: Rule
    unit: float
    fingerprint: str
    source: str = ""
    folder: RunFolder | None = None
    data: Trajectories | None = None
    metrics: tuple[dict[str, Any], ...] = ()

    # -- what it is --------------------------------------------------------------------------------------------------

    def parameters(self, *, kind: Kind | None = None, level: float = 95) -> pl.DataFrame:
        """A table with the columns parameter, estimate, se, lo-95, hi-95, interval; in the units of the modules.

        kind: "sandwich" (the default from 20 blocks on) or "information"; see `runs.physics.estimate`. With a residual
        network both are conditional on it.
        """
        return parameter_table(self.model.parameters, self.found, kind=kind, level=level)

    def process(self) -> SDE:
        """The stated SDE with the estimates as numbers, in data units and the SDE's time; for `sde.simulate`."""
        return self.model.stated()

    @property
    def fitted(self) -> Fitted:
        """What the tasks read."""
        paths = PhysicsPaths(self.model, self.encoder, self.unit, self.law.substeps)
        return Fitted(self.model, self.encoder, self.law, paths)

    @property
    def layout(self) -> Layout:
        """How a table must be laid out to be read for this run."""
        return self.encoder.layout

    @property
    def columns(self) -> tuple[str, ...]:
        """The modelled columns."""
        return self.encoder.columns

    @property
    def typical_gap(self) -> float:
        """One step of a forecast, in units of the clock."""
        return self.encoder.tau

    def describe(self) -> str:
        """The run in a few lines."""
        found, kind = self.found, default_kind(self.found)
        net = "" if self.model.net is None else ", with a residual network"
        lines = [
            f"stated SDE of {', '.join(self.columns)}{net}",
            f"log-likelihood {float(found.nats):.6g} nats of {int(found.entries)} entries; held out: "
            f"{self.rule.describe()}",
            f"95 % intervals: {kind}, {int(found.blocks)} blocks",
        ]
        rows = self.parameters().rows()
        width = max((len(row[0]) for row in rows), default=0)
        lines += [f"  {name:<{width}}  {value:.4g}  [{low:.4g}, {high:.4g}]" for name, value, _, low, high, _ in rows]
        return "\n".join(lines)

    # -- what one does with it ---------------------------------------------------------------------------------------

    def forecast(
        self,
        data: Trajectories | None = None,
        *,
        horizon: int | str | None = None,
        times: Sequence[Any] | None = None,
        levels: Sequence[float] = (80, 95),
        n: int = 200,
        seed: int = 0,
        substeps: int | None = None,
        calibrate: bool = False,
    ) -> pl.DataFrame:
        """What follows each series, from what the filter knows at its end; see `tasks.forecast.forecast`.

        The spread is that of the process and of missing readings, not of the parameters.
        calibrate: as of `Run.forecast`, from the held-out rows, or the last rows of another table.
        """
        return forecast(
            self.fitted, self._data(data), horizon=horizon, times=times, levels=levels, n=n, seed=seed,
            substeps=substeps, unseen=self._unseen(data) if calibrate else None,
        )  # fmt: skip

    def sample(self, y0: Any, ts: Any, *, n: int = 100, seed: int = 0, substeps: int | None = None) -> np.ndarray:
        """Paths (n, len(ts), d) from the state y0 (d,) at ts[0], in data units; ts (k,) increasing clock times."""
        times, start = np.asarray(ts, np.float64), np.asarray(y0, np.float64)
        if start.shape != (self.encoder.dim,) or not np.isfinite(start).all():
            raise InputError(f"a start of shape {np.shape(y0)}", "", f"{self.encoder.dim} finite values")
        if times.ndim != 1 or len(times) < 2 or not (np.diff(times) > 0).all():
            raise InputError(f"ts of shape {times.shape}", "", "two or more strictly increasing times")
        plan = grid(self.encoder.model_time(times, times[0])[None, 1:])
        u0 = self.encoder.encode_values(start) * np.array(self.encoder.sd) + np.array(self.encoder.mean)
        with jax.enable_x64(True):
            dt = jnp.asarray(plan.dt[0] * self.encoder.tau / self.unit)
            begin = jnp.asarray(times[0] / self.unit)
            key = jax.random.key(seed)
            u = np.asarray(_paths(self.model, jnp.asarray(u0), begin, dt, key, n, substeps or self.law.substeps))
        z = (u[:, plan.at[0]] - np.array(self.encoder.mean)) / np.array(self.encoder.sd)
        return np.concatenate([np.broadcast_to(start, (n, 1, len(start))), self.encoder.decode(z)], axis=1)

    def score(
        self,
        data: Trajectories | None = None,
        *,
        leads: Sequence[int] | None = None,
        levels: Sequence[float] = (80, 95),
        n: int = 200,
        seed: int = 0,
        stride: int | None = None,
        calibrate: bool = False,
    ) -> Scores:
        """Held-out scores beside three baselines, as `Run.score`; one step ahead the density is the filter's."""
        return score(
            self.fitted, self._data(None), self.rule, self._other(data), leads=leads, levels=levels, n=n, seed=seed,
            stride=stride,
            unseen=self._unseen(data) if calibrate else None,
        )  # fmt: skip

    def backtest(
        self,
        data: Trajectories | None = None,
        *,
        horizon: int | str | None = None,
        stride: int | None = None,
        levels: Sequence[float] = (80, 95),
        n: int = 200,
        seed: int = 0,
        calibrate: bool = False,
    ) -> Scores:
        """Scores of every lead up to the horizon, from a rolling origin."""
        return backtest(
            self.fitted, self._data(None), self.rule, self._other(data), horizon=horizon, stride=stride, levels=levels,
            n=n, seed=seed,
            unseen=self._unseen(data) if calibrate else None,
        )  # fmt: skip

    def likelihood(self, data: Trajectories | None = None) -> tuple[float, int]:
        """Log-likelihood, in nats and data units, of what was held out (or of all of another table); how many entries.

        Of entries whose series has shown every column before, each given all before it, by the filter.
        """
        other, roles = self._other(data), None
        if other is None:
            split = Split.of(self._data(None), self.rule)
            other, roles = split.data, [role == TEST for role in split.roles]
        with jax.enable_x64(True):
            panel = make_panel(other, self.model.logs, self.unit, roles)
            density = np.asarray(_nats(self.model, panel))
            slope = -np.where(self.model.logs, np.asarray(panel.us), 0.0)
        counted = np.asarray(panel.counted)
        return float((density + slope)[counted].sum()), int(counted.sum())

    # -- data --------------------------------------------------------------------------------------------------------

    def _unseen(self, data: Trajectories | None) -> np.ndarray:
        """The rows (R,) of a table that the run was not fitted on: all of them, of another table than the fitted."""
        other = self._other(data)
        if other is not None:
            return np.ones(other.n_rows, bool)
        return np.concatenate(Split.of(self._data(None), self.rule).roles) == TEST

    def _data(self, data: Trajectories | None) -> Trajectories:
        """The table given, or the one of the fit: at hand, or read again from where it came from."""
        if data is not None or self.data is not None:
            return self.data if data is None else data  # type: ignore[return-value]
        if not self.source or not Path(self.source).is_file():
            raise InputError(
                f"a run without its table ({self.source or 'it was fitted on data from memory'})",
                "what was held out and where series end come from the table of the fit",
                "that table at its place",
                "to give it: load(folder, model=..., data=...)",
            )
        found = read(self.source, layout=self.layout)
        if found.fingerprint() != self.fingerprint:
            raise InputError(f"the table {self.source}", "it is no longer the one that the run was fitted on")
        return found

    def _other(self, data: Trajectories | None) -> Trajectories | None:
        """A table that is not the fitted one; None for the fitted one, whose held-out part is meant."""
        return None if data is None or data.fingerprint() == self.fingerprint else data


def structure(model: PhysicsSDE) -> str:
    """A fingerprint of what a saved vector of parameters belongs to: names, scales, constants, noise, coordinates."""
    text = [*model.parameters.shape(), repr(model.noise), repr(model.calculus), repr(model.logs)]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


@eqx.filter_jit
def _nats(model: PhysicsSDE, panel: Panel) -> jax.Array:
    return model.filter_panel(panel).nats


@eqx.filter_jit
def _paths(
    model: PhysicsSDE, u0: jax.Array, t0: jax.Array, dt: jax.Array, key: PRNGKey, n: int, substeps: int
) -> jax.Array:
    return jax.vmap(lambda k: follow(model, u0, t0, dt, key=k, substeps=substeps))(jax.random.split(key, n))

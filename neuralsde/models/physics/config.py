"""A stated SDE as a value: coefficients in data units and clock units, and how they are fitted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neuralsde.errors import InputError
from neuralsde.models.physics.parameters import Positive
from neuralsde.sde import SDE, Diagonal, Ito
from neuralsde.sde.filter import Order
from neuralsde.sde.process import Calculus, Coefficient, Noise


@dataclass(frozen=True)
class Residual:
    """What the stated drift f leaves out: the drift becomes f + G h(y), with a small network h.

    The network moves the noise, dW -> dW + h dt, so it stays within what noise reaches, has the same meaning in all
    units, and its distance from the physics is known: ½ ∫ |h|² dt nats (Girsanov).

    width, depth: of the network; it starts at zero.
    penalty:      weight w of those nats in the loss. The data ask for a residual h*; what comes out is h* / (1 + w)
                  in directions that the parameters do not reach, and nothing where parameters explain as much:
                  without it (w = 0) network and parameters could trade freely.
    rows:         rows of a segment of a series in one batch entry; batch: how many segments.
    warm:         rows at the start of a segment that are filtered and not counted.
    """

    width: int = 32
    depth: int = 2
    penalty: float = 0.1
    rows: int = 24
    warm: int = 4
    batch: int = 32

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("depth", 0), ("rows", 2), ("warm", 1), ("batch", 1)):
            _at_least(name, getattr(self, name), least)
        if not (np.isfinite(self.penalty) and self.penalty >= 0):
            raise InputError(f"penalty={self.penalty}", "", "0 or a positive number")
        if self.warm >= self.rows:
            raise InputError(f"warm={self.warm}, rows={self.rows}", "no row of a segment would count", "warm < rows")


@dataclass(frozen=True)
class Physics:
    """dy = drift(t, y, args) dt + diffusion(t, y, args) · dW, in the units of the table and of its clock.

    drift, diffusion: any callables of that signature; what they hold as `Positive`, `Between` or arrays is estimated
                      (see `parameters`). Methods of one equinox module share its parameters. `args` is None; `y` is
                      (d,), the modelled columns in their order.
    noise, calculus:  as of `sde.SDE`.
    time_unit:        what one unit of `t` is for a table with time stamps ("1h", "7d"); the clock's own otherwise
                      (seconds for time stamps).
    in_logs:          columns whose SDE is filtered and simulated in logarithms, by Itô's formula: for states that are
                      above 0 by nature, where multiplicative noise becomes additive and one step's law closer to a
                      Gaussian. True for all.
    observation_noise: s.d. of the error of a reading, one number or one a column, in the units of the column (a share
                      for one in logs); `Positive(...)` to estimate it. Readings are exact by default.
    substeps, order:  moment steps between two rows and their order (`sde.filter`); order 1 with one substep is the
                      Euler likelihood, which is biased (THEORY 15). Simulation takes `substeps` Euler-Maruyama steps
                      a typical gap, at least 8.
    starts:           searches, from the given values and from values around them; the best one counts.
    residual:         a network for what is missing, or None.
    """

    drift: Coefficient
    diffusion: Coefficient
    noise: Noise = field(default_factory=Diagonal)
    calculus: Calculus = field(default_factory=Ito)
    time_unit: str | None = None
    in_logs: bool | tuple[str, ...] = False
    observation_noise: Any = None
    substeps: int = 4
    order: Order = 2
    starts: int = 4
    residual: Residual | None = None

    def __post_init__(self) -> None:
        SDE(self.drift, self.diffusion, self.noise, self.calculus)  # its own checks
        for name in ("substeps", "starts"):
            _at_least(name, getattr(self, name), 1)
        if self.order not in (1, 2):
            raise InputError(f"order={self.order}", "", "1 or 2")
        noise = self.observation_noise
        if noise is not None and not isinstance(noise, Positive) and not np.all(np.asarray(noise, np.float64) >= 0):
            raise InputError(f"observation_noise={noise}", "", "0 or above, one number or one a column, or Positive")

    def logs(self, columns: tuple[str, ...]) -> tuple[bool, ...]:
        """Which of the columns are in logarithms. Raises InputError for a name that is none of them."""
        if isinstance(self.in_logs, bool):
            return (self.in_logs,) * len(columns)
        for name in self.in_logs:
            if name not in columns:
                raise InputError(f"in_logs: '{name}'", "the table has no such column", ", ".join(columns))
        return tuple(name in self.in_logs for name in columns)


def _at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name}={value!r}", "", f"a whole number, at least {least}")

"""The probability flow by Runge-Kutta, in the clock t or in λ = log α/σ.

    dx/dt = u(x, t) = α' x̂_0 + σ' ε̂            dx/dλ = u / (α'/α - σ'/σ)

Euler (order 1), Heun (2), RK4 (4). They ask for a velocity only, so that they serve predictors that have no score. In t
the flow is stiff near the data where σ begins as a square root; in λ it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
from jaxtyping import Array

from neuralsde.errors import InputError, closest
from neuralsde.noising import Predictor, Schedule, Spacing
from neuralsde.sampling.levels import clock_rate
from neuralsde.sampling.loop import Cell, Counting, Sampler

Clock = Literal["t", "log-snr"]


class Tableau(NamedTuple):
    """An explicit Runge-Kutta method: k_i = F(c_i, x + h Σ_j a_ij k_j), x' = x + h Σ_i b_i k_i."""

    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]


EULER = Tableau((0.0,), ((),), (1.0,))
HEUN = Tableau((0.0, 1.0), ((), (1.0,)), (0.5, 0.5))
RK4_ = Tableau((0.0, 0.5, 0.5, 1.0), ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))


def stages(field: Callable[[float, Array], Array], tableau: Tableau, x: Array, h: Any, first: Any = None) -> list[Any]:
    """k_1, k_2, ...; `field(part of the step, x)`. `first`: k_1, where it is known."""
    k: list[Any] = []
    for c, row in zip(tableau.c, tableau.a, strict=True):
        at = x + h * sum(a * slope for a, slope in zip(row, k, strict=True) if a) if k else x
        k.append(first if first is not None and not k else field(c, at))
    return k


def combined(weights: tuple[float, ...], k: list[Any]) -> Any:
    """Σ_i b_i k_i."""
    return sum(b * slope for b, slope in zip(weights, k, strict=True) if b)


def in_log_snr(predict: Counting | Predictor, x: Array, t: Any) -> Array:
    """dx/dλ at the time t."""
    return predict.velocity(x, t) / clock_rate(predict.schedule, t)


def part_way(schedule: Schedule, cell: Cell, c: float) -> Any:
    """The time at a part of the step in λ; at its ends those given."""
    if c in (0.0, 1.0):
        return cell.s if c else cell.t
    low, high = schedule.log_snr(cell.t), schedule.log_snr(cell.s)
    return schedule.time_at(low + c * (high - low))


def _step(tableau: Tableau, clock: Clock, predict: Counting, cell: Cell, x: Array) -> Array:
    schedule = predict.schedule
    if clock == "t":
        h = cell.s - cell.t
        k = stages(lambda c, x: predict.velocity(x, cell.t + c * h), tableau, x, h)
    else:
        h = 0.5 * (schedule.log_snr(cell.s) - schedule.log_snr(cell.t))
        k = stages(lambda c, x: in_log_snr(predict, x, part_way(schedule, cell, c)), tableau, x, h)
    return x + h * combined(tableau.b, k)


class RungeKutta(Sampler):
    """A method of stages on the probability flow, in t or in log SNR; abstract, its tableau says which.

    It asks for a velocity only. In t one stage at the start of a step looks nowhere near the end.
    """

    clock: Clock = eqx.field(static=True, default="t")
    cost = property(lambda self: len(self.tableau.b))
    clean = property(lambda self: self.flows and self.tableau.c == (0.0,))
    flows = property(lambda self: self.clock == "t")

    tableau: ClassVar[Tableau]

    def __check_init__(self) -> None:
        if self.clock not in ("t", "log-snr"):
            known = ("t", "log-snr")
            raise InputError(f"clock={self.clock!r}", "there is none of that name", hint=closest(self.clock, known))

    @property
    def spacing(self) -> Spacing:
        return "uniform" if self.clock == "t" else "log-snr"

    def step(self, predict: Counting, cell: Cell, x: Array, memory: Any, *, key: Any) -> tuple[Array, Any]:
        return _step(self.tableau, self.clock, predict, cell, x), memory


class Euler(RungeKutta):
    """Euler's method on the probability flow. Its clock is t, "log-snr" on request."""

    order = property(lambda self: 1)
    tableau: ClassVar[Tableau] = EULER


class Heun(RungeKutta):
    """Heun's method on the probability flow. Its clock is t, "log-snr" on request."""

    order = property(lambda self: 2)
    tableau: ClassVar[Tableau] = HEUN


class RK4(RungeKutta):
    """The classical method of order 4 on the probability flow. Its clock is log SNR, "t" on request."""

    clock: Clock = eqx.field(static=True, default="log-snr")
    order = property(lambda self: 4)
    tableau: ClassVar[Tableau] = RK4_

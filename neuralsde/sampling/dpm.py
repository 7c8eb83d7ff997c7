"""DPM-Solver in single steps: exponential Runge-Kutta in λ = log α/σ, with stages at earlier times inside the step.

With h = λ_s - λ_t, φ(x) the solution with ε̂ (or x̂_0) constant on the way (`levels.py`), and stages at λ_t + r h:

    DPM-Solver-1     x_s = φ(ε̂)                                                                      = DDIM
    DPM-Solver-2     u = φ at r = ½;  x_s = φ(ε̂) - σ_s (e^h - 1) (ε̂(u) - ε̂)
    DPM-Solver-3     u at 1/3, w at 2/3 with a correction by ε̂(u);
                     x_s = φ(ε̂) - (3/2) σ_s ((e^h - 1)/h - 1) (ε̂(w) - ε̂)
    DPM-Solver++ 2S  u = φ at r = ½ with x̂_0;  x_s = φ(x̂_0(u))
Sources: Lu et al. 2022a (DPM-Solver, algorithms 1 and 2), 2022b (DPM-Solver++, algorithm 1).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from neuralsde.errors import InputError
from neuralsde.sampling.levels import Level, along_data, along_noise, between, level
from neuralsde.sampling.loop import Cell, Counting, Sampler


class DPMSolver(Sampler):
    """DPM-Solver of order 1, 2 or 3 on the noise prediction; as many evaluations a step."""

    orders: int = eqx.field(static=True, default=2)
    order = property(lambda self: self.orders)
    cost = property(lambda self: self.orders)

    def __check_init__(self) -> None:
        if self.orders not in (1, 2, 3):
            raise InputError(f"DPMSolver({self.orders!r})", expected="an order: 1, 2 or 3")

    def step(self, predict: Counting, cell: Cell, x: Array, memory: Any, *, key: Any) -> tuple[Array, Any]:
        a, b = level(predict.schedule, cell.t), level(predict.schedule, cell.s)
        eps = predict.noise(x, a.t)
        if self.orders == 2:
            middle = between(predict.schedule, a, b, 0.5)
            return along_noise(x, predict.noise(along_noise(x, eps, a, middle), middle.t), a, b), memory
        x_s = along_noise(x, eps, a, b)
        if self.orders == 3:
            x_s = x_s - 1.5 * b.sigma * _ramp(a, b) * self._turn(predict, x, eps, a, b)
        return x_s, memory

    def _turn(self, predict: Counting, x: Array, eps: Array, a: Level, b: Level) -> Array:
        """How ε̂ has changed two thirds on."""
        early, late = (between(predict.schedule, a, b, part) for part in (1 / 3, 2 / 3))
        change = predict.noise(along_noise(x, eps, a, early), early.t) - eps
        u = along_noise(x, eps, a, late) - 2 * late.sigma * _ramp(a, late) * change
        return predict.noise(u, late.t) - eps


def _ramp(a: Level, b: Level) -> Array:
    """(e^h - 1)/h - 1: the weight of what grows linearly from 0 at a."""
    h = b.lam - a.lam
    return jnp.expm1(h) / h - 1


class DPMSolverPP2S(Sampler):
    """DPM-Solver++ (2S): a midpoint rule on the data prediction, order 2; two evaluations a step."""

    order = property(lambda self: 2)
    cost = property(lambda self: 2)

    def step(self, predict: Counting, cell: Cell, x: Array, memory: Any, *, key: Any) -> tuple[Array, Any]:
        schedule = predict.schedule
        a, b = level(schedule, cell.t), level(schedule, cell.s)
        middle = between(schedule, a, b, 0.5)
        u = along_data(x, predict.x0(x, a.t), a, middle)
        return along_data(x, predict.x0(u, middle.t), a, b), memory

"""DPM-Solver++ (2M) and its SDE: one evaluation a step, the slope of x̂_0 from the step before.

    D = x̂_0(x_t) + (h/2h₋) (x̂_0(x_t) - x̂_0(x before)),     h = λ_s - λ_t,   h₋ the step before
    x_s = (σ_s/σ_t) e^{-η²h} x_t + α_s (1 - e^{-(1+η²)h}) D + σ_s √(1 - e^{-2η²h}) z

η = 0 is DPM-Solver++ (2M), η = 1 its SDE; with D = x̂_0 (`orders=1`) these are DDIM and DDPM's ancestral step. The
linear part and the noise of the family in `reverse.py` are solved exactly, for any grid. The first step has no past,
and a last one to σ = 0 no length in λ: both take D = x̂_0. Source: Lu et al. 2022b, algorithm 2, and its part on SDEs.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from neuralsde.errors import InputError
from neuralsde.sampling.ancestral import check_eta
from neuralsde.sampling.levels import along_data, level
from neuralsde.sampling.loop import Cell, Counting, Sampler, normal


class DPMSolverPP(Sampler):
    """DPM-Solver++ in several steps, of order 1 or 2 (2M), with eta times the noise of the reverse SDE."""

    orders: int = eqx.field(static=True, default=2)
    eta: float = eqx.field(static=True, default=0.0)
    order = property(lambda self: self.orders)
    stochastic = property(lambda self: self.eta > 0)
    clean = property(lambda self: True)

    def __check_init__(self) -> None:
        check_eta(self.eta)
        if self.orders not in (1, 2):
            raise InputError(f"DPMSolverPP({self.orders!r})", expected="an order: 1 or 2", hint="UniPC(3) for more")

    def start(self, predict: Counting, ts: Array, x: Array) -> Any:
        return jnp.zeros_like(x) if self.orders == 2 else ()

    def step(self, predict: Counting, cell: Cell, x: Array, memory: Any, *, key: Any) -> tuple[Array, Any]:
        schedule, square = predict.schedule, self.eta**2
        a, b = level(schedule, cell.t), level(schedule, cell.s)
        h = b.lam - a.lam
        x_0 = D = predict.x0(x, cell.t)
        if self.orders == 2:
            past = a.lam - 0.5 * schedule.log_snr(cell.before)
            known = (past > 0) & (b.sigma > 0)
            D = x_0 + jnp.where(known, 0.5 * h / jnp.where(known, past, 1.0), 0.0) * (x_0 - memory)
            memory = x_0
        if not self.eta:
            return along_data(x, D, a, b), memory
        x = b.sigma / a.sigma * jnp.exp(-square * h) * x - b.alpha * jnp.expm1(-(1 + square) * h) * D
        return x + b.sigma * jnp.sqrt(-jnp.expm1(-2 * square * h)) * normal(key, cell, x), memory

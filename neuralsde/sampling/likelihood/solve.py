"""Ordinary equations dy/ds = field(s, y) from s0 to s1, either way, y a pytree; evaluations are counted.

Heun    y' = y + h/2 (k1 + k2)                              order 2, 2 evaluations a step
RK4     y' = y + h/6 (k1 + 2 k2 + 2 k3 + k4)                order 4, 4
Tsit5   embedded 5(4) pair with step control, by diffrax    7 a step that is tried
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import diffrax
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from neuralsde.errors import InputError

Field = Callable[[Array, Any], Any]
_TSIT5_STAGES = 7


class Solver(abc.ABC):
    """How an ordinary equation is solved; a frozen value."""

    @abc.abstractmethod
    def __call__(self, field: Field, s0: Any, s1: Any, y0: Any) -> tuple[Any, Int[Array, ""]]:
        """Y at s1, and the number of evaluations; y is NaN where step control gave up."""


@dataclass(frozen=True)
class Fixed(Solver):
    """`steps` equal steps of a classical method."""

    steps: int = 96
    method: Literal["rk4", "heun"] = "rk4"

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise InputError(f"steps={self.steps!r}", expected="a whole number of at least 1")
        if self.method not in ("rk4", "heun"):
            raise InputError(f"method={self.method!r}", expected="'rk4' or 'heun'")

    def __call__(self, field: Field, s0: Any, s1: Any, y0: Any) -> tuple[Any, Int[Array, ""]]:
        h = (s1 - s0) / self.steps

        def along(y: Any, *moves: tuple[Any, Any]) -> Any:
            for weight, k in moves:
                y = jax.tree.map(lambda a, b, w=weight: a + w * b, y, k)
            return y

        def heun(y: Any, i: Array) -> tuple[Any, None]:
            s = s0 + i * h
            first = field(s, y)
            second = field(s + h, along(y, (h, first)))
            return along(y, (h / 2, first), (h / 2, second)), None

        def rk4(y: Any, i: Array) -> tuple[Any, None]:
            s = s0 + i * h
            first = field(s, y)
            second = field(s + h / 2, along(y, (h / 2, first)))
            third = field(s + h / 2, along(y, (h / 2, second)))
            fourth = field(s + h, along(y, (h, third)))
            return along(y, (h / 6, first), (h / 3, second), (h / 3, third), (h / 6, fourth)), None

        step, cost = (heun, 2) if self.method == "heun" else (rk4, 4)
        y, _ = lax.scan(step, y0, jnp.arange(self.steps))
        return y, jnp.asarray(cost * self.steps)


@dataclass(frozen=True)
class Adaptive(Solver):
    """Step control to the tolerances, at most `max_steps` steps."""

    rtol: float = 1e-5
    atol: float = 1e-5
    max_steps: int = 4096

    def __post_init__(self) -> None:
        if not (self.rtol >= 0 and self.atol >= 0 and self.rtol + self.atol > 0):
            raise InputError(f"rtol={self.rtol!r}, atol={self.atol!r}", expected="tolerances of at least 0, not both 0")

    def __call__(self, field: Field, s0: Any, s1: Any, y0: Any) -> tuple[Any, Int[Array, ""]]:
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda s, y, args: field(jnp.asarray(s), y)),
            diffrax.Tsit5(),
            t0=s0,
            t1=s1,
            dt0=None,
            y0=y0,
            stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=self.atol),
            max_steps=self.max_steps,
            throw=False,
        )
        good = diffrax.is_okay(found.result)
        end = jax.tree.map(lambda leaf: jnp.where(good, leaf[-1], jnp.nan), found.ys)
        return end, _TSIT5_STAGES * jnp.asarray(found.stats["num_steps"])

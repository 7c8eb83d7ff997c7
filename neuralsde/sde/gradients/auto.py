"""A gradient mode chosen by the memory that it may use; the choice is made while tracing, from shapes alone."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any

from neuralsde.errors import InputError
from neuralsde.sde.gradients.base import Gradient, Loop, Ran
from neuralsde.sde.gradients.sizes import candidates, cost, measure


@dataclasses.dataclass(frozen=True)
class Auto(Gradient):
    """The mode that keeps the most and still fits: `Backprop`, `Checkpointed()`, fewer checkpoints, and `Reversible`
    for a reversible method when nothing else fits. Never a mode whose gradient is only that of the equation.
    Where none fits, `InputError` with what the smallest would need, while tracing: a limit is not passed in silence.

    memory_mb: what the gradient of the solve may use, in 10⁶ bytes, by the estimate of `explain_gradient`.
    batch:     how many paths `jax.vmap` solves at a time: a solve cannot see how often it is mapped.
    """

    memory_mb: float = 1000.0
    batch: int = 1

    def __post_init__(self) -> None:
        number = isinstance(self.memory_mb, numbers.Real) and not isinstance(self.memory_mb, bool)
        if not number or math.isnan(self.memory_mb) or self.memory_mb <= 0:
            raise InputError(f"Auto(memory_mb={self.memory_mb!r})", expected="a number above 0, in units of 10⁶ bytes")
        if not isinstance(self.batch, numbers.Integral) or isinstance(self.batch, bool) or self.batch < 1:
            raise InputError(
                f"Auto(batch={self.batch!r})", expected="how many paths are solved at a time, an integer >= 1"
            )

    def run(self, loop: Loop, carry: Any) -> Ran:
        """As the chosen mode."""
        return self.choose(loop, carry).run(loop, carry)

    def choose(self, loop: Loop, carry: Any) -> Gradient:
        """The first mode that fits; `InputError` if none does."""
        sizes = measure(loop, carry)
        costs = {mode: cost(mode, loop, sizes, self.batch) for mode in candidates()}
        for mode, its in costs.items():
            if not its.refused and its.memory <= self.memory_mb * 1e6:
                return mode
        least, its = min(((m, c) for m, c in costs.items() if not c.refused), key=lambda row: row[1].memory)
        raise InputError(
            f"Auto(memory_mb={self.memory_mb!r}, batch={self.batch!r})",
            f"no mode is that small here: {least!r}, the smallest, needs {its.memory / 1e6:.3g} MB",
            f"memory_mb of at least {its.memory / 1e6:.3g}, by the estimate of explain_gradient",
            f"gradient={least!r} without a limit; fewer paths at a time; fewer saved times",
        )

"""The problem: batch, state, width and steps; weights drawn once, the same in every library.

f(y) = tanh(y A) B,     g(y) = ½ sigmoid(tanh(y C) D),     loss = mean(y_T²),     T = 1, float32
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Problem:
    """Sizes of one problem."""

    state: int
    width: int
    batch: int
    steps: int

    @property
    def name(self) -> str:
        return f"state {self.state}, width {self.width}, batch {self.batch}, {self.steps} steps"

    def weights(self) -> tuple[np.ndarray, ...]:
        """(A, B, C, D)."""
        rng = np.random.default_rng(1)
        sizes = [(self.state, self.width), (self.width, self.state)] * 2
        return tuple((rng.normal(size=size) / np.sqrt(size[0])).astype(np.float32) for size in sizes)

    def start(self) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(self.batch, self.state)).astype(np.float32)


PROBLEMS = (
    Problem(8, 64, 256, 100),
    Problem(32, 128, 1024, 100),
    Problem(2, 32, 1024, 200),
    Problem(8, 64, 256, 1000),
)


def drift(t: Any, y: Any, args: Any) -> Any:
    return jnp.tanh(y @ args[0]) @ args[1]


def diffusion(t: Any, y: Any, args: Any) -> Any:
    return 0.5 * jax.nn.sigmoid(jnp.tanh(y @ args[2]) @ args[3])

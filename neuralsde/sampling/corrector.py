"""Langevin dynamics at one noise level: alone, level by level, and as a corrector after the step of another sampler.

    x <- x + ε ∇log p_t(x) + √(2ε) z                       leaves p_t as it is for ε -> 0

Annealed Langevin (Song & Ermon 2019): from the most noise to the least, so many of these at each level, ε in proportion
to σ². Predictor-corrector (Song et al. 2021): a step to the time s, then a few of these at s with

    ε = 2 (snr |z|/|∇log p|)²,     |z|/|∇log p| of this sample ("sample"), or its typical value σ_s ("law")

The ratio of one sample depends on where it is, so that p_s is not kept; a batch hides that, two dimensions show it.
"law", the default, keeps it. No order is claimed for either.
"""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from neuralsde.errors import InputError, closest
from neuralsde.noising import Spacing
from neuralsde.sampling.loop import Cell, Counting, Sampler, normal
from neuralsde.sampling.reverse import ReverseSDE

_FIRST = 2  # a predictor draws the normals 0 and 1 of a step, the corrector those from here on


def _positive(**given: Any) -> None:
    for name, value in given.items():
        whole = name in ("corrections", "steps")
        if (whole and (isinstance(value, bool) or not isinstance(value, int))) or not value > 0:
            raise InputError(f"{name}={value!r}", expected="a whole number of at least 1" if whole else "above 0")


class PredictorCorrector(Sampler):
    """A step of `predictor`, then `corrections` Langevin steps at its end, one evaluation each.

    predictor: any sampler with one evaluation or more; the reverse SDE by Euler-Maruyama by default.
    snr:       the signal-to-noise ratio of a correction; .16 is usual for images. norm: "law" or "sample", see above.
    """

    predictor: Sampler = ReverseSDE()
    corrections: int = eqx.field(static=True, default=1)
    snr: float = eqx.field(static=True, default=0.16)
    norm: Literal["law", "sample"] = eqx.field(static=True, default="law")
    stochastic = property(lambda self: True)
    cost = property(lambda self: self.predictor.cost + self.corrections)

    def __check_init__(self) -> None:
        _positive(corrections=self.corrections, snr=self.snr)
        if self.norm not in ("law", "sample"):
            raise InputError(f"norm={self.norm!r}", "none of that name", hint=closest(self.norm, ("law", "sample")))
        if self.predictor.adaptive:
            raise InputError("an adaptive predictor", "it has no steps to correct", "a sampler on a grid")

    @property
    def spacing(self) -> Spacing:
        return self.predictor.spacing

    def start(self, predict: Counting, ts: Array, x: Array) -> Any:
        return self.predictor.start(predict, ts, x)

    def step(self, predict: Counting, cell: Cell, x: Array, memory: Any, *, key: Any) -> tuple[Array, Any]:
        x, memory = self.predictor.step(predict, cell, x, memory, key=key)
        for j in range(self.corrections):
            score, z = predict.score(x, cell.s), normal(key, cell, x, _FIRST + j)
            ratio = predict.schedule.sigma(cell.s)
            if self.norm == "sample":
                size = jnp.sqrt(jnp.square(score).sum())
                ratio = jnp.sqrt(jnp.square(z).sum()) / jnp.where(size > 0, size, 1.0)
            step = 2 * jnp.square(self.snr * ratio)
            x = x + step * score + jnp.sqrt(2 * step) * z
        return x, memory


class AnnealedLangevin(Sampler):
    """`steps` Langevin steps at every time of the grid but the first, each with ε = `size` σ².

    The classical baseline: it needs hundreds of evaluations, and its law is off by O(size) at every level. size=.1 is
    half of Song & Ermon's 2e-5 / .01², their step at the smallest σ.
    """

    steps: int = eqx.field(static=True, default=10)
    size: float = eqx.field(static=True, default=0.1)
    stochastic = property(lambda self: True)
    cost = property(lambda self: self.steps)

    def __check_init__(self) -> None:
        _positive(steps=self.steps, size=self.size)

    def step(self, predict: Counting, cell: Cell, x: Array, memory: Any, *, key: Any) -> tuple[Array, Any]:
        predictor, own = predict.predictor, jax.random.fold_in(key, cell.i)
        step = self.size * jnp.square(predict.schedule.sigma(cell.s))

        def one(j: Any, x: Array) -> Array:
            z = normal(own, cell._replace(i=j), x)
            return x + step * predictor.score(x, cell.s) + jnp.sqrt(2 * step) * z

        predict.add(self.steps)
        return lax.fori_loop(0, self.steps, one, x), memory

"""UniPC: a multistep predictor, and a corrector that uses the evaluation which the next step needs anyway.

On the data prediction, with m_0 = x̂_0 at the time t, m_k those before it, r_k = (λ_k - λ_t)/h, D_k = (m_k - m_0)/r_k:

    x_s = (σ_s/σ_t) x_t - α_s (e^{-h} - 1) m_0 - α_s B(-h) Σ_k ρ_k D_k,     B(z) = z ("bh1") or e^z - 1 ("bh2")

With Σ_k r_k^{j-1} ρ_k = j! z φ_{j+1}(z)/B(z), z = -h, j = 1, 2, ..., it is exact for x̂_0 polynomial in λ. The corrector
of the step to t has one term more, D = x̂_0(predicted x_t) - m_0 with r = 1, and costs nothing: that evaluation is the
m_0 of the next step. UniPC of `orders` p so has order p + 1; for p = 3 the first step, with no past, has an error of
order 3, but in proportion to (α/σ)² there, next to nothing. Where one term is left ρ = ½ is taken, as in the paper.
Source: Zhao et al. 2023, algorithms 5 to 8 and the appendix on B.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from neuralsde.errors import InputError, closest
from neuralsde.sampling.levels import along_data, level
from neuralsde.sampling.loop import Cell, Counting, Sampler

Variant = Literal["bh1", "bh2"]


class Past(NamedTuple):
    """x: the (corrected) state before. m (p, *shape), lam (p,): the last predictions and their λ, the newest first."""

    x: Array
    m: Array
    lam: Float[Array, " p"]


class UniPC(Sampler):
    """UniPC of 1 to 3 past evaluations and B(h) of either kind: one evaluation a step; the last is not corrected."""

    orders: int = eqx.field(static=True, default=2)
    variant: Variant = eqx.field(static=True, default="bh2")
    order = property(lambda self: self.orders + 1)
    clean = property(lambda self: True)

    def __check_init__(self) -> None:
        if self.orders not in (1, 2, 3):
            raise InputError(f"UniPC({self.orders!r})", expected="an order: 1, 2 or 3")
        if self.variant not in ("bh1", "bh2"):
            raise InputError(
                f"variant={self.variant!r}", "none of that name", hint=closest(self.variant, ("bh1", "bh2"))
            )

    def start(self, predict: Counting, ts: Array, x: Array) -> Any:
        p = self.orders
        return Past(x, jnp.zeros((p, *x.shape), x.dtype), jnp.zeros(p, ts.dtype))

    def step(self, predict: Counting, cell: Cell, x: Array, memory: Any, *, key: Any) -> tuple[Array, Any]:
        schedule, p = predict.schedule, self.orders
        before, a, b = (level(schedule, t) for t in (cell.before, cell.t, cell.s))
        m = predict.x0(x, cell.t)
        # One program for every step: how much past there is, is a branch of the arithmetic, not of the network.
        corrections: list[Callable[[], Array]] = [lambda: x]
        corrections += [partial(self._solve, memory.x, memory, before, a, q, m) for q in range(1, p + 1)]
        x = lax.switch(jnp.minimum(cell.i, p), corrections)
        memory = Past(x, jnp.concatenate([m[None], memory.m[:-1]]), jnp.concatenate([a.lam[None], memory.lam[:-1]]))
        steps = [partial(self._solve, x, memory, a, b, q, None) for q in range(1, p + 1)]
        which = jnp.where(b.sigma > 0, jnp.minimum(cell.i, p - 1), 0)  # to σ = 0 only x̂_0 itself
        return lax.switch(which, steps), memory

    def _solve(self, x: Array, past: Past, a: Any, b: Any, q: int, m_b: Array | None) -> Array:
        """The step from a to b with q terms; `m_b`, the prediction at b, is the last of them where it is known."""
        h = b.lam - a.lam
        base = along_data(x, past.m[0], a, b)
        r = [(past.lam[k] - a.lam) / h for k in range(1, q)]
        slopes = [(past.m[k] - past.m[0]) / r[k - 1] for k in range(1, q)]
        if m_b is not None:
            r, slopes = [*r, jnp.ones_like(h)], [*slopes, m_b - past.m[0]]
        if not slopes:
            return base
        B = -h if self.variant == "bh1" else jnp.expm1(-h)
        rho = _weights(r, h, B)
        return base - b.alpha * B * sum(w * slope for w, slope in zip(rho, slopes, strict=True))


def _weights(r: list[Array], h: Array, B: Array) -> list[Any]:
    """ρ with Σ_k r_k^{j-1} ρ_k = b_j, the moments of the exponential kernel over the step."""
    if len(r) == 1:
        return [0.5]
    moment, factorial, moments = jnp.expm1(-h) / -h - 1, 1.0, []
    for j in range(1, len(r) + 1):
        moments.append(moment * factorial / B)
        factorial *= j + 1
        moment = moment / -h - 1 / factorial
    return [_applied(moments, r, k) for k in range(len(r))]


def _applied(moments: list[Array], r: list[Array], k: int) -> Any:
    """Σ_j c_j b_j with Σ_j c_j z^{j-1} the polynomial that is 1 at r_k and 0 at the others: row k of the inverse."""
    c: list[Any] = [1.0]
    for other in (r_i for i, r_i in enumerate(r) if i != k):
        c = [(up - other * low) / (r[k] - other) for low, up in zip([*c, 0.0], [0.0, *c], strict=True)]
    return sum(a * b for a, b in zip(c, moments, strict=True))

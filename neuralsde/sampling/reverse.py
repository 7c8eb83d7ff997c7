"""The reverse-time SDE, and the family between it and the probability flow, with any method of `sde/`.

    dx = (f x - ½ (1 + η²) g² ∇log p_t(x)) dt + η g dW̄,    t from t_0 down;   in s = -t an ordinary process:

    dx = (-f x + ½ (1 + η²) g² ∇log p_{-s}(x)) ds + η g dW

Every η has the marginals of the forward process: 1 is Anderson's time reversal, 0 the probability flow (Anderson 1982;
Song et al. 2021). The noise is additive, so that calculus is a matter of spelling and every method serves. One sampler
has two spellings, `draw(..., sampler=ReverseSDE(method))` and `sde.simulate(reverse_process(predictor), x, -ts,
method=method)`; from one key they follow one path.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.noising import EDM, Predictor, Schedule, Spacing
from neuralsde.sampling.ancestral import check_eta
from neuralsde.sampling.loop import Cell, Counting, Sampler, normal
from neuralsde.sde.brownian import subkey

_AUXILIARY = 1  # the sub-key of a cell that `BrownianGrid` gives to methods that ask for one


class _Drift(eqx.Module):
    predict: Any
    eta: float = eqx.field(static=True)

    def __call__(self, s: Any, y: Any, args: Any) -> Array:
        schedule: Schedule = self.predict.schedule
        pull = 0.5 * (1 + self.eta**2) * schedule.squared_diffusion(-s)
        return pull * self.predict.score(y, -s) - schedule.log_alpha_rate(-s) * y


class _Diffusion(eqx.Module):
    schedule: Schedule
    eta: float = eqx.field(static=True)

    def __call__(self, s: Any, y: Any, args: Any) -> Array:
        g = self.eta * jnp.sqrt(self.schedule.squared_diffusion(-s))
        return jnp.full(jnp.shape(y), g, jnp.result_type(y))


def reverse_process(predictor: Predictor | Counting, eta: float = 1.0) -> sde.SDE:
    """The process in s = -t from noise to data, an ordinary Ito process: solve it over `-ts`, ts decreasing.

    eta: 1 for the time reversal, 0 for the probability flow (the key is then not read), or between, or more.
    """
    check_eta(eta)
    noise = sde.Diagonal("additive")
    return sde.SDE(_Drift(predictor, eta), _Diffusion(predictor.schedule, eta), noise, sde.Ito())


class ReverseSDE(Sampler):
    """A method of `sde/` on the reverse process of one eta. Euler-Maruyama has order 1, ShARK and Heun have 2.

    order: that of expectations, for additive noise, as the method declares it.
    """

    method: sde.Method = eqx.field(static=True, default=sde.EulerMaruyama())
    eta: float = eqx.field(static=True, default=1.0)
    stochastic = property(lambda self: self.eta > 0)

    def __check_init__(self) -> None:
        check_eta(self.eta)
        if not isinstance(self.method, sde.Method):
            raise InputError(f"method={self.method!r}", "not a method", "a value, such as sde.EulerMaruyama()")
        if "A" in self.method.needs:
            name = type(self.method).__name__
            raise InputError(f"method={name}", "it wants areas, which additive noise has no use for", "sde.ShARK()")

    @property
    def order(self) -> float:
        return self.method.weak_order(sde.Diagonal("additive"))

    @property
    def cost(self) -> int:
        return _cost(self)

    @property
    def clean(self) -> bool:
        """Euler-Maruyama looks at the start of a step only."""
        return isinstance(self.method, sde.EulerMaruyama)

    @property
    def spacing(self) -> Spacing:
        return "uniform"

    def _process(self, predict: Counting) -> sde.SDE:
        process = reverse_process(predict, self.eta)
        return process if isinstance(process.calculus, self.method.calculus) else process.to(sde.Stratonovich())

    def start(self, predict: Counting, ts: Array, x: Array) -> Any:
        return self.method.init(self._process(predict), -ts[0], x, None)

    def step(self, predict: Counting, cell: Cell, x: Array, memory: Any, *, key: Any) -> tuple[Array, Any]:
        h = cell.t - cell.s
        W = H = jnp.zeros_like(x)
        if self.eta:
            W = jnp.sqrt(h) * normal(key, cell, x)
            H = (
                jnp.sqrt(h) * np.sqrt(1 / 12).astype(x.dtype) * normal(key, cell, x, 1)
                if "H" in self.method.needs
                else H
            )
        own = subkey(key, cell.i, _AUXILIARY) if "key" in self.method.needs else None
        piece = sde.Cell(-cell.t, -cell.s, h, W, H, None, own)
        memory = self.method.step(self._process(predict), memory, piece, None)
        return self.method.state(memory), memory


@lru_cache(maxsize=64)
def _cost(sampler: ReverseSDE) -> int:
    """Evaluations of a step, counted while it is traced on a toy problem; once for each sampler."""
    predict = Counting(Predictor(lambda x, t: -x, "score", EDM()))

    def one(x: Array) -> Array:
        carry = sampler.start(predict, x[None], x)
        predict.calls = 0
        cell = Cell(x, 0.5 * x, x, jnp.asarray(0), 1)
        return sampler.step(predict, cell, x, carry, key=jax.random.key(0))[0]

    jax.eval_shape(one, jnp.ones(()))
    return int(predict.calls)

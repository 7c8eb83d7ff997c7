"""One loop for every sampler on a grid of times: a step is a pure function, the loop counts what it asks for.

    x_{t_0} ~ N(0, prior)  ->  x_{t_1}  ->  ...  ->  x_{t_n},      t_0 > t_1 > ... > t_n

A step may keep a memory (the predictions of the steps before it). It sees the predictor through a view that counts its
evaluations where they happen, and draws normals by the counter (key, i, j) of `sde`'s Brownian paths, so that a step
of the same equation by `sde.simulate` has the same noise.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from neuralsde.errors import InputError
from neuralsde.noising import EDM, Kind, Predictor, Schedule, Spacing, Spellings, times
from neuralsde.sde.brownian import normals


class Cell(NamedTuple):
    """Step i of n, from the time t to the time s < t. `before`: the time before t; t itself at the first step."""

    t: Float[Array, ""]
    s: Float[Array, ""]
    before: Float[Array, ""]
    i: Int[Array, ""]
    n: Any


class Given(NamedTuple):
    """Normals that stand in for a key, (k, *x.shape): how the law of a step is pushed through it exactly."""

    normals: Array


def normal(key: Any, cell: Cell, x: Array, j: int = 0) -> Array:
    """The j-th standard normal of a step, in the shape of x: that of cell i of `sde.BrownianGrid(key, ...)`."""
    if isinstance(key, Given):
        return key.normals[j]
    return normals(key, cell.i, x.shape, x.dtype, first=j * x.size)


class Counting(Spellings):
    """A view of a predictor that counts the evaluations of the network while a step is traced.

    What happens inside a loop or a branch of the compiled program is not seen here: such a step calls `predictor`
    itself and reports by `add`.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.calls: Any = 0

    @property
    def schedule(self) -> Schedule:
        return self.predictor.schedule

    def add(self, calls: Any) -> None:
        """So many evaluations more, a number or a traced one."""
        self.calls = self.calls + calls

    def __call__(self, x: Any, t: Any, to: Kind) -> Array:
        self.add(1)
        return self.predictor(x, t, to)


class Sampler(eqx.Module):
    """How x is carried from one time to the next. Options are fields.

    order:      of the error in the step of the clock it steps in: of the path where nothing is drawn, else of mean and
                covariance; None where no order is claimed.
    stochastic: whether steps draw noise, so that a key is needed.
    cost:       evaluations of one step. adaptive: whether it tries steps of its own, each of that cost, inside those of
                the grid.
    spacing:    of its own grid; `times` makes it.
    clean:      whether a grid may end without any noise, σ = 0, where there is no score.
    flows:      whether it asks for the velocity alone, which may exist there too.
    """

    order = property(lambda self: None)
    stochastic = property(lambda self: False)
    cost = property(lambda self: 1)
    adaptive = property(lambda self: False)
    clean = property(lambda self: False)
    flows = property(lambda self: False)

    @property
    def spacing(self) -> Spacing:
        return "log-snr"

    def start(self, predict: Counting, ts: Float[Array, " k"], x: Array) -> Any:
        """The memory before the first step; nothing by default."""
        return ()

    def times(self, schedule: Schedule, n: int, spacing: Spacing | None = None) -> Float[Array, " k"]:
        """A grid of n steps, of the sampler's own spacing unless it is named. Where the time is the noise itself (EDM),
        equal steps of t would leave the data to one of them: "edm" takes the place of "uniform".
        """
        own = "edm" if self.spacing == "uniform" and isinstance(schedule, EDM) else self.spacing
        return times(schedule, n, spacing or own)

    def steps_for(self, nfe: int) -> int:
        """How many steps a budget of evaluations allows."""
        name = type(self).__name__
        if self.adaptive:
            raise InputError(
                f"nfe={nfe!r} for {name}", "it chooses its steps by their error", "a tolerance", f"{name}(rtol=...)"
            )
        if isinstance(nfe, bool) or not isinstance(nfe, int) or nfe < self.cost:
            raise InputError(f"nfe={nfe!r}", f"a step of {name} costs {self.cost}", f"at least {self.cost} evaluations")
        return nfe // self.cost

    @abc.abstractmethod
    def step(self, predict: Counting, cell: Cell, x: Array, memory: Any, *, key: Any) -> tuple[Array, Any]:
        """State at the time s, and the memory for the next step. `key`: of the whole path; draw by `normal`."""


class Samples(eqx.Module):
    """What came out: one path, or many along a leading axis.

    x:      the state at the last time.
    ts:     the times (n + 1,), decreasing.
    xs:     the states at all of them (n + 1, ...), the start first; None unless `save`.
    nfe:    evaluations of the network that it took.
    failed: the number of the first step that was not finite, or -1.
    """

    x: Array
    ts: Float[Array, " k"]
    xs: Array | None
    nfe: Int[Array, "*b"]
    failed: Int[Array, "*b"]


def sample(
    predictor: Predictor,
    x: Array,
    ts: Float[Array, " k"],
    *,
    sampler: Sampler,
    key: Key[Array, ""] | None = None,
    save: bool = False,
) -> Samples:
    """One path from x at ts[0] down to ts[-1], traced; `jax.vmap` over x and key for many, or `draw`.

    x: any shape, made of the default float type or a wider one. ts: decreasing, at least two. Raises InputError for a
    sampler that draws noise and has no key.
    """
    if sampler.stochastic and key is None:
        name = type(sampler).__name__
        raise InputError(f"no key for {name}", "it draws noise at every step", "key=jax.random.key(seed)")
    x, ts = (jnp.asarray(a, jnp.promote_types(jnp.result_type(a), jnp.result_type(float))) for a in (x, ts))
    n = len(ts) - 1
    before = jnp.concatenate([ts[:1], ts[:-2]])
    starting = Counting(predictor)
    memory = sampler.start(starting, ts, x)

    def one(carry: Any, at: tuple[Array, Array, Array, Array]) -> tuple[Any, Any]:
        x, memory, failed, nfe = carry
        predict, (t, s, last, i) = Counting(predictor), at
        x, memory = sampler.step(predict, Cell(t, s, last, i, n), x, memory, key=key)
        failed = jnp.where((failed < 0) & ~jnp.isfinite(x).all(), i, failed)
        return (x, memory, failed, nfe + predict.calls), x if save else None

    carry = (x, memory, jnp.asarray(-1), jnp.asarray(starting.calls))
    (end, _, failed, nfe), xs = lax.scan(one, carry, (ts[:-1], ts[1:], before, jnp.arange(n)))
    return Samples(end, ts, jnp.concatenate([x[None], xs]) if save else None, nfe, failed)

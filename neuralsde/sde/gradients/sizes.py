"""What a gradient mode will cost, from the shapes of the problem and nothing else: no solve is run.

Every mode's memory is made of three sizes, all for one path: the carry c between two steps, the state s that is saved
at every time of `ts`, and r, what reverse mode keeps of one step (counted in the step's own linearisation).

    Backprop                      N r
    Checkpointed()                N c + r
    Checkpointed(segments=S)      (S ⌈log_S N⌉) c + r
    Reversible                    (segments + 4) c + r / links of a step
    ContinuousAdjoint             6 s + r / evaluations of a step

each times the number of paths, plus 2 s for every saved time and, once, the gradient of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Var

from neuralsde.sde.gradients.adjoint import ContinuousAdjoint
from neuralsde.sde.gradients.base import Gradient, Loop
from neuralsde.sde.gradients.checkpoint import Backprop, Checkpointed
from neuralsde.sde.gradients.pure import take_out
from neuralsde.sde.gradients.reversible import Reversible
from neuralsde.sde.methods.reversible import ReversibleMethod
from neuralsde.sde.process import SDE


class Sizes(NamedTuple):
    """Bytes for one path, and evaluations of one step.

    carry, state: as above. residuals: r. weights: of everything that a gradient is taken of, counted once.
    drift, diffusion: evaluations of one forward step.
    """

    carry: int
    state: int
    residuals: int
    weights: int
    drift: float
    diffusion: float


class Cost(NamedTuple):
    """Of one mode for one solve. memory: bytes; drift, diffusion: evaluations of one path, both passes together.

    exact: whether the gradient is that of the solve; refused: why the mode does not apply, else "".
    """

    memory: int
    drift: int
    diffusion: int
    exact: str
    refused: str = ""


def measure(loop: Loop, carry: Any) -> Sizes:
    """The sizes of a loop, by abstract evaluation."""
    y = loop.method.state(carry[0] if loop.changes else carry)
    pure, consts = take_out(loop, y)
    floats = [i for i, x in enumerate(consts) if i not in pure.times and jnp.issubdtype(x.dtype, jnp.inexact)]

    def kept(consts: tuple[Any, ...], carry: Any) -> list[Any]:
        def step(values: list[Any], carry: Any) -> Any:
            full = list(consts)
            for i, value in zip(floats, values, strict=True):
                full[i] = value
            return pure.loop(tuple(full)).step(carry, 0)

        return jax.tree.leaves(jax.vjp(step, [consts[i] for i in floats], carry)[1])

    jaxpr = jax.make_jaxpr(kept)(consts, carry).jaxpr
    given = {*jaxpr.invars, *jaxpr.constvars}
    fresh = {x for x in jaxpr.outvars if isinstance(x, Var) and x not in given}
    counts = _Counts()
    counted = loop._replace(process=counts.of(loop.process))
    jax.eval_shape(lambda c: counted.step(c, 0), carry)
    return Sizes(
        sum(_bytes(leaf) for leaf in jax.tree.leaves(carry)),
        _bytes(y),
        sum(_bytes(x.aval) for x in fresh),
        sum(_bytes(consts[i]) for i in floats),
        counts.drift,
        counts.diffusion,
    )


def cost(mode: Gradient, loop: Loop, sizes: Sizes, batch: int) -> Cost:
    """What `mode` costs for `batch` paths."""
    steps, carry, left = loop.gaps * loop.substeps, sizes.carry, 2 * loop.gaps * sizes.state
    passes, exact = 2.0, "exact"
    refused = mode.refusal(loop) if isinstance(mode, Reversible | ContinuousAdjoint) else None
    if refused is not None:
        return Cost(0, 0, 0, "", f"{refused[0]}; {refused[1]}")
    if isinstance(mode, Checkpointed):
        stored, passes = _checkpoints(mode, loop.gaps, loop.substeps)
        memory = stored * carry + sizes.residuals
    elif isinstance(mode, Reversible):
        links = len(loop.method.links) if isinstance(loop.method, ReversibleMethod) else 1
        memory = (mode.parts(loop) + 4) * carry + sizes.residuals // links
        exact, passes = "exact while contraction · time < 8 (float32: 5), else NaN", 3.0 if mode.check else 2.0
    elif isinstance(mode, ContinuousAdjoint):
        memory = 6 * sizes.state + sizes.residuals // max(1, sizes.drift)
        if mode.backward(loop) != loop.method:  # Heun's two evaluations on the way back
            sizes = sizes._replace(drift=(sizes.drift + 2) / 2, diffusion=(sizes.diffusion + 2) / 2)
        exact = "of the equation, not of the solve: error falls with the order of the method"
    else:
        memory, passes = steps * sizes.residuals, 1.0
    times = passes * steps
    total = int(batch * (memory + left) + 2 * sizes.weights)
    return Cost(total, int(times * sizes.drift), int(times * sizes.diffusion), exact)


def candidates() -> Iterator[Gradient]:
    """Modes in the order in which `Auto` tries them: less and less memory, more and more work."""
    yield Backprop()
    yield Checkpointed()
    yield Checkpointed(segments="sqrt")
    for segments in (16, 4, 2):
        yield Checkpointed(segments=segments)
    yield Reversible()


def _checkpoints(mode: Checkpointed, gaps: int, substeps: int) -> tuple[int, float]:
    """Carries that are stored at one time, and forward passes."""
    if mode.segments is None:
        return gaps * substeps, 2.0
    stored, passes = 0, 2.0
    for n, parts in zip((gaps, substeps), mode.parts(gaps, substeps), strict=True):
        if n > 1:
            levels = max(1, math.ceil(math.log(n) / math.log(parts) - 1e-9))
            stored, passes = stored + min(n, parts * levels), passes + levels - 1
    return max(stored, 1), passes


class _Counts:
    """Counts calls of the coefficients while a step is traced."""

    def __init__(self) -> None:
        self.drift = self.diffusion = 0

    def of(self, process: SDE) -> SDE:
        def drift(t: Any, y: Any, args: Any) -> Any:
            self.drift += 1
            return process.drift(t, y, args)

        def diffusion(t: Any, y: Any, args: Any) -> Any:
            self.diffusion += 1
            return process.diffusion(t, y, args)

        return SDE(drift, diffusion, process.noise, process.calculus)


def _bytes(x: Any) -> int:
    return math.prod(x.shape) * x.dtype.itemsize

"""A loop as a pure function of arrays: what its functions close over, its weights, `args` and its times made visible.

A user's drift may be a closure over a traced parameter. A rule that is differentiated by hand would miss it, so every
array that the coefficients or the path depend on is hoisted into one flat tuple of consts, and the loop is rebuilt from
that tuple wherever it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from neuralsde.sde.brownian import BrownianPath, Cell
from neuralsde.sde.gradients.base import Loop
from neuralsde.sde.process import SDE


class Free(eqx.Module):
    """A coefficient without `args`: they are among its leaves."""

    function: Callable[[Any, Any], Any]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.function(t, y)


class PureLoop(NamedTuple):
    """A loop without its arrays.

    shell:   the loop; its process, path and args are taken out.
    rebuild: process and path from the consts.
    times:   which consts belong to the path.
    """

    shell: Loop
    rebuild: Callable[[tuple[Any, ...]], tuple[SDE, BrownianPath]]
    times: frozenset[int]

    @property
    def steps(self) -> int:
        """All of them."""
        return self.shell.gaps * self.shell.substeps

    def loop(self, consts: tuple[Any, ...]) -> Loop:
        """The loop again."""
        process, path = self.rebuild(consts)
        return self.shell._replace(process=process, path=path)

    def process(self, consts: tuple[Any, ...]) -> SDE:
        """Its process."""
        return self.rebuild(consts)[0]

    def cell(self, consts: tuple[Any, ...], n: Any, dtype: Any) -> Cell:
        """Its cell n."""
        return self.rebuild(consts)[1].cell(n, self.shell.brownian, dtype, self.shell.method.needs)


def take_out(loop: Loop, y: Array) -> tuple[PureLoop, tuple[Any, ...]]:
    """The loop as a pure one, and its consts, for states like y."""
    t = jnp.zeros((), y.dtype)

    def free(coefficient: Any) -> Free:
        return Free(eqx.filter_closure_convert(lambda t, y: coefficient(t, y, loop.args), t, y))

    process = SDE(free(loop.process.drift), free(loop.process.diffusion), loop.process.noise, loop.process.calculus)
    arrays, rest = eqx.partition((process, loop.path), eqx.is_array)
    consts, tree = jax.tree.flatten(arrays)
    of_path = len(jax.tree.leaves(arrays[1]))

    def rebuild(consts: tuple[Any, ...]) -> tuple[SDE, BrownianPath]:
        return eqx.combine(jax.tree.unflatten(tree, consts), rest)

    shell = loop._replace(process=None, path=None, args=None)  # put back by `loop`
    return PureLoop(shell, rebuild, frozenset(range(len(consts) - of_path, len(consts)))), tuple(consts)

"""Optimise, then discretise: the adjoint equation is an SDE of its own, solved backward on the same Brownian path.

For dy = f dt + g ∘ dW the sensitivities λ = ∂L/∂y and θ̄ = ∂L/∂θ obey, with decreasing time,

    dy = f dt + g ∘ dW,     dλ = -(λ·∂f/∂y) dt - (λ·∂g/∂y) ∘ dW,     dθ̄ = -(λ·∂f/∂θ) dt - (λ·∂g/∂θ) ∘ dW

(Li, Wong, Chen & Duvenaud 2020). Stratonovich's calculus is what makes it run backward; an Ito process is converted
for the way back, at the cost that `SDE.to` states. Memory does not depend on the number of steps. The result is the
gradient of the *equation*, up to the error of two solves: it differs from that of the solve, and the difference falls
with the order of the method.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from neuralsde.errors import InputError
from neuralsde.sde.brownian import Cell
from neuralsde.sde.gradients.base import Gradient, Loop, Ran, count, scan_gaps
from neuralsde.sde.gradients.pullback import Arrays, HandWritten, Solved, solve
from neuralsde.sde.gradients.pure import PureLoop, take_out
from neuralsde.sde.methods.base import Method
from neuralsde.sde.methods.heun import Heun
from neuralsde.sde.process import SDE, Scalar, Stratonovich


@dataclasses.dataclass(frozen=True)
class ContinuousAdjoint(Gradient):
    """The adjoint SDE on the replayed path; for y0 and everything that the coefficients depend on, not for times.

    method: what solves it. None: the method of the forward pass where that is one for Stratonovich that needs W alone
            (Heun, midpoint, Euler-Heun, Milstein), else Heun().
    The states saved at `ts` are kept, and the way back starts anew from each.
    """

    method: Method | None = None

    def __post_init__(self) -> None:
        if self.method is not None and not solves_adjoint(self.method):
            raise InputError(
                f"ContinuousAdjoint(method={self.method!r})",
                "the adjoint equation is solved in Stratonovich's calculus by one step from W alone",
                "Heun(), Midpoint(), EulerHeun() or Milstein()",
            )

    def run(self, loop: Loop, carry: Any) -> Ran:
        """The plain loop forward; the adjoint equation on the way back."""
        why = self.refusal(loop)
        if why:
            raise InputError("gradient=ContinuousAdjoint()", why[0], why[1], why[2])
        y0 = loop.method.state(carry)
        pure, consts = take_out(loop, y0)
        states, _, (last, seen) = solve(Adjoint((), (), pure, self.backward(loop)), consts, y0)
        return Ran(last, states, seen)

    def backward(self, loop: Loop) -> Method:
        """The method of the way back."""
        return self.method or (loop.method if solves_adjoint(loop.method) else Heun())

    @staticmethod
    def refusal(loop: Loop) -> tuple[str, str, str] | None:
        """Meaning, expected and hint, where the mode does not apply."""
        if loop.changes is None:
            return None
        return (
            "an event may move or stop the path; the adjoint equation does not know of it",
            "no events",
            "gradient=Checkpointed(), with events",
        )


def solves_adjoint(method: Any) -> bool:
    """Whether a step is a formula in f dt and g·W for Stratonovich, from the state alone."""
    return (
        isinstance(method, Method)
        and Stratonovich in method.calculus
        and method.backwards == "same"
        and not method.needs
        and type(method).init is Method.init
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Adjoint(HandWritten):
    """The solve, and the adjoint equation as its pullback."""

    pure: PureLoop = None  # pyright: ignore[reportAssignmentType] (fields with defaults come first in the base)
    backward: Method = Heun()  # noqa: RUF009 (a frozen value)

    def value(self, consts: Arrays, y0: Array) -> Solved:
        """The loop; nothing is kept beside the states."""
        loop = self.pure.loop(consts)
        carry = loop.method.init(loop.process, loop.path.ends(0)[0].astype(y0.dtype), y0, None)
        ran = scan_gaps(loop, carry, loop.step)
        return Solved(ran.states, (), (ran.last, ran.seen))

    def prepare(self, consts: Arrays, y0: Array, solved: Solved) -> Solved:
        """Refuse what the adjoint equation cannot give."""
        if self.pure.times.intersection(self.wanted):
            raise InputError(
                "a gradient with respect to ts under ContinuousAdjoint()",
                "the adjoint equation is differentiated at fixed times",
                "gradients with respect to y0, args and what drift and diffusion hold",
                "jax.lax.stop_gradient(ts), or gradient=Checkpointed()",
            )
        return solved

    def pull(self, consts: Arrays, y0: Array, states: Array, kept: Any, ct: Array) -> tuple[list[Any], Array]:
        """Back over the gaps, each from its saved state."""
        axis, gaps, substeps = len(self.levels), self.pure.shell.gaps, self.pure.shell.substeps
        draw = self.lift(lambda c, n: self.pure.cell(c, n, y0.dtype))
        size = y0.size

        def one(z: Array, n: Any) -> tuple[Array, None]:
            process = self._augmented(consts, y0.shape, n, draw(consts, n))
            unit = jnp.ones((), z.dtype)
            return self.backward.step(process, z, Cell(0 * unit, unit, unit, unit), None), None

        def gap(z: Array, k: Any) -> tuple[Array, None]:
            y, more = (lax.dynamic_index_in_dim(x, k, axis, keepdims=False).reshape(-1) for x in (states, ct))
            z = jnp.concatenate([y, z[size : 2 * size] + more, z[2 * size :]])
            return count(one, z, (k + 1) * substeps - 1, substeps, step=-1)

        weights = sum(consts[i].size for i in self.wanted)
        z, _ = lax.scan(gap, jnp.zeros(2 * size + weights, y0.dtype), jnp.arange(gaps)[::-1])
        return self._values(consts, z[2 * size :]), z[size : 2 * size].reshape(y0.shape)

    def _augmented(self, consts: Arrays, shape: tuple[int, ...], n: Any, cell: Cell) -> SDE:
        """The equation of z = (y, λ, θ̄) over one cell run backward, in a time s from 0 to 1, with its own W = 1.

        For a formula in f dt and g·W, one Brownian motion along -g·W is the same as all of them along g.
        """
        process = self.pure.process
        noise = self.pure.process(consts).noise
        size = math.prod(shape)

        def drift(c: Arrays, n: Any, t: Array, y: Array, cell: Cell) -> Array:
            return process(c).to(Stratonovich()).drift(t, y, None) * -cell.dt

        def diffusion(c: Arrays, n: Any, t: Array, y: Array, cell: Cell) -> Array:
            return noise.apply(process(c).diffusion(t, y, None), -cell.W)

        def field(coefficient: Any) -> Any:
            lifted = self.lift(coefficient)

            def of(s: Array, z: Array, args: Any) -> Array:
                y, adjoint = z[:size].reshape(shape), z[size : 2 * size].reshape(shape)
                t = cell.t1 - s * cell.dt
                values = [consts[i] for i in self.wanted]
                moved, pull = jax.vjp(lambda v, y: lifted(self.with_wanted(v, consts), n, t, y, cell), values, y)
                of_values, of_y = pull(adjoint)
                # Backward in time dt and W are negative already: the minus of the adjoint equation stays.
                flat = [v.reshape(-1).astype(z.dtype) for v in of_values]
                return jnp.concatenate([moved.reshape(-1), -of_y.reshape(-1), *(-v for v in flat)])

            return of

        return SDE(field(drift), field(diffusion), Scalar(depends="commutative"), Stratonovich())

    def _values(self, consts: Arrays, flat: Array) -> list[Array]:
        values, at = [], 0
        for i in self.wanted:
            like = consts[i]
            values.append(flat[at : at + like.size].reshape(like.shape).astype(like.dtype))
            at += like.size
        return values

"""The reversible wrapper: any step Ψ that nearly undoes itself becomes exactly reversible, as a pair of states.

    y' = λ y + (1 - λ) z + Ψ_{h,W}(z),     z' = z - Ψ_{-h,-W}(y'),     Ψ the increment of the wrapped step,
    z = z' + Ψ_{-h,-W}(y'),                y = (y' - (1 - λ) z - Ψ_{h,W}(z)) / λ.

McCallum & Foster 2024. The coupling λ < 1 pulls the two states together, which damps a little; with λ = .99 decays of
more than about .1 a step are still lost, as they are to reversible Heun. Two limits (THEORY 8). The pair converges to
the solution only if Ψ_{-h,-W} ∘ Ψ_{h,W} = id + o(h): right for Heun, midpoint and Milstein; Euler-Maruyama with noise
that depends on the state would converge to another equation, and is refused, as are steps with roots of h or variables
of their own. And y is divided by λ in every step back, which amplifies rounding by λ^-n. Past 9/(1 - λ) steps most
digits are gone; states are stored every 4/(1 - λ) steps, which costs at most two digits (e⁴ = 55).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from jaxtyping import Array

from neuralsde.errors import InputError
from neuralsde.sde.brownian import Cell
from neuralsde.sde.methods.base import Method
from neuralsde.sde.methods.reversible import Link, ReversibleMethod
from neuralsde.sde.process import SDE, Diagonal, General, Ito, Noise, Scalar, Stratonovich

_Pair = tuple[Array, Array]


@dataclasses.dataclass(frozen=True)
class ReversiblePair(ReversibleMethod):
    """A one-step method as a reversible pair: `ReversiblePair(Heun())`, with `gradient=Reversible()`.

    base:     the wrapped method; its calculus, noise and orders are those of the pair.
    coupling: λ in (0, 1). Nearer 1: longer reach back; further from 1: more damping.
    Not for decays of more than about .1 a step over many steps: they are lost, and end in `Result.UNSTABLE`.
    """

    base: Method
    coupling: float = 0.99

    calculus: ClassVar[tuple[type, ...]] = (Ito, Stratonovich)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar, General)
    paper: ClassVar[str] = "McCallum & Foster 2024, Efficient, accurate and stable gradients for neural ODEs"
    far: ClassVar[float] = 3.0  # half of it is in y
    evaluations: ClassVar[str] = "twice those of the wrapped method"

    def __post_init__(self) -> None:
        if not isinstance(self.base, Method) or isinstance(self.base, ReversibleMethod):
            raise InputError(
                f"ReversiblePair({self.base!r})", "not a one-step method", "a method such as Heun() or Milstein()"
            )
        if not 0 < self.coupling < 1:
            raise InputError(f"coupling={self.coupling!r}", expected="a number between 0 and 1", hint="0.99")
        if type(self.base).init is not Method.init:
            raise InputError(
                f"ReversiblePair({self.base!r})", "a method that carries more than the state", "a one-step method"
            )

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the wrapped method."""
        return self.base.needs

    @property
    def reach(self) -> int:
        """4/(1 - λ) steps: rounding grows by λ^-n, some e⁴."""
        return max(1, round(4 / (1 - self.coupling)))

    def init(self, process: SDE, t0: Array, y0: Array, args: Any) -> _Pair:
        """Both states at y0; refuses what the wrapper cannot do for this process."""
        self._check(process)
        return y0, y0

    def step(self, process: SDE, carry: _Pair, cell: Cell, args: Any) -> _Pair:
        """Both links."""
        y, z = carry
        y = self.coupling * y + (1 - self.coupling) * z + self._move(process, z, cell, args)
        return y, z - self._move(process, y, _mirrored(cell), args)

    def undo(self, process: SDE, carry: _Pair, cell: Cell, args: Any) -> _Pair:
        """Both links back."""
        return self._undo_y(process, self._undo_z(process, carry, cell, cell, args), cell, cell, args)

    def state(self, carry: _Pair) -> Array:
        """Y."""
        return carry[0]

    def copy(self, carry: _Pair) -> Array:
        """Z."""
        return carry[1]

    def strong_order(self, noise: Noise) -> float | None:
        """That of the wrapped method."""
        return self.base.strong_order(noise)

    def weak_order(self, noise: Noise) -> float:
        """That of the wrapped method."""
        return self.base.weak_order(noise)

    @property
    def links(self) -> tuple[Link, ...]:
        """First y moves by z, then z by y."""
        return Link(self._step_y, self._undo_y), Link(self._step_z, self._undo_z)

    def position(self, process: SDE, carry: _Pair, cell: Cell) -> _Pair:
        """The carry itself."""
        return carry

    def arrive(self, process: SDE, x: _Pair, cell: Cell, args: Any) -> Array:
        """Y."""
        return x[0]

    def _step_y(self, process: SDE, x: _Pair, before: Cell, cell: Cell, args: Any) -> tuple[_Pair, Array]:
        y, z = x
        return (self.coupling * y + (1 - self.coupling) * z + self._move(process, z, cell, args), z), y

    def _undo_y(self, process: SDE, x: _Pair, before: Cell, cell: Cell, args: Any) -> _Pair:
        y, z = x
        return (y - (1 - self.coupling) * z - self._move(process, z, cell, args)) / self.coupling, z

    def _step_z(self, process: SDE, x: _Pair, before: Cell, cell: Cell, args: Any) -> tuple[_Pair, None]:
        y, z = x
        return (y, z - self._move(process, y, _mirrored(cell), args)), None

    def _undo_z(self, process: SDE, x: _Pair, before: Cell, cell: Cell, args: Any) -> _Pair:
        y, z = x
        return y, z + self._move(process, y, _mirrored(cell), args)

    def _move(self, process: SDE, y: Array, cell: Cell, args: Any) -> Array:
        """Ψ: the increment of the wrapped step."""
        return self.base.step(process, y, cell, args) - y

    def _check(self, process: SDE) -> None:
        name = type(self.base).__name__
        if not self.base.takes(process.noise, process.calculus):
            raise InputError(
                f"ReversiblePair({name}()) for a {type(process.calculus).__name__} process with {process.noise}",
                f"{name} itself does not take that process",
                f"calculus {' or '.join(kind.__name__ for kind in self.base.calculus)}"
                f" and noise {', '.join(kind.__name__ for kind in self.base.noise)}",
                f"process.to({self.base.calculus[0].__name__}()), or another method inside",
            )
        left_point = self.base.backwards == "corrected" and process.noise.depends != "additive"
        if left_point or self.base.backwards == "refused" or "key" in self.base.needs:
            raise InputError(
                f"ReversiblePair({name}()) with noise {process.noise}",
                "the step with negative dt and W does not lead back, so the pair would converge to another equation",
                "a step that returns along its path: Heun, midpoint, Milstein; any of them for additive noise",
                "ReversiblePair(Heun()) with process.to(Stratonovich()), or gradient=Checkpointed() with the method",
            )


def _mirrored(cell: Cell) -> Cell:
    """The same piece of path from its end to its start (THEORY 6)."""
    area = None if cell.A is None else -cell.A
    return Cell(cell.t1, cell.t0, -cell.dt, -cell.W, cell.H, area, cell.key)

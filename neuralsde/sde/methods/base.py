"""What a method is: data (calculus, noise, orders, evaluations), a formula, and a paper.

A method advances one path over one `Cell` of a Brownian path. Orders are lower bounds in the step length: strong,
E|y_T - Y_T| = O(dt^p) on the same Brownian path; weak, |E φ(y_T) - E φ(Y_T)| = O(dt^q) for smooth φ. They depend on
the noise's shape and on what it depends on (THEORY 1), so they are functions of the noise and not constants.

A one-step method carries the state y and nothing else. One that carries more (reversible Heun: a second state and the
last evaluations) says how its carry begins (`init`) and where y is in it (`state`).
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Literal

from jaxtyping import Array

from neuralsde.sde.brownian import Cell
from neuralsde.sde.process import SDE, Calculus, General, Noise, Scalar

Backwards = Literal["same", "corrected", "refused"]
EVERY_DEPENDENCE = ("additive", "separable", "commutative", "any")


def commutes(noise: Noise) -> bool:
    """Whether (∂G_·j) G_·k = (∂G_·k) G_·j for all pairs, as declared: then no method needs the area A (THEORY 1).

    One Brownian motion always does; entries that each depend on themselves do when every entry has its own motion, but
    not through a matrix.
    """
    alone = isinstance(noise, Scalar) or (isinstance(noise, General) and noise.m == 1)
    return alone or noise.depends in ("additive", "commutative") or separable(noise)


def separable(noise: Noise) -> bool:
    """Whether, as declared, one JVP along g gives every g_i ∂_i g_i: diagonal noise, no entry moved by another's g."""
    return not isinstance(noise, General | Scalar) and noise.depends in ("separable", "commutative")


class Method(abc.ABC):
    """A way to take one step. The class variables say what it is for:

    calculus, noise, depends: the processes that it can take, by calculus, by shape and by dependence of the noise;
                 what these three cannot say, `takes` decides and `limits` tells.
    paper:       where it comes from.
    needs:       what it wants from a cell beyond W: a subset of {"H", "A", "key"}.
    evaluations: of drift and diffusion for one step, in words.
    backwards:   what decreasing times need (THEORY 6). "same": the formula with negative dt and W. "corrected": it is a
                 left-point method for Ito, which returns along its path only with the drift f - Σ_j (∂G_·j) G_·j.
                 "refused": it has roots of dt or random variables of its own.
    reversible:  whether `undo` inverts `step` in closed form.
    """

    calculus: ClassVar[tuple[type, ...]]
    noise: ClassVar[tuple[type, ...]]
    paper: ClassVar[str]
    evaluations: ClassVar[str]
    depends: ClassVar[tuple[str, ...]] = EVERY_DEPENDENCE
    limits: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()
    backwards: ClassVar[Backwards] = "same"
    reversible: ClassVar[bool] = False

    def init(self, process: SDE, t0: Array, y0: Array, args: Any) -> Any:
        """What is carried from step to step, at the start."""
        return y0

    @abc.abstractmethod
    def step(self, process: SDE, carry: Any, cell: Cell, args: Any) -> Any:
        """The carry at the end of the cell, from that at its start; same shapes and dtypes."""

    def state(self, carry: Any) -> Array:
        """y, from what is carried."""
        return carry

    def undo(self, process: SDE, carry: Any, cell: Cell, args: Any) -> Any:
        """The carry at the start of the cell, from that at its end; only where `reversible`."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse")

    @abc.abstractmethod
    def strong_order(self, noise: Noise) -> float | None:
        """Order on the same Brownian path, for smooth coefficients that grow at most linearly; None: no claim."""

    @abc.abstractmethod
    def weak_order(self, noise: Noise) -> float:
        """Order of expectations, under the same conditions."""

    @classmethod
    def takes(cls, noise: Noise, calculus: Calculus) -> bool:
        """Whether the method is meant for processes of this noise and calculus."""
        return isinstance(noise, cls.noise) and isinstance(calculus, cls.calculus) and noise.depends in cls.depends

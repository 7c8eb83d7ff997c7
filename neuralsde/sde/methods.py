"""One-step methods: each is data (calculus, noise, orders), a formula, and a paper.

A method advances one path over one `Cell` (t0, dt, W) of a Brownian path. Orders are lower bounds in the step length:
strong, E|y_T - Y_T| = O(dt^p) on the same Brownian path; weak, |E φ(y_T) - E φ(Y_T)| = O(dt^q) for smooth φ. They
depend on the noise's shape and on its dependence, so they are functions of the noise and not constants.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

from jaxtyping import Array

from neuralsde.errors import InputError
from neuralsde.sde.brownian import Cell
from neuralsde.sde.process import SDE, Calculus, Diagonal, General, Ito, Noise, Scalar


class Method(abc.ABC):
    """A one-step method. `calculus` and `noise` say which processes it can take; `paper` where it comes from."""

    calculus: ClassVar[tuple[type, ...]]
    noise: ClassVar[tuple[type, ...]]
    paper: ClassVar[str]

    @abc.abstractmethod
    def step(self, process: SDE, y: Array, cell: Cell, args: Any) -> Array:
        """The state at the end of the cell, from the state at its start; same shape and dtype."""

    @abc.abstractmethod
    def strong_order(self, noise: Noise) -> float:
        """Order on the same Brownian path, for smooth coefficients that grow at most linearly."""

    @abc.abstractmethod
    def weak_order(self, noise: Noise) -> float:
        """Order of expectations, under the same conditions."""

    @classmethod
    def takes(cls, noise: Noise, calculus: Calculus) -> bool:
        """Whether the method is meant for processes of this noise and calculus."""
        return isinstance(noise, cls.noise) and isinstance(calculus, cls.calculus)


@dataclasses.dataclass(frozen=True)
class EulerMaruyama(Method):
    """y + drift dt + diffusion · W.

    Ito, every noise. Strong order ½, 1 for additive noise; weak order 1.
    """

    calculus: ClassVar[tuple[type, ...]] = (Ito,)
    noise: ClassVar[tuple[type, ...]] = (Diagonal, Scalar, General)
    paper: ClassVar[str] = "Maruyama 1955, Rend. Circ. Mat. Palermo 4; orders: Kloeden & Platen 1992, §10.2 and §14.1"

    def step(self, process: SDE, y: Array, cell: Cell, args: Any) -> Array:
        """One step of the formula."""
        drift = process.drift(cell.t0, y, args)
        diffusion = process.diffusion(cell.t0, y, args)
        return y + drift * cell.dt + process.noise.apply(diffusion, cell.W)

    def strong_order(self, noise: Noise) -> float:
        """½, or 1 when the noise is additive."""
        return 1.0 if noise.depends == "additive" else 0.5

    def weak_order(self, noise: Noise) -> float:
        """1."""
        return 1.0


METHODS: tuple[type[Method], ...] = (EulerMaruyama,)
"""Every method of the package; refusals name those that fit."""


def check_method(method: Method, process: SDE) -> None:
    """Refuse a method whose calculus or noise does not fit the process, and name the methods that do."""
    if not isinstance(method, Method):
        forgot = isinstance(method, type) and issubclass(method, Method)
        raise InputError(
            f"method={method.__name__ if isinstance(method, type) else repr(method)}",
            "a class, not a value" if forgot else "not a method",
            "one of: " + ", ".join(known.__name__ + "()" for known in METHODS),
        )
    if method.takes(process.noise, process.calculus):
        return
    fitting = [known.__name__ + "()" for known in METHODS if known.takes(process.noise, process.calculus)]
    hints = ["method=" + " or ".join(fitting)] if fitting else []
    if isinstance(process.noise, method.noise):
        hints.append(f"method={type(method).__name__}() with process.to({method.calculus[0].__name__}())")
    raise InputError(
        f"{type(method).__name__} for a {type(process.calculus).__name__} process with {process.noise}",
        "it would converge to another process",
        f"a process with calculus {' or '.join(c.__name__ for c in method.calculus)}"
        f" and noise {', '.join(n.__name__ for n in method.noise)}",
        ", or ".join(hints),
    )

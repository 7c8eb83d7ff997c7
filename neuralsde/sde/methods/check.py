"""Which methods there are, and the refusal of one that does not fit, with the names of those that do."""

from __future__ import annotations

from neuralsde.errors import InputError
from neuralsde.sde.methods.base import Method
from neuralsde.sde.methods.euler import EulerMaruyama
from neuralsde.sde.methods.exponential import ExponentialEuler
from neuralsde.sde.methods.guarded import FullTruncationEuler, TamedEuler
from neuralsde.sde.methods.heun import EulerHeun, Heun, Midpoint
from neuralsde.sde.methods.implicit import DriftImplicitEuler
from neuralsde.sde.methods.milstein import Milstein, MilsteinArea
from neuralsde.sde.methods.reversible_heun import ReversibleHeun
from neuralsde.sde.methods.runge_kutta import SRIW1, ShARK
from neuralsde.sde.methods.weak import RI6
from neuralsde.sde.process import SDE

METHODS: tuple[type[Method], ...] = (
    EulerMaruyama,
    Milstein,
    MilsteinArea,
    SRIW1,
    ShARK,
    RI6,
    Heun,
    Midpoint,
    EulerHeun,
    ReversibleHeun,
    TamedEuler,
    FullTruncationEuler,
    DriftImplicitEuler,
    ExponentialEuler,
)
"""Every method of the package."""


def check_method(method: Method, process: SDE) -> None:
    """Refuse a method whose calculus or noise does not fit the process."""
    if not isinstance(method, Method):
        forgot = isinstance(method, type) and issubclass(method, Method)
        raise InputError(
            f"method={method.__name__ if isinstance(method, type) else repr(method)}",
            "a class, not a value" if forgot else "not a method",
            "one of: " + ", ".join(known.__name__ for known in METHODS),
            f"write {method.__name__}(...) with the brackets" if forgot else "method=sde.EulerMaruyama()",
        )
    noise = process.noise
    if method.takes(noise, process.calculus):
        return
    fitting = [known.__name__ for known in METHODS if known.takes(noise, process.calculus)]
    hints = ["one of " + ", ".join(fitting)] if fitting else []
    name, wanted = type(method).__name__, method.calculus[0]
    calculus = isinstance(process.calculus, method.calculus)
    shape = isinstance(noise, method.noise) and noise.depends in method.depends
    if not calculus and method.takes(noise, wanted()):
        hints.insert(0, f"method={name}() with process.to(sde.{wanted.__name__}())")
    kinds = "" if noise.depends in method.depends else f" that is {' or '.join(method.depends)}"
    raise InputError(
        f"{name} for a process of calculus {type(process.calculus).__name__} with {noise}",
        "it would converge to another process" if not calculus else "it has no formula for that noise",
        method.limits
        if calculus and shape
        else f"a process with calculus {' or '.join(c.__name__ for c in method.calculus)}"
        f" and noise {', '.join(n.__name__ for n in method.noise)}{kinds}",
        ", or else ".join(hints),
    )

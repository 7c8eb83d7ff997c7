"""The methods: each file a family, its theory at the head; `base` is the contract, `check` the list of them all.

euler        EulerMaruyama
milstein     Milstein, MilsteinArea                   the next term of the expansion; with the area, for every noise
heun         Heun, Midpoint, EulerHeun                Stratonovich, two stages
reversible_heun  ReversibleHeun                       its reversible form (reversible: the contract of all such)
reversible_pair  ReversiblePair                       any step that returns along its path, made reversible
runge_kutta  ShARK, SRIW1                             strong order 1.5
weak         RI6                                      weak order 2, every noise
guarded      TamedEuler, FullTruncationEuler          drift that grows fast, square roots of the state
implicit     DriftImplicitEuler                       stiff drift
exponential  ExponentialEuler                         a linear part solved exactly
"""

from neuralsde.sde.methods.base import Method, commutes
from neuralsde.sde.methods.check import METHODS, check_method
from neuralsde.sde.methods.euler import EulerMaruyama
from neuralsde.sde.methods.exponential import ExponentialEuler
from neuralsde.sde.methods.guarded import FullTruncationEuler, TamedEuler
from neuralsde.sde.methods.heun import EulerHeun, Heun, Midpoint
from neuralsde.sde.methods.implicit import DriftImplicitEuler
from neuralsde.sde.methods.milstein import Milstein, MilsteinArea
from neuralsde.sde.methods.reversible_heun import ReversibleHeun
from neuralsde.sde.methods.runge_kutta import SRIW1, ShARK
from neuralsde.sde.methods.weak import RI6

__all__ = [
    "METHODS",
    "RI6",
    "SRIW1",
    "DriftImplicitEuler",
    "EulerHeun",
    "EulerMaruyama",
    "ExponentialEuler",
    "FullTruncationEuler",
    "Heun",
    "Method",
    "Midpoint",
    "Milstein",
    "MilsteinArea",
    "ReversibleHeun",
    "ShARK",
    "TamedEuler",
    "check_method",
    "commutes",
]

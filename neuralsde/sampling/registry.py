"""The samplers by the names that a command line uses; options are fields of the classes."""

from __future__ import annotations

from collections.abc import Callable

from neuralsde import sde
from neuralsde.errors import InputError, closest
from neuralsde.sampling.adaptive import AdaptiveODE, AdaptiveSDE
from neuralsde.sampling.ancestral import DDIM, DDPM
from neuralsde.sampling.corrector import AnnealedLangevin, PredictorCorrector
from neuralsde.sampling.dpm import DPMSolver, DPMSolverPP2S
from neuralsde.sampling.edm import EDMHeun
from neuralsde.sampling.loop import Sampler
from neuralsde.sampling.multistep import DPMSolverPP
from neuralsde.sampling.ode import RK4, Euler, Heun
from neuralsde.sampling.reverse import ReverseSDE
from neuralsde.sampling.unipc import UniPC

SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "euler": Euler,
    "heun": Heun,
    "heun-log-snr": lambda: Heun(clock="log-snr"),
    "rk4": RK4,
    "ddim": DDIM,
    "dpm-1": lambda: DPMSolver(1),
    "dpm-2": lambda: DPMSolver(2),
    "dpm-3": lambda: DPMSolver(3),
    "dpmpp-2s": DPMSolverPP2S,
    "dpmpp-2m": DPMSolverPP,
    "unipc-1": lambda: UniPC(1),
    "unipc": UniPC,
    "unipc-3": lambda: UniPC(3),
    "edm-heun": EDMHeun,
    "adaptive-ode": AdaptiveODE,
    "ddpm": DDPM,
    "euler-maruyama": ReverseSDE,
    "reverse-heun": lambda: ReverseSDE(sde.Heun()),
    "reverse-shark": lambda: ReverseSDE(sde.ShARK()),
    "sde-dpmpp-1": lambda: DPMSolverPP(1, eta=1.0),
    "sde-dpmpp-2m": lambda: DPMSolverPP(eta=1.0),
    "edm-churn": lambda: EDMHeun(s_churn=40.0, s_min=0.05, s_max=50.0, s_noise=1.003),
    "pc": PredictorCorrector,
    "adaptive-sde": AdaptiveSDE,
    "annealed-langevin": AnnealedLangevin,
}
"""Deterministic ones first. Each is made with its defaults by a call."""


def sampler_named(name: str) -> Sampler:
    """The sampler of that name with its defaults; InputError with the nearest name for any other."""
    if name not in SAMPLERS:
        raise InputError(f"sampler '{name}'", "there is none of that name", hint=closest(name, SAMPLERS))
    return SAMPLERS[name]()

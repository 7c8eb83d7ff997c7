"""What a network says about x_t: score, noise, x_0, velocity or v; one thing in five spellings.

Given x_t = α x_0 + σ ε, the best guess of any of them fixes the best guess of the others (Salimans & Ho 2022, Lipman et
al. 2023):

    score  ∇log p_t = -ε/σ        noise  ε        x_0        velocity  u = α' x_0 + σ' ε        v = α ε - σ x_0
    ε = (x - α x_0)/σ = (α u - α' x)/(α σ' - α' σ) = (σ x + α v)/(α² + σ²),    x_0 = (x - σ ε)/α = ...

An energy gives a score, s = -∇E, and not the other way round. A velocity learned on pairs (x_0, ε) that were coupled by
optimal transport has no such guess of ε in it: it gives an ODE with the right ends and no score (THEORY 26).
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from neuralsde.errors import InputError, closest
from neuralsde.noising.schedule import Schedule

Kind = Literal["score", "noise", "x0", "velocity", "v"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def convert(value: Any, x: Any, t: Any, schedule: Schedule, source: Kind, to: Kind) -> Array:
    """A prediction of one kind at (x, t) as one of another kind; any shape, that of x.

    Exact both ways wherever both exist: σ > 0 for scores and noise, α > 0 for x_0. No division that is not needed.
    Raises InputError for an unknown kind, and for an energy, which no value at a point can give.
    """
    for kind in (source, to):
        if kind == "energy":
            raise InputError(
                f"conversion of {source} to {to}",
                "an energy has a score, -∇E, but a score at a point has no energy",
                "source and goal of: " + ", ".join(KINDS),
                "from_energy(energy, schedule), a predictor of the score",
            )
        if kind not in KINDS:
            raise InputError(f"the prediction '{kind}'", "there is none of that name", hint=closest(kind, KINDS))
    if source == to:
        return jnp.asarray(value)
    if to == "score":
        return -_eps(value, x, t, schedule, source) / schedule.sigma(t)
    if to == "noise":
        return _eps(value, x, t, schedule, source)
    if to == "x0":
        return _x_0(value, x, t, schedule, source)
    x_0, eps = _x_0(value, x, t, schedule, source), _eps(value, x, t, schedule, source)
    if to == "velocity":
        return schedule.alpha_rate(t) * x_0 + schedule.sigma_rate(t) * eps
    return schedule.alpha(t) * eps - schedule.sigma(t) * x_0


def _eps(value: Any, x: Any, t: Any, schedule: Schedule, source: Kind) -> Array:
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    if source == "score":
        return -sigma * value
    if source == "noise":
        return value
    if source == "x0":
        return (x - alpha * value) / sigma
    if source == "velocity":
        return (alpha * value - schedule.alpha_rate(t) * x) / _turn(schedule, t)
    return (sigma * x + alpha * value) / (alpha**2 + sigma**2)


def _x_0(value: Any, x: Any, t: Any, schedule: Schedule, source: Kind) -> Array:
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    if source == "x0":
        return value
    if source in ("score", "noise"):
        return (x - sigma * _eps(value, x, t, schedule, source)) / alpha
    if source == "velocity":
        return (schedule.sigma_rate(t) * x - sigma * value) / _turn(schedule, t)
    return (alpha * x - sigma * value) / (alpha**2 + sigma**2)


def _turn(schedule: Schedule, t: Any) -> Array:
    """α σ' - α' σ, the determinant of (x, u) in terms of (x_0, ε)."""
    return schedule.alpha(t) * schedule.sigma_rate(t) - schedule.alpha_rate(t) * schedule.sigma(t)


class Spellings(abc.ABC):
    """What can be asked for any of the kinds: a predictor, and every view of one."""

    @abc.abstractmethod
    def __call__(self, x: Any, t: Any, to: Kind) -> Array:
        """The prediction at (x, t) as one of the kinds."""

    def score(self, x: Any, t: Any) -> Array:
        """∇log p_t(x)."""
        return self(x, t, "score")

    def noise(self, x: Any, t: Any) -> Array:
        """E[ε | x_t = x]."""
        return self(x, t, "noise")

    def x0(self, x: Any, t: Any) -> Array:
        """E[x_0 | x_t = x]."""
        return self(x, t, "x0")

    def velocity(self, x: Any, t: Any) -> Array:
        """dx/dt of the probability flow: α' E[x_0 | x] + σ' E[ε | x]."""
        return self(x, t, "velocity")

    def v(self, x: Any, t: Any) -> Array:
        """α E[ε | x] - σ E[x_0 | x]."""
        return self(x, t, "v")


class Predictor(eqx.Module, Spellings):
    """A network with the schedule it was trained under: what a sampler gets.

    net:         (x, t) -> value, in the shape of x.
    kind:        what the value is.
    independent: whether x_0 and ε were drawn independently in training. Only then has a velocity a score.
    """

    net: Callable[[Any, Any], Any]
    kind: Kind = eqx.field(static=True)
    schedule: Schedule
    independent: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind={self.kind!r}", "there is none of that name", hint=closest(str(self.kind), KINDS))
        if not isinstance(self.schedule, Schedule):
            raise InputError(f"schedule={self.schedule!r}", "not a schedule", "a value, such as noising.VP()")

    def __call__(self, x: Any, t: Any, to: Kind) -> Array:
        """The prediction at (x, t) as one of the kinds."""
        if not self.independent and to != self.kind:
            raise InputError(
                f"a {to} from this {self.kind}",
                "data and noise are coupled (minibatch transport, a flow by likelihood): only the ODE has a meaning",
                "a deterministic sampler that follows the velocity",
                "sampling.Euler() or sampling.Heun(); for a score train with independent pairs",
            )
        return convert(self.net(x, t), x, t, self.schedule, self.kind, to)


class EnergyScore(eqx.Module):
    """-∇E(x, t): the score of p ∝ exp(-E); made by `from_energy`."""

    energy: Callable[[Any, Any], Any]

    def __call__(self, x: Any, t: Any) -> Array:
        return -jax.grad(lambda y: self.energy(y, t))(x)


def from_energy(energy: Callable[[Any, Any], Any], schedule: Schedule) -> Predictor:
    """The predictor of a time-conditioned energy, (x, t) -> scalar, with p_t ∝ exp(-E(·, t))."""
    return Predictor(EnergyScore(energy), "score", schedule)


class Preconditioned(eqx.Module):
    """A network between inputs and targets of variance 1 at every noise (Karras et al. 2022): (x, t) -> x_0.

    With the scale σ_d of the data and n² = α² σ_d² + σ², the variance of x_t,

        x_0 = (α σ_d²/n²) x + (σ σ_d/n) F(x/n, c),    c = ½ log σ̃ / 2 = -log SNR / 8,

    so an F of zeros is the best linear guess. `net`: (scaled x, c) -> in the shape of x.
    """

    net: Callable[[Any, Any], Any]
    schedule: Schedule
    data_sd: float = eqx.field(static=True, default=1.0)

    def __call__(self, x: Any, t: Any) -> Array:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        whole = jnp.sqrt((alpha * self.data_sd) ** 2 + sigma**2)
        F = self.net(x / whole, -0.125 * self.schedule.log_snr(t))
        return alpha * (self.data_sd / whole) ** 2 * x + sigma * self.data_sd / whole * F

    def weight(self, t: Any) -> Array:
        """The weight on |x_0 - guess|² under which F's own targets count alike at every noise: n²/(σ σ_d)²."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return ((alpha * self.data_sd) ** 2 + sigma**2) / (sigma * self.data_sd) ** 2

    def predictor(self) -> Predictor:
        return Predictor(self, "x0", self.schedule)

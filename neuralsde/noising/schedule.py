"""Noise schedules: what the data have become at time t, as one Gaussian kernel and as one SDE.

    x_t = α(t) x_0 + σ(t) ε,   ε ~ N(0, I)                        the kernel, t growing with the noise
    dx = f x dt + g dW,   f = (log α)',   g² = (σ²)' - 2 f σ²      the forward SDE with that kernel from t = 0
    log SNR = log α²/σ²,  σ̃ = σ/α = exp(-½ log SNR)                falls (grows) strictly, so each is a clock too

A schedule states α, σ, their derivatives, g² and the clock log SNR with its inverse, each in closed form and each here
alone; everything in `noising/` and `sampling/` reads them. Sources: VP, sub-VP, VE Song et al. 2021; cosine Nichol &
Dhariwal 2021; EDM Karras et al. 2022; conditional OT Lipman et al. 2023, Liu et al. 2023 (rectified flow).
"""

from __future__ import annotations

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.nn import sigmoid, softplus
from jaxtyping import Array

from neuralsde.errors import InputError
from neuralsde.sde import SDE, Diagonal, Ito


class Schedule(eqx.Module):
    """α, σ and their rates at a time t, a scalar or an array of any shape.

    `t0`, `t1`: the times between which samplers go when they are not told: just above the data, where a score is still
    finite, and where next to nothing is left of them.
    """

    @property
    @abc.abstractmethod
    def t0(self) -> float:
        """The earliest time at which samplers stop by default, above 0."""

    @property
    @abc.abstractmethod
    def t1(self) -> float:
        """The latest time, at which samplers start."""

    @abc.abstractmethod
    def alpha(self, t: Any) -> Array:
        """How much of the data is left: from 1 at t = 0."""

    @abc.abstractmethod
    def sigma(self, t: Any) -> Array:
        """Standard deviation of the noise: from 0 at t = 0, in units of the data."""

    @abc.abstractmethod
    def alpha_rate(self, t: Any) -> Array:
        """dα/dt."""

    @abc.abstractmethod
    def sigma_rate(self, t: Any) -> Array:
        """dσ/dt; infinite at t = 0 where σ begins as a square root."""

    @abc.abstractmethod
    def squared_diffusion(self, t: Any) -> Array:
        """g²(t) = (σ²)' - 2 (log α)' σ²."""

    @abc.abstractmethod
    def log_snr(self, t: Any) -> Array:
        """The clock log α²/σ², strictly falling; infinite at t = 0."""

    @abc.abstractmethod
    def time_at(self, log_snr: Any) -> Array:
        """The time with that log SNR."""

    def log_alpha_rate(self, t: Any) -> Array:
        """f(t) = (log α)', the linear drift."""
        return self.alpha_rate(t) / self.alpha(t)

    def noised(self, x_0: Any, eps: Any, t: Any) -> Array:
        """α(t) x_0 + σ(t) ε for one time; mean and s.d. of the kernel are `alpha(t) * x_0` and `sigma(t)`."""
        return self.alpha(t) * x_0 + self.sigma(t) * eps

    @property
    def prior_sd(self) -> float:
        """S.d. of the law that samplers start from: that of x at t1, for data of mean 0 and s.d. 1."""
        with jax.ensure_compile_time_eval():  # a number, whatever is being traced around it
            return float(jnp.hypot(self.alpha(self.t1), self.sigma(self.t1)))

    def forward(self) -> SDE:
        """The forward SDE from x_0 at t = 0, an ordinary Ito process of any shape of state."""
        return SDE(_Drift(self), _Diffusion(self), Diagonal("additive"), Ito())


class _Drift(eqx.Module):
    schedule: Schedule

    def __call__(self, t: Any, y: Any, args: Any) -> Array:
        return self.schedule.log_alpha_rate(t) * y


class _Diffusion(eqx.Module):
    schedule: Schedule

    def __call__(self, t: Any, y: Any, args: Any) -> Array:
        return jnp.full(jnp.shape(y), jnp.sqrt(self.schedule.squared_diffusion(t)), jnp.result_type(y))


def _ordered(name: str, low: float, high: float, least: float = 0.0) -> None:
    if not least <= low <= high < math.inf:
        raise InputError(f"{name}=({low}, {high})", expected=f"two numbers, {least:g} <= first <= second")


# -- α of exponential form: variance preserving, and sub-VP ------------------------------------------------------------


class _LinearBeta(Schedule):
    """log α = -¼ t² (β₁ - β₀) - ½ t β₀, from a noise rate β(t) that grows linearly over [0, 1]; abstract."""

    beta0: float = eqx.field(static=True, default=0.1)
    beta1: float = eqx.field(static=True, default=20.0)

    def __check_init__(self) -> None:
        _ordered("beta", self.beta0, self.beta1)
        if self.beta1 == 0:
            raise InputError("beta=(0, 0)", "no noise would ever come", "beta1 > 0")

    @property
    def t0(self) -> float:
        return 1e-3

    @property
    def t1(self) -> float:
        return 1.0

    def beta(self, t: Any) -> Array:
        return jnp.asarray(self.beta0 + t * (self.beta1 - self.beta0))

    def log_alpha(self, t: Any) -> Array:
        return -0.25 * jnp.square(t) * (self.beta1 - self.beta0) - 0.5 * jnp.asarray(t) * self.beta0

    def time_of(self, log_alpha: Any) -> Array:
        # The positive root in the form without cancellation, which also serves β₀ = β₁.
        half, slope = 0.5 * self.beta0, self.beta1 - self.beta0
        return -2 * log_alpha / (half + jnp.sqrt(half**2 - slope * log_alpha))

    def alpha(self, t: Any) -> Array:
        return jnp.exp(self.log_alpha(t))

    def alpha_rate(self, t: Any) -> Array:
        return -0.5 * self.beta(t) * self.alpha(t)


class VP(_LinearBeta):
    """Variance preserving, α² + σ² = 1, with the linear noise rate β from `beta0` to `beta1` over [0, 1]: DDPM's."""

    def sigma(self, t: Any) -> Array:
        return jnp.sqrt(-jnp.expm1(2 * self.log_alpha(t)))

    def sigma_rate(self, t: Any) -> Array:
        return 0.5 * self.beta(t) * jnp.square(self.alpha(t)) / self.sigma(t)

    def squared_diffusion(self, t: Any) -> Array:
        return self.beta(t)

    def log_snr(self, t: Any) -> Array:
        return -jnp.log(jnp.expm1(-2 * self.log_alpha(t)))

    def time_at(self, log_snr: Any) -> Array:
        return self.time_of(-0.5 * softplus(-jnp.asarray(log_snr)))


class SubVP(_LinearBeta):
    """VP's α with the smaller noise σ = 1 - α²; better likelihoods (Song et al. 2021)."""

    def sigma(self, t: Any) -> Array:
        return -jnp.expm1(2 * self.log_alpha(t))

    def sigma_rate(self, t: Any) -> Array:
        return self.beta(t) * jnp.square(self.alpha(t))

    def squared_diffusion(self, t: Any) -> Array:
        return -self.beta(t) * jnp.expm1(4 * self.log_alpha(t))

    def log_snr(self, t: Any) -> Array:
        return -2 * jnp.log(2 * jnp.sinh(-self.log_alpha(t)))

    def time_at(self, log_snr: Any) -> Array:
        return self.time_of(-jnp.arcsinh(0.5 * jnp.exp(-0.5 * jnp.asarray(log_snr))))


class Cosine(Schedule):
    """Variance preserving with α = cos φ(t) / cos φ(0), φ = ½ π (t + s) / (1 + s); noise comes slower at both ends.

    `shift`: s. `t1` is a little before 1, where α would be 0.
    """

    shift: float = eqx.field(static=True, default=0.008)

    def __check_init__(self) -> None:
        if not 0 < self.shift < 1:
            raise InputError(f"Cosine(shift={self.shift})", expected="a number between 0 and 1; 0.008 is usual")

    @property
    def t0(self) -> float:
        return 1e-3

    @property
    def t1(self) -> float:
        return 0.9946

    def _phase(self, t: Any) -> Array:
        return 0.5 * math.pi * (jnp.asarray(t) + self.shift) / (1 + self.shift)

    @property
    def _start(self) -> float:
        return 0.5 * math.pi * self.shift / (1 + self.shift)

    def alpha(self, t: Any) -> Array:
        return jnp.cos(self._phase(t)) / math.cos(self._start)

    def sigma(self, t: Any) -> Array:
        # cos² φ₀ - cos² φ = sin(φ - φ₀) sin(φ + φ₀), without the cancellation near t = 0
        phase = self._phase(t)
        return jnp.sqrt(jnp.sin(phase - self._start) * jnp.sin(phase + self._start)) / math.cos(self._start)

    def alpha_rate(self, t: Any) -> Array:
        return -0.5 * math.pi / (1 + self.shift) * jnp.sin(self._phase(t)) / math.cos(self._start)

    def sigma_rate(self, t: Any) -> Array:
        return -self.alpha(t) * self.alpha_rate(t) / self.sigma(t)

    def squared_diffusion(self, t: Any) -> Array:
        return math.pi / (1 + self.shift) * jnp.tan(self._phase(t))

    def log_snr(self, t: Any) -> Array:
        return 2 * (jnp.log(self.alpha(t)) - jnp.log(self.sigma(t)))

    def time_at(self, log_snr: Any) -> Array:
        # cos² φ = α² cos² φ₀; from the sine near the data, where the cosine is flat
        noise = sigmoid(-jnp.asarray(log_snr))
        sine = jnp.sqrt(math.sin(self._start) ** 2 + noise * math.cos(self._start) ** 2)
        cosine = jnp.sqrt(sigmoid(jnp.asarray(log_snr))) * math.cos(self._start)
        return jnp.arctan2(sine, cosine) * 2 * (1 + self.shift) / math.pi - self.shift


# -- nothing is taken from the data: variance exploding ----------------------------------------------------------------


class VE(Schedule):
    """Variance exploding over [0, 1]: α = 1, σ² = σ₀² ((σ₁/σ₀)^{2t} - 1), the exact kernel of g² = (σ² + σ₀²)'.

    `sigma0`, `sigma1`: the scales between which the noise grows geometrically. At `t0` σ is `sigma0`.
    """

    sigma0: float = eqx.field(static=True, default=0.01)
    sigma1: float = eqx.field(static=True, default=50.0)

    def __check_init__(self) -> None:
        _ordered("sigma", self.sigma0, self.sigma1)
        if not 0 < self.sigma0 < self.sigma1:
            raise InputError(f"VE({self.sigma0}, {self.sigma1})", expected="0 < sigma0 < sigma1")

    @property
    def t0(self) -> float:
        return math.log(2) / (2 * self._growth)

    @property
    def t1(self) -> float:
        return 1.0

    @property
    def _growth(self) -> float:
        return math.log(self.sigma1 / self.sigma0)

    def alpha(self, t: Any) -> Array:
        return jnp.ones_like(jnp.asarray(t, float))

    def sigma(self, t: Any) -> Array:
        return self.sigma0 * jnp.sqrt(jnp.expm1(2 * self._growth * jnp.asarray(t)))

    def alpha_rate(self, t: Any) -> Array:
        return jnp.zeros_like(jnp.asarray(t, float))

    def sigma_rate(self, t: Any) -> Array:
        return 0.5 * self.squared_diffusion(t) / self.sigma(t)

    def squared_diffusion(self, t: Any) -> Array:
        return 2 * self._growth * self.sigma0**2 * jnp.exp(2 * self._growth * jnp.asarray(t))

    def log_snr(self, t: Any) -> Array:
        return -2 * jnp.log(self.sigma(t))

    def time_at(self, log_snr: Any) -> Array:
        return jnp.log1p(jnp.exp(-jnp.asarray(log_snr)) / self.sigma0**2) / (2 * self._growth)


class EDM(Schedule):
    """Variance exploding with the noise itself as the time: α = 1, σ = t, from `sigma0` to `sigma1`."""

    sigma0: float = eqx.field(static=True, default=0.002)
    sigma1: float = eqx.field(static=True, default=80.0)

    def __check_init__(self) -> None:
        if not 0 < self.sigma0 < self.sigma1 < math.inf:
            raise InputError(f"EDM({self.sigma0}, {self.sigma1})", expected="0 < sigma0 < sigma1")

    @property
    def t0(self) -> float:
        return self.sigma0

    @property
    def t1(self) -> float:
        return self.sigma1

    def alpha(self, t: Any) -> Array:
        return jnp.ones_like(jnp.asarray(t, float))

    def sigma(self, t: Any) -> Array:
        return jnp.asarray(t, float)

    def alpha_rate(self, t: Any) -> Array:
        return jnp.zeros_like(jnp.asarray(t, float))

    def sigma_rate(self, t: Any) -> Array:
        return jnp.ones_like(jnp.asarray(t, float))

    def squared_diffusion(self, t: Any) -> Array:
        return 2 * jnp.asarray(t, float)

    def log_snr(self, t: Any) -> Array:
        return -2 * jnp.log(t)

    def time_at(self, log_snr: Any) -> Array:
        return jnp.exp(-0.5 * jnp.asarray(log_snr))


# -- straight lines ----------------------------------------------------------------------------------------------------


class CondOT(Schedule):
    """Conditional optimal transport, α = 1 - t, σ = t: the straight lines of flow matching and rectified flow.

    A velocity is finite on all of [0, 1], a score only inside; `t0` and `t1` are inside.
    """

    @property
    def t0(self) -> float:
        return 1e-3

    @property
    def t1(self) -> float:
        return 1.0 - 1e-3

    def alpha(self, t: Any) -> Array:
        return 1.0 - jnp.asarray(t, float)

    def sigma(self, t: Any) -> Array:
        return jnp.asarray(t, float)

    def alpha_rate(self, t: Any) -> Array:
        return -jnp.ones_like(jnp.asarray(t, float))

    def sigma_rate(self, t: Any) -> Array:
        return jnp.ones_like(jnp.asarray(t, float))

    def squared_diffusion(self, t: Any) -> Array:
        return 2 * jnp.asarray(t, float) / self.alpha(t)

    def log_snr(self, t: Any) -> Array:
        return 2 * (jnp.log1p(-jnp.asarray(t, float)) - jnp.log(t))

    def time_at(self, log_snr: Any) -> Array:
        return sigmoid(-0.5 * jnp.asarray(log_snr))


SCHEDULES: dict[str, type[Schedule]] = {
    "vp": VP, "cosine": Cosine, "sub-vp": SubVP, "ve": VE, "edm": EDM, "cond-ot": CondOT,
}  # fmt: skip
"""By the names that a command line uses."""

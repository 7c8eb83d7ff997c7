"""Conditioning without another training: a predictor with something added to its score.

Bayes at every noise, ∇log p_t(x | y) = ∇log p_t(x) + ∇log p_t(y | x), with for the second term

    classifier        w ∇ log p(y | x_t), a classifier of noised inputs               (Dhariwal & Nichol 2021)
    classifier-free   w (s(x | y) - s(x)), w = 1 the conditional, more sharpens       (Ho & Salimans 2022)
                      in an interval of noise outside which w = 1                     (Kynkäänniemi et al. 2024)
    linear inverse    y = A x_0 + σ_y n, by x̂_0 and the Jacobian of it:
        ΠGDM          (y - A x̂_0)ᵀ (r² A Aᵀ + σ_y²)⁻¹ A ∂x̂_0/∂x,  r² = Var(x_0 | x_t)  (Song et al. 2023)
        DPS           -(ζ/σ) ∇ |y - A x̂_0|                                             (Chung et al. 2023)

ΠGDM is exact for Gaussian data whose variance is `data_sd`², and for no other; the others are heuristics for w > 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralsde.errors import InputError
from neuralsde.noising.predict import Predictor
from neuralsde.noising.schedule import Schedule

Interval = tuple[float, float]
"""Noise-to-data ratios σ/α between which guidance acts."""
ALWAYS: Interval = (0.0, float("inf"))


def classifier_guided(
    predictor: Predictor, log_prob: Callable[[Any, Any], Any], *, weight: float = 1.0, interval: Interval = ALWAYS
) -> Predictor:
    """Steered by `log_prob(x, t)`, the log probability of what is wanted given x_t, times `weight`."""
    _check(weight, interval)
    if not callable(log_prob):
        raise InputError(f"log_prob={log_prob!r}", "not a function", "log_prob(x, t) -> scalar, of noised inputs")
    return Predictor(_Classifier(predictor, log_prob, weight, interval), "score", predictor.schedule)


class _Classifier(eqx.Module):
    predictor: Predictor
    log_prob: Callable[[Any, Any], Any]
    weight: float
    interval: Interval = eqx.field(static=True)

    def __call__(self, x: Any, t: Any) -> Array:
        pull = jax.grad(lambda y: self.log_prob(y, t))(x)
        return self.predictor.score(x, t) + _weight(self.weight, self.interval, self.predictor.schedule, t, 0.0) * pull


def classifier_free(
    conditional: Predictor, unconditional: Predictor, *, weight: float, interval: Interval = ALWAYS
) -> Predictor:
    """Guided: unconditional + weight (conditional - unconditional), in the kind of the two; 1 is the conditional.

    Two evaluations of a network in one of the predictor. Raises InputError for predictors that do not match, and for
    two that are one: an unconditional model has nothing to be guided by.
    """
    _check(weight, interval)
    if conditional is unconditional:
        raise InputError(
            "guidance with the same predictor twice",
            "a model that knows no conditions has nothing to be guided by",
            "a conditional and an unconditional predictor",
        )
    if conditional.kind != unconditional.kind or conditional.schedule != unconditional.schedule:
        raise InputError(
            f"guidance of a {conditional.kind} under {conditional.schedule} by a {unconditional.kind} under "
            f"{unconditional.schedule}",
            expected="two predictors of one kind and schedule",
        )
    both = _ClassifierFree(conditional, unconditional, weight, interval)
    independent = conditional.independent and unconditional.independent
    return Predictor(both, conditional.kind, conditional.schedule, independent)


class _ClassifierFree(eqx.Module):
    conditional: Predictor
    unconditional: Predictor
    weight: float
    interval: Interval = eqx.field(static=True)

    def __call__(self, x: Any, t: Any) -> Array:
        with_it, without = self.conditional.net(x, t), self.unconditional.net(x, t)
        return without + _weight(self.weight, self.interval, self.conditional.schedule, t, 1.0) * (
            with_it - without
        )  # every kind is affine in every other


def pigdm(
    predictor: Predictor,
    operator: Float[Array, "m d"],
    observed: Array,
    *,
    noise: float = 0.0,
    data_sd: float = 1.0,
) -> Predictor:
    """Given `observed` = A x_0 + noise, A a matrix (m, d) on the flattened x_0; `inpainting` is that of a mask.

    data_sd: of the data, for the spread of x_0 around its guess, r² = σ² sd² / (α² sd² + σ²).
    """
    A = jnp.asarray(operator)
    if A.ndim != 2 or A.shape[0] != observed.size or not noise >= 0:
        raise InputError(
            f"operator {A.shape}, observed {observed.shape}, noise={noise}",
            expected="a matrix (m, d), m observed numbers and a noise of at least 0",
        )
    eigen, basis = jnp.linalg.eigh(A @ A.T)
    return Predictor(
        _Pigdm(predictor, lambda x: A @ x.ravel(), observed.ravel(), eigen, basis, noise, data_sd),
        "score",
        predictor.schedule,
    )


def inpainting(
    predictor: Predictor, observed: Array, mask: Array, *, noise: float = 0.0, data_sd: float = 1.0
) -> Predictor:
    """Given the entries of x_0 where `mask` is true, up to `noise`; observed and mask in the shape of x."""
    if observed.shape != mask.shape or not noise >= 0:
        raise InputError(
            f"observed {observed.shape}, mask {mask.shape}, noise={noise}",
            expected="two arrays of the shape of a sample, and a noise of at least 0",
        )
    known = mask.astype(observed.dtype)
    seen = jnp.where(mask, observed, 0.0)
    return Predictor(
        _Pigdm(predictor, lambda x: known * x, seen, known, None, noise, data_sd), "score", predictor.schedule
    )


class _Pigdm(eqx.Module):
    """The score with the pull of a linear observation; `eigen`, `basis` of A Aᵀ (basis None: it is diagonal)."""

    predictor: Predictor
    operator: Callable[[Any], Any]
    observed: Array
    eigen: Array
    basis: Array | None
    noise: float
    data_sd: float

    def __call__(self, x: Any, t: Any) -> Array:
        schedule = self.predictor.schedule
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        spread = (sigma * self.data_sd) ** 2 / ((alpha * self.data_sd) ** 2 + sigma**2)
        guess, pull_back = jax.vjp(lambda y: self.predictor.x0(y, t), x)
        off, transpose = self.observed - self.operator(guess), jax.linear_transpose(self.operator, guess)
        turned = off if self.basis is None else self.basis.T @ off
        scaled = turned / (spread * self.eigen + self.noise**2 + jnp.finfo(off.dtype).tiny)
        scaled = scaled if self.basis is None else self.basis @ scaled
        (pull,) = pull_back(transpose(scaled)[0])
        return (guess * alpha - x) / sigma**2 + pull


def dps(predictor: Predictor, operator: Callable[[Any], Any], observed: Array, *, strength: float = 1.0) -> Predictor:
    """Given `observed` ≈ operator(x_0), for an operator of any form: the score less `strength`/σ · ∇|observed - A x̂_0|.

    Divided by σ the pull has the size of the score at every noise, so that one strength serves every schedule.
    """
    if not callable(operator) or not strength > 0:
        raise InputError(f"operator={operator!r}, strength={strength}", expected="a function of x_0 and a number > 0")
    return Predictor(_Dps(predictor, operator, observed, strength), "score", predictor.schedule)


class _Dps(eqx.Module):
    predictor: Predictor
    operator: Callable[[Any], Any]
    observed: Array
    strength: float

    def __call__(self, x: Any, t: Any) -> Array:
        def miss(y: Array) -> tuple[Array, Array]:
            guess = self.predictor.x0(y, t)
            off = jnp.square(self.observed - self.operator(guess)).sum()
            return jnp.sqrt(off + jnp.finfo(y.dtype).tiny), guess

        pull, guess = jax.grad(miss, has_aux=True)(x)
        schedule = self.predictor.schedule
        return (schedule.alpha(t) * guess - x) / schedule.sigma(t) ** 2 - self.strength * pull / schedule.sigma(t)


def _weight(weight: float, interval: Interval, schedule: Schedule, t: Any, outside: float) -> Array:
    """The weight at t inside the interval, and what stands for it outside."""
    ratio = jnp.exp(-0.5 * schedule.log_snr(t))
    return jnp.where((ratio > interval[0]) & (ratio <= interval[1]), weight, outside)


def _check(weight: float, interval: Interval) -> None:
    if not weight >= 0:
        raise InputError(f"weight={weight}", expected="a number of at least 0; 1 is what the model learned")
    if not 0 <= interval[0] < interval[1]:
        raise InputError(f"interval={interval}", expected="two ratios of noise to data, 0 <= first < second")

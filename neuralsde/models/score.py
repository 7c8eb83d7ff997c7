"""The score of noised data at every noise level, ∇log p_t, learned from the data: diffusion models.

With x_t = α x_0 + σ ε and ε̂ = -σ s(x_t, t), three losses with one minimiser, s = ∇log p_t, for every weight w:

    denoising   E w |ε̂ - ε|²                              Vincent 2011; Ho, Jain & Abbeel 2020
    implicit    E w (|ε̂|² - 2 σ ∇·ε̂ + d)                  Hyvärinen 2005: ε̂·ε by parts (Stein), no sight of ε
    sliced      E w (|ε̂|² - 2 σ eᵀ(∂ε̂)e + d)              Song et al. 2019, variance-reduced: one random sign vector e

Their values are equal at any s. Weights and the laws of t:

    simple      t uniform; the network's own target, unweighted (noise, score; and all that go by parts: w = 1)
    likelihood  log SNR uniform, w = ½ (range of log SNR): then the loss is ½ ∫ g² E|s + ε/σ|² dt, the one that bounds
                the likelihood (Song et al. 2021), since g²/σ² dt = -d log SNR (Kingma et al. 2021). In nats.
    edm         log σ/α normal; on x_0 by 1/Var of the network's target (Karras et al. 2022)

A network reads x_t in units of its s.d. and the clock -log SNR/8; `kind="edm"` preconditions its output as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError, closest
from neuralsde.models.divergence import Divergence, Exact, Hutchinson
from neuralsde.models.times import lognormal_times, quantiles, snr_range, snr_times, uniform_times
from neuralsde.noising import KINDS, VP, Kind, Preconditioned, Predictor, Schedule, convert
from neuralsde.typing import Y

Weighting = Literal["simple", "likelihood", "edm"]
Objective = Literal["denoising", "implicit", "sliced"]
Batch = Any
"""Standardised data (b, *shape), or a pair of these and labels (b,), -1 for a label that is not to be told."""


@dataclass(frozen=True)
class Config:
    """How noise is added and what is asked of the network.

    schedule:   the noise.
    kind:       what the network's output means; "edm": preconditioned, x_0 from an output of variance 1.
    weighting, objective: see the module. stratified: even noise levels in a batch.
    data_sd:    s.d. of the data, 1 after standardisation.
    log_mean, log_sd: of σ/α under the weighting "edm".
    unlabelled: how often a label is withheld, so that the network also learns the law of all classes (Ho & Salimans
                2022); only for batches with labels.
    """

    schedule: Schedule = VP()  # noqa: RUF009 (a frozen value)
    kind: Kind | Literal["edm"] = "edm"
    weighting: Weighting = "simple"
    objective: Objective = "denoising"
    stratified: bool = True
    data_sd: float = 1.0
    log_mean: float = -1.2
    log_sd: float = 1.2
    unlabelled: float = 0.1

    def __post_init__(self) -> None:
        for name, known in (
            ("kind", (*KINDS, "edm")),
            ("weighting", get_args(Weighting)),
            ("objective", get_args(Objective)),
        ):
            value = getattr(self, name)
            if value not in known:
                raise InputError(f"{name}={value!r}", "there is none of that name", hint=closest(str(value), known))
        for name in ("data_sd", "log_sd"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}={getattr(self, name)!r}", expected="a positive number")
        if not 0 <= self.unlabelled <= 1:
            raise InputError(f"unlabelled={self.unlabelled!r}", expected="a share from 0 to 1")


class Scaled(eqx.Module):
    """A network on x_t in units of its s.d., told the clock -log SNR/8: (x, t) -> net(x/n, c), n² = α²σ_d² + σ²."""

    net: Callable[..., Any]
    schedule: Schedule
    data_sd: float = eqx.field(static=True, default=1.0)

    def __call__(self, x: Any, t: Any) -> Array:
        n = jnp.hypot(self.schedule.alpha(t) * self.data_sd, self.schedule.sigma(t))
        return self.net(x / n, -0.125 * self.schedule.log_snr(t))


class Told(eqx.Module):
    """A network of labels with the label given: (x, c) -> net(x, c, label); -1 is "of any class"."""

    net: Callable[..., Any]
    label: Any

    def __call__(self, x: Any, c: Any) -> Array:
        return self.net(x, c, self.label)


def told(net: Callable[..., Any], label: Any) -> Callable[..., Any]:
    """The network itself where there is no label."""
    return net if label is None else Told(net, label)


class ScoreModel(eqx.Module):
    """A network and what its output means.

    net: (x, c) -> like x, or (x, c, label): a `nets.TimeMLP`, `Patches`, `UNet`, or any callable. One point a call.
    """

    net: Callable[..., Any]
    config: Config = eqx.field(static=True)

    def __init__(self, config: Config, net: Callable[..., Any]) -> None:
        self.config, self.net = config, net

    def predictor(self, label: Any = None) -> Predictor:
        """What samplers and likelihoods take, for one class if a label is given."""
        config, net = self.config, told(self.net, label)
        if config.kind == "edm":
            return Preconditioned(net, config.schedule, config.data_sd).predictor()
        return Predictor(Scaled(net, config.schedule, config.data_sd), config.kind, config.schedule)


def loss(
    model: ScoreModel, batch: Batch, aux: Any, *, key: Key[Array, ""]
) -> tuple[Array, tuple[dict[str, Array], Any]]:
    """The configured loss per dimension (weighting "likelihood": in nats), in the form of `neuralsde.train`."""
    config, (label_key, key) = model.config, jax.random.split(key)
    x, labels = with_labels(batch, config.unlabelled, key=label_key)
    value = matching_loss(model.predictor, config, x, labels, key=key)
    return value, ({}, aux)


def with_labels(batch: Batch, withheld: float, *, key: Key[Array, ""]) -> tuple[Array, Array | None]:
    """Data and labels, of which a share is withheld (-1); None without any."""
    if not isinstance(batch, tuple):
        return batch, None
    x, labels = batch
    return x, jnp.where(jax.random.uniform(key, labels.shape) < withheld, -1, labels)


def matching_loss(
    predictor: Callable[[Any], Predictor],
    config: Config,
    x: Float[Array, "b ..."],
    labels: Array | None = None,
    *,
    key: Key[Array, ""],
) -> Float[Array, ""]:
    """The score-matching loss of anything that gives a predictor (of a label), per dimension, the mean of a batch."""
    t_key, eps_key, probe_key = jax.random.split(key, 3)
    t, weight = levels(config, len(x), key=t_key)
    eps = jax.random.normal(eps_key, x.shape, x.dtype)
    t, weight = t.astype(x.dtype), weight.astype(x.dtype)
    keys = jax.random.split(probe_key, len(x))
    if labels is None:
        value = jax.vmap(lambda *point: point_loss(predictor(None), config, *point))(x, eps, t, keys)
    else:
        value = jax.vmap(lambda label, *point: point_loss(predictor(label), config, *point))(labels, x, eps, t, keys)
    return (weight * value).mean() / (x[0].size)


def levels(config: Config, n: int, *, key: Key[Array, ""]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Times of a batch, and what the loss in the weighting's own target is multiplied by."""
    u, schedule = quantiles(n, stratified=config.stratified, key=key), config.schedule
    if config.weighting == "likelihood":
        return snr_times(schedule, u), jnp.full(n, 0.5 * snr_range(schedule))
    if config.weighting == "edm":
        t = lognormal_times(schedule, u, config.log_mean, config.log_sd)
        return t, jax.vmap(Preconditioned(_nothing, schedule, config.data_sd).weight)(t)
    t = uniform_times(schedule, u)
    if _target(config) == "x0" and config.kind == "edm":
        return t, jax.vmap(Preconditioned(_nothing, schedule, config.data_sd).weight)(t)
    return t, jnp.ones(n)


def _nothing(x: Any, c: Any) -> Any:
    return x


def _target(config: Config) -> Kind:
    """In which spelling the difference is squared."""
    if config.weighting == "edm":
        return "x0"
    if config.weighting == "likelihood" or config.objective != "denoising" or config.kind == "score":
        return "noise"  # by parts, a weight like 1/α² on data that are nearly gone would drown all else
    return "x0" if config.kind == "edm" else config.kind


def point_loss(
    predictor: Predictor,
    config: Config,
    x_0: Y,
    eps: Y,
    t: Any,
    key: Key[Array, ""],
) -> Float[Array, ""]:
    """The unweighted loss of one point, noised to the time t: a sum over its entries."""
    schedule, target = config.schedule, _target(config)
    x_t = schedule.noised(x_0, eps, t)
    if config.objective == "denoising":
        wanted = convert(eps, x_t, t, schedule, "noise", target) if target != "x0" else x_0
        return jnp.square(predictor(x_t, t, target) - wanted).sum()
    how: Divergence = Exact() if config.objective == "implicit" else Hutchinson()
    guess, slope = how(lambda y: predictor.noise(y, t), x_t, how.draw(x_t, key))
    in_noise = jnp.square(guess).sum() - 2 * schedule.sigma(t) * slope + x_t.size
    return in_noise * jnp.square(_per_noise(schedule, t, target))


def _per_noise(schedule: Schedule, t: Any, target: Kind) -> Array:
    """|d target / d ε| at fixed x_t, for targets that are linear in ε̂."""
    one, zero = jnp.ones(()), jnp.zeros(())
    return convert(one, zero, t, schedule, "noise", target)

"""A velocity that carries data into noise along straight lines: flow matching.

    x_t = α x_0 + σ ε,    loss = E |u(x_t, t) - (α' x_0 + σ' ε)|²,    least at u = E[α' x_0 + σ' ε | x_t]

whose ordinary equation has the marginals of x_t for *any* coupling of x_0 and ε (Lipman et al. 2023; Liu et al. 2023).
The default is α = 1 - t, σ = t. With independent pairs u is a score in another spelling (noising/predict.py). With
pairs matched by optimal transport inside small groups of the batch (Tong et al. 2024; Pooladian et al. 2023) lines
cross less, so that u varies less and few steps do; the law of (x_0, ε) is then no product, and u has no score in it:
its predictor refuses to give one (THEORY 26). The groups are matched by an auction (models/transport.py), which is a
permutation at any accuracy, so the marginals of data and noise stay exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.models.score import Batch, told, with_labels
from neuralsde.models.times import quantiles
from neuralsde.models.transport import assignment, squared_distances
from neuralsde.noising import CondOT, Predictor, Schedule


@dataclass(frozen=True)
class Config:
    """schedule: α and σ, finite rates at t = 0 wanted (conditional OT, cosine).
    coupling:   "independent", or "ot" within groups of `group` points (each cost O(group²) work a round of bids).
    stratified: even times in a batch. unlabelled: how often a label is withheld.
    """

    schedule: Schedule = CondOT()  # noqa: RUF009 (a frozen value)
    coupling: Literal["independent", "ot"] = "independent"
    group: int = 64
    stratified: bool = True
    unlabelled: float = 0.1

    def __post_init__(self) -> None:
        if self.coupling not in ("independent", "ot"):
            raise InputError(f"coupling={self.coupling!r}", expected="'independent' or 'ot'")
        if isinstance(self.group, bool) or not isinstance(self.group, int) or self.group < 2:
            raise InputError(f"group={self.group!r}", "nothing to choose between", "a whole number of at least 2")
        if not 0 <= self.unlabelled <= 1:
            raise InputError(f"unlabelled={self.unlabelled!r}", expected="a share from 0 to 1")

    @property
    def ends(self) -> tuple[float, float]:
        """The times between which the flow is learned: [0, 1] for straight lines, else those of the schedule."""
        return (0.0, 1.0) if isinstance(self.schedule, CondOT) else (self.schedule.t0, self.schedule.t1)


class FlowMatching(eqx.Module):
    """net: (x, t) -> like x, or (x, t, label): the velocity dx/dt."""

    net: Callable[..., Any]
    config: Config = eqx.field(static=True)

    def __init__(self, config: Config, net: Callable[..., Any]) -> None:
        self.config, self.net = config, net

    def predictor(self, label: Any = None) -> Predictor:
        """What samplers take: a velocity; with a score in it only if the pairs were independent."""
        independent = self.config.coupling == "independent"
        return Predictor(told(self.net, label), "velocity", self.config.schedule, independent)


def loss(
    model: FlowMatching, batch: Batch, aux: Any, *, key: Key[Array, ""]
) -> tuple[Array, tuple[dict[str, Array], Any]]:
    """Mean square error of the velocity per dimension, in the form of `neuralsde.train`."""
    config = model.config
    t_key, eps_key, label_key = jax.random.split(key, 3)
    x, labels = with_labels(batch, config.unlabelled, key=label_key)
    eps = jax.random.normal(eps_key, x.shape, x.dtype)
    if config.coupling == "ot":
        eps = matched(x, eps, config.group)
    low, high = config.ends
    t = (low + (high - low) * quantiles(len(x), stratified=config.stratified, key=t_key)).astype(x.dtype)
    schedule = config.schedule

    def error(x_0: Array, eps: Array, t: Array, net: Callable[..., Any]) -> Array:
        wanted = schedule.alpha_rate(t) * x_0 + schedule.sigma_rate(t) * eps
        return jnp.square(net(schedule.noised(x_0, eps, t), t) - wanted).mean()

    if labels is None:
        value = jax.vmap(lambda x, e, t: error(x, e, t, model.net))(x, eps, t)
    else:
        value = jax.vmap(lambda label, x, e, t: error(x, e, t, told(model.net, label)))(labels, x, eps, t)
    return value.mean(), ({}, aux)


def matched(x: Float[Array, "b ..."], eps: Float[Array, "b ..."], group: int) -> Float[Array, "b ..."]:
    """The noises in another order: within each run of `group` rows the least total squared distance to the data.

    Rows that are left over, when the group does not divide the batch, stay as they are.
    """
    group = min(group, len(x))
    whole = len(x) // group * group

    def pair(x: Array, eps: Array) -> Array:
        return eps[assignment(squared_distances(x, eps))]

    blocks = [part[:whole].reshape(-1, group, *x.shape[1:]) for part in (x, eps)]
    paired = jax.vmap(pair)(*blocks) if whole > group else pair(blocks[0][0], blocks[1][0])
    return jnp.concatenate([paired.reshape(whole, *x.shape[1:]), eps[whole:]])

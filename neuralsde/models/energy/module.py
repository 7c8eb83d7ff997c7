"""An energy from any network, E: R^d -> R, and its predictor.

    single level     E(x)    = |x|²/(2 σ_d²) + Σ F(x/σ_d, 0)                   p ∝ exp(-E) is the data's own law
    all levels       E(x, t) = |x|²/(2 n²) + (α σ_d/σ) Σ F(x/n, c),     n² = α² σ_d² + σ²,   c = -log SNR/8

Σ F is the sum of the network's outputs, so that the same network serves as a score. The quadratic term holds the tails:
with F of linear growth (an MLP of silu) exp(-E) is always normalisable, and F = 0 is the Gaussian of the data's s.d.
At all levels -σ∇E is the preconditioning of Karras et al. 2022 with -∇ΣF in the place of the network. -∇E(·, t) is a
score for every sampler; a single level has no t, so it serves Langevin and HMC only (THEORY 26).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralsde.errors import InputError, closest
from neuralsde.models.energy.chains import Langevin
from neuralsde.models.score import Config as ScoreConfig
from neuralsde.noising import Predictor, Schedule, from_energy

Objective = Literal["cd", "pcd", "nce", "matching"]


@dataclass(frozen=True)
class Config:
    """objective: "cd", "pcd" (contrastive divergence from the data, or from chains that are kept), "nce"
                (noise-contrastive estimation, with the normaliser), "matching" (score matching at all levels).
    matching:   the score-matching loss and its schedule; read by "matching" only.
    chain:      the walk of cd and pcd. chains: how many are kept. fresh: share of them that begin anew in a step.
    decay:      weight of E² at data and negatives, which keeps the level of E near 0 (cd and pcd do not know it).
    ratio:      noise points for each data point in "nce".
    spread:     s.d. of that noise, and of fresh chains, in s.d. of the data.
    """

    objective: Objective = "matching"
    matching: ScoreConfig = ScoreConfig()  # noqa: RUF009 (frozen values)
    chain: Langevin = Langevin()  # noqa: RUF009
    chains: int = 512
    fresh: float = 0.02
    decay: float = 1e-3
    ratio: int = 4
    spread: float = 1.2
    data_sd: float = 1.0

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            known = get_args(Objective)
            raise InputError(
                f"objective={self.objective!r}", "there is none of that name", hint=closest(self.objective, known)
            )
        for name in ("chains", "ratio"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name}={value!r}", expected="a whole number of at least 1")
        if not 0 <= self.fresh <= 1:
            raise InputError(f"fresh={self.fresh!r}", expected="a share from 0 to 1")
        if not (self.spread > 0 and self.data_sd > 0 and self.decay >= 0):
            got = f"spread={self.spread!r}, data_sd={self.data_sd!r}, decay={self.decay!r}"
            raise InputError(got, expected="positive numbers (decay may be 0)")

    @property
    def schedule(self) -> Schedule | None:
        """The noise of the levels; None for a single one."""
        return self.matching.schedule if self.objective == "matching" else None


class EnergyModel(eqx.Module):
    """net: (x, c) -> like x (a `nets.TimeMLP`, ...), whose outputs are summed. One point a call.

    log_z: the estimate of log ∫ exp(-E) that "nce" learns with the energy; else it stays 0 and means nothing.
    """

    net: Callable[..., Any]
    log_z: Float[Array, ""]
    config: Config = eqx.field(static=True)

    def __init__(self, config: Config, net: Callable[..., Any]) -> None:
        self.config, self.net = config, net
        self.log_z = jnp.zeros(())

    def energy(self, x: Any, t: Any = None) -> Float[Array, ""]:
        """E(x), or E(x, t) with t0 for None; nats up to a number."""
        schedule, sd = self.config.schedule, self.config.data_sd
        if schedule is None:
            if t is not None:
                raise InputError("an energy at a time t", "it was learned at a single level", "energy(x)")
            return 0.5 * jnp.square(x / sd).sum() + jnp.sum(self.net(x / sd, 0.0))
        t = schedule.t0 if t is None else t
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        n = jnp.hypot(alpha * sd, sigma)
        height = alpha * sd / sigma
        return 0.5 * jnp.square(x / n).sum() + height * jnp.sum(self.net(x / n, -0.125 * schedule.log_snr(t)))

    def predictor(self) -> Predictor:
        """-∇E(x, t) as a score; InputError for a single level."""
        schedule = self.config.schedule
        if schedule is None:
            raise InputError(
                f"the predictor of an energy learned by {self.config.objective}",
                "it knows the law of the data and not those of noised data, which samplers in t follow",
                "Langevin or HMC on `energy`",
                "objective='matching' for an energy of every noise level",
            )
        return from_energy(self.energy, schedule)

"""The sequence neural SDE: its transition law, and a likelihood that never simulates (Shen & Cheng, arXiv 2501.18871).

    dx = f(w) dt + g(w) ⊙ dW   (Ito, diagonal noise),   w = (x, past, context)

Over a gap Δ one Euler-Maruyama step gives x' ~ N(x + f Δ, g² Δ), so with r = (x' - x)/Δ - f the log-likelihood is a
function of r² Δ alone. *Decoupled* (default): f minimises a loss of r √Δ over its running scale, then g maximises the
Gaussian likelihood of the residuals of f held fixed, in the same step. *Joint*: one likelihood for both. A channel
that was last seen a time ago counts from there: its Δ is the gap plus its age (THEORY 20). Fitted with one step a gap,
(f, g) are effective coefficients for that gap (THEORY 15): sampling takes the same steps by default.
Start points only (τ = 0, THEORY 17): nothing of the future enters the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Key

from neuralsde.errors import InputError
from neuralsde.models.sequence_sde.window import OLDEST, Window, feature_size
from neuralsde.nets import MLP
from neuralsde.sde import SDE, Diagonal, Ito

LOG_SIGMA_RANGE = 7.0
"""Diffusion stays within a factor e^±7 of the random walk's, so neither collapses nor overflows in float32."""
_SCALE_DECAY = 0.99


@dataclass(frozen=True)
class Config:
    """Options of a sequence SDE.

    history:      rows of the past that the coefficients read beside the present, h >= 0.
    width, depth: hidden units and layers of the flow and of the diffusion network.
    objective:    "decoupled" or "joint".
    flow_loss:    "gaussian" (r² Δ / v) or "log" (log(r² Δ / v + log_delta), eq. 14 and 23 of the paper), v the running
                  residual variance; the log loss is robust, but not consistent for skewed residuals (THEORY 16).
    input_noise:  s.d. of the noise on the input in training, in units of each column's s.d.: one number, or one for
                  each column (noise of one size s in data units: s over each column's s.d.); a regulariser.
    noise_target: "keep" the velocity of the clean path, as the paper does, or "return" to it: the target then also
                  undoes the noise, which makes the flow attract to the data from outside.
    time_dependent: whether f and g also read the time since the start of a series.
    """

    history: int = 3
    width: int = 64
    depth: int = 2
    objective: Literal["decoupled", "joint"] = "decoupled"
    flow_loss: Literal["gaussian", "log"] = "gaussian"
    log_delta: float = 1e-3
    input_noise: float | tuple[float, ...] = 0.0
    noise_target: Literal["keep", "return"] = "keep"
    time_dependent: bool = False

    def __post_init__(self) -> None:
        _one_of("objective", self.objective, ("decoupled", "joint"))
        _one_of("flow_loss", self.flow_loss, ("gaussian", "log"))
        _one_of("noise_target", self.noise_target, ("keep", "return"))
        for name, least in (("history", 0), ("width", 1), ("depth", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)}", "", f"a whole number, at least {least}")
        if not (np.isfinite(self.log_delta) and self.log_delta > 0):
            raise InputError(f"log_delta={self.log_delta}", "", "a positive number")
        noise = self.input_noise if isinstance(self.input_noise, tuple) else (self.input_noise,)
        if not noise or not all(isinstance(s, int | float) and 0 <= s < np.inf for s in noise):
            raise InputError(f"input_noise={self.input_noise}", "", "0 or a positive number, or one for each column")


class Transition(eqx.Module):
    """One observed gap: what was known before it, how long it took, and what was seen at its end.

    target (d,) with anything where `seen` (d,) is False.
    """

    window: Window
    dt: Float[Array, ""]
    target: Float[Array, " d"]
    seen: Bool[Array, " d"]


class SequenceSDE(eqx.Module):
    """Flow and diffusion networks over a `Window`; everything in model units.

    walk (d,): s.d. per √time of a random walk fitted to the data: the diffusion before training. A constant.
    time_scale: what "one" means for a time-dependent model: the longest series.
    """

    flow_net: MLP
    diffusion_net: MLP
    walk: np.ndarray
    time_scale: float | None = eqx.field(static=True)
    config: Config = eqx.field(static=True)

    def __init__(
        self, config: Config, d: int, c: int, *, walk: np.ndarray, time_scale: float = 1.0, key: Key[Array, ""]
    ) -> None:
        if isinstance(config.input_noise, tuple) and len(config.input_noise) != d:
            raise InputError(f"input_noise={config.input_noise}", f"there are {d} columns", f"one number, or {d}")
        flow_key, diffusion_key = jax.random.split(key)
        size = feature_size(d, c, config.history, config.time_dependent)
        self.flow_net = MLP(size, d, width=config.width, depth=config.depth, key=flow_key)
        self.diffusion_net = MLP(size, d, width=config.width, depth=config.depth, key=diffusion_key)
        self.walk = np.asarray(walk, np.float32)
        self.time_scale = time_scale if config.time_dependent else None
        self.config = config

    @property
    def dim(self) -> int:
        """Number d of channels."""
        return len(self.walk)

    def flow(self, window: Window) -> Float[Array, " d"]:
        """f: the drift, in model units per unit of model time."""
        return self.flow_net(window.features(self.time_scale))

    def diffusion(self, window: Window) -> Float[Array, " d"]:
        """The diffusion g > 0, in model units per square root of model time."""
        raw = self.diffusion_net(window.features(self.time_scale))
        walk = lax.stop_gradient(jnp.asarray(self.walk))  # an array like the weights to every filter, but a constant
        return walk * jnp.exp(LOG_SIGMA_RANGE * jnp.tanh(raw / LOG_SIGMA_RANGE))

    def process(self) -> SDE:
        """The SDE inside a gap, for `sde.simulate`, with `args = (window, stretch)`.

        The past and the context of the window stay as they are. `stretch` (d,) is 1, or more for a channel that has
        to catch up: (gap + age) / gap.
        """
        return SDE(
            lambda t, y, args: self.flow(args[0].moved(y)) * args[1],
            lambda t, y, args: self.diffusion(args[0].moved(y)) * jnp.sqrt(args[1]),
            noise=Diagonal(),
            calculus=Ito(),
        )

    def step(self, window: Window, span: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """Mean and s.d. (d,) after one Euler-Maruyama step, over a time `span` (d,) of each channel's own."""
        return window.present + self.flow(window) * span, self.diffusion(window) * jnp.sqrt(span)

    def transition(self, window: Window, dt: Float[Array, ""]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """Mean and s.d. (d,) of the state a gap `dt` later, by one step."""
        return self.step(window, dt + window.staleness)


class Losses(eqx.Module):
    """Per channel (d,), 0 where unseen: flow loss, Gaussian loss of the diffusion (or joint), the flow's r² Δ, nats."""

    flow: Float[Array, " d"]
    noise: Float[Array, " d"]
    squared: Float[Array, " d"]
    nats: Float[Array, " d"]
    seen: Bool[Array, " d"]


def transition_losses(
    model: SequenceSDE, transition: Transition, scale: Float[Array, " d"], key: Key[Array, ""] | None
) -> Losses:
    """The losses of one transition; `scale` (d,) is the running residual variance, `key` draws the input noise."""
    config, window = model.config, transition.window
    span = transition.dt + window.staleness
    seen = transition.seen & (window.age[-1] < OLDEST) & (span > 0)
    span = jnp.where(seen, span, 1.0)
    velocity = jnp.where(seen, (transition.target - window.present) / span, 0.0)
    noisy, pull = window, jnp.zeros_like(velocity)
    if np.any(config.input_noise) and key is not None:
        noise = jnp.asarray(config.input_noise, window.value.dtype) * jax.random.normal(key, window.value.shape)
        noisy = eqx.tree_at(lambda w: w.value, window, window.value + noise)
        if config.noise_target == "return":
            pull = -noise[-1] / span
    squared = jnp.square(velocity + pull - model.flow(noisy)) * span
    sigma = model.diffusion(noisy)
    # The likelihood is that of the clean transition: noise on the input must not end in the diffusion.
    clean = squared if noisy is window else jnp.square(velocity - model.flow(window)) * span
    held = clean if config.objective == "joint" else lax.stop_gradient(clean)
    noise_loss = 0.5 * held / sigma**2 + jnp.log(sigma)
    relative = squared / scale
    flow_loss = 0.5 * (relative if config.flow_loss == "gaussian" else jnp.log(relative + config.log_delta))
    nats = noise_loss + 0.5 * jnp.log(2 * jnp.pi * span)

    def observed(part: Array) -> Array:
        return jnp.where(seen, part, 0.0)

    return Losses(observed(flow_loss), observed(noise_loss), observed(squared), observed(nats), seen)


def loss(
    model: SequenceSDE, batch: Transition, aux: Float[Array, " d"], *, key: Key[Array, ""]
) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Float[Array, " d"]]]:
    """Mean loss over the observed entries of a batch of transitions (leading axis b).

    aux: (d,) running residual variance r² Δ. Returns the loss, metrics (`flow`, `nats` per dimension and step, in
    model units) and the new aux. In the decoupled objective flow and diffusion get their own gradients.
    """
    keys = jax.random.split(key, batch.dt.shape[0])
    losses = jax.vmap(lambda one, k: transition_losses(model, one, aux, k))(batch, keys)
    count = losses.seen.sum(0)
    total = jnp.maximum(count.sum(), 1)
    flow, noise = losses.flow.sum() / total, losses.noise.sum() / total
    variance = losses.squared.sum(0) / jnp.maximum(count, 1)
    decay = jnp.where(count > 0, _SCALE_DECAY, 1.0)
    # a noise-free channel has no residual left to be measured against; its walk still gives a scale
    floor = 1e-8 * model.walk**2
    new_aux = jnp.maximum(lax.stop_gradient(decay * aux + (1 - decay) * variance), floor)
    objective = noise if model.config.objective == "joint" else flow + noise
    return objective, ({"flow": flow, "nats": losses.nats.sum() / total}, new_aux)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name}={value!r}", "", " or ".join(known))

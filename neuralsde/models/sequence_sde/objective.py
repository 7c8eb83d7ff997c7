"""What a sequence SDE is trained on: one transition at a time, never a simulation (arXiv 2501.18871, section 3).

With r² Δ the squared residual of the flow per unit of time and v its running mean, three losses make one objective:

    flow       ½ r²Δ/v,  ½ log(r²Δ/v + δ) (eq. 14 and 23), Student's, or ½ r² (mse)      THEORY 16
    diffusion  - log p(x' | w) with the flow held; or eq. 15; or the released code's regression (METHOD 10.2)
    denoiser   |ε̂(w + s ε) - ε|²                                                          (eq. 22)

*Decoupled* (default): each has its own gradient, in the same step. *Joint*: one likelihood, nothing held.
The flow is trained at the first row of a gap, on the chord, or on a Brownian bridge (`interpolate`); the diffusion
always at the first row and on the clean transition, so that nothing of the future and no injected noise enters it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from neuralsde.models.sequence_sde.config import Config
from neuralsde.models.sequence_sde.law import shaped
from neuralsde.models.sequence_sde.module import SequenceSDE, Transition
from neuralsde.models.sequence_sde.transition import one_step
from neuralsde.models.sequence_sde.window import OLDEST, Window

SCALE_DECAY = 0.99
BRIDGE_WARMUP = 500
"""Steps in which a bridge is trained at its start: until the diffusion, which gives it its width, is about right."""
LAST_OF_BRIDGE = 0.98
STUDENT_DOF = 4.0
"""Degrees of freedom of the "student" flow loss: half the pull of a Gaussian one at two s.d."""
_FLOOR = 1e-6


class Running(eqx.Module):
    """What the losses remember from step to step: `variance` (d,) of the flow's residuals r² Δ, `steps` () done."""

    variance: Float[Array, " d"]
    steps: Int[Array, ""]

    @staticmethod
    def first(walk: Float[Array, " d"]) -> Running:
        """Before training: the residuals are those of a random walk."""
        return Running(jnp.square(jnp.asarray(walk, jnp.float32)), jnp.zeros((), jnp.int32))


class Losses(eqx.Module):
    """Per channel (d,), 0 where unseen: flow and diffusion loss (or joint), denoiser, the flow's r² Δ, nats."""

    flow: Float[Array, " d"]
    noise: Float[Array, " d"]
    denoiser: Float[Array, " d"]
    squared: Float[Array, " d"]
    nats: Float[Array, " d"]
    seen: Bool[Array, " d"]


class Point(NamedTuple):
    """Where the flow is trained: at `window`, on the velocity `velocity` (d,), which stands for a time `span` (d,)."""

    window: Window
    velocity: Float[Array, " d"]
    span: Float[Array, " d"]


def transition_losses(
    model: SequenceSDE, transition: Transition, running: Running, key: Key[Array, ""] | None
) -> Losses:
    """The losses of one transition; without a key at its first row and without noise on the input."""
    config, start = model.config, model.recall(transition.window)
    span = transition.dt + start.staleness
    seen = transition.seen & (start.age[-1] < OLDEST) & (span > 0)
    span = jnp.where(seen, span, 1.0)
    target = jnp.where(seen, transition.target, start.present)
    clean = Point(start, (target - start.present) / span, span)
    noise_key, point_key, denoiser_key = (None,) * 3 if key is None else jax.random.split(key, 3)
    point = interpolate(model, clean, seen, running.steps, point_key)
    noisy = _with_noise(model, point, noise_key)
    joint = config.objective == "joint"
    held, before = (model, noisy.window) if joint else (model.held(), _held_summary(start))
    # The joint likelihood is that of what the flow is trained on, noise on the input and all.
    here, end = (noisy.window, noisy.window.present + noisy.velocity * span) if joint else (start, target)
    if config.substeps > 1 or config.law != "euler":
        still_drift, still_noise = (part if joint else _of_held_summary(part) for part in (held.dynamics, held.noise))
        law = model.law(here, span, still_drift, model.noise)
        mean = model.law(noisy.window, span, model.dynamics, still_noise).mean
        squared = jnp.square(noisy.velocity * span - (mean - noisy.window.present)) / span
    else:
        squared = jnp.square(noisy.velocity - model.flow(noisy.window)) * noisy.span
        # Otherwise it is that of the clean transition, at the input that the diffusion will see.
        noise = model.noise(_at_start(model, start, noisy, point))
        law = one_step(held.dynamics(before), noise, here, span, model.dof)
    nats = -law.log_density(end, seen)
    flow = _flow_loss(model, squared, running.variance, noisy.span)
    noise = _diffusion_loss(model, nats, jnp.square(end - law.mean), jnp.square(law.spread), running.variance, span)
    denoiser = jnp.zeros_like(flow) if denoiser_key is None else denoising_loss(model, point.window, denoiser_key)

    def observed(part: Array) -> Array:
        return jnp.where(seen, part, 0.0)

    return Losses(observed(flow), observed(noise), observed(denoiser), observed(squared), observed(nats), seen)


def interpolate(
    model: SequenceSDE, clean: Point, seen: Bool[Array, " d"], steps: Int[Array, ""], key: Key[Array, ""] | None
) -> Point:
    """The point between the rows at which the flow is trained; the first row without a key.

    chord:  x0 + τ (x1 - x0), τ ~ U(0, 1), velocity (x1 - x0) / Δ.
    bridge: chord + √(τ (1 - τ) Δ) G ξ with G held, velocity (x1 - x) / (Δ (1 - τ)), span Δ (1 - τ); τ ≤ .98, and τ = 0
            for the first `BRIDGE_WARMUP` steps (THEORY 18).
    """
    kind = model.config.interpolation
    if key is None or kind == "none":
        return clean
    share_key, bridge_key = jax.random.split(key)
    tau = jax.random.uniform(share_key, (), clean.span.dtype)
    x0, move = clean.window.present, clean.velocity * clean.span
    if kind == "chord":
        return Point(clean.window.moved(x0 + tau * move), clean.velocity, clean.span)
    tau = jnp.where(steps < BRIDGE_WARMUP, 0.0, LAST_OF_BRIDGE * tau)
    sd, loading = lax.stop_gradient(model.noise(clean.window))
    xi = jax.random.normal(bridge_key, (len(sd) + loading.shape[1],), x0.dtype)
    wander = jnp.sqrt(tau * (1 - tau) * clean.span) * shaped(sd, loading, xi)
    # A channel that is not seen at the end has no bridge; it stays where it was.
    x = x0 + jnp.where(seen, tau * move + wander, 0.0)
    left = clean.span * (1 - tau)
    return Point(clean.window.moved(x), (x0 + move - x) / left, left)


def denoising_loss(model: SequenceSDE, window: Window, key: Key[Array, ""]) -> Float[Array, " d"]:
    """½ (ε̂ - ε)² per channel, at the window with s ε added; zero for a model without a denoiser.

    The consistent partner is the score of the present alone, given the past. A stabiliser meets a past that has gone
    astray as well, so there every row gets noise of its own.
    """
    if model.denoiser_net is None:
        return jnp.zeros_like(window.present)
    noise = jax.random.normal(key, window.value.shape, window.value.dtype)
    if model.config.denoiser == "consistent":
        noise = noise.at[:-1].set(0.0)
    size = jnp.asarray(model.config.denoiser_noise, noise.dtype)
    return 0.5 * jnp.square(model.predicted_noise(_moved_by(window, size * noise)) - noise[-1])


def loss(
    model: SequenceSDE, batch: Transition, running: Running, *, key: Key[Array, ""]
) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Running]]:
    """Mean loss over the observed entries of a batch of transitions (leading axis b).

    Returns the loss, metrics (`flow`, `nats`, and `denoiser` where there is one, per dimension and step, in model
    units) and what is remembered. In the decoupled objective every network gets its own gradient.
    """
    keys = jax.random.split(key, batch.dt.shape[0])
    losses = jax.vmap(lambda one, k: transition_losses(model, one, running, k))(batch, keys)
    count = losses.seen.sum(0)
    total = jnp.maximum(count.sum(), 1)
    flow, noise, denoiser = (part.sum() / total for part in (losses.flow, losses.noise, losses.denoiser))
    metrics = {"flow": flow, "nats": losses.nats.sum() / total}
    if model.denoiser_net is not None:
        metrics["denoiser"] = denoiser
    objective = (noise if model.config.objective == "joint" else flow + noise) + denoiser
    return objective, (metrics, _remember(model, running, losses, count))


def _remember(model: SequenceSDE, running: Running, losses: Losses, count: Array) -> Running:
    variance = losses.squared.sum(0) / jnp.maximum(count, 1)
    decay = jnp.where(count > 0, SCALE_DECAY, 1.0)
    # a noise-free channel has no residual left to be measured against; its walk still gives a scale
    floor = 1e-8 * model.walk**2
    variance = jnp.maximum(lax.stop_gradient(decay * running.variance + (1 - decay) * variance), floor)
    return Running(variance, running.steps + 1)


def _with_noise(model: SequenceSDE, point: Point, key: Key[Array, ""] | None) -> Point:
    """The point as the flow sees it: noise on every row of the input, undone by the target where it shall be."""
    config = model.config
    if key is None or not np.any(config.input_noise):
        return point
    noise = noise_on_input(config, point.window.value, key=key)
    window = model.recall(_moved_by(point.window, noise))
    pull = noise[-1] / point.span if config.noise_target == "return" else 0.0
    return Point(window, point.velocity - pull, point.span)


def noise_on_input(config: Config, like: Float[Array, "*rows d"], *, key: Key[Array, ""]) -> Float[Array, "*rows d"]:
    """As `input_noise` (in the units of `like`) and `noise_scale` of the options say."""
    normal_key, size_key = (key, key) if config.noise_scale == "constant" else jax.random.split(key)
    size = jnp.asarray(config.input_noise, like.dtype)
    if config.noise_scale == "random":
        size = size * jax.random.uniform(size_key, (), size.dtype)
    return size * jax.random.normal(normal_key, like.shape, size.dtype)


def _at_start(model: SequenceSDE, start: Window, noisy: Point, point: Point) -> Window:
    """The first row with the noise that the flow's input got."""
    return start if noisy is point else model.recall(_moved_by(start, noisy.window.value - point.window.value))


def _moved_by(window: Window, noise: Array) -> Window:
    """The window with noise on every row; what was remembered of the clean ones is forgotten."""
    return Window(window.value + noise, window.age, window.lag, window.time, window.context)


def _held_summary(window: Window) -> Window:
    if window.summary is None:
        return window
    return eqx.tree_at(lambda w: w.summary, window, lax.stop_gradient(window.summary))


def _of_held_summary(part: Callable[[Window], Any]) -> Callable[[Window], Any]:
    return lambda window: part(_held_summary(window))


def _flow_loss(model: SequenceSDE, squared: Array, variance: Array, span: Array) -> Array:
    q, kind = squared / variance, model.config.flow_loss
    if kind == "log":
        return 0.5 * jnp.log(q + model.config.log_delta)
    if kind == "student":
        return 0.5 * (STUDENT_DOF + 1) * jnp.log1p(q / STUDENT_DOF)
    return 0.5 * (q / span if kind == "mse" else q)


def _diffusion_loss(
    model: SequenceSDE, nats: Array, residual: Array, scale: Array, variance: Array, span: Array
) -> Array:
    """From squared residuals (x' - mean)² and the variances of the law, both over a gap."""
    kind = model.config.diffusion_loss
    if kind == "likelihood":
        return nats
    r2, s2 = lax.stop_gradient(residual / span / variance), scale / span / variance
    if kind == "square":
        return 0.5 * jnp.square(s2 - r2)
    size, sigma = jnp.sqrt(r2), jnp.sqrt(s2)
    return jnp.square(sigma - size) + jnp.square(jnp.log(sigma) - 0.5 * jnp.log(r2 + _FLOOR))

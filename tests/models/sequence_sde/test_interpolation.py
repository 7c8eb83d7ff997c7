"""THEORY 17 and 18: where between two rows the flow is trained, and what then has to be sampled.

On a stationary Ornstein-Uhlenbeck process everything is linear, so a network of one weight can be exact, and so can the
law of its samples: variance of x' = (1 + b h) x + σ √h Z is σ² h / (1 - (1 + b h)²).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sequence_models import linear, minimise, model, running, still

from neuralsde.models.sequence_sde import Config, Running, SequenceSDE, Transition, loss, transition_losses
from neuralsde.models.sequence_sde import objective as objective_module
from neuralsde.models.sequence_sde.window import Window

THETA, GAP, NOISE = 1.0, 0.1, 0.2
SIGMA = np.sqrt(2 * THETA)


def stationary(n: int = 4000) -> Transition:
    rng = np.random.default_rng(5)
    x, decay = rng.normal(size=(n, 1)), np.exp(-THETA * GAP)
    x = (x - x.mean()) / x.std()
    return still(n, x, decay * x + np.sqrt(1 - decay**2) * rng.normal(size=(n, 1)), GAP)


def at(x: float) -> Window:
    return Window(jnp.full((1, 1), x), jnp.zeros((1, 1)), jnp.zeros(1), jnp.zeros(()), jnp.zeros(0))


@eqx.filter_jit
def coefficients(m: SequenceSDE) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Slopes at 0 of the flow and of what is sampled in a step, and the diffusion there."""

    def slope(part: Any) -> jax.Array:
        return part(at(1.0))[0] - part(at(0.0))[0]

    return slope(m.flow), slope(lambda w: m.drift(w, jnp.full(1, GAP))), m.diffusion(at(0.0))[0]


def stationary_variance(b: float, sigma: float, h: float = GAP) -> float:
    """Of the chain that is sampled; infinite where nothing pulls back."""
    factor = (1 + b * h) ** 2
    return sigma**2 * h / (1 - factor) if factor < 0.995 else np.inf


def learned(**options: Any) -> tuple[float, float, float]:
    """Flow, sampled drift (slopes) and σ after a full descent of the loss."""
    config = Config(history=0, depth=0, denoiser_noise=NOISE, **options)
    first = linear([[0.0]], config)
    if config.denoiser != "none":
        first = eqx.tree_at(lambda m: m.strength, first, np.ones((), np.float32))
    last = minimise(first, follow(stationary()), steps=400, rate=0.25)
    flow, drift, sigma = coefficients(last)
    return float(flow), float(drift), float(sigma)


def follow(batch: Transition) -> Any:
    """The loss with a bridge that is past its warm-up."""
    late = Running(jnp.full(1, SIGMA**2), jnp.asarray(objective_module.BRIDGE_WARMUP, jnp.int32))
    return lambda m, key: loss(m, batch, late, key=key)[0]


# what is trained, what is added -> slope of the flow, stationary variance of the samples
PAIRS = {
    ("none", "none"): (-THETA, 1.0),
    ("bridge", "none"): (-THETA, 1.0),
    ("chord", "consistent"): (0.0, 1.0),
    ("chord", "none"): (0.0, np.inf),
    ("none", "state"): (-THETA, 0.51),
}


@pytest.mark.parametrize(("interpolation", "denoiser"), PAIRS)
def test_flow_target_and_denoiser_are_one_choice(interpolation: Any, denoiser: Any) -> None:
    """On a chord the flow is the current velocity, 0 here, and ½σ² score has to be added; elsewhere it is the drift."""
    flow, drift, sigma = learned(interpolation=interpolation, denoiser=denoiser)
    wanted_flow, variance = PAIRS[interpolation, denoiser]
    assert flow == pytest.approx(wanted_flow, abs=0.12)  # three standard errors of the data, and θΔ/2
    assert sigma == pytest.approx(SIGMA, rel=0.08)
    if np.isfinite(variance):
        assert stationary_variance(drift, sigma) == pytest.approx(variance, rel=0.12)
    else:
        assert stationary_variance(drift, sigma) > 5


def test_a_bridge_whose_width_was_not_held_would_collapse() -> None:
    """THEORY 18: the diffusion is fitted at τ = 0 and held inside the bridge, so it stays σ and not .71 σ."""
    m, transition = model(Config(history=0, width=4, depth=1, interpolation="bridge"), d=2, c=0), None
    rng = np.random.default_rng(3)
    transition = jax.tree.map(lambda leaf: leaf[0], still(1, rng.normal(size=(1, 2)), rng.normal(size=(1, 2)), GAP))
    late = Running(jnp.ones(2), jnp.asarray(objective_module.BRIDGE_WARMUP, jnp.int32))

    @eqx.filter_jit
    def slopes(m: SequenceSDE, key: jax.Array) -> Any:
        return eqx.filter_grad(lambda m: transition_losses(m, transition, late, key).flow.sum())(m)

    got = slopes(m, jax.random.key(1))
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(got.diffusion_net))
    assert any(np.asarray(leaf).any() for leaf in jax.tree.leaves(got.flow_net))


@pytest.mark.parametrize("width", [1.0, 1.4])
def test_a_bridge_has_the_law_of_a_brownian_one(width: float) -> None:
    """x at τ is Gaussian about the chord with variance τ(1-τ) Δ σ²; its velocity leads to the end in the time left."""
    m = model(Config(history=0, depth=0, interpolation="bridge"), d=1, c=0, size=0.0)
    m = eqx.tree_at(lambda m: m.walk, m, np.full(1, width, np.float32))
    start, end, gap = 0.4, 1.3, 0.7
    one = jax.tree.map(lambda leaf: leaf[0], still(1, np.full((1, 1), start), np.full((1, 1), end), gap))
    clean = objective_module.Point(one.window, (one.target - start) / gap, jnp.full(1, gap))

    def point(key: jax.Array) -> tuple[jax.Array, ...]:
        p = objective_module.interpolate(m, clean, jnp.ones(1, bool), jnp.asarray(1000, jnp.int32), key)
        return p.window.present[0], p.velocity[0], p.span[0]

    x, velocity, span = (
        np.asarray(part) for part in jax.jit(jax.vmap(point))(jax.random.split(jax.random.key(2), 8000))
    )
    tau = 1 - span / gap
    assert 0 <= tau.min() < 0.01
    assert 0.97 < tau.max() <= objective_module.LAST_OF_BRIDGE + 1e-6
    np.testing.assert_allclose(x + velocity * span, end, atol=1e-4)
    z = (x - start - tau * (end - start)) / (width * np.sqrt(tau * (1 - tau) * gap))
    assert np.std(z[tau > 0.01]) == pytest.approx(1.0, abs=0.03)
    assert np.mean(z[tau > 0.01]) == pytest.approx(0.0, abs=0.05)


def test_before_the_warm_up_a_bridge_is_its_start() -> None:
    m = model(Config(history=0, depth=0, interpolation="bridge"), d=1, c=0)
    bare = eqx.tree_at(lambda m: m.flow_net, model(Config(history=0, depth=0), d=1, c=0), m.flow_net)
    one = jax.tree.map(lambda leaf: leaf[0], still(1, np.full((1, 1), 0.4), np.full((1, 1), 1.0), GAP))
    keys = ((m, jax.random.key(3)), (bare, None))
    early, plain = jax.jit(lambda at: [transition_losses(m, one, at, key).flow for m, key in keys])(
        running(jnp.ones(1))
    )
    np.testing.assert_allclose(early, plain, rtol=1e-5)


# -- noise that depends on the state -----------------------------------------------------------------------------------


def test_the_consistent_drift_where_the_noise_depends_on_the_state() -> None:
    """dx = -x dt + √(1 + x²/2) dW has p ∝ (1 + x²/2)^-3, score -3x/(1 + x²/2), current velocity 0.

    ½σ² score + ½ (σ²)' = -3x/2 + x/2 = -x. With correlated noise the same through G Gᵀ and its divergence.
    """
    config = Config(history=0, width=4, interpolation="chord", denoiser="consistent", denoiser_noise=NOISE)
    for d, noise in ((1, "diagonal"), (2, "diagonal"), (2, "full")):
        still_model = model(replace(config, noise=noise), d=d, c=0, size=0.0)
        ys = np.linspace([-1.3, 0.4, 2.0], np.array([-1.3, 0.4, 2.0]) + 0.5, d, axis=1, dtype=np.float32)
        np.testing.assert_allclose(known_drift(still_model, ys), -ys, rtol=2e-5, atol=2e-5)


def known_drift(m: SequenceSDE, ys: np.ndarray) -> jax.Array:
    """At states (n, d), of the model with the noise and the score of the stated process, channel by channel."""
    d, walk = ys.shape[1], m.walk

    class Noise(eqx.Module):
        full: bool

        def __call__(self, features: jax.Array) -> jax.Array:
            sd = 0.5 * jnp.log(1 + features[:d] ** 2 / 2) - jnp.log(walk)
            raw = 7.0 * jnp.arctanh(sd / 7.0)  # undone by the bound on the diffusion
            return jnp.concatenate([raw, jnp.zeros(d * (d - 1) // 2)]) if self.full else raw

    class Score(eqx.Module):
        def __call__(self, features: jax.Array) -> jax.Array:
            x = features[:d]
            return 3 * NOISE * x / (1 + x**2 / 2)

    known = eqx.tree_at(lambda m: (m.diffusion_net, m.denoiser_net), m, (Noise(m.config.noise == "full"), Score()))

    def drift(y: jax.Array) -> jax.Array:
        return known.dynamics(Window(y[None], jnp.zeros((1, d)), jnp.zeros(1), jnp.zeros(()), jnp.zeros(0)))

    return jax.jit(jax.vmap(drift))(ys)

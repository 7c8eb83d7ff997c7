"""The laws of a whole gap against closed recursions, exact linear laws, and exact moments of a nonlinear drift."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import Polynomial
from sequence_models import KEY, linear, running, still

from neuralsde.models.sequence_sde import Config, loss
from neuralsde.models.sequence_sde.law import StepLaw
from neuralsde.models.sequence_sde.transition import local_linear, one_step, several_steps
from neuralsde.models.sequence_sde.window import Window
from neuralsde.sde import LinearSDE

A = np.array([[-0.9, 0.5, 0.1], [-0.4, -0.6, 0.0], [0.3, 0.2, -1.1]])
B = np.array([0.3, -0.2, 0.5])
SD, LOADING = np.array([0.5, 0.8, 0.3]), np.array([[0.4], [-0.3], [0.6]])
START, SPAN = np.array([0.5, -1.0, 0.2]), np.array([0.4, 0.4, 1.7])  # the third channel was last seen 1.3 ago


def at(x: Any) -> Window:
    x = jnp.asarray(x, jnp.zeros(()).dtype)
    return Window(x[None], jnp.zeros((1, len(x))), jnp.zeros(1), jnp.zeros(()), jnp.zeros(0))


def moments(law: StepLaw) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(law.mean), np.diag(np.asarray(law.sd) ** 2) + np.asarray(law.loading @ law.loading.T)


def linear_drift(window: Window) -> jax.Array:
    return jnp.asarray(A) @ window.present + B


def constant_noise(window: Window) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(SD), jnp.asarray(LOADING)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_several_steps_are_the_chain_where_it_is_gaussian(steps: int) -> None:
    law = jax.jit(lambda w: several_steps(linear_drift, constant_noise, w, jnp.asarray(SPAN), steps))(at(START))
    h, G = SPAN / steps, np.concatenate([np.diag(SD), LOADING], axis=1)
    mean, P = START, np.zeros((3, 3))
    for _ in range(steps):
        push = np.eye(3) + h[:, None] * A
        mean = mean + h * (A @ mean + B)
        P = push @ P @ push.T + np.sqrt(np.outer(h, h)) * (G @ G.T)
    np.testing.assert_allclose(moments(law)[0], mean, atol=1e-12)
    np.testing.assert_allclose(moments(law)[1], P, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_several_steps_have_the_moments_of_the_chain_where_the_noise_grows_with_the_state() -> None:
    """Geometric Brownian motion: E x' = (1 + μ h) x, E x'² = ((1 + μ h)² + σ² h) x² at every step."""
    mu, sigma, x, m, span = -0.4, 0.7, 1.5, 6, 0.8
    window, no_factors = at([x]), jnp.zeros((1, 0))
    law = several_steps(
        lambda w: mu * w.present, lambda w: (sigma * w.present, no_factors), window, jnp.full(1, span), m
    )
    h = span / m
    mean, second = x * (1 + mu * h) ** m, x**2 * ((1 + mu * h) ** 2 + sigma**2 * h) ** m
    assert float(law.mean[0]) == pytest.approx(mean, rel=1e-12)
    assert float(law.sd[0]) ** 2 == pytest.approx(second - mean**2, rel=1e-12)


@pytest.mark.usefixtures("x64")
def test_local_linear_is_exact_for_a_linear_process() -> None:
    law = jax.jit(lambda w: local_linear(linear_drift, constant_noise, w, jnp.asarray(SPAN)))(at(START))
    G = np.concatenate([np.diag(SD), LOADING], axis=1) * np.sqrt(SPAN)[:, None]
    mean, P = LinearSDE(A * SPAN[:, None], B * SPAN, G).transition(START, 1.0)
    np.testing.assert_allclose(moments(law)[0], mean, atol=1e-10)
    np.testing.assert_allclose(moments(law)[1], P, atol=1e-10)


# -- a double well -----------------------------------------------------------------------------------------------------

SIGMA, WELL = 0.6, Polynomial([0.0, 1.0, 0.0, -1.0])


def double_well(x: float, gap: float) -> tuple[float, float]:
    """Mean and variance a short gap after x: E φ(x_t) = Σ tᵏ/k! Lᵏφ(x) with the generator L, ten terms."""

    def expectation(phi: Polynomial) -> float:
        total, factor = 0.0, 1.0
        for k in range(11):
            total += factor * float(phi(x))
            phi = WELL * phi.deriv() + 0.5 * SIGMA**2 * phi.deriv(2)
            factor *= gap / (k + 1)
        return total

    mean = expectation(Polynomial([0.0, 1.0]))
    return mean, expectation(Polynomial([0.0, 0.0, 1.0])) - mean**2


KINDS = (("one", 1), ("local-linear", 1), ("several", 8), ("several", 1024))
TURN = np.linalg.qr(np.array([[1.0, 0.3, -0.5], [0.2, 1.0, 0.7], [0.4, -0.6, 1.0]]))[0]


def law_of(d: int, kind: str, steps: int) -> Any:
    """(start, gap) -> mean and covariance; d = 3 are three double wells, seen turned."""
    turn, no_factors = jnp.asarray(TURN if d == 3 else np.eye(1)), jnp.zeros((d, 0))

    def drift(w: Window) -> jax.Array:
        x = turn.T @ w.present
        return turn @ (x - x**3)

    def noise(w: Window) -> tuple[jax.Array, jax.Array]:
        return jnp.full(d, SIGMA), no_factors

    def law(x: jax.Array, gap: jax.Array) -> tuple[jax.Array, jax.Array]:
        window, span = at(turn @ x), jnp.full(d, gap)
        if kind == "one":
            found = one_step(drift(window), noise(window), window, span)
        elif kind == "several":
            found = several_steps(drift, noise, window, span, steps)
        else:
            found = local_linear(drift, noise, window, span)
        P = jnp.diag(found.sd**2) + found.loading @ found.loading.T
        return turn.T @ found.mean, turn.T @ P @ turn

    return jax.jit(law)


def errors(d: int, kind: str, steps: int) -> np.ndarray:
    """Largest errors of mean and covariance over a few starts, for the gaps .08 and .04: (2, 2)."""
    law, found = law_of(d, kind, steps), np.zeros((2, 2))
    for k, gap in enumerate((0.08, 0.04)):
        for first in (0.3, -0.8):
            x = first + 0.25 * np.arange(d)
            exact = np.array([double_well(float(each), gap) for each in x])
            mean, P = law(jnp.asarray(x), jnp.asarray(gap))
            off = np.abs(mean - exact[:, 0]).max(), np.abs(P - np.diag(exact[:, 1])).max()
            found[k] = np.maximum(found[k], off)
    return found


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("d", [1, 3])
def test_local_errors_on_a_double_well(d: int) -> None:
    """One step is off by s² in mean and variance; local linearisation by s³; m steps by s² / m."""
    one, local, eight, many = (errors(d, kind, steps) for kind, steps in KINDS)
    np.testing.assert_allclose(np.log2(one[0] / one[1]), 2.0, atol=0.25)
    assert (np.log2(local[0] / local[1]) > 2.7).all()
    assert (local[1] < 0.15 * one[1]).all()
    np.testing.assert_allclose(eight[1] / one[1], 1 / 8, atol=0.06)
    assert (np.log2(many[0] / many[1]) > 2.5).all()  # what is left with many steps is the Gaussian shape


# -- what is learnt ----------------------------------------------------------------------------------------------------

THETA, GAP = 1.0, 0.3


def slopes(theta: float, sigma: float, **options: Any) -> tuple[float, float]:
    """Of the loss in θ and in log σ, on transitions of a stationary OU whose sample moments are the exact ones."""
    x = np.sqrt(np.linspace(0.01, 3.2, 12))
    x = np.concatenate([x, -x])[:, None]
    x /= x.std()
    decay, sd = np.exp(-THETA * GAP), np.sqrt(1 - np.exp(-2 * THETA * GAP))
    batch = still(48, np.tile(x, (2, 1)), np.concatenate([decay * x + sd, decay * x - sd]), GAP)
    m = linear([[-theta]], Config(history=0, depth=0, **options))
    m = eqx.tree_at(lambda m: m.walk, m, np.full(1, sigma, np.float32))
    slope = gradient(m, batch)
    return -float(slope.flow_net.linear.weight[0, 0]), float(slope.diffusion_net.linear.bias[0])


@eqx.filter_jit
def gradient(m: Any, batch: Any) -> Any:
    return eqx.filter_grad(lambda m: loss(m, batch, running(jnp.ones(1)), key=KEY)[0])(m)


A_GAP, STEP = np.exp(-THETA * GAP), np.exp(-THETA * GAP / 4)
FITS = {
    "one step": ({}, (1 - A_GAP) / GAP, np.sqrt((1 - A_GAP**2) / GAP)),
    "four steps": ({"substeps": 4}, (1 - STEP) / (GAP / 4), np.sqrt((1 - STEP**2) / (GAP / 4))),
    "local linear": ({"law": "local-linear", "substeps": 8}, THETA, np.sqrt(2 * THETA)),
}


@pytest.mark.parametrize("law", FITS)
def test_where_the_fit_of_an_ornstein_uhlenbeck_process_ends(law: str) -> None:
    """THEORY 15: one step at θ (1 - θΔ/2 + ...); four within 5 % of θ and σ; local linearisation at both.

    The loss is flat there, and leads there from 4 % to both sides.
    """
    options, theta, sigma = FITS[law]
    flat = slopes(theta, sigma, **options)
    np.testing.assert_allclose(flat, 0.0, atol=2e-5)
    for factor in (0.96, 1.04):
        assert slopes(factor * theta, sigma, **options)[0] / (factor - 1) > 0.05
        assert slopes(theta, factor * sigma, **options)[1] / (factor - 1) > 0.05
    off = theta / THETA - 1, sigma / np.sqrt(2 * THETA) - 1
    if law == "one step":
        assert off[0] == pytest.approx(-THETA * GAP / 2, rel=0.12)
        assert off[1] < -0.1
    else:
        assert np.abs(off).max() < 0.05

"""The denoiser learns a score, and a stabiliser's effect depends neither on the unit of time nor on the sampling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sequence_models import KEY, linear, minimise, model, running, still

from neuralsde.data import Encoder, from_arrays
from neuralsde.data.windows import starts, travel_time
from neuralsde.models.sequence_sde import Config, SequenceSDE, loss
from neuralsde.models.sequence_sde.rollout import Steps, rollout
from neuralsde.models.sequence_sde.window import Window

NOISE = 0.5


def at(x: Any) -> Window:
    x = jnp.atleast_1d(jnp.asarray(x, jnp.float32))
    return Window(x[None], jnp.zeros((1, len(x))), jnp.zeros(1), jnp.zeros(()), jnp.zeros(0))


def test_denoising_learns_the_score_of_the_smoothed_data() -> None:
    """Of data N(0, C) the score at noise n is -(C + n²)⁻¹ x, and what is taken for noise is n (C + n²)⁻¹ x."""
    C = np.array([[1.0, 0.6], [0.6, 0.8]])
    x = np.random.default_rng(0).multivariate_normal(np.zeros(2), C, 4000)
    x -= x.mean(0)
    C = np.cov(x.T, bias=True)
    config = Config(history=0, depth=0, denoiser="state", denoiser_noise=NOISE)
    batch = still(len(x), x, x)
    last = minimise(linear(np.zeros((2, 2)), config), lambda m, key: loss(m, batch, running(jnp.ones(2)), key=key)[0])
    assert last.denoiser_net is not None
    weight = np.asarray(last.denoiser_net.linear.weight[:, :2])
    exact = np.linalg.inv(C + NOISE**2 * np.eye(2))
    np.testing.assert_allclose(weight, NOISE * exact, atol=0.03)
    score = eqx.filter_jit(lambda m, w: m.score(w))
    slope = score(last, at([1.0, 0.0])) - score(last, at([0.0, 0.0]))
    np.testing.assert_allclose(slope, -exact[:, 0], atol=0.06)


# -- travel time -------------------------------------------------------------------------------------------------------


def table(kind: str, second: float, every: int) -> tuple[float, Any]:
    """Travel time for n = .1 s.d. in seconds of a line or of Brownian paths, written in units of `second` seconds."""
    rng, rows = np.random.default_rng(1), 1501
    seconds = np.cumsum(rng.uniform(5.0, 15.0, (8, rows)), axis=1)
    if kind == "line":
        values = 0.02 * seconds[..., None] * np.array([1.0, -3.0])
    else:
        gaps = np.diff(seconds, axis=1, prepend=seconds[:, :1])[..., None]
        values = np.cumsum(np.sqrt(gaps) * np.array([0.3, 2.0]) * rng.normal(size=(8, rows, 2)), axis=1)
        values -= values.mean((0, 1))
    data = from_arrays([t[::every] / second for t in seconds], [v[::every] for v in values])
    encoder = Encoder.fit(data)
    encoded = encoder.encode(data)
    time = travel_time(encoded, starts(encoded, np.ones(len(encoded), bool)), np.full(2, 0.1))
    return time * encoder.tau * second, values.std((0, 1))


@pytest.mark.parametrize("kind", ["line", "brownian"])
def test_travel_time_is_a_time_of_the_data(kind: str) -> None:
    """Size / speed of a line and size² / σ² of a Brownian path, in seconds or hours, with all points or every tenth."""
    wanted, sd = table(kind, 1.0, 1)
    if kind == "line":
        exact = 0.1 / np.sqrt(np.mean((0.02 * np.array([1.0, 3.0]) / sd) ** 2))
    else:
        exact = 0.01 / np.mean((np.array([0.3, 2.0]) / sd) ** 2)
    assert wanted == pytest.approx(exact, rel=0.05)
    assert table(kind, 3600.0, 1)[0] == pytest.approx(wanted, rel=1e-4)
    assert table(kind, 1.0, 10)[0] == pytest.approx(wanted, rel=0.08)


def test_travel_time_within_one_gap_goes_on_as_from_one_gap_to_two() -> None:
    """A Brownian path whose gaps are four times its travel time still has it."""
    rng, sigma = np.random.default_rng(2), 1.0
    path = np.cumsum(rng.normal(size=(6, 4000, 1)), axis=1)
    data = from_arrays([np.arange(4000.0)] * 6, list(path))
    encoded = Encoder.fit(data).encode(data)
    size = 0.5 / (path.std() if path.std() else 1.0)
    got = travel_time(encoded, starts(encoded, np.ones(len(encoded), bool)), np.full(1, size))
    assert got == pytest.approx(0.25 / sigma**2, rel=0.06)


# -- stabilisers -------------------------------------------------------------------------------------------------------


def thin(config: Config, travel: float, gap: float = 1.0) -> SequenceSDE:
    """Data on a line: what is taken for noise is the whole deviation, ε̂ = x / n. No flow; the noise is negligible."""
    m = model(config, d=1, c=0, size=0.0)
    assert m.denoiser_net is not None
    weight = m.denoiser_net.linear.weight.at[0, 0].set(1 / NOISE)
    m = eqx.tree_at(lambda m: (m.denoiser_net.linear.weight, m.strength), m, (weight, np.float32(config.strength)))
    m = eqx.tree_at(lambda m: m.walk, m, np.full(1, 1e-6, np.float32))
    object.__setattr__(m, "travel", travel)
    return m


def left_after(m: SequenceSDE, time: float, gap: float, substeps: int = 1) -> float:
    """What is left of a deviation of one after a time, in steps of `gap`."""
    count = round(time / gap)
    steps = Steps(jnp.full(count, gap), jnp.zeros((count, 0)))
    path = eqx.filter_jit(lambda m: rollout(m, at(1.0), steps, key=KEY, substeps=substeps).states)(m)
    return float(path[-1, 0])


FIXED = Config(history=0, depth=0, denoiser="fixed", denoiser_noise=NOISE)


def test_a_fixed_stabiliser_contracts_by_the_clock_whatever_the_sampling() -> None:
    """e^(-strength · t / T): with the same T in clock time, ten times the points, or substeps, change nothing."""
    for strength in (1.0, 0.3):
        config = replace(FIXED, strength=strength)
        wanted = np.exp(-strength * 4.0 / 2.0)  # T = 2 of the coarse gaps, four of them
        assert left_after(thin(config, travel=2.0), 4.0, 1.0) == pytest.approx(wanted, rel=1e-4)
        assert left_after(thin(config, travel=20.0), 40.0, 1.0) == pytest.approx(wanted, rel=1e-3)
        assert left_after(thin(config, travel=2.0), 4.0, 1.0, substeps=5) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("denoiser", ["fixed", "state"])
def test_a_stabiliser_never_overshoots(denoiser: Any) -> None:
    """Where the data move by ten times the denoiser's noise in a gap a deviation goes to zero, not to minus nine."""
    m = thin(replace(FIXED, denoiser=denoiser), travel=0.1)
    if denoiser == "state":  # rate σ² / 2n² = 10
        m = eqx.tree_at(lambda m: m.walk, m, np.full(1, np.sqrt(20) * NOISE, np.float32))
    mean = eqx.filter_jit(lambda m, w: m.step(w, jnp.ones(1)).mean)(m, at(1.0))
    assert float(mean[0]) == pytest.approx(np.exp(-10.0), abs=1e-5)


def test_a_gentle_stabiliser_is_its_drift() -> None:
    """On broad data the decay within a step is slow, and a step of h moves by h c (n²/T) score."""
    m = thin(FIXED, travel=2.0)
    slope = 0.01
    m = eqx.tree_at(lambda m: m.denoiser_net.linear.weight, m, m.denoiser_net.linear.weight * slope * NOISE)  # type: ignore[union-attr]
    window = at(1.0)
    drift = eqx.filter_jit(lambda m, w: (m.drift(w), m.drift(w, jnp.ones(1)), m.score(w)))
    limit, step, score = drift(m, window)
    np.testing.assert_allclose(limit, NOISE**2 / 2.0 * score, rtol=1e-5)
    np.testing.assert_allclose(step, limit, rtol=2e-3)


def test_likelihoods_are_without_the_stabiliser_and_strength_is_no_weight() -> None:
    m = model(Config(history=1, width=4, depth=1, denoiser="fixed"), d=2, c=0)
    rng = np.random.default_rng(0)
    batch = still(8, rng.normal(size=(8, 2)), rng.normal(size=(8, 2)))
    window = batch.window
    double = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=1), (window.value, window.age, window.lag))
    batch = eqx.tree_at(lambda b: (b.window.value, b.window.age, b.window.lag), batch, double)
    bare = model(Config(history=1, width=4, depth=1), d=2, c=0)
    bare = eqx.tree_at(lambda m: (m.flow_net, m.diffusion_net), bare, (m.flow_net, m.diffusion_net))
    value = eqx.filter_jit(lambda m: loss(m, batch, running(jnp.ones(2)), key=KEY)[1][0]["nats"])
    assert float(value(m)) == pytest.approx(float(value(bare)), rel=1e-6)
    slope = eqx.filter_jit(eqx.filter_grad(lambda m: loss(m, batch, running(jnp.ones(2)), key=KEY)[0]))(m)
    assert float(slope.strength) == 0.0

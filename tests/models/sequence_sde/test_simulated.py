"""Scores of simulated paths: closed forms, propriety, and what tuning through the simulation can learn."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sequence_models import KEY, f32, linear

from neuralsde.evaluate import scores
from neuralsde.models.sequence_sde import Config
from neuralsde.models.sequence_sde.rollout import Steps
from neuralsde.models.sequence_sde.simulated import Stretch, crps, energy, path_energy, simulated_loss
from neuralsde.models.sequence_sde.window import Window


def stretches(n: int, target: np.ndarray, dt: float = 1.0) -> Stretch:
    """n stretches (K rows, one channel) from 1 with nothing missing; target (n, K, 1)."""
    K = target.shape[1]
    still = jnp.zeros((n, 1, 1))
    window = jax.vmap(Window)(still + 1, still, jnp.zeros((n, 1)), jnp.zeros(n), jnp.zeros((n, 0)))
    steps = Steps(jnp.full((n, K), dt), jnp.zeros((n, K, 0)))
    return jax.vmap(Stretch)(window, steps, f32(target), jnp.ones(target.shape, bool))


def test_crps_and_energy_are_those_of_the_scores() -> None:
    """The same numbers as the NumPy scores that judge a run; the energy of one entry is its CRPS."""
    rng = np.random.default_rng(0)
    samples, truth = rng.normal(size=(7, 5, 3)), rng.normal(size=(5, 3))
    got = jax.jit(crps)(f32(samples), f32(truth))
    np.testing.assert_allclose(got, scores.crps_samples(samples, truth), rtol=1e-4, atol=1e-5)
    rows = jax.jit(energy)(f32(samples), f32(truth), jnp.ones((5, 3)))
    wanted = scores.energy_score(samples, truth, np.ones(3))
    np.testing.assert_allclose(rows, wanted, rtol=1e-4, atol=1e-5)
    one = jax.jit(energy)(f32(samples[..., :1]), f32(truth[:, :1]), jnp.ones((5, 1)))
    np.testing.assert_allclose(one, got[:, 0], rtol=1e-4, atol=1e-5)


def test_unseen_entries_have_no_part() -> None:
    """Not even as NaN; and the energy of a path is a mean over its seen entries, whatever their number."""
    rng = np.random.default_rng(1)
    whole = stretches(1, rng.normal(size=(1, 6, 1)))
    piece = jax.tree.map(lambda leaf: leaf[0], whole)
    samples = f32(rng.normal(size=(8, 6, 1)))
    half = Stretch(piece.window, piece.steps, piece.target.at[3:].set(jnp.nan), piece.seen.at[3:].set(False))
    short = Stretch(piece.window, piece.steps, piece.target[:3], piece.seen[:3])
    a, b = path_energy(samples, half, jnp.ones(1)), path_energy(samples[:, :3], short, jnp.ones(1))
    assert float(a) == pytest.approx(float(b), rel=1e-5)
    model = linear([[-0.5]], Config(history=0, depth=0))
    seen = whole.seen.at[:, 3:].set(False)
    target = jnp.where(seen, whole.target, jnp.nan)
    hidden = eqx.tree_at(lambda s: (s.target, s.seen), whole, (target, seen))

    def of_times(dt: jax.Array) -> jax.Array:
        there = eqx.tree_at(lambda s: s.steps.dt, hidden, dt)
        return simulated_loss(model, there, jnp.ones((6, 1)), key=KEY, n=4, score="crps")

    value, slope = jax.jit(jax.value_and_grad(of_times))(hidden.steps.dt)
    assert np.isfinite(float(value))
    assert np.isfinite(np.asarray(slope)).all()


@pytest.mark.parametrize("score", ["crps", "energy"])
def test_the_law_of_the_data_scores_best(score: Any) -> None:
    """A proper score: over the coefficients of x' = x + a x + s ξ the minimum of the expected loss is at the truth."""
    a, s, K, n = -0.4, 0.5, 4, 3000
    rng = np.random.default_rng(2)
    x, rows = np.ones((n, 1)), []
    for _ in range(K):
        x = x + a * x + s * rng.normal(size=x.shape)
        rows.append(x)
    batch = stretches(n, np.stack(rows, 1))
    first = linear([[a]], Config(history=0, depth=0))

    @jax.jit
    def value(change: jax.Array) -> jax.Array:
        flow = first.flow_net.linear.weight + change[0]
        walk = np.float32(s) * jnp.exp(change[1])
        model = eqx.tree_at(lambda m: (m.flow_net.linear.weight, m.walk), first, (flow, walk[None]))
        return simulated_loss(model, batch, jnp.ones((K, 1)), key=KEY, n=16, score=score)

    best = value(jnp.zeros(2))
    for change in ([0.25, 0.0], [-0.25, 0.0], [0.0, 0.5], [0.0, -0.5]):
        assert float(value(jnp.array(change))) > float(best) + 2e-3

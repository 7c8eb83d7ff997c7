"""Paths through observations on both sides, against the exact law of a linear chain."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.models.sequence_sde import Config, SequenceSDE
from neuralsde.models.sequence_sde.conditional import Points, conditional, unseen
from neuralsde.models.sequence_sde.window import Window
from neuralsde.sde import ConditionalPaths
from tests.models.linear import chain, linear_model, smoother

A = np.array([[-0.4, 0.3], [-0.2, -0.3]])
B = np.array([[0.2, 0.0], [0.1, -0.2]])
SIGMA = np.array([0.8, 0.5])
START = np.array([[0.5, -1.0], [0.2, -0.4]])
K, N = 14, 4000


@eqx.filter_jit
def solve(model: SequenceSDE, window: Window, points: Points, target: Any, mask: Any) -> ConditionalPaths:
    return conditional(model, window, points, target, mask, key=jax.random.key(1), n=N)


def window(start: np.ndarray = START, age: Any = 0.0) -> Window:
    """A window of two rows a unit of time apart; `age` of the values in the present row."""
    ages = jnp.zeros((2, 2)).at[1].set(jnp.asarray(age))
    return Window(jnp.asarray(start, jnp.float32), ages, jnp.array([1.0, 0.0]), jnp.zeros(()), jnp.zeros(0))


def course(dt: np.ndarray, gap: np.ndarray | None = None, closes: np.ndarray | None = None) -> Points:
    closes = np.ones(len(dt), bool) if closes is None else closes
    gap = dt if gap is None else gap
    return Points(
        dt=jnp.asarray(dt, jnp.float32),
        gap=jnp.asarray(gap, jnp.float32),
        closes=jnp.asarray(closes),
        context=jnp.zeros((len(dt), 0)),
    )


Law = tuple[np.ndarray, np.ndarray]


def seen_values(law: Law, seed: int, share: float = 0.4) -> np.ndarray:
    """A draw of the chain, a share of its entries missing; the last row complete."""
    rng = np.random.default_rng(seed)
    mean, cov = law
    values = rng.multivariate_normal(mean.ravel(), cov.reshape(mean.size, mean.size)).reshape(mean.shape)
    values[:-1][rng.uniform(size=values[:-1].shape) < share] = np.nan
    return values


def check(paths: ConditionalPaths, values: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> None:
    """Mean within .05 s.d. and s.d. within 5 % where missing (three and four standard errors); the value elsewhere."""
    missing = np.isnan(values)
    assert float(paths.ess) > 0.99 * N  # a linear chain is drawn without weights
    off = (np.asarray(paths.mean()) - mean)[missing] / sd[missing]
    assert np.abs(off).max() < 0.05
    np.testing.assert_allclose(np.asarray(paths.sd())[missing], sd[missing], rtol=0.05)
    np.testing.assert_allclose(
        np.asarray(paths.paths)[:, ~missing], np.broadcast_to(values[~missing], (N, (~missing).sum())), rtol=1e-6
    )


def given(values: np.ndarray) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(np.nan_to_num(values), jnp.float32), jnp.asarray(~np.isnan(values))


def test_a_chain_with_history_and_holes():
    dt = np.random.default_rng(0).uniform(0.4, 1.4, K)
    law = chain(A, SIGMA, dt, start=START, B=B)
    values = seen_values(law, 1)
    paths = solve(linear_model(A, SIGMA, B), window(), course(dt), *given(values))
    check(paths, values, *smoother(*law, values))


def test_points_inside_a_gap_move_the_present_alone():
    closes = np.arange(K) % 3 == 2
    closes[-1] = True
    dt = np.where(np.arange(K) < 12, 1 / 3, 0.5)
    law = chain(A, SIGMA, dt, start=START, B=B, closes=closes)
    values = np.where(closes[:, None], seen_values(law, 2), np.nan)
    paths = solve(linear_model(A, SIGMA, B), window(), course(dt, np.ones(K), closes), *given(values))
    check(paths, values, *smoother(*law, values))


def test_the_start_of_a_series_is_the_climatology():
    dt = np.where(np.arange(K) == 0, 0.0, 1.0)
    law = chain(A, SIGMA, dt, B=B)
    values = seen_values(law, 3)
    values[:2, 0] = np.nan
    paths = solve(linear_model(A, SIGMA, B), unseen(window()), course(dt), *given(values))
    check(paths, values, *smoother(*law, values))


def test_a_channel_last_seen_a_time_ago_counts_from_there():
    spans = np.ones((K, 2))
    spans[0, 1] = 3.5
    model, late = linear_model(A, SIGMA, B), window(age=[0.0, 2.5])
    law = chain(A, SIGMA, spans, start=START, B=B)
    values = seen_values(law, 4)
    values[0] = np.nan
    check(solve(model, late, course(np.ones(K)), *given(values)), values, *smoother(*law, values))
    # the same with the first gap in three parts: the time to catch up is spread over it
    parts, closes = np.r_[np.full(3, 1 / 3), np.ones(K - 3)], np.r_[False, False, np.ones(K - 2, bool)]
    law = chain(
        A, SIGMA, np.concatenate([np.repeat(spans[:1] / 3, 3, axis=0), spans[1:-2]]), start=START, B=B, closes=closes
    )
    values = np.where(closes[:, None], seen_values(law, 5), np.nan)
    check(solve(model, late, course(parts, np.ones(K), closes), *given(values)), values, *smoother(*law, values))


def test_padding_stands_still():
    short = 8
    law = chain(A, SIGMA, np.ones(short), start=START, B=B)
    values = seen_values(law, 6)
    padded = np.concatenate([values, np.full((K - short, 2), np.nan)])
    dt = np.where(np.arange(K) < short, 1.0, 0.0)
    paths = solve(linear_model(A, SIGMA, B), window(), course(dt), *given(padded))
    check(eqx.tree_at(lambda p: p.paths, paths, paths.paths[:, :short]), values, *smoother(*law, values))


@pytest.mark.parametrize("jump", [0.0, 60.0])
def test_a_surprise_in_one_channel_does_not_drag_another(jump: float):
    # σ_0 = exp(x_1): under light tails a jump of 60 s.d. in x_0 would want x_1 at 3, more than four s.d. off
    model = linear_model(np.zeros((2, 2)), np.ones(2), np.zeros((2, 2)))
    weight = np.zeros(model.diffusion_net.linear.weight.shape, np.float32)
    weight[0, 1] = 1.0
    model = eqx.tree_at(lambda m: m.diffusion_net.linear.weight, model, jnp.asarray(weight))
    values = np.zeros((K, 2))
    values[0, 1] = np.nan
    values[1:, 0] = jump
    mean = float(solve(model, window(np.zeros((2, 2))), course(np.ones(K)), *given(values)).mean()[0, 1])
    # at rest the density of x_0 is exp(-x_1), which moves N(0, 1/2) to N(-1/2, 1/2); a far jump says nothing
    assert mean == pytest.approx(0.0 if jump else -0.5, abs=0.05)


def test_common_factors_tell_one_channel_of_the_other():
    """A random walk with correlated noise is Gaussian with Cov(x_s, x_t) = min(s, t) Σ; given parts of it, exact."""
    sd, loading = np.array([0.3, 0.4]), np.array([[0.9], [-0.7]])
    config = Config(history=1, depth=0, noise="low-rank", rank=1)
    model = SequenceSDE(config, 2, 0, walk=sd, key=jax.random.key(0))
    model = eqx.tree_at(lambda m: m.first_loading, model, jnp.asarray(loading / sd[:, None], jnp.float32))
    times = np.arange(1.0, K + 1)
    cov = np.einsum("kl,ij->kilj", np.minimum.outer(times, times), np.diag(sd**2) + loading @ loading.T)
    law = np.broadcast_to(START[1], (K, 2)).copy(), cov
    values = seen_values(law, 8)
    values[3], values[4, 0], values[9:11, 1] = np.nan, np.nan, np.nan
    paths = solve(model, window(), course(np.ones(K)), *given(values))
    mean, spread = smoother(*law, values)
    missing = np.isnan(values)
    assert float(paths.ess) > 0.3 * N
    off = (np.asarray(paths.mean()) - mean)[missing] / spread[missing]
    assert np.abs(off).max() < 0.12
    np.testing.assert_allclose(np.asarray(paths.sd())[missing], spread[missing], rtol=0.12)

"""Flow matching: the pairing against scipy, the least loss at the known velocity, and what may be converted."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from neuralsde.errors import InputError
from neuralsde.models.flow_matching import Config, FlowMatching, loss, matched
from neuralsde.models.transport import assignment, squared_distances
from neuralsde.noising import CondOT, Gaussian


def test_the_auction_finds_the_least_cost_and_always_a_permutation() -> None:
    n, solve = 24, jax.jit(jax.vmap(assignment))
    a = jax.random.normal(jax.random.key(0), (6, n, 2))
    b = jax.random.normal(jax.random.key(1), (6, n, 2)) * 3 + 1
    costs = np.array(jax.jit(jax.vmap(squared_distances))(a, b))
    costs[0] = np.round(costs[0])  # ties
    costs[1] = 1.0  # nothing but ties
    for cost, columns in zip(costs, np.asarray(solve(costs)), strict=True):
        assert sorted(columns) == list(range(n))
        least = cost[linear_sum_assignment(cost)].mean()
        assert cost[np.arange(n), columns].mean() <= least + 4.1e-4 * np.ptp(cost) + 1e-6
    assert assignment(jnp.ones((1, 1))).tolist() == [0]


def test_pairs_are_made_within_groups_and_leave_both_laws_alone() -> None:
    x, eps = (jax.random.normal(jax.random.key(k), (70, 1, 2)) for k in (2, 3))
    x, eps, paired = (np.asarray(part) for part in (x, eps, jax.jit(matched, static_argnums=2)(x, eps, 32)))
    for rows in (slice(0, 32), slice(32, 64), slice(64, 70)):
        np.testing.assert_array_equal(np.sort(paired[rows], 0)[..., 0], np.sort(eps[rows], 0)[..., 0])
    np.testing.assert_array_equal(paired[64:], eps[64:])
    apart, before = (float(np.square(x - e).sum()) for e in (paired, eps))
    assert apart < 0.6 * before


def test_the_loss_is_least_at_the_velocity_of_the_law_by_what_theory_says(x64: None) -> None:
    """At u + δ the loss is that at u and |δ|², for independent pairs; a Gaussian's u is known."""
    law, x = Gaussian([0.5, -1.0], [[0.5, 0.2], [0.2, 1.0]]), None
    x = law.sample(4096, key=jax.random.key(0))
    known = law.predictor(CondOT())

    def velocity(x, t):
        return known.velocity(x, jnp.clip(t, 1e-3, 1 - 1e-3))

    @jax.jit
    def values(key):
        nets = (velocity, lambda x, t: velocity(x, t) + 0.5)
        return jnp.stack([loss(FlowMatching(Config(), net), x, (), key=key)[0] for net in nets])

    best, other = np.asarray(jax.lax.map(values, jax.random.split(jax.random.key(1), 16))).T
    extra = other - best
    assert abs(extra.mean() - 0.25) < 4 * extra.std(ddof=1) / 4 + 0.01
    # The least loss is E Var(ε - x_0 | x_t), for this law an integral over t of a trace.
    t = (np.arange(20_000) + 0.5) / 20_000
    least = 0.0
    for v in np.linalg.eigvalsh([[0.5, 0.2], [0.2, 1.0]]):
        least += np.mean(v + 1 - (t - (1 - t) * v) ** 2 / ((1 - t) ** 2 * v + t**2)) / 2
    assert abs(best.mean() - least) < 4 * best.std(ddof=1) / 4 + 2e-3
    score = FlowMatching(Config(), velocity).predictor().score(jnp.ones(2), 0.3)
    np.testing.assert_allclose(score, law.at(CondOT(), 0.3).score(jnp.ones(2)), rtol=1e-10)


def test_a_velocity_of_coupled_pairs_has_no_score() -> None:
    predictor = FlowMatching(Config(coupling="ot"), lambda x, t: -x).predictor()
    assert float(predictor.velocity(jnp.ones(1), 0.5)[0]) == -1.0
    with pytest.raises(InputError, match="only the ODE"):
        predictor.score(jnp.ones(1), 0.5)


def test_bad_options() -> None:
    for make in (lambda: Config(group=1), lambda: Config(unlabelled=-0.1)):
        with pytest.raises(InputError):
            make()

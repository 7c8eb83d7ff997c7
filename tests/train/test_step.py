"""A step does what its equations say, and where a call is cut changes nothing."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.train.problem import Problem, TrainConfig
from neuralsde.train.state import Best, TrainState
from neuralsde.train.step import Hyper, compiled_steps, ema_decay, initial_state, learning_rate, make_advance
from tests.train import toy


def _assert_same_bits(a: Any, b: Any) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


class Steps:
    """A problem, its first state and its one program, for runs with any configuration."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.compiled = problem, compiled_steps(problem)
        self.first = initial_state(problem, TrainConfig())

    def __call__(self, stops: list[int], config: TrainConfig, **change: Any) -> TrainState:
        """The state after the last of the stops; `change`: parts of the first state."""
        state = dataclasses.replace(_copy(self.first), **change)
        for stop in stops:
            state = self.compiled(state, self.problem.data, Hyper.of(config), jnp.asarray(stop, jnp.int32)).state
        return state


def _after(stops: list[int], config: TrainConfig, problem: Problem) -> TrainState:
    advance, state = make_advance(problem, config), initial_state(problem, config)
    for stop in stops:
        state = advance(state, problem.data, stop).state
    return state


def test_where_calls_are_cut_never_changes_the_bits() -> None:
    """And without averaging the EMA is the weights, in the same program."""
    problem = toy.problem()
    compiled = compiled_steps(problem)  # one program for all of them

    def advance(state: TrainState, data: Any, stop: int, config: TrainConfig = toy.CONFIG) -> Any:
        return compiled(state, data, Hyper.of(config), jnp.asarray(stop, jnp.int32))

    first = initial_state(problem, toy.CONFIG)
    whole, lines = advance(_copy(first), problem.data, 40)
    names = tuple(whole.tally.sums)
    for stops in ([1, 2, 40], [13, 39, 40], list(range(1, 41))):
        state = _copy(first)
        told = []
        for stop in stops:
            state, due = advance(state, problem.data, stop)
            told += due.means(names)
        _assert_same_bits(state, whole)
        assert told == lines.means(names)  # nor what a line of the log says
    again = advance(_copy(whole), problem.data, 40)  # nothing left to do
    _assert_same_bits(again.state, whole)
    assert int(again.lines.used) == 0
    plain = advance(first, problem.data, 7, dataclasses.replace(toy.CONFIG, ema=0.0)).state
    _assert_same_bits(plain.ema, plain.params)


def _copy(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(np.array(leaf)), tree)


def test_seed_and_rates_matter() -> None:
    """Though one program serves all."""
    config, after = TrainConfig(steps=10, warmup=1), Steps(_quadratic(noise=1.0))
    base = after([5], config).params
    for change in ({"seed": 1}, {"learning_rate": 3e-3}, {"steps": 20}, {"clip": None}, {"weight_decay": 0.3}):
        other = after([5], dataclasses.replace(config, **change)).params
        assert any((x != y).any() for x, y in zip(*map(jax.tree.leaves, (base, other)), strict=True)), change


class _Point(eqx.Module):
    """A model with one matrix, one vector and a whole number that is not trained."""

    matrix: jax.Array
    vector: jax.Array
    count: jax.Array


def _quadratic(noise: float = 0.0) -> Problem:
    """Loss = mean over the batch of (w - row)^2 / 2, summed over the entries."""
    model = _Point(jnp.full((2, 2), 3.0), jnp.full((2,), -2.0), jnp.asarray(7))

    def loss(model: _Point, batch: Any, aux: Any, *, key: Any) -> Any:
        pull = 0.5 * jnp.sum((model.matrix - batch) ** 2) + 0.5 * jnp.sum(model.vector**2)
        return pull + noise * jax.random.normal(key) * model.vector[0], ({"pull": pull}, aux + 1)

    return Problem(
        model, loss, lambda data, key: data[jax.random.randint(key, (), 0, 2)], np.zeros((2, 1)), lambda _: 0.0, aux=0
    )


def test_against_adam_written_out() -> None:
    """And the user's own model is as it was, although every call gives the state away."""
    config = TrainConfig(
        steps=20, learning_rate=0.1, warmup=4, final_rate=0.1, weight_decay=0.05, clip=1.5, ema=0.5, log_every=20
    )
    problem = _quadratic()
    state = _after([5, 12], config, problem)
    assert float(problem.model.matrix.sum()) == 12.0
    w, v = np.full((2, 2), 3.0), np.full(2, -2.0)
    m1, s1, m2, s2 = 0 * w, 0 * w, 0 * v, 0 * v
    ema = v.copy()
    pulls = []
    for i in range(12):
        g1, g2 = w, v
        norm = math.sqrt((g1**2).sum() + (g2**2).sum())
        pulls.append(norm**2 / 2)
        g1, g2 = g1 * min(1, 1.5 / norm), g2 * min(1, 1.5 / norm)
        m1, m2 = 0.9 * m1 + 0.1 * g1, 0.9 * m2 + 0.1 * g2
        s1, s2 = 0.999 * s1 + 0.001 * g1**2, 0.999 * s2 + 0.001 * g2**2
        grow, shrink = 1 - 0.9 ** (i + 1), 1 - 0.999 ** (i + 1)
        x = max(0, i - 4) / 16
        rate = 0.1 * ((i + 1) / 4 if i < 4 else 0.1 + 0.9 * (1 + math.cos(math.pi * x)) / 2)
        w = w - rate * (m1 / grow / (np.sqrt(s1 / shrink) + 1e-8) + 0.05 * w)
        v = v - rate * (m2 / grow / (np.sqrt(s2 / shrink) + 1e-8))  # a vector does not decay
        decay = min(0.5, (1 + i) / (10 + i))
        ema = decay * ema + (1 - decay) * v
    np.testing.assert_allclose(state.params.matrix, w, rtol=2e-5)
    np.testing.assert_allclose(state.params.vector, v, rtol=2e-5)
    np.testing.assert_allclose(state.ema.vector, ema, rtol=2e-5)
    np.testing.assert_allclose(state.tally.sums["pull"], sum(pulls), rtol=2e-5)
    np.testing.assert_allclose(state.tally.sums["loss"], sum(pulls), rtol=2e-5)
    assert int(state.tally.count) == int(state.step) == int(state.aux) == 12
    assert state.params.count is None


def test_rate_and_decay_schedules() -> None:
    hyper = Hyper.of(TrainConfig(steps=1_000, learning_rate=2.0, warmup=100, final_rate=0.1))
    rate = np.asarray(jax.jit(jax.vmap(lambda i: learning_rate(i, hyper)))(jnp.arange(1_001)))
    at = [0, 49, 99, 100, 550, 1_000]
    np.testing.assert_allclose(rate[at], [0.02, 1.0, 2.0, 2.0, 1.1, 0.2], rtol=1e-5)
    assert (np.diff(rate[100:]) <= 1e-6).all()
    assert TrainConfig(steps=100).warmup_steps == 5
    assert TrainConfig(steps=100_000).warmup_steps == 500
    single = Hyper.of(TrainConfig(steps=1, warmup=0))
    assert float(learning_rate(jnp.asarray(0), single)) == pytest.approx(1e-3)
    decay = np.asarray(jax.jit(jax.vmap(lambda i: ema_decay(i, jnp.asarray(0.99))))(jnp.arange(2_000)))
    assert float(np.prod(decay[:20])) == pytest.approx(1 / math.comb(29, 9), rel=1e-5)  # what is left of the start
    assert float(decay[0]) == pytest.approx(0.1)
    assert float(decay[-1]) == pytest.approx(0.99)


def test_the_loop_leaves_at_the_first_step_that_is_not_finite() -> None:
    def loss(model: _Point, batch: Any, aux: Any, *, key: Any) -> Any:
        return jnp.sum(model.vector) / jnp.where(aux == 6, 0.0, 1.0), ({}, aux + 1)

    state = _after([3, 50], TrainConfig(steps=50), dataclasses.replace(_quadratic(), loss=loss))
    assert int(state.step) == 7  # step number 6, counted from 0, was the bad one
    assert not np.isfinite(state.tally.sums["loss"])


def test_only_what_is_marked_is_trained() -> None:
    problem = _quadratic()
    marked = jax.tree.map(lambda _: False, problem.model)
    marked = eqx.tree_at(lambda model: model.vector, marked, replace=True)
    state = _after([3], TrainConfig(steps=3), dataclasses.replace(problem, trainable=marked))
    assert state.params.matrix is None
    assert (state.params.vector != -2.0).all()


def test_best_is_the_lowest_the_earlier_of_equals_and_never_nan() -> None:
    params = {"w": jnp.arange(3.0)}
    best = Best.none_yet(params)
    for step, score in enumerate([math.nan, math.inf, 2.0, 1.0, 1.0, math.nan, 1.0 + 1e-12, 1.5]):
        best = best.challenge({"w": jnp.full(3, float(step))}, score, step)
    assert int(best.step) == 3
    assert float(best.score) == 1.0
    assert best.params["w"].tolist() == [3.0] * 3


def test_the_batch_is_a_function_of_seed_and_step_alone() -> None:
    """Two runs whose weights differ see the same noise: aux collects it, and it does not depend on the state."""

    def loss(model: _Point, batch: Any, aux: Any, *, key: Any) -> Any:
        return jnp.sum(model.vector**2), ({}, 0.5 * aux + jax.random.normal(key) + jnp.sum(batch))

    problem = dataclasses.replace(_quadratic(), loss=loss, aux=0.0, data=np.asarray([[1.0], [2.0]], np.float32))
    after = Steps(problem)

    def heard(value: float, stops: list[int]) -> float:
        params = eqx.tree_at(lambda m: m.vector, after.first.params, jnp.full(2, value))
        return float(after(stops, TrainConfig(steps=9, seed=4), params=_copy(params)).aux)

    assert heard(1.0, [9]) == heard(-5.0, [2, 9])

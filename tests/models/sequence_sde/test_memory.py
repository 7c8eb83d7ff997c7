"""A summary of the past: what it reads, what it must not read, and how it moves on in a simulation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sequence_models import KEY, f32, model, running

from neuralsde.models.sequence_sde import Config, InGap, SequenceSDE, Transition, transition_losses
from neuralsde.models.sequence_sde.rollout import Steps, rollout
from neuralsde.models.sequence_sde.window import Window

D, MEMORY = 2, 5
OPTIONS = Config(history=1, memory=MEMORY, width=4, depth=1)
both = pytest.mark.parametrize("summary", ["gru", "attention"])


def remembering(summary: Any, **options: Any) -> SequenceSDE:
    return model(replace(OPTIONS, summary=summary, **options), d=D, c=0, size=0.4)


def window(rows: int = MEMORY + 1, seed: int = 0) -> Window:
    """A window that was full for `rows` rows; the ones before repeat the first."""
    rng = np.random.default_rng(seed)
    value, gaps = rng.normal(size=(rows, D)), rng.uniform(0.3, 2.0, rows - 1)
    age = rng.integers(0, 2, (rows, D)) * 1.5
    lag = np.append(np.cumsum(gaps[::-1])[::-1], 0.0)
    missing = MEMORY + 1 - rows
    value, age, lag = (f32(np.concatenate([np.repeat(part[:1], missing, axis=0), part])) for part in (value, age, lag))
    return Window(value, age, lag, jnp.float32(3.0), jnp.zeros(0))


def summary_of(m: SequenceSDE, here: Window) -> np.ndarray:
    return np.asarray(eqx.filter_jit(lambda m, w: m.recall(w).summary)(m, here))


@both
def test_rows_before_the_start_of_a_series_are_not_there(summary: Any) -> None:
    """Three rows filled up to six are the same memory as three in a window of four; a first row has none."""
    here = window(rows=3)
    long, short = remembering(summary), remembering(summary, memory=2)
    short = eqx.tree_at(lambda m: m.memory_net, short, long.memory_net)
    np.testing.assert_allclose(summary_of(long, here), summary_of(short, here.last(3)), rtol=1e-5, atol=1e-6)
    rewritten = eqx.tree_at(lambda w: w.value, here, here.value.at[: MEMORY - 2].set(7.0))
    np.testing.assert_array_equal(summary_of(long, rewritten), summary_of(long, here))
    np.testing.assert_array_equal(summary_of(long, window(rows=1)), 0.0)
    slope = eqx.filter_jit(eqx.filter_grad(lambda m, w: m.recall(w).summary.sum()))(long, window(rows=1))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope.memory_net))


@both
def test_order_gaps_and_ages_matter(summary: Any) -> None:
    m, here = remembering(summary), window()
    first = summary_of(m, here)
    swapped = eqx.tree_at(lambda w: w.value, here, here.value[jnp.array([1, 0, 2, 3, 4, 5])])
    slower = eqx.tree_at(lambda w: w.lag, here, here.lag * 2.0)
    older = eqx.tree_at(lambda w: w.age, here, here.age + 1.0)
    for other in (swapped, slower, older):
        assert np.abs(summary_of(m, other) - first).max() > 1e-3


@both
def test_the_summary_is_constant_inside_a_gap(summary: Any) -> None:
    """It does not see the present, so moving the present moves nothing; made once or made always is the same."""
    m, here = remembering(summary), window()
    np.testing.assert_array_equal(summary_of(m, here.moved(jnp.array([9.0, -9.0]))), summary_of(m, here))

    @eqx.filter_jit
    def parts(m: SequenceSDE, w: Window) -> Any:
        return m.flow(w), m.diffusion(w), m.transition(w, jnp.float32(0.5))

    once, always = parts(m, m.recall(here)), parts(m, here)
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(always), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    args = InGap(m.recall(here), jnp.ones(D), jnp.ones(D))
    y = jnp.array([0.3, 1.2])
    drift = eqx.filter_jit(lambda m, args: m.process().drift(0.0, y, args))(m, args)
    np.testing.assert_allclose(drift, parts(m, here.moved(y))[0], rtol=1e-5)


@both
def test_a_rollout_carries_the_memory_on(summary: Any) -> None:
    """State by state the law is that of the window with the states pushed in, memory longer than history."""
    m, here = remembering(summary), window(rows=3)
    dt = jnp.array([0.5, 1.0, 0.25, 2.0])
    rolled = eqx.filter_jit(lambda m, w: rollout(m, w, Steps(dt, jnp.zeros((4, 0))), key=KEY))(m, here)
    law = eqx.filter_jit(lambda m, w, dt: m.transition(w, dt))
    for k in range(4):
        step = law(m, here, dt[k])
        np.testing.assert_allclose(rolled.mean[k], step.mean, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(rolled.sd[k], step.spread, rtol=2e-5)
        here = here.pushed(rolled.states[k], dt[k], jnp.zeros(0))
    # the past matters: the same present and last row with another past before it is another law
    other = eqx.tree_at(lambda w: w.value, here, here.value.at[:-2].add(1.0))
    assert np.abs(law(m, other, dt[0]).mean - law(m, here, dt[0]).mean).max() > 1e-3


# -- decoupled ---------------------------------------------------------------------------------------------------------

PARTS = ("flow_net", "diffusion_net", "memory_net")


@eqx.filter_jit
def slopes_of(m: SequenceSDE, one: Transition, part: str) -> SequenceSDE:
    return eqx.filter_grad(lambda m: getattr(transition_losses(m, one, running(jnp.ones(D)), None), part).sum())(m)


def gradients(m: SequenceSDE, part: str) -> dict[str, float]:
    """Largest slope of the flow's loss, or of the diffusion's, in each network."""
    target = f32(np.random.default_rng(1).normal(size=D))
    slopes = slopes_of(m, Transition(window(), jnp.float32(0.7), target, jnp.ones(D, bool)), part)
    return {name: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(getattr(slopes, name))) for name in PARTS}


LAWS: dict[str, dict[str, int]] = {"one step": {}, "several": {"substeps": 3}}


@pytest.mark.parametrize("law", LAWS)
def test_the_diffusion_does_not_pull_at_the_flow_through_the_summary(law: str) -> None:
    """Decoupled: with a diffusion that is blind to the summary its loss has no slope in the summary's network."""
    m = remembering("gru", **LAWS[law])
    both_read = gradients(m, "noise")
    assert both_read["flow_net"] == 0
    assert both_read["diffusion_net"] > 0
    assert both_read["memory_net"] > 0
    assert gradients(m, "flow")["diffusion_net"] == 0
    assert gradients(m, "flow")["memory_net"] > 0
    blind = eqx.tree_at(lambda m: m.diffusion_net, m, jax.tree.map(jnp.zeros_like, m.diffusion_net))
    assert gradients(blind, "noise")["memory_net"] == 0


def test_joint_is_one_likelihood_of_all() -> None:
    got = gradients(remembering("gru", objective="joint"), "noise")
    assert min(got.values()) > 0

"""The scaling experiment: its floor, its count of compute, and power laws that are found where there are some."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.experiments import scaling
from neuralsde.experiments.scaling import DELTA, DIM, SIGMA, Batch, Field, floor, flops, loss, power_law, weights
from neuralsde.nets import MLP


def test_the_field_itself_has_the_loss_of_the_floor() -> None:
    """E log(σ² Z² + δ) - log δ: by quadrature, and on 40,000 draws within 4 standard errors."""
    field = Field.of(0)
    batch = field.batch(jax.random.key(0), 10_000)
    exact = field(batch.x)
    each = np.log((SIGMA * np.random.default_rng(0).standard_normal(400_000)) ** 2 / DELTA + 1)
    assert floor() == pytest.approx(each.mean(), abs=4 * each.std() / np.sqrt(len(each)))
    assert float(loss(exact, batch)) == pytest.approx(floor(), abs=4 * each.std() / np.sqrt(batch.v.size))
    # channels of variance one, and no flow is far from the floor
    np.testing.assert_allclose(exact.std(0), np.ones(DIM), rtol=0.03)
    assert float(loss(jnp.zeros_like(exact), batch)) > floor() + 2


def test_the_loss_is_equation_31_and_unseen_entries_have_no_part() -> None:
    batch = Batch(jnp.zeros((2, 1)), jnp.array([[1.0, 5.0], [0.5, 2.0]]), jnp.array([[1.0, 0.0], [1.0, 1.0]]))
    flow = jnp.array([[1.0, 0.0], [0.0, 0.0]])
    wanted = (np.log(DELTA) + np.log(0.25 + DELTA) + np.log(4 + DELTA)) / 3 - np.log(DELTA)
    assert float(loss(flow, batch)) == pytest.approx(wanted, rel=1e-5)
    assert float(loss(batch.v, batch)) == pytest.approx(0.0, abs=1e-5)


def test_compute_is_that_of_the_compiled_step() -> None:
    """6 a weight and sample, against what XLA counts; the first layer needs no gradient of its input."""
    net, size = MLP(32, 4, width=128, depth=2, key=jax.random.key(0)), 64
    batch = Batch(jnp.zeros((size, 32)), jnp.zeros((size, 4)), jnp.ones((size, 4)))
    step = jax.jit(jax.grad(lambda net, batch: loss(jax.vmap(net)(batch.x), batch)))
    analysis = step.lower(net, batch).compile().cost_analysis()
    assert analysis is not None
    counted = analysis["flops"]
    assert weights(net) == 32 * 4 + 4 + 33 * 128 + 129 * 128 + 128 * 4
    assert counted == pytest.approx(flops(net, size), rel=0.2)


def test_a_power_law_is_found_and_a_plateau_is_none() -> None:
    x = np.logspace(3, 6, 7)
    noise = 0.02 * np.random.default_rng(1).standard_normal((5, 7))
    law = power_law(x, 30 * x**-0.35 * np.exp(noise))
    low, high = law["slope_interval"]
    assert low < -0.35 < high
    assert high - low < 0.03
    assert law["pearson"] < -0.998
    flat = power_law(x, np.exp(noise))
    assert flat["slope_interval"][0] < 0 < flat["slope_interval"][1]
    # at the floor there is nothing left to fit
    below = power_law(x, 1.0 - np.arange(7) + 0 * noise)
    assert below == {"left_out": 6}


def test_more_weights_learn_more_of_the_field() -> None:
    """Two small networks, briefly: both below the loss without a flow and above the floor, the wider one lower."""
    field, size = Field.of(0), scaling.Size(batch=128, rate=1e-2)
    held_out = field.batch(jax.random.key(9), 2_000)
    narrow, wide = (scaling.curve(field, held_out, width, 240, size, 0) for width in (4, 48))
    still = float(loss(jnp.zeros_like(held_out.v), held_out))
    assert floor() < wide["losses"][-1] < narrow["losses"][-1] < still
    assert wide["weights"] > narrow["weights"]
    assert narrow["flops"][-1] == 6.0 * narrow["weights"] * 128 * 240

"""The residual network: its parts by hand, and what does not matter to it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.nets import ResidualMLP, ResidualTrunk

pytestmark = pytest.mark.usefixtures("x64")


def normalised(h: np.ndarray) -> np.ndarray:
    return (h - h.mean()) / np.sqrt(h.var() + 1e-5)


def test_blocks_are_added_to_their_input():
    net = ResidualTrunk(3, width=8, blocks=2, key=jax.random.key(0))
    x = np.random.default_rng(0).normal(size=3)
    h = x @ np.asarray(net.enter.weight) + np.asarray(net.enter.bias)
    for block in net.blocks:
        inner = normalised(h) @ np.asarray(block.first.weight) + np.asarray(block.first.bias)
        h = h + inner / (1 + np.exp(-inner)) @ np.asarray(block.second.weight) + np.asarray(block.second.bias)
    np.testing.assert_allclose(jax.jit(lambda x: net(x))(x), normalised(h), rtol=1e-9)


def test_it_starts_at_zero_learns_from_there_and_takes_rows_at_once():
    net = ResidualMLP(3, 2, width=8, blocks=2, key=jax.random.key(1))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
    value, slope = jax.jit(jax.value_and_grad(lambda net: net(x).sum()))(net)
    assert value == 0
    assert np.asarray(slope.out.weight).any()
    assert np.asarray(slope.linear.weight).any()
    moved = jax.tree.map(lambda a: np.asarray(a) + 0.1, net)
    whole, rows = jax.jit(lambda net: (net(x), jax.vmap(net)(x)))(moved)
    np.testing.assert_allclose(whole, rows, rtol=1e-10)

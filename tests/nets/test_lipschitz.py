"""The certified bound is never below the truth, the sampled one never above; constraints hold."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.nets import MLP
from neuralsde.nets.lipschitz import (
    STEEPEST,
    SpectralNorm,
    clip_weights,
    constrain,
    lipschitz_bound,
    lipswish,
    sampled_lipschitz,
    unwrap,
)

KEY = jax.random.key(2)
POINTS = jax.random.normal(jax.random.key(3), (40, 3))


@pytest.mark.usefixtures("x64")
def test_every_activation_constant_is_its_steepest_slope():
    """Never below the slope on a fine grid, and at most 1.2 % above it."""
    every = jax.jit(lambda x: [jnp.abs(jax.vmap(jax.grad(function))(x)).max() for function in STEEPEST])
    found = every(jnp.linspace(-9, 9, 200_001))
    for (function, constant), steepest in zip(STEEPEST.items(), map(float, found), strict=True):
        assert steepest <= constant <= 1.012 * steepest, function


def ours():
    leaves, tree = jax.tree.flatten(MLP(3, 2, width=8, depth=2, key=KEY))
    keys = jax.random.split(KEY, len(leaves))
    return jax.tree.unflatten(
        tree, [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )


def sequential():
    layers = [eqx.nn.Linear(3, 8, key=KEY), eqx.nn.Lambda(jax.nn.softplus), eqx.nn.Identity()]
    return eqx.nn.Sequential([*layers, eqx.nn.WeightNorm(eqx.nn.Linear(8, 2, key=KEY))])


NETWORKS = {
    "nets.MLP": ours,
    "nets.MLP without depth": lambda: MLP(3, 2, width=8, depth=0, key=KEY),
    "MLP": lambda: eqx.nn.MLP(3, 2, 16, 3, jax.nn.silu, jnp.tanh, key=KEY),
    "MLP, relu": lambda: eqx.nn.MLP(3, "scalar", 16, 1, key=KEY),
    "MLP, scan": lambda: eqx.nn.MLP(3, 2, 16, 3, lipswish, scan=True, key=KEY),
    "Sequential": sequential,
    "constrained": lambda: constrain(eqx.nn.MLP(3, 2, 16, 3, lipswish, key=KEY), 0.4),
    "nets.MLP constrained": lambda: constrain(ours(), 0.4),
}


@eqx.filter_jit
def measured(network):
    """Certified and sampled, and what pairs of points are apart before and after the network."""
    values, pairs = jax.vmap(network)(POINTS).reshape(40, -1), (slice(20), slice(20, None))
    sampled = [sampled_lipschitz(network, POINTS, ascent=ascent) for ascent in (0, 5)]
    gaps = [jnp.linalg.norm(x[pairs[0]] - x[pairs[1]], axis=1) for x in (POINTS, values)]
    return lipschitz_bound(network), *sampled, *gaps


@pytest.mark.parametrize("name", NETWORKS)
def test_sampled_is_below_certified(name):
    bound, points, climbed, before, after = map(np.asarray, measured(NETWORKS[name]()))
    assert points * (1 - 1e-6) <= climbed <= bound
    assert (after <= bound * before + 1e-6).all()


def test_the_bound_is_the_norm_of_a_linear_layer_and_of_a_product_in_a_line():
    layer = eqx.nn.Linear(5, 4, key=KEY)
    exact = np.linalg.norm(np.asarray(layer.weight, np.float64), 2)
    assert exact <= float(lipschitz_bound(layer)) <= exact * (1 + 1e-5)
    assert sampled_lipschitz(layer, jnp.zeros((1, 5))) == pytest.approx(exact, rel=1e-5)
    line = eqx.nn.Sequential([layer, eqx.nn.Lambda(jax.nn.sigmoid)])
    assert lipschitz_bound(line) == pytest.approx(0.25 * exact, rel=1e-5)


def test_what_is_not_known_is_refused_in_words():
    def wobble(x):
        return jnp.sin(3 * x)

    network = eqx.nn.MLP(3, 2, 8, 1, wobble, key=KEY)
    with pytest.raises(InputError, match=r"wobble in a network to certify[\s\S]*not known[\s\S]*known=\{wobble"):
        lipschitz_bound(network)
    assert lipschitz_bound(network, known={wobble: 3.0}) > sampled_lipschitz(network, POINTS)
    with pytest.raises(InputError, match="LayerNorm"):
        lipschitz_bound(eqx.nn.Sequential([eqx.nn.LayerNorm(3)]))
    with pytest.raises(InputError, match="bound=-1"):
        SpectralNorm(eqx.nn.Linear(2, 2, key=KEY), -1.0)


@pytest.mark.parametrize("bound", [0.2, 1.0, 5.0])
def test_spectral_norm_bounds_and_leaves_small_weights_alone(bound):
    layer = eqx.nn.Linear(6, 4, key=KEY)
    size = float(jnp.linalg.norm(layer.weight, 2))
    at_most, equal = SpectralNorm(layer, bound), SpectralNorm(layer, bound, equal=True)
    assert lipschitz_bound(at_most) == pytest.approx(min(size, bound), rel=1e-4)
    assert lipschitz_bound(equal) == pytest.approx(bound, rel=1e-4)
    x = jnp.arange(6.0)
    assert jnp.allclose(unwrap(at_most)(x), at_most(x))
    assert isinstance(unwrap(at_most), eqx.nn.Linear)
    if bound > size:
        assert (at_most.plain.weight == layer.weight).all()


def test_power_iteration_is_a_lower_bound_that_certification_sees_through():
    layer = eqx.nn.Linear(20, 20, key=KEY)
    size = float(jnp.linalg.norm(layer.weight, 2))
    short, long = (SpectralNorm(layer, 0.5, iterations=n) for n in (1, 200))
    assert lipschitz_bound(short) > 0.5 * 1.02  # the constraint is not met, and the certificate says so
    assert lipschitz_bound(long) == pytest.approx(0.5, rel=1e-3)
    assert size > 0.5


def test_gradients_pass_through_the_constraint():
    """The derivative of what the scaled layer returns, against central differences, SVD and power iteration."""
    with jax.enable_x64(True):
        layer = eqx.nn.Linear(3, 3, key=KEY)
        x, turn = jnp.array([0.3, -1.0, 0.5]), jnp.eye(3)[::-1]
        for kwargs in ({}, {"iterations": 300}):

            def value(W, kwargs=kwargs):
                wrapped = SpectralNorm(eqx.tree_at(lambda m: m.weight, layer, W), 0.1, equal=True, **kwargs)
                return (wrapped(x) ** 2).sum()

            at = layer.weight + 1e-6 * turn * jnp.array([-1.0, 0.0, 1.0])[:, None, None]
            values, slopes = jax.jit(jax.vmap(jax.value_and_grad(value)))(at)
            assert np.isclose((slopes[1] * turn).sum(), (values[2] - values[0]) / 2e-6, rtol=1e-6)
        zero = eqx.tree_at(lambda m: m.weight, layer, jnp.zeros((3, 3)))
        gradient = jax.jit(jax.grad(lambda m: m(x).sum()))(SpectralNorm(zero, 1.0))
        assert jnp.isfinite(gradient.linear.weight).all()


def test_clipped_weights_bound_the_maximum_norm():
    network = clip_weights(eqx.nn.MLP(3, 2, 16, 2, lipswish, key=KEY, dtype=jnp.float32))
    wild = clip_weights(jax.tree.map(lambda x: 100 * x if eqx.is_array(x) else x, network))
    for layer in wild.layers:
        assert jnp.abs(layer.weight).sum(axis=1).max() <= 1 + 1e-6
    x, y = POINTS[:20], POINTS[20:]
    gap = jnp.abs(jax.vmap(wild)(x) - jax.vmap(wild)(y)).max(axis=1)
    assert (gap <= jnp.abs(x - y).max(axis=1) * (1 + 1e-5)).all()
    assert jnp.abs(clip_weights(wild, 0.01).layers[0].weight).max() <= 0.01

"""Networks of (x, t, label): what holds for any weights, and what they refuse."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.nets import Patches, TimeMLP, UNet, fourier
from neuralsde.nets.embeddings import row
from neuralsde.nets.patches import from_patches, to_patches
from neuralsde.nets.unet import Attention, doubled, halved

KEY = jax.random.key(0)


def randomised(net):
    """The same network with every weight drawn anew: those that start at zero hide what is behind them."""
    arrays, rest = eqx.partition(net, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(arrays)
    rng = np.random.default_rng(0)  # not JAX's, which would compile a program for every shape
    drawn = [jax.device_put(0.3 * rng.standard_normal(leaf.shape, np.float32)) for leaf in leaves]
    return eqx.combine(jax.tree.unflatten(structure, drawn), rest)


def test_features_depend_on_differences_of_time_only():
    """cos and sin at the same frequencies: the inner product of two times is Σ cos 2πf(s - t), the square the count."""
    a, b, c, d = (fourier(jnp.asarray(t), 6) for t in (0.1, 0.4, -0.8, -0.5))
    assert float(a @ b) == pytest.approx(float(c @ d), abs=1e-4)
    assert float(a @ a) == pytest.approx(6, abs=1e-5)


def test_no_label_is_the_last_row():
    assert [int(row(label, 3)) for label in (None, -1, 0, 2)] == [3, 3, 0, 2]
    assert [int(row(jnp.asarray(label), 3)) for label in (-1, 2)] == [3, 2]


@pytest.mark.parametrize("shape", [(8, 12), (8, 12, 3)])
def test_patches_are_the_image_again(shape: tuple[int, ...]):
    x = jnp.arange(float(np.prod(shape))).reshape(shape)
    tokens = to_patches(x, 4)
    assert tokens.shape == (6, 16 * (shape[2] if len(shape) == 3 else 1))
    np.testing.assert_array_equal(from_patches(tokens, shape, 4), x)
    np.testing.assert_array_equal(tokens[1].reshape(4, 4, -1), x[:4, 4:8].reshape(4, 4, -1))


NETS = {
    "mlp": lambda: TimeMLP((3,), width=8, depth=1, classes=2, key=KEY),
    "patches": lambda: Patches((4, 6), patch=2, width=8, depth=1, rank=8, classes=2, key=KEY),
    "unet": lambda: UNet((4, 4, 2), channels=(4, 8), heads=2, classes=2, key=KEY),
}


@pytest.mark.parametrize("name", NETS)
def test_zero_at_the_start_then_every_weight_time_and_label_counts(name: str):
    """One program: the value at the start, the gradients of all weights, three labels and another time."""
    net = NETS[name]()
    x = jax.random.normal(KEY, net.shape)

    @eqx.filter_jit
    def facts(net):
        times, labels = jnp.array([0.3, 0.3, 0.3, -0.9]), jnp.array([-1, 0, 1, -1])

        def size(net):
            told = jax.vmap(lambda *told: net(x, *told))(times, labels)
            return jnp.square(told).sum(), told

        return eqx.filter_grad(size, has_aux=True)(net)

    _, start = facts(net)
    np.testing.assert_array_equal(start, jnp.zeros((4, *net.shape)))
    gradients, told = facts(randomised(net))
    for path, leaf in jax.tree_util.tree_flatten_with_path(gradients)[0]:
        assert float(jnp.abs(leaf).max()) > 1e-6, path
    assert min(float(jnp.abs(told[0] - each).max()) for each in told[1:]) > 1e-3
    assert float(jnp.abs(told[1] - told[2]).max()) > 1e-3


def test_attention_knows_no_places():
    """Moved places come out moved in the same way; halving a doubled image gives it back."""
    layer = randomised(Attention(4, 2, key=KEY))
    x = jax.random.normal(KEY, (4, 2, 3))
    moved = x.reshape(4, 6)[:, jnp.array([3, 1, 5, 0, 2, 4])].reshape(4, 2, 3)
    out, other = jax.jit(jax.vmap(layer))(jnp.stack([x, moved]))
    np.testing.assert_allclose(out.reshape(4, 6)[:, jnp.array([3, 1, 5, 0, 2, 4])].reshape(4, 2, 3), other, atol=1e-5)
    np.testing.assert_allclose(halved(doubled(x)), x, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: NETS["patches"]()(jnp.zeros((6, 4)), 0.1), r"shape \(6, 4\)[\s\S]*\(4, 6\)"),
        (lambda: NETS["mlp"]()(jnp.zeros((5, 3)), 0.1), r"shape \(5, 3\)[\s\S]*vmap"),
        (lambda: Patches((8, 10), patch=4, key=KEY), "do not fill it"),
        (lambda: Patches((8,), key=KEY), "they are no images"),
        (lambda: UNet((6, 6), channels=(4, 4, 4), heads=2, key=KEY), "multiples of 4"),
        (lambda: UNet((4, 4), channels=(4, 6), key=KEY), "multiples of 4"),
        (lambda: row(2, 2), "0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(make, says: str):
    with pytest.raises(InputError, match=says):
        make()

"""The network that finds points: its parts against sums written out, and votes that are known."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.nets import Votes
from neuralsde.nets.convolutions import around, cut


def test_a_cell_is_put_beside_its_neighbours_and_squares_are_cut_row_by_row():
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    found = np.asarray(around(jnp.asarray(x))).reshape(2, 4, 6, 3, 3, 3)
    for row, column in ((0, 0), (2, 5)):
        np.testing.assert_array_equal(found[:, row, column], wide[:, row : row + 3, column : column + 3])
    np.testing.assert_array_equal(around(jnp.asarray(x[1])).reshape(found.shape[1:]), found[1])
    squares = np.asarray(cut(jnp.asarray(x), 2))
    np.testing.assert_array_equal(squares[1, 1, 2], x[1, 2:4, 4:6].ravel())


def test_points_are_weighted_votes():
    """New: the middle. With a known vote: that. With all weight on one place: its centre and the vote."""
    net = Votes((16, 32, 1), 2, channels=4, blocks=1, key=jax.random.key(0))
    image = jax.random.uniform(jax.random.key(1), (3, 16, 32, 1))
    voted = eqx.tree_at(lambda n: n.leave.bias, net, jnp.array([0.0, 0.0, 0.1, 0.2, 0.3, 0.4]))
    sure = eqx.tree_at(lambda n: n.leave.weight, voted, jnp.zeros((4, 6)).at[0, 0].set(1e4))
    found = [np.asarray(one) for one in jax.jit(lambda *nets: [n(image) for n in nets])(net, voted, sure)]
    np.testing.assert_allclose(found[0], 0, atol=1e-6)
    np.testing.assert_allclose(found[1], np.broadcast_to([[0.1, 0.3], [0.2, 0.4]], (3, 2, 2)), atol=1e-6)
    centres = [[x + 0.1, y + 0.3] for y in (-0.5, 0.5) for x in (-0.75, -0.25, 0.25, 0.75)]
    gap = np.abs(found[2][:, 0, None] - np.array(centres)).max(-1).min(-1)
    assert gap.max() < 1e-3
    np.testing.assert_allclose(found[2][:, 1], found[1][:, 1], atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 16, 1), (16, 16, 3)])
def test_images_that_do_not_fit_are_refused(shape: tuple[int, int, int]):
    with pytest.raises(InputError) as error:
        Votes((shape[0], 16, 1), 2, key=jax.random.key(0))(jnp.zeros(shape))
    assert "\n" not in error.value.line

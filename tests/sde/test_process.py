"""Processes as values: what they refuse, and the drift between the two calculi."""

import jax
import jax.numpy as jnp
import pytest

from neuralsde import sde
from neuralsde.errors import InputError

Y = jnp.array([0.3, -0.7, 1.1])


def still(t, y, args):
    return jnp.zeros_like(y)


def coupled(t, y, args):
    return 1.0 + 0.3 * jnp.sin(y + jnp.roll(y, 1) ** 2)


def by_definition(columns, y):
    """½ Σ_j (∂G_·j) G_·j with whole Jacobians; columns(y) has shape (m, d)."""
    jacobian = jax.jacfwd(columns)(y)
    return 0.5 * jnp.einsum("jik,jk->i", jacobian, columns(y))


def test_the_correction_is_the_sum_over_columns_for_every_noise_shape():
    matrix = lambda y: jnp.stack([jnp.sin(y), y * y[0], jnp.ones_like(y) * y[1]], axis=-1)[..., :2]  # noqa: E731
    cases = [
        (sde.Diagonal(), coupled, lambda y: jnp.diag(coupled(0, y, None))),
        (sde.Diagonal("separable"), lambda t, y, a: jnp.sin(y), lambda y: jnp.diag(jnp.sin(y))),
        (sde.Scalar(), coupled, lambda y: coupled(0, y, None)[None]),
        (sde.General(2), lambda t, y, a: matrix(y), lambda y: matrix(y).T),
    ]
    for noise, diffusion, columns in cases:
        process = sde.SDE(still, diffusion, noise)
        assert jnp.allclose(process.correction(0.0, Y), by_definition(columns, Y), atol=1e-6), noise


def test_coupled_diagonal_noise_whose_correction_is_zero():
    """THEORY 2: one JVP with tangent g would give .3 cos(y₂) g₂ / 2, not 0."""
    g = lambda t, y, args: 0.8 + 0.3 * jnp.sin(y[::-1])  # noqa: E731
    process = sde.SDE(still, g, sde.Diagonal())
    assert jnp.all(process.correction(0.0, jnp.array([0.4, 0.9])) == 0)
    assert jnp.all(sde.SDE(still, coupled, sde.Diagonal("additive")).to(sde.Stratonovich()).drift(0.0, Y, None) == 0)


def test_conversion_there_and_back_is_the_process_itself():
    for noise in (sde.Diagonal(), sde.Diagonal("additive"), sde.Scalar()):
        process = sde.SDE(still, coupled, noise)
        there = process.to(sde.Stratonovich())
        assert there.calculus == sde.Stratonovich()
        back = there.to(sde.Ito())
        assert back.drift is process.drift
        assert back.calculus == sde.Ito()
    assert process.to(sde.Ito()) is process


def test_conversion_takes_pytrees_and_geometric_brownian_motion_has_minus_half_sigma_squared():
    process = sde.SDE(
        lambda t, y, a: {"a": 0.1 * y["a"], "b": y["b"]},
        lambda t, y, a: {"a": 0.4 * y["a"], "b": jnp.cos(y["a"]).sum() + 0 * y["b"]},
    )
    state = {"a": jnp.array([1.0, 2.0]), "b": jnp.ones((2, 2))}
    drift = process.to(sde.Stratonovich()).drift(0.0, state, None)
    assert jnp.allclose(drift["a"], (0.1 - 0.08) * state["a"])
    assert jnp.allclose(drift["b"], state["b"])


def test_facts_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="m, the number of Brownian motions"):
        sde.General(0)

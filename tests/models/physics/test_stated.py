"""Parameters as a vector and back; the stated SDE in its coordinates."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.models.physics import Between, Parameters, Physics, PhysicsSDE, Positive, Residual
from neuralsde.sde import GBM, Diagonal, General, Scalar, Stratonovich

pytestmark = pytest.mark.usefixtures("x64")


class Growth(eqx.Module):
    """dx = mu x dt + sigma x dW."""

    mu: Any
    sigma: Any

    def drift(self, t, y, args):
        return self.mu * y

    def diffusion(self, t, y, args):
        return self.sigma * y


def sde_of(config: Physics, columns: tuple[str, ...] = ("x",), **scales: Any) -> PhysicsSDE:
    d = len(columns)
    given = {"mean": (0.0,) * d, "sd": (1.0,) * d, "gap": 0.5} | scales
    return PhysicsSDE(config, columns, key=jax.random.key(0), **given)


# -- parameters ----------------------------------------------------------------------------------------------------


def test_methods_of_one_module_share_its_parameters() -> None:
    m = Growth(Positive(0.3), Between(0.5, 0.0, 2.0))
    found = Parameters.of(drift=m.drift, diffusion=m.diffusion)
    assert found.names == ("sigma", "mu") or found.names == ("mu", "sigma")
    assert len(found) == 2
    z = jnp.asarray(found.start)
    filled = found.fill(z)
    y = jnp.array([2.0])
    np.testing.assert_allclose(filled["drift"](0.0, y, None), 0.6)
    np.testing.assert_allclose(filled["diffusion"](0.0, y, None), 1.0)
    np.testing.assert_allclose(dict(zip(found.names, found.values(z), strict=True))["sigma"], 0.5)


def test_two_modules_keep_theirs_apart_by_name() -> None:
    m, n = Growth(Positive(0.3), 1.0), Growth(Positive(0.7), jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    found = Parameters.of(drift=m.drift, diffusion=n.diffusion)
    assert set(found.names) == {"drift.mu", "diffusion.mu", "sigma[0,0]", "sigma[0,1]", "sigma[1,0]", "sigma[1,1]"}


def test_numbers_are_constants_and_arrays_are_parameters() -> None:
    m = Growth(0.3, np.array(0.5))
    found = Parameters.of(drift=m.drift, diffusion=m.diffusion)
    assert found.names == ("sigma",)
    assert float(found.fill(jnp.array([0.7]))["drift"](0.0, jnp.array(2.0), None)) == pytest.approx(0.6)


def test_a_saved_shape_tells_other_modules_apart() -> None:
    def shape(m: Growth) -> list[str]:
        return Parameters.of(drift=m.drift, diffusion=m.diffusion).shape()

    assert shape(Growth(Positive(0.3), 0.5)) == shape(Growth(Positive(0.9), 0.5))
    assert shape(Growth(Positive(0.3), 0.5)) != shape(Growth(Positive(0.3), 0.6))
    assert shape(Growth(Positive(0.3), 0.5)) != shape(Growth(jnp.array(0.3), 0.5))


@pytest.mark.parametrize("bad", [lambda: Positive(0.0), lambda: Positive(np.nan), lambda: Between(2.0, 0.0, 1.0)])
def test_starts_outside_their_range_are_refused(bad) -> None:
    with pytest.raises(InputError):
        bad()


# -- the process ---------------------------------------------------------------------------------------------------


def test_in_logs_geometric_brownian_motion_has_its_exact_likelihood() -> None:
    """The log of GBM has additive noise and a constant drift: one moment step is exact, whatever the gap."""
    m = Growth(Positive(0.3), Positive(0.4))
    model = sde_of(Physics(m.drift, m.diffusion, in_logs=True, substeps=1))
    ts = jnp.array([0.0, 0.3, 1.0, 3.0])
    y = jnp.array([1.0, 1.2, 0.7, 2.0])
    found = model.filter(ts, jnp.log(y)[:, None], jnp.ones((4, 1), bool))
    exact = GBM(0.3, 0.4).log_density(y[1:], y[:-1], jnp.diff(ts))
    np.testing.assert_allclose(found.nats[1:, 0] - jnp.log(y[1:]), exact, rtol=1e-9)


@pytest.mark.parametrize("noise", [Diagonal(), Scalar(), General(2)], ids=lambda n: type(n).__name__)
def test_coordinates_follow_itos_formula(noise) -> None:
    """Of u = log y for the first column only: generator of u at y, by automatic differentiation."""
    full = jnp.array([[0.3, 0.1], [0.2, 0.5]])

    def drift(t, y, args):
        return jnp.stack([y[0] * (1 - y[1]), jnp.sin(y[0]) + t])

    def diffusion(t, y, args):
        return full * y[0] if isinstance(noise, General) else jnp.stack([0.3 * y[0] * y[1], 0.4 * y[1]])

    model = sde_of(Physics(drift, diffusion, noise, in_logs=("a",)), ("a", "b"))
    y, t = jnp.array([1.7, 0.6]), 0.4
    u = jnp.stack([jnp.log(y[0]), y[1]])
    g = diffusion(t, y, None)
    G = jnp.diag(g) if isinstance(noise, Diagonal) else g[:, None] if isinstance(noise, Scalar) else g

    def map_(y):
        return jnp.stack([jnp.log(y[0]), y[1]])

    J, H = jax.jacfwd(map_)(y), jax.hessian(map_)(y)
    expected = J @ drift(t, y, None) + 0.5 * jnp.einsum("ijk,jk->i", H, G @ G.T)
    process = model.process()
    np.testing.assert_allclose(process.drift(t, u, None), expected, rtol=1e-12)
    g_u = process.diffusion(t, u, None)
    G_u = jnp.diag(g_u) if isinstance(noise, Diagonal) else g_u[:, None] if isinstance(noise, Scalar) else g_u
    np.testing.assert_allclose(G_u, J @ G, rtol=1e-12)


def test_stratonovich_is_converted_once() -> None:
    """∘ noise sigma x has the Itô drift mu + sigma²/2."""
    m = Growth(Positive(0.3), Positive(0.4))
    model = sde_of(Physics(m.drift, m.diffusion, Diagonal(depends="separable"), Stratonovich()))
    drift = model.process().drift(0.0, jnp.array([2.0]), None)
    np.testing.assert_allclose(drift, 2.0 * (0.3 + 0.4**2 / 2), rtol=1e-12)


def test_a_residual_starts_as_nothing_and_moves_only_the_noise() -> None:
    m = Growth(Positive(0.3), Positive(0.4))
    plain = sde_of(Physics(m.drift, m.diffusion))
    model = sde_of(Physics(m.drift, m.diffusion, residual=Residual(width=4, depth=1)))
    u = jnp.array([1.3])
    np.testing.assert_array_equal(model.process().drift(0.0, u, None), plain.process().drift(0.0, u, None))
    assert model.net is not None
    moved = eqx.tree_at(lambda n: n.net.linear.bias, model, jnp.array([0.7]))
    h = moved.residual(u)
    np.testing.assert_allclose(h, 0.7 / np.sqrt(0.5), rtol=1e-12)
    added = moved.process().drift(0.0, u, None) - plain.process().drift(0.0, u, None)
    np.testing.assert_allclose(added, 0.4 * u * h, rtol=1e-10)


@pytest.mark.parametrize(
    "options",
    [{"substeps": 0}, {"observation_noise": -1.0}, {"starts": 0}],
    ids=str,
)
def test_options_without_a_meaning_are_refused(options) -> None:
    m = Growth(Positive(0.3), Positive(0.4))
    with pytest.raises(InputError):
        Physics(m.drift, m.diffusion, **options)
    with pytest.raises(InputError, match="no such column"):
        Physics(m.drift, m.diffusion, in_logs=("y",)).logs(("x",))

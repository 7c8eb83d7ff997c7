"""The continuous flow: an SDE without noise is an ODE; densities against a closed form; gradients compared."""

from __future__ import annotations

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.linalg import expm
from jax.scipy.stats import multivariate_normal

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.models.flow import Config, Flow, loss

pytestmark = pytest.mark.usefixtures("x64")
A = np.array([[-0.4, 0.9], [-0.6, 0.3]])


class Linear(eqx.Module):
    A: jax.Array

    def __call__(self, x, t):
        return self.A @ x


def swirl(t, y, args):
    return jnp.stack([jnp.sin(y[1] + t), jnp.tanh(y[0]) - y[1]])


def test_a_neural_sde_without_noise_is_a_neural_ode() -> None:
    """sde.simulate with g = 0 and diffrax's ODE solve: the same numbers, whatever the key."""
    ts, y0 = np.linspace(0.0, 1.0, 17), jnp.array([0.5, -1.0])
    process = sde.SDE(swirl, lambda t, y, args: jnp.zeros_like(y), sde.Diagonal("additive"), sde.Stratonovich())
    ours = [sde.simulate(process, y0, ts, key=jax.random.key(k), method=sde.Heun()).ys[-1] for k in (0, 1)]
    known = diffrax.diffeqsolve(
        diffrax.ODETerm(swirl), diffrax.Heun(), 0.0, 1.0, None, y0, stepsize_controller=diffrax.StepTo(jnp.asarray(ts))
    )
    np.testing.assert_array_equal(*ours)
    np.testing.assert_allclose(ours[0], jnp.asarray(known.ys)[-1], rtol=1e-12)


def test_the_density_of_a_linear_flow() -> None:
    """x_1 = e^A x, log p(x) = log N(x_1; 0, I) + tr A, with the order of the method."""
    x = jnp.array([0.7, -0.2])
    exact = multivariate_normal.logpdf(expm(A) @ x, jnp.zeros(2), jnp.eye(2)) + jnp.trace(A)

    @eqx.filter_jit
    def densities(model):
        """On the even grid, and on two that are shifted."""
        return jnp.stack(
            [model.log_density(x), *jax.vmap(lambda s: model.log_density(x, shift=s))(jnp.array([0.2, 0.7]))]
        )

    errors = [np.abs(densities(Flow(Config(steps=n), Linear(jnp.asarray(A)))) - exact) for n in (8, 16)]
    assert (errors[1] < 1e-3).all()
    assert np.log2(errors[0][0] / errors[1][0]) == pytest.approx(2.0, abs=0.3)
    assert (errors[1][1:] < errors[0][0]).all()
    assert len(set(errors[1].tolist())) == 3


def test_gradients_of_the_likelihood_agree() -> None:
    """Backprop has the gradient of the closed form up to the solve, and the continuous adjoint that of backprop."""
    x = jax.random.normal(jax.random.key(0), (4, 2))

    def slope(steps, gradient):
        model = Flow(Config(steps=steps, gradient=gradient), Linear(jnp.asarray(A)))
        return eqx.filter_jit(eqx.filter_grad(lambda m: loss(m, x, (), key=jax.random.key(1))[0]))(model).net.A

    exact = slope(16, sde.Backprop())
    np.testing.assert_allclose(slope(16, sde.ContinuousAdjoint()), exact, rtol=2e-2, atol=2e-3)

    # With log p in closed form the gradient has one too: that of the exact solution.
    def density(A):
        ends = x @ expm(A).T
        return -(multivariate_normal.logpdf(ends, jnp.zeros(2), jnp.eye(2)) + jnp.trace(A)).mean() / 2

    np.testing.assert_allclose(exact, jax.jit(jax.grad(density))(jnp.asarray(A)), atol=2e-3)


def test_it_has_a_velocity_and_no_score() -> None:
    predictor = Flow(Config(), Linear(jnp.asarray(A))).predictor()
    np.testing.assert_allclose(predictor.velocity(jnp.ones(2), 0.5), A.sum(1))
    with pytest.raises(InputError):
        predictor.score(jnp.ones(2), 0.5)
    with pytest.raises(InputError, match="at least 1"):
        Config(steps=0)

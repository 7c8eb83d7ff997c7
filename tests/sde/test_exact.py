"""Closed forms against each other: semigroup, densities that integrate to one, samples with the stated moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde

KEY = jax.random.key(11)
OU = sde.OU(1.7, 0.5, 0.8)
GBM = sde.GBM(0.2, 0.4)
LINEAR = sde.LinearSDE([[-1.0, 2.0], [-1.5, -0.3]], [0.2, -0.1], [[0.5, 0.0], [0.2, 0.3]])


@pytest.mark.parametrize("law", [OU, GBM])
def test_densities_integrate_to_one_and_have_the_stated_moments(law):
    y = jnp.linspace(-6, 8, 20_001) if law is OU else jnp.linspace(1e-3, 20, 20_001)
    density = np.exp(np.asarray(law.log_density(y, 1.3, 0.7), np.float64))
    dy = float(y[1] - y[0])
    mean, variance = law.transition(1.3, 0.7)
    assert abs(density.sum() * dy - 1) < 1e-4
    assert abs((density * y).sum() * dy - mean) < 1e-3
    assert abs((density * (y - mean) ** 2).sum() * dy - variance) < 1e-3


def test_ou_transitions_compose_and_reach_the_stationary_law():
    with jax.enable_x64(True):
        ou = sde.OU(1.7, 0.5, 0.8)
        mean, variance = ou.transition(ou.transition(2.0, 0.3)[0], 0.5)
        later = ou.transition(2.0, 0.3)[1] * jnp.exp(-2 * 1.7 * 0.5) + variance
        whole = ou.transition(2.0, 0.8)
        assert jnp.allclose(mean, whole[0], atol=1e-12)
        assert jnp.allclose(later, whole[1], atol=1e-12)
        assert jnp.allclose(jnp.stack(ou.transition(2.0, 50.0)), jnp.stack(ou.stationary()), atol=1e-12)
        assert jnp.allclose(sde.OU(0.0, 0.0, 2.0).transition(1.0, 3.0)[1], 12.0)  # Brownian motion at theta = 0
        assert jnp.allclose(ou.covariance(0.3, 0.3), ou.transition(0.0, 0.3)[1], atol=1e-15)


def test_ou_bridge_is_bayes_rule():
    """p(y_t | y_0, y_T) ∝ p(y_t | y_0) p(y_T | y_t), on a grid."""
    y = jnp.linspace(-5, 5, 8001)
    log = OU.log_density(y, -1.0, 0.4) + OU.log_density(1.2, y, 0.9 - 0.4)
    weight = np.exp(np.asarray(log - log.max(), np.float64))
    weight /= weight.sum()
    mean, variance = OU.bridge(-1.0, 1.2, 0.4, 0.9)
    assert abs((weight * y).sum() - mean) < 1e-4
    assert abs((weight * (y - mean) ** 2).sum() - variance) < 1e-4


@pytest.mark.parametrize("law", [OU, GBM])
def test_exact_samples_have_the_exact_moments(law):
    ts = jnp.array([0.0, 0.2, 1.0])
    ys = jax.jit(jax.vmap(lambda k: law.sample(1.3, ts, key=k)))(jax.random.split(KEY, 20_000))
    assert jnp.all(ys[:, 0] == 1.3)
    mean, variance = law.transition(1.3, ts[1:])
    assert jnp.all(jnp.abs(ys[:, 1:].mean(0) - mean) < 5 * jnp.sqrt(variance / 20_000))
    assert jnp.all(jnp.abs(ys[:, 1:].var(0) / variance - 1) < 0.06)


def test_brownian_bridge_is_pinned_and_has_its_covariance():
    bridge = sde.BrownianBridge(a=1.0, b=-1.0, t0=1.0, t1=3.0, sigma=0.5)
    ts = jnp.array([1.0, 1.4, 2.5, 3.0])
    ys = jax.jit(jax.vmap(lambda k: bridge.sample(ts, key=k)))(jax.random.split(KEY, 20_000))
    assert jnp.allclose(ys[:, 0], 1.0)
    assert jnp.allclose(ys[:, -1], -1.0)
    assert jnp.allclose(ys.mean(0), bridge.marginal(ts)[0], atol=0.015)
    assert jnp.allclose(jnp.cov(ys.T), bridge.covariance(ts[:, None], ts), atol=0.008)
    assert jnp.allclose(bridge.covariance(ts, ts), bridge.marginal(ts)[1], atol=1e-6)


def test_brownian_bridge_sde_has_the_same_law():
    bridge = sde.BrownianBridge(a=0.0, b=1.0)
    ts = jnp.array([0.0, 0.5, 0.9])
    ys = jax.jit(jax.vmap(lambda k: sde.simulate(bridge.process(), 0.0, ts, key=k, substeps=50).ys))(
        jax.random.split(KEY, 5_000)
    )
    mean, variance = bridge.marginal(ts[1:])
    assert jnp.allclose(ys[:, 1:].mean(0), mean, atol=0.03)
    assert jnp.allclose(ys[:, 1:].var(0), variance, atol=0.02)


def test_a_diagonal_linear_system_is_ornstein_uhlenbeck_even_after_a_long_time():
    theta, sigma = jnp.array([1.0, 3.0]), jnp.array([0.4, 0.9])
    linear = sde.LinearSDE(-jnp.diag(theta), theta * 0.5, jnp.diag(sigma))
    for dt in (1e-3, 0.7, 10.0):
        mean, cov = linear.transition(jnp.array([2.0, -1.0]), dt)
        exact = sde.OU(theta, 0.5, sigma).transition(jnp.array([2.0, -1.0]), dt)
        assert jnp.allclose(mean, exact[0], rtol=2e-5, atol=2e-6)
        assert jnp.allclose(cov, jnp.diag(exact[1]), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("dt", [1e-4, 1.0, 30.0])
def test_a_linear_system_of_two_time_scales_keeps_its_digits(dt):
    """In float32, rates .5 and 300 mixed by a change of basis, against the eigenvectors in float64."""
    rate, V = np.array([-0.5, -300.0]), np.array([[1.0, 0.4], [-0.7, 1.0]])
    A, b, S = V @ np.diag(rate) @ np.linalg.inv(V), np.array([0.3, -1.0]), np.array([[0.5, 0.0], [0.2, 0.3]])
    mixed, both = np.linalg.solve(V, S), rate[:, None] + rate
    F = V @ np.diag(np.exp(rate * dt)) @ np.linalg.inv(V)
    c = V @ (np.expm1(rate * dt) / rate * np.linalg.solve(V, b))
    Q = V @ (mixed @ mixed.T * np.expm1(both * dt) / both) @ V.T
    for found, exact in zip(sde.LinearSDE(A, b, S).kernel(dt), (F, c, Q), strict=True):
        assert np.abs(found - exact).max() < 1e-4 * np.abs(exact).max() + 1e-7


def test_linear_kernel_solves_its_moment_equations():
    """dQ/dt = A Q + Q A' + S S', by a central difference, and the semigroup Q(2t) = F Q F' + Q."""
    with jax.enable_x64(True):
        system = sde.LinearSDE(*(np.asarray(x, np.float64) for x in (LINEAR.A, LINEAR.b, LINEAR.S)))
        F, c, Q = system.kernel(0.6)
        up, down = system.kernel(0.6 + 1e-5), system.kernel(0.6 - 1e-5)
        A, S = system.A, system.S
        assert jnp.allclose((up[2] - down[2]) / 2e-5, A @ Q + Q @ A.T + S @ S.T, atol=1e-8)
        assert jnp.allclose((up[1] - down[1]) / 2e-5, A @ c + system.b, atol=1e-8)
        double = system.kernel(1.2)
        assert jnp.allclose(double[2], F @ Q @ F.T + Q, atol=1e-12)
        assert jnp.allclose(double[1], F @ c + c, atol=1e-12)


def test_joint_law_matches_samples_and_its_density_is_the_product_of_transitions():
    ts = jnp.array([0.0, 0.3, 0.5, 1.2])
    y0 = jnp.array([1.0, 0.0])
    mean, cov = LINEAR.joint(y0, ts)
    ys = jax.jit(jax.vmap(lambda k: LINEAR.sample(y0, ts, key=k)))(jax.random.split(KEY, 20_000))[:, 1:]
    flat = np.asarray(cov.reshape(6, 6))
    assert np.allclose(flat, flat.T, atol=1e-6)
    assert np.allclose(ys.mean(0), mean, atol=0.02)
    assert np.allclose(np.cov(np.asarray(ys).reshape(-1, 6).T), flat, atol=0.015)
    steps = jnp.concatenate([y0[None], ys[0]])
    chain = sum(LINEAR.log_density(steps[i + 1], steps[i], ts[i + 1] - ts[i]) for i in range(3))
    everything = sde.condition(mean, cov, ys[0], jnp.ones((3, 2), bool))[2]
    assert jnp.allclose(chain, everything, atol=2e-3)


def test_conditioning_one_dimension_is_the_ou_bridge():
    ts = jnp.array([0.0, 0.4, 0.9])
    linear = sde.LinearSDE([[-1.7]], [1.7 * 0.5], [[0.8]])
    mean, cov = linear.joint(jnp.array([-1.0]), ts)
    after, spread, fit = sde.condition(mean, cov, jnp.array([[jnp.nan], [1.2]]), jnp.array([[False], [True]]))
    exact = OU.bridge(-1.0, 1.2, 0.4, 0.9)
    assert jnp.allclose(after[0, 0], exact[0], atol=1e-5)
    assert jnp.allclose(spread[0, 0, 0, 0], exact[1], atol=1e-5)
    assert jnp.allclose(after[1, 0], 1.2)
    assert spread[1, 0, 1, 0] == 0
    assert jnp.allclose(fit, OU.log_density(1.2, -1.0, 0.9), atol=1e-4)

"""Conditional paths against exact posteriors: OU bridges, a partly observed linear system, a double well."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from neuralsde import sde
from neuralsde.errors import InputError

KEY = jax.random.key(5)
markov = lambda state, x, given: x  # noqa: E731


def last_given(steps, value):
    return jnp.full((steps, 1), jnp.nan).at[-1, 0].set(value)


def test_ou_bridges_are_exact_with_equal_weights():
    """Gaps of .5, 1 and 3 relaxation times in one batch, against the exact bridge."""
    steps, y0, y1, n = 16, -1.0, 1.5, 8_000
    ou = sde.OU(1.0, 0.3, 0.8)
    times = jnp.array([0.5, 1.0, 3.0])
    target = last_given(steps, y1)

    def kernel(state, dt):
        mean, variance = ou.transition(state, dt)
        return mean, jnp.sqrt(variance)

    def draw(gap, key):
        dt = jnp.full(steps, gap / steps)
        paths = sde.conditional_paths(
            kernel, jnp.array([y0]), dt, target, jnp.isfinite(target), key=key, n=n, advance=markov
        )
        exact = ou.bridge(y0, y1, gap / steps * jnp.arange(1, steps), gap), ou.log_density(y1, y0, gap)
        return paths.paths[:, -1, 0], paths.mean()[:-1, 0], paths.sd()[:-1, 0], paths.ess, paths.log_likelihood, exact

    batch = jax.jit(jax.vmap(draw))(times, jax.random.split(KEY, 3))
    ends, mean, sd, ess, fit, ((exact_mean, variance), log_density) = jax.tree.map(np.asarray, batch)
    assert np.all(ends == y1)
    assert np.abs((mean - exact_mean) / np.sqrt(variance)).max() < 0.05
    assert np.abs(sd / np.sqrt(variance) - 1).max() < 0.05
    assert (ess > 0.999 * n).all()
    assert np.allclose(fit, log_density, atol=1e-3)


def test_a_partly_observed_linear_system_is_smoothed_exactly_with_the_kalman_likelihood():
    """Noise enters each channel alone over one step; the channels couple through the mean, and are seen by turns."""
    steps, d = 12, 2
    F = np.array([[0.9, 0.3], [-0.4, 0.8]], np.float32)
    sd = np.array([0.3, 0.5], np.float32)
    start = np.array([1.0, -1.0], np.float32)
    covs, means = [], []
    mean, cov = start, np.zeros((d, d))
    for _ in range(steps):
        mean, cov = F @ mean, F @ cov @ F.T + np.diag(sd**2)
        means.append(mean)
        covs.append(cov)
    blocks = [[_lag(F, covs, i, j) for j in range(steps)] for i in range(steps)]
    joint = np.transpose(np.array(blocks), (0, 2, 1, 3))
    mask = np.zeros((steps, d), bool)
    mask[[3, 5, 8, 10, 10], [0, 1, 0, 0, 1]] = True
    target = np.where(mask, np.array([0.7, -0.2]), np.nan).astype(np.float32)

    @jax.jit
    def draw(key, mean, cov):
        paths = sde.conditional_paths(
            lambda state, given: (F @ state, jnp.asarray(sd)), jnp.asarray(start), None, target, mask, key=key,
            n=6_000, advance=markov, pilots=0,
        )  # fmt: skip
        exact = sde.condition(mean, cov, target, mask)
        return paths.mean(), paths.sd(), paths.ess, paths.log_likelihood, exact

    drawn = draw(KEY, np.array(means, np.float32), joint.astype(np.float32))
    mean, sd, ess, found, (exact, spread, fit) = jax.tree.map(np.asarray, drawn)
    scale = np.where(mask, 1.0, np.sqrt(np.maximum(np.einsum("iaia->ia", spread), 0)))
    assert np.abs((mean - exact) / scale).max() < 0.06
    assert np.abs(np.where(mask, 0.0, sd / scale - 1)).max() < 0.06
    assert ess > 0.99 * 6_000
    assert np.allclose(found, fit, atol=5e-3)


def _lag(F, covs, i, j):
    if i >= j:
        return np.linalg.matrix_power(F, i - j) @ covs[j]
    return _lag(F, covs, j, i).T


def test_memory_in_the_state_guides_too():
    """x_{k+1} = 1.6 x_k - .7 x_{k-1} + noise: seen only through x, the look-ahead must use the whole state."""
    steps, sd = 10, 0.2
    impulse = np.zeros((steps, steps))
    for j in range(steps):
        line = [0.0, 0.0]
        for k in range(steps):
            line.append(1.6 * line[-1] - 0.7 * line[-2] + (k == j))
        impulse[:, j] = line[2:]
    cov = jnp.array(sd**2 * impulse @ impulse.T).reshape(steps, 1, steps, 1)
    target = last_given(steps, 1.0)

    def kernel(state, given):
        return 1.6 * state["now"] - 0.7 * state["before"], jnp.full(1, sd)

    start = {"now": jnp.zeros(1), "before": jnp.zeros(1), "age": jnp.array(jnp.inf), "count": jnp.array(0)}

    def advance(s, x, given):
        return {"now": x, "before": s["now"], "age": s["age"] + 1.0, "count": s["count"] + 1}

    @jax.jit
    def draw(key):
        seen = jnp.isfinite(target)
        paths = sde.conditional_paths(kernel, start, None, target, seen, key=key, n=4_000, advance=advance, pilots=0)
        exact = sde.condition(jnp.zeros((steps, 1)), cov, target, seen)
        return paths.mean(), paths.ess, paths.log_likelihood, exact

    mean, ess, found, (exact, spread, fit) = jax.tree.map(np.asarray, draw(KEY))
    exact_sd = np.sqrt(np.diagonal(spread.reshape(steps, steps)))[:-1]
    assert ess > 0.99 * 4_000
    assert np.allclose(found, fit, atol=5e-3)
    assert np.abs((mean[:-1, 0] - exact[:-1, 0]) / exact_sd).max() < 0.07


def well(state, given):
    """One Euler step of dx = (x - x³) dt + .7 (1 + .3 sin 2x) dW."""
    h = 0.1
    return state + h * (state - state**3), jnp.sqrt(h) * 0.7 * (1 + 0.3 * jnp.sin(2 * state))


def on_a_grid(steps, y0, y1):
    """Posterior mean, s.d. and log likelihood by the transition matrix of the same kernel on 1,201 points."""
    x = np.linspace(-3.5, 3.5, 1201)
    dx = x[1] - x[0]
    density = lambda y, m, s: np.exp(-0.5 * ((y - m) / s) ** 2) / (s * np.sqrt(2 * np.pi))  # noqa: E731
    mean, sd = (np.asarray(v, np.float64) for v in well(jnp.asarray(x), None))
    first = [float(v) for v in well(jnp.asarray(y0), None)]
    step = density(x[None], mean[:, None], sd[:, None]) * dx
    ahead, back = [density(x, *first)], [density(y1, mean, sd)]
    for _ in range(steps - 2):
        ahead.append(ahead[-1] @ step)
        back.append(step @ back[-1])
    posterior = np.stack(ahead) * np.stack(back[::-1])
    total = posterior.sum(1, keepdims=True)
    posterior /= total
    centre = posterior @ x
    return centre, np.sqrt(posterior @ x**2 - centre**2), np.log(total[0, 0] * dx)


def test_a_double_well_with_state_dependent_noise_against_its_transition_matrix():
    """Within a well and across the barrier, four time units long, in one batch."""
    n, steps = 8_000, 40
    starts, ends = jnp.array([-1.0, 1.0]), jnp.array([1.0, 0.8])

    def draw(y0, y1, key):
        target = jnp.zeros((steps, 1)).at[-1].set(y1)
        mask = jnp.zeros((steps, 1), bool).at[-1].set(True)
        paths = sde.conditional_paths(well, y0[None], None, target, mask, key=key, n=n, advance=markov)
        even = paths.equally_weighted(KEY).mean(0)[:-1, 0]
        return paths.mean()[:-1, 0], paths.sd()[:-1, 0], paths.support[:-1], paths.ess, paths.log_likelihood, even

    batch = jax.jit(jax.vmap(draw))(starts, ends, jax.random.split(KEY, 2))
    for start, end, found in zip(
        starts.tolist(), ends.tolist(), zip(*map(np.asarray, batch), strict=True), strict=True
    ):
        mean, sd, support, ess, log_likelihood, even = found
        exact_mean, exact_sd, fit = on_a_grid(steps, start, end)
        assert ess > 0.1 * n
        assert np.all(np.abs(mean - exact_mean) < 4.5 * exact_sd / np.sqrt(support))
        assert np.abs(sd / exact_sd - 1).max() < 0.08
        assert abs(log_likelihood - fit) < 0.12
        assert np.abs(even - mean).max() < 0.1


def test_nothing_given_means_free_samples_and_everything_given_the_likelihood_of_the_path():
    """Both ends of the mask, in one batch."""
    values = jnp.array([[0.3], [-0.4], [1.0]])
    masks = jnp.array([[[False]] * 3, [[True]] * 3])
    kernel = lambda state, given: (0.5 * state + given, 0.5 + 0.1 * jnp.sin(state))  # noqa: E731
    inputs, n = jnp.arange(3.0), 4_000

    def draw(mask):
        return sde.conditional_paths(kernel, jnp.zeros(1), inputs, values, mask, key=KEY, n=n, advance=markov, pilots=0)

    batch = jax.tree.map(np.asarray, jax.jit(jax.vmap(draw))(masks))
    assert np.abs(batch.log_weight[0]).max() < 1e-4
    assert batch.ess[0] > 0.999 * n
    mean = [0.0]
    for k in range(3):
        mean.append(0.5 * mean[-1] + k)
    assert np.allclose(batch.paths[0].mean(0)[:, 0], mean[1:], atol=0.05)

    values = np.asarray(values)
    before = np.concatenate([np.zeros((1, 1)), values[:-1]])
    m, s = 0.5 * before + np.arange(3.0)[:, None], 0.5 + 0.1 * np.sin(before)
    assert np.allclose(batch.log_weight[1], scipy.stats.norm.logpdf(values, m, s).sum(), atol=1e-4)
    assert np.all(batch.paths[1] == values)
    assert np.isclose(batch.ess[1], n)


def test_shapes_that_do_not_fit_are_refused():
    solve = lambda mask, n: sde.conditional_paths(  # noqa: E731
        well, jnp.zeros(1), None, jnp.zeros((3, 1)), mask, key=KEY, n=n, advance=markov
    )
    with pytest.raises(InputError, match="both"):
        solve(jnp.zeros((3, 2), bool), 4)
    with pytest.raises(InputError, match="n=0"):
        solve(jnp.zeros((3, 1), bool), 0)

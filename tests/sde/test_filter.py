"""The Gaussian filter against Kalman's exact likelihood, closed forms, and the Euler law it starts from."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.experiments.known import draw
from neuralsde.experiments.linear import Linear, kalman, rotating
from neuralsde.sde import GBM, SDE, Diagonal, General, Scalar, Stratonovich
from neuralsde.sde.filter import Belief, Filtered, gaussian_filter, observe, predict

pytestmark = pytest.mark.usefixtures("x64")


def linear_sde(process: Linear) -> SDE:
    A, mean, sigma = (jnp.asarray(part) for part in (process.A, process.mean, np.diag(process.root)))
    return SDE(lambda t, y, args: A @ (y - mean), lambda t, y, args: sigma, Diagonal())


@eqx.filter_jit
def filter_all(process: SDE, start: Belief, ts, ys, seen, **options) -> Filtered:
    ts, ys, seen = (jnp.asarray(part) for part in (ts, ys, seen))
    return jax.vmap(lambda t, y, s: gaussian_filter(process, start, t, y, s, **options))(ts, ys, seen)


def test_the_kalman_likelihood_with_three_entries_in_ten_missing() -> None:
    """Of order 2: the error falls by four or more when steps are halved; below 1e-5 nats an entry at four steps.

    Of a system that rotates; of an OU process the same is asked of a whole run, in runs/physics.
    """
    process = rotating()
    rng = np.random.default_rng(3)
    sample = draw(process, 8, 60, rng)
    keep = rng.random(sample.values.shape) >= 0.3
    best, entries = kalman(process, sample, keep)
    start = Belief(jnp.asarray(process.mean), jnp.asarray(process.covariance))
    known = np.logical_or.accumulate(keep, axis=1)
    counted = np.concatenate([np.zeros_like(keep[:, :1]), keep[:, 1:] & known[:, :-1]], axis=1)
    assert counted.sum() == entries
    errors = []
    for substeps in (2, 4):
        found = filter_all(linear_sde(process), start, sample.times, sample.values, keep, substeps=substeps)
        errors.append(abs(float(np.asarray(found.nats)[counted].sum()) - best) / entries)
    assert errors[1] < 1e-5
    assert errors[0] / errors[1] > 3


def test_one_step_of_order_one_is_the_euler_law() -> None:
    """With every entry seen: log N(y'; y + f h, g² h) of a process that is linear in nothing."""
    process = SDE(lambda t, y, args: jnp.sin(y) + t * y[::-1], lambda t, y, args: 1 + 0.3 * jnp.cos(y), Diagonal())
    rng = np.random.default_rng(0)
    ts, ys = np.cumsum(rng.uniform(0.1, 0.4, 30)), rng.standard_normal((30, 2))
    start = Belief(jnp.zeros(2), jnp.eye(2))
    found = gaussian_filter(
        process, start, jnp.asarray(ts), jnp.asarray(ys), jnp.ones((30, 2), bool), substeps=1, order=1
    )
    h = np.diff(ts)[:, None]
    f = np.sin(ys[:-1]) + ts[:-1, None] * ys[:-1, ::-1]
    v = (1 + 0.3 * np.cos(ys[:-1])) ** 2 * h
    expected = -0.5 * ((ys[1:] - ys[:-1] - f * h) ** 2 / v + np.log(2 * np.pi * v))
    # the second-order terms vanish, since nothing is uncertain where the step begins
    np.testing.assert_allclose(found.nats[1:], expected, rtol=1e-10)
    np.testing.assert_allclose(found.after.mean, ys, atol=1e-12)
    np.testing.assert_allclose(found.after.cov, 0, atol=1e-12)


def test_multiplicative_noise_keeps_its_exact_moments() -> None:
    """GBM from a known state: mean and variance over a long gap, with error of order 2 in the step."""
    gbm = GBM(mu=0.3, sigma=0.5)
    start = Belief(jnp.array([2.0]), jnp.zeros((1, 1)))
    mean = 2 * np.exp(0.3)
    var = mean**2 * np.expm1(0.25)
    errors = []
    for substeps in (8, 16):
        end = predict(gbm.process(), start, jnp.array(0.0), jnp.array(1.0), substeps=substeps)
        np.testing.assert_allclose(end.mean, mean, rtol=1e-3)
        errors.append(float(abs(end.cov[0, 0] / var - 1)))
    assert errors[1] < 2e-3
    assert 3.2 < errors[0] / errors[1] < 4.8


def test_a_quadratic_drift_reads_the_variance() -> None:
    """dy = y² dt + noise: d mean/dt = m² + P exactly, where a first-order filter has m² alone."""
    process = SDE(lambda t, y, args: y**2, lambda t, y, args: 0 * y, Diagonal())
    start = Belief(jnp.array([1.0]), jnp.array([[0.25]]))
    end = predict(process, start, jnp.array(0.0), jnp.array(1e-5), substeps=1, order=1)
    assert float((end.mean[0] - 1) / 1e-5) == pytest.approx(1.25, rel=1e-6)
    end = predict(process, start, jnp.array(0.0), jnp.array(1e-5), substeps=1, order=1, closure="first")
    assert float((end.mean[0] - 1) / 1e-5) == pytest.approx(1.0, rel=1e-6)


def test_a_reading_with_an_error_is_weighed_against_the_belief() -> None:
    """Correlated prior, one entry read with s.d. .5: the textbook gain for both."""
    prior = Belief(jnp.array([1.0, -1.0]), jnp.array([[1.0, 0.6], [0.6, 2.0]]))
    after, off, var = observe(prior, jnp.array([2.0, 9.0]), jnp.array([True, False]), jnp.full(2, 0.5))
    np.testing.assert_allclose(after.mean, [1 + 1 / 1.25, -1 + 0.6 / 1.25], rtol=1e-12)
    np.testing.assert_allclose(after.cov, [[0.2, 0.6 * 0.2], [0.6 * 0.2, 2 - 0.36 / 1.25]], rtol=1e-12)
    assert (float(off[0]), float(var[0]), float(off[1]), float(var[1])) == (1.0, 1.25, 0.0, 1.0)


def test_equal_spellings_of_the_noise_agree() -> None:
    """One Brownian motion as Scalar and as General(1); a diagonal as Diagonal and as General(d)."""
    rng = np.random.default_rng(1)
    drawn = (np.cumsum(rng.uniform(0.1, 0.5, 12)), rng.standard_normal((12, 2)), rng.random((12, 2)) < 0.7)
    ts, ys, seen = map(jnp.asarray, drawn)
    start = Belief(jnp.zeros(2), jnp.eye(2))

    def drift(t, y, args):
        return jnp.stack([-y[0] + y[1], -(y[1] ** 3)])

    def g(t, y, args):
        return jnp.stack([1 + 0.2 * y[1], 0.5 + 0.1 * y[0] ** 2])

    def nats(diffusion, noise):
        return gaussian_filter(SDE(drift, diffusion, noise), start, ts, ys, seen, noise_sd=jnp.full(2, 0.3)).nats

    @jax.jit
    def spellings():
        matrix = nats(lambda t, y, args: g(t, y, args)[:, None], General(1))
        full = nats(lambda t, y, args: jnp.diag(g(t, y, args)), General(2))
        return (nats(g, Scalar()), matrix), (nats(g, Diagonal()), full)

    for one, other in spellings():
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_noise_that_arrives_through_the_drift() -> None:
    """dq = p dt, dp = s dW, only q read: its variance after a gap is s² h³ / 3 from a known state."""
    process = SDE(lambda t, y, args: jnp.stack([y[1], 0 * y[1]]), lambda t, y, args: jnp.array([0.0, 2.0]), Diagonal())
    start = Belief(jnp.zeros(2), jnp.zeros((2, 2)))
    end = predict(process, start, jnp.array(0.0), jnp.array(0.5), substeps=16)
    exact = 4 * np.array([[0.5**3 / 3, 0.5**2 / 2], [0.5**2 / 2, 0.5]])
    np.testing.assert_allclose(end.cov, exact, rtol=2e-3)


def test_padding_and_unseen_rows_say_nothing() -> None:
    """Rows without entries split a gap: the likelihood of the rest is that of a filter with as many more steps."""
    process = linear_sde(rotating())
    start = Belief(jnp.asarray(rotating().mean), jnp.asarray(rotating().covariance))
    ys = start.mean + np.random.default_rng(2).standard_normal((3, 2))
    whole = gaussian_filter(process, start, jnp.array([0.0, 0.2, 0.6]), ys, jnp.ones((3, 2), bool), substeps=4)
    ts = jnp.array([0.0, 0.1, 0.2, 0.4, 0.6, 0.6])
    seen = jnp.repeat(jnp.array([1, 0, 1, 0, 1, 0], bool)[:, None], 2, axis=1)
    apart = gaussian_filter(process, start, ts, jnp.repeat(ys, 2, axis=0), seen, substeps=2)
    np.testing.assert_allclose(apart.nats[::2], whole.nats, rtol=1e-9)
    assert float(jnp.abs(apart.nats[1::2]).max()) == 0.0


def test_a_stratonovich_process_is_refused() -> None:
    process = SDE(lambda t, y, args: -y, lambda t, y, args: y, Diagonal(), Stratonovich())
    with pytest.raises(InputError, match="Ito"):
        gaussian_filter(
            process, Belief(jnp.zeros(1), jnp.eye(1)), jnp.zeros(2), jnp.zeros((2, 1)), jnp.ones((2, 1), bool)
        )

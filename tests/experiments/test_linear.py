"""The oracle of the recovery experiment against closed forms: kernels, data, Kalman filter, estimators."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.experiments import linear
from neuralsde.experiments.linear import Process, draw, euler_bias, ornstein_uhlenbeck, rotating
from neuralsde.sde import OU, condition

PROCESSES = [ornstein_uhlenbeck(), rotating()]
each = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: p.name)


def exact_joint(process: Process, sample: linear.Sample, series: int) -> tuple[np.ndarray, np.ndarray]:
    """Stationary mean (n + 1, d) and covariance (n + 1, d, n + 1, d) of one series, from the kernels alone."""
    law, d = process.kernels, process.dim
    n = sample.gap.shape[1] + 1
    cov = np.zeros((n, d, n, d))
    for i in range(n):
        forward = process.covariance
        cov[i, :, i] = forward
        for j in range(i + 1, n):
            forward = law.F[sample.gap[series, j - 1]] @ forward
            cov[j, :, i], cov[i, :, j] = forward, forward.T
    return np.broadcast_to(process.mean, (n, d)), cov


def test_ou_kernels_are_those_of_the_closed_form() -> None:
    process = ornstein_uhlenbeck()
    with jax.enable_x64(True):
        ou = OU(-process.A[0, 0], process.mean[0], process.sigma[0])
        mean, var = ou.transition(17.0, jnp.asarray(process.gaps))
        stationary = ou.stationary()[1]
    law = process.kernels
    assert law.F[:, 0, 0] * 17.0 + law.c[:, 0] == pytest.approx(np.asarray(mean), rel=1e-12)
    assert law.Q[:, 0, 0] == pytest.approx(np.asarray(var), rel=1e-12)
    assert process.covariance[0, 0] == pytest.approx(float(stationary), rel=1e-12)
    # u = θΔ: E[1 - e^-u] / E[u] and √E[(1 - e^-2u) / 2u]
    u = process.gaps * 0.5
    assert euler_bias(process) == pytest.approx((0.055, 1 - (1 - np.exp(-u)).mean() / u.mean()))
    assert linear.one_step_sigma(process)[0] / 3.0 == pytest.approx(np.sqrt(((1 - np.exp(-2 * u)) / (2 * u)).mean()))


def test_two_dimensions_are_stationary_and_turn() -> None:
    process = rotating()
    law, P = process.kernels, process.covariance
    assert law.F @ P @ law.F.swapaxes(1, 2) + law.Q == pytest.approx(np.broadcast_to(P, law.Q.shape), rel=1e-10)
    assert law.F @ process.mean + law.c == pytest.approx(np.broadcast_to(process.mean, law.c.shape))
    assert process.rate == pytest.approx(1.0)
    assert np.linalg.eigvals(process.A).imag == pytest.approx([0.6, -0.6])


@each
def test_without_missing_entries_the_kalman_likelihood_is_that_of_the_transitions(process: Process) -> None:
    sample = draw(process, 7, 20, np.random.default_rng(0))
    total, count = linear.kalman(sample, np.ones(sample.values.shape, bool))
    assert count == sample.transitions * process.dim
    assert total == pytest.approx(linear.log_density(process.kernels, sample).sum(), rel=1e-10)


def test_the_kalman_likelihood_is_that_of_the_joint_gaussian() -> None:
    """log p(all observed entries) less log p(the first observation of each channel, in the order of time)."""
    process, rng = rotating(), np.random.default_rng(1)
    sample = draw(process, 1, 7, rng)
    keep = rng.random(sample.values.shape) < 0.6
    mean, cov = exact_joint(process, sample, 0)
    rows = np.arange(len(mean))[:, None]
    first = keep[0] & (rows == np.argmax(keep[0], axis=0))
    with jax.enable_x64(True):

        def given(mask: np.ndarray) -> float:
            return float(condition(mean, cov, sample.values[0], jnp.asarray(mask))[2])

        expected = sum(
            given(keep[0] & (rows <= row)) - given(keep[0] & (rows < row) | first & (rows == row)) for row in rows[:, 0]
        )
    total, count = linear.kalman(sample, keep)
    assert count == keep.sum() - 2
    assert total == pytest.approx(expected, rel=1e-9)


@each
def test_the_exact_estimate_is_the_top_of_the_likelihood_and_as_near_as_theory_says(process: Process) -> None:
    sample = draw(process, 100, 200, np.random.default_rng(2))
    found = linear.exact_estimate(sample)

    def likelihood(A: np.ndarray, b: np.ndarray, sigma: np.ndarray) -> float:
        law = linear.kernels(A, b, sigma, process.gaps)
        return float(linear.log_density(law, sample).mean())

    best, truth = likelihood(found.A, found.b, found.sigma), (process.A, -process.A @ process.mean, process.sigma)
    rng = np.random.default_rng(3)
    for size in (1e-3, 1e-2):
        A, b, s = (part * (1 + size * rng.standard_normal(part.shape)) for part in (found.A, found.b, found.sigma))
        assert likelihood(A, b, s) < best
    # 2 n (best - likelihood of the truth) is chi-squared with p degrees of freedom (Wilks)
    p = process.dim**2 + 2 * process.dim
    assert 0 < 2 * sample.transitions * (best - likelihood(*truth)) < p + 4 * np.sqrt(2 * p)


def test_the_euler_estimate_has_the_bias_that_it_must_have() -> None:
    process = ornstein_uhlenbeck()
    sample = draw(process, 400, 200, np.random.default_rng(4))
    euler, exact = linear.euler_estimate(sample), linear.exact_estimate(sample)
    # relative to the exact estimate from the same data, whose chance error (1.5 %) it shares
    assert euler.A[0, 0] / exact.A[0, 0] == pytest.approx(1 - euler_bias(process)[1], abs=5e-3)
    assert euler.sigma[0] / 3.0 == pytest.approx(linear.one_step_sigma(process)[0] / 3.0, abs=4 / np.sqrt(2 * 80_000))


def test_tables_keep_what_is_kept() -> None:
    sample = draw(rotating(), 2, 5, np.random.default_rng(5))
    keep = np.ones(sample.values.shape, bool)
    keep[0, 2, 1] = False
    table, thinned = sample.table(keep), sample.table(keep, complete_rows=True)
    assert np.isnan(table.series[0].values[2]).tolist() == [False, True]
    assert [len(s) for s in thinned] == [5, 6]
    assert thinned.series[0].times == pytest.approx(np.delete(sample.times[0], 2))

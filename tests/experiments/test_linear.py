"""The linear oracles of the recovery experiment against closed forms: kernels, data, Kalman filter, estimators."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.experiments import linear
from neuralsde.experiments.known import COUNTS, Euler, Sample, draw, gaps
from neuralsde.experiments.linear import Linear, ornstein_uhlenbeck, rotating, ten
from neuralsde.experiments.recovery_checks import EULER_BIAS
from neuralsde.sde import OU, LinearSDE, condition

PROCESSES = [ornstein_uhlenbeck(), rotating(), ten()]
each = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: p.name)


def exact_joint(process: Linear, sample: Sample, series: int) -> tuple[np.ndarray, np.ndarray]:
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


def test_kernels_are_those_of_the_closed_forms() -> None:
    process, mixed = ornstein_uhlenbeck(), ten()
    with jax.enable_x64(True):
        ou = OU(-process.A[0, 0], process.mean[0], process.root[0, 0])
        mean, var = ou.transition(17.0, jnp.asarray(gaps(process)))
        stationary = ou.stationary()[1]
        sde = LinearSDE(jnp.asarray(mixed.A), jnp.asarray(-mixed.A @ mixed.mean), jnp.asarray(mixed.root))
        longest = [np.asarray(part) for part in sde.kernel(gaps(mixed)[-1])]
    law = process.kernels
    assert law.F[:, 0, 0] * 17.0 + law.c[:, 0] == pytest.approx(np.asarray(mean), rel=1e-12)
    assert law.Q[:, 0, 0] == pytest.approx(np.asarray(var), rel=1e-12)
    assert process.covariance[0, 0] == pytest.approx(float(stationary), rel=1e-12)
    for name, part in zip(("F", "c", "Q"), longest, strict=True):
        np.testing.assert_allclose(getattr(mixed.kernels, name)[-1], part, rtol=1e-9, atol=1e-9 * np.abs(part).max())
    # u = θΔ: E[1 - e^-u] / E[u] and √E[(1 - e^-2u) / 2u]
    u = 0.01 * COUNTS
    drift, spread = process.one_step(np.array([[17.0]]))
    assert drift[0, 0] / process.drift(np.array([[17.0]]))[0, 0] == pytest.approx((1 - np.exp(-u)).mean() / u.mean())
    assert spread[0, 0] / 3.0 == pytest.approx(np.sqrt(((1 - np.exp(-2 * u)) / (2 * u)).mean()))
    assert pytest.approx(u.mean() / 2) == EULER_BIAS == pytest.approx(0.055)


@each
def test_a_process_is_stationary(process: Linear) -> None:
    law, P = process.kernels, process.covariance
    held = law.F @ P @ law.F.swapaxes(1, 2) + law.Q
    np.testing.assert_allclose(held, np.broadcast_to(P, law.Q.shape), rtol=1e-9, atol=1e-9 * np.abs(P).max())
    np.testing.assert_allclose(law.F @ process.mean + law.c, np.broadcast_to(process.mean, law.c.shape), rtol=1e-9)


def test_two_dimensions_turn_and_ten_share_their_noise() -> None:
    process = rotating()
    assert process.rate == pytest.approx(1.0)
    assert np.linalg.eigvals(process.A).imag == pytest.approx([0.6, -0.6])
    assert not process.correlated
    mixed, sizes = ten(), np.abs(np.linalg.eigvals(ten().A))
    assert mixed.correlated
    assert sizes.min() > 0.6
    assert sizes.max() == pytest.approx(mixed.rate)
    scale = np.sqrt(np.diag(mixed.noise))
    off = np.abs(mixed.noise / scale / scale[:, None] - np.eye(10))
    assert 0.4 < off.max() < 0.8


@each
def test_without_missing_entries_the_kalman_likelihood_is_that_of_the_transitions(process: Linear) -> None:
    sample = draw(process, 7, 20, np.random.default_rng(0))
    total, count = linear.kalman(process, sample, np.ones(sample.values.shape, bool))
    assert count == sample.transitions * process.dim
    assert total == pytest.approx(process.log_density(*sample.pairs).sum(), rel=1e-9)


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
    total, count = linear.kalman(process, sample, keep)
    assert count == keep.sum() - 2
    assert total == pytest.approx(expected, rel=1e-9)


@each
def test_the_exact_estimate_is_the_top_of_the_likelihood_and_as_near_as_theory_says(process: Linear) -> None:
    sample = draw(process, 100, 100, np.random.default_rng(2))
    found = process.exact(sample)
    best, rng = sample.nats(found), np.random.default_rng(3)
    for size in (1e-3, 1e-2):
        A, mean, root = (
            part * (1 + size * rng.standard_normal(part.shape)) for part in (found.A, found.mean, found.root)
        )
        assert sample.nats(Linear(found.name, A, mean, root, found.rate)) < best
    # 2 N (best - likelihood of the truth) is chi-squared with p degrees of freedom (Wilks)
    d = process.dim
    p = d * d + d + (d * (d + 1) // 2 if process.correlated else d)
    assert 0 < 2 * sample.transitions * d * (best - sample.nats(process)) < p + 4 * np.sqrt(2 * p)


def test_the_euler_estimate_has_the_bias_that_it_must_have() -> None:
    process = ornstein_uhlenbeck()
    sample = draw(process, 400, 200, np.random.default_rng(4))
    euler, exact, states = Euler.of(sample), process.exact(sample), np.array([[17.0], [23.0]])
    slope, wanted = (np.diff(part[:, 0])[0] for part in (euler.drift(states), process.one_step(states)[0]))
    # relative to the exact estimate from the same data, whose chance error (1.5 %) it shares
    assert slope / 6.0 / exact.A[0, 0] == pytest.approx(wanted / 6.0 / process.A[0, 0], abs=5e-3)
    assert euler.spread(states) == pytest.approx(process.one_step(states)[1], abs=4 * 3 / np.sqrt(2 * 80_000))


def test_a_walk_is_behind_by_what_it_must_be() -> None:
    """A driftless walk loses θ E[Δ] / 4 nats to first order."""
    sample = draw(ornstein_uhlenbeck(), 200, 300, np.random.default_rng(6))
    assert sample.nats(sample.process) - sample.nats(Euler.of(sample, walk=True)) == pytest.approx(0.0275, rel=0.1)


def test_tables_keep_what_is_kept() -> None:
    sample = draw(rotating(), 2, 5, np.random.default_rng(5))
    keep = np.ones(sample.values.shape, bool)
    keep[0, 2, 1] = False
    table, thinned = sample.table(keep), sample.table(keep, complete_rows=True)
    assert np.isnan(table.series[0].values[2]).tolist() == [False, True]
    assert [len(s) for s in thinned] == [5, 6]
    assert thinned.series[0].times == pytest.approx(np.delete(sample.times[0], 2))

"""Predictions: round trips over every pair and schedule; closed forms; what cannot be converted says so."""

from __future__ import annotations

import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.noising import (
    EDM,
    KINDS,
    SCHEDULES,
    VP,
    CondOT,
    Gaussian,
    Mixture,
    Preconditioned,
    Predictor,
    Schedule,
    convert,
    eight_gaussians,
    from_energy,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("schedule", [kind() for kind in SCHEDULES.values()], ids=repr)
def test_round_trips(schedule: Schedule) -> None:
    """Every pair there and back, and every pair equal to what x_0 and ε say, wherever α, σ >= 1e-3 (THEORY 26)."""
    x_0, eps = jax.random.normal(jax.random.key(0), (2, 5))
    ts = jnp.linspace(schedule.t0, schedule.t1, 7)
    ts = ts[(schedule.alpha(ts) >= 1e-3) & (schedule.sigma(ts) >= 1e-3)]
    assert len(ts) >= 4
    for t in ts:
        x = schedule.noised(x_0, eps, t)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        truth = {
            "score": -eps / sigma, "noise": eps, "x0": x_0, "v": alpha * eps - sigma * x_0,
            "velocity": schedule.alpha_rate(t) * x_0 + schedule.sigma_rate(t) * eps,
        }  # fmt: skip
        for source, to in itertools.product(KINDS, KINDS):
            # one division by α and one by σ lie between the two
            scale = 1e-13 / float(alpha * sigma) * max(1.0, float(jnp.abs(truth[to]).max()))
            np.testing.assert_allclose(convert(truth[source], x, t, schedule, source, to), truth[to], atol=scale)


def test_a_velocity_needs_no_conversion_where_no_data_are_left() -> None:
    """At t = 1 of the straight lines α = 0: the velocity stays itself, and x_0 is still finite from it."""
    x, u = jnp.ones(3), jnp.arange(3.0)
    predictor = Predictor(lambda x, t: u, "velocity", CondOT())
    np.testing.assert_array_equal(predictor.velocity(x, 1.0), u)
    np.testing.assert_allclose(predictor.x0(x, 1.0), x - u)
    np.testing.assert_allclose(predictor.noise(x, 1.0), x)


def test_the_score_of_an_energy() -> None:
    law, schedule = eight_gaussians(), VP()
    predictor = from_energy(lambda x, t: -law.at(schedule, t).log_density(x), schedule)
    x = jnp.array([1.0, -2.0])
    np.testing.assert_allclose(predictor.score(x, 0.3), law.predictor(schedule).score(x, 0.3), rtol=1e-9)


def test_preconditioning_of_zeros_is_the_best_linear_guess() -> None:
    """For Gaussian data N(0, sd²) the best guess of x_0 is linear, so a network of zeros is exact at every noise."""
    for schedule in (VP(), EDM(), CondOT()):
        sd, x = 0.5, jnp.array([0.7, -1.2])
        model = Preconditioned(lambda x, c: jnp.zeros_like(x), schedule, sd)
        law = Gaussian(jnp.zeros(2), sd**2 * jnp.eye(2))
        for t in (schedule.t0, 0.5, 0.9):
            np.testing.assert_allclose(
                model.predictor().score(x, t), law.predictor(schedule).score(x, t), rtol=1e-7, atol=1e-9
            )


def test_the_weight_of_preconditioning_evens_the_targets() -> None:
    """weight · (scale of F in x_0)² = 1: every noise counts alike in F's own terms."""
    schedule, model = EDM(), Preconditioned(lambda x, c: jnp.ones_like(x), EDM(), 0.5)
    zero = Preconditioned(lambda x, c: jnp.zeros_like(x), schedule, 0.5)
    x, t = jnp.ones(1), 3.0
    out = model(x, t) - zero(x, t)
    np.testing.assert_allclose(model.weight(t) * out**2, 1.0, rtol=1e-12)


def test_oracles_have_their_own_gradients_and_moments() -> None:
    law = Mixture([1.0, 3.0], [[0.0, 1.0], [2.0, -1.0]], [0.5, 0.8])
    cov = jnp.array([[2.0, 0.6], [0.6, 1.0]])
    for known in (law, Gaussian([1.0, -1.0], cov)):
        noised = known.at(VP(), 0.2)
        x = jnp.array([0.3, 0.4])
        np.testing.assert_allclose(noised.score(x), jax.grad(noised.log_density)(x), rtol=1e-10)
        draws = known.sample(40_000, key=jax.random.key(1))
        mean, spread = known.moments()
        error = jnp.sqrt(jnp.diagonal(spread) / len(draws))
        assert (jnp.abs(draws.mean(0) - mean) < 4 * error).all()
        np.testing.assert_allclose(jnp.cov(draws.T), spread, atol=0.05)
    np.testing.assert_allclose(Gaussian([1.0, -1.0], cov).moments()[1], cov, rtol=1e-12)


def test_the_flow_of_a_gaussian_follows_its_velocity() -> None:
    law, schedule, x = Gaussian([1.0, -1.0], [[2.0, 0.6], [0.6, 1.0]]), VP(), jnp.array([0.5, 0.2])
    h, t = 1e-6, 0.4
    moved = (law.flow(x, schedule, t, t + h) - law.flow(x, schedule, t, t - h)) / (2 * h)
    np.testing.assert_allclose(moved, law.predictor(schedule).velocity(x, t), rtol=1e-7)


def _itself(x, t):
    return x


WRONG_NAMES = """
import jax.numpy as jnp
from neuralsde.errors import InputError
from neuralsde.noising import VP, Predictor, times
predictor = Predictor(lambda x, t: x, "noise", VP())
cases = {
    "a score at a point has no energy": lambda: predictor(jnp.ones(2), 0.5, "energy"),
    "did you mean 'noise'?": lambda: predictor(jnp.ones(2), 0.5, "nois"),
    "there is none of that name": lambda: Predictor(predictor.net, "eps", VP()),
    "not a schedule": lambda: Predictor(predictor.net, "noise", VP),
    "did you mean 'log-snr'?": lambda: times(VP(), 5, "log_snr"),
}
for says, call in cases.items():
    try:
        call()
    except InputError as error:
        assert says in error.line, (says, error.line)
    else:
        raise AssertionError(says)
"""


def test_names_that_do_not_exist_are_taught_too() -> None:
    """In a process of its own: the type checker of the tests would speak first, users do not have it."""
    done = subprocess.run([sys.executable, "-c", WRONG_NAMES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda p: Predictor(p.net, "velocity", CondOT(), False).score(jnp.ones(2), 0.5), "only the ODE"),
        (lambda p: Mixture([1.0], [1.0, 2.0], [1.0]), "means (k, d)"),
        (lambda p: Gaussian([1.0], [[1.0, 0.0]]), "cov (d, d)"),
    ],
)
def test_bad_input(ask, said: str) -> None:
    predictor = Predictor(_itself, "noise", VP())
    with pytest.raises(InputError) as error:
        ask(predictor)
    assert said in error.value.line

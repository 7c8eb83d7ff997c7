"""Guidance against Bayes' rule, in closed form where the data are Gaussian."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.noising import (
    EDM,
    VP,
    CondOT,
    Gaussian,
    Mixture,
    Predictor,
    classifier_free,
    classifier_guided,
    dps,
    inpainting,
    pigdm,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("x64")
with jax.enable_x64(True):
    X = jnp.array([0.2, -0.4])


@cache
def right() -> Gaussian:
    """One of two equal Gaussians."""
    return Gaussian([1.0, 0.5], 0.25 * jnp.eye(2))


@cache
def both() -> Mixture:
    return Mixture([1.0, 1.0], [[-1.0, 0.0], [1.0, 0.5]], 0.5)


@pytest.mark.parametrize("schedule", [VP(), EDM(), CondOT()], ids=repr)
def test_guidance_by_the_exact_classifier_is_the_conditional(schedule) -> None:
    """Of two equal Gaussians: log p(right | x_t) leads the mixture to the right one; weight 0 leaves it alone."""

    def log_prob(x, t):
        return right().at(schedule, t).log_density(x) - both().at(schedule, t).log_density(x)

    whole = both().predictor(schedule)
    for t in (0.1, 0.6):
        guided = classifier_guided(whole, log_prob).score(X, t)
        np.testing.assert_allclose(guided, right().predictor(schedule).score(X, t), rtol=1e-9)
        off = classifier_guided(whole, log_prob, weight=0.0).score(X, t)
        np.testing.assert_allclose(off, whole.score(X, t), rtol=1e-12)


def test_classifier_free_guidance_in_any_kind_and_interval() -> None:
    schedule = VP()
    one, whole = right().predictor(schedule), both().predictor(schedule)
    expected = whole.score(X, 0.3) + 2.5 * (one.score(X, 0.3) - whole.score(X, 0.3))
    np.testing.assert_allclose(classifier_free(one, whole, weight=2.5).score(X, 0.3), expected, rtol=1e-12)
    in_x_0 = [Predictor(lambda x, t, p=p: p.x0(x, t), "x0", schedule) for p in (one, whole)]
    np.testing.assert_allclose(classifier_free(*in_x_0, weight=2.5).score(X, 0.3), expected, rtol=1e-9)
    ratio = float(jnp.exp(-0.5 * schedule.log_snr(0.3)))
    outside = classifier_free(one, whole, weight=2.5, interval=(2 * ratio, 9 * ratio))
    np.testing.assert_allclose(outside.score(X, 0.3), one.score(X, 0.3), rtol=1e-12)


@pytest.mark.parametrize("schedule", [VP(), EDM(), CondOT()], ids=repr)
def test_a_linear_observation_of_gaussian_data_is_exact(schedule) -> None:
    """Prior N(m, sd²): the law given y = A x_0 + noise is Gaussian, and so is its noised form, with a known score."""
    sd, noise, m = 0.7, 0.2, jnp.array([0.5, -1.0])
    prior = Gaussian(m, sd**2 * jnp.eye(2)).predictor(schedule)
    A, y = jnp.array([[1.0, 2.0]]), jnp.array([0.3])
    gain = sd**2 * A.T @ jnp.linalg.inv(sd**2 * A @ A.T + noise**2 * jnp.eye(1))
    posterior = Gaussian(m + gain @ (y - A @ m), sd**2 * (jnp.eye(2) - gain @ A))
    for t in (0.05, 0.5, 0.9):
        guided = pigdm(prior, A, y, noise=noise, data_sd=sd).score(X, t)
        np.testing.assert_allclose(guided, posterior.predictor(schedule).score(X, t), rtol=1e-8)


def test_inpainting_is_the_observation_through_a_mask() -> None:
    schedule, prior = VP(), both().predictor(VP())
    y, mask = jnp.array([0.8, 99.0]), jnp.array([True, False])
    one = inpainting(prior, y, mask, noise=0.1).score(X, 0.4)
    other = pigdm(prior, jnp.array([[1.0, 0.0]]), y[:1], noise=0.1).score(X, 0.4)
    np.testing.assert_allclose(one, other, rtol=1e-10)
    nothing = inpainting(prior, y, jnp.array([False, False]), noise=0.1).score(X, 0.4)
    np.testing.assert_allclose(nothing, prior.score(X, 0.4), rtol=1e-10)
    images = Predictor(lambda x, t: 0 * x, "noise", schedule)  # any shape of state
    assert inpainting(images, jnp.ones((2, 3)), jnp.ones((2, 3), bool), noise=0.1).score(
        jnp.ones((2, 3)), 0.4
    ).shape == (2, 3)


def test_dps_descends_the_distance_to_what_was_observed() -> None:
    prior, y = both().predictor(VP()), jnp.array([2.0])
    guided = dps(prior, lambda x: x[:1], y, strength=3.0)
    pull = (guided.score(X, 0.4) - prior.score(X, 0.4)) * VP().sigma(0.4) / 3.0
    miss = jax.grad(lambda x: jnp.abs(y - prior.x0(x, 0.4)[:1]).sum())(X)
    np.testing.assert_allclose(pull, -miss, rtol=1e-8)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda p: classifier_free(p, p, weight=2.0), "nothing to be guided by"),
        (lambda p: classifier_free(p, Predictor(p.net, "noise", VP()), weight=2.0), "one kind and schedule"),
        (lambda p: classifier_guided(p, lambda x, t: 0.0, weight=-1.0), "weight=-1.0"),
        (lambda p: classifier_guided(p, lambda x, t: 0.0, interval=(2.0, 1.0)), "interval=(2.0, 1.0)"),
        (lambda p: pigdm(p, jnp.ones((2, 2)), jnp.ones(3)), "m observed numbers"),
        (lambda p: inpainting(p, jnp.ones(2), jnp.ones(3, bool)), "two arrays of the shape of a sample"),
        (lambda p: dps(p, jnp.sum, jnp.ones(1), strength=0.0), "a function of x_0"),
    ],
)
def test_bad_input(ask, said: str) -> None:
    with pytest.raises(InputError) as error:
        ask(both().predictor(VP()))
    assert said in error.value.line

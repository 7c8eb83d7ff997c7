"""Energies: their scores, their walks, and losses whose gradient is known where the energy is right."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.models.energy import Config, EnergyModel, Langevin, first_aux, loss
from neuralsde.models.score import Config as ScoreConfig
from neuralsde.noising import VP, Gaussian

SD = 0.8


class Bowl(eqx.Module):
    """Outputs that sum to ½ a |x|²: the energy is then that of a Gaussian of precision 1 + a, in s.d. of the data."""

    a: jax.Array

    def __call__(self, x, c):
        return 0.5 * self.a * x**2


def test_the_energy_of_all_levels_is_a_score_and_begins_as_the_gaussian_of_the_data(x64: None) -> None:
    schedule = VP()
    model = EnergyModel(Config(matching=ScoreConfig(schedule), data_sd=SD), Bowl(jnp.zeros(())))
    law, x = Gaussian(jnp.zeros(3), SD**2 * jnp.eye(3)), jnp.array([0.3, -1.0, 2.0])

    @eqx.filter_jit
    def both(model, t):
        return model.predictor().score(x, t), law.at(schedule, t).score(x), -jax.grad(model.energy)(x, t)

    for t in jnp.array([1e-3, 0.3, 1.0]):
        np.testing.assert_allclose(*both(model, t)[:2], rtol=1e-12)
    bent = eqx.tree_at(lambda m: m.net.a, model, jnp.asarray(0.7))
    found, known, slope = both(bent, jnp.asarray(0.3))
    np.testing.assert_allclose(found, slope, rtol=1e-12)
    assert not np.allclose(found, known, rtol=0.01)
    assert float(model.energy(x)) == float(model.energy(x, schedule.t0))


def test_the_walk_keeps_its_law_with_the_test_and_a_known_other_one_without() -> None:
    """x' = x - h x/v + √(2h) ξ has the stationary variance v/(1 - h/2v)."""
    v, h, n = 0.5, 0.2, 40_000

    def energy(x):
        return 0.5 * jnp.square(x).sum() / v

    @jax.jit
    def walks(key):
        keys = jax.random.split(key, n)
        exact, other = jnp.sqrt(v), jnp.sqrt(v / (1 - h / (2 * v)))
        starts = jax.random.normal(key, (n, 1))
        kept, accepted = jax.vmap(lambda x, k: Langevin(8, h)(energy, x, key=k))(exact * starts, keys)
        free, _ = jax.vmap(lambda x, k: Langevin(8, h, adjusted=False)(energy, x, key=k))(other * starts, keys)
        return kept.var(), free.var() * (1 - h / (2 * v)), accepted.mean()

    kept, free, accepted = walks(jax.random.key(0))
    error = v * np.sqrt(2 / n)
    assert abs(float(kept) - v) < 4 * error
    assert abs(float(free) - v) < 4 * error
    assert 0.6 < float(accepted) < 0.99


def test_contrastive_gradients_vanish_at_the_law_of_the_data_and_point_the_right_way_elsewhere() -> None:
    """∂/∂a is ½ (E_data - E_model)|x|², so that a gradient step moves the precision towards that of the data."""
    a, chain = 0.6, Langevin(10, 0.05)
    right = 1 / np.sqrt(1 + a)
    x = right * jax.random.normal(jax.random.key(0), (4096, 2))
    for objective in ("cd", "pcd"):
        config = Config(objective=objective, chain=chain, chains=4096, decay=0.0, fresh=0.0)
        aux = first_aux(config, (2,), key=jax.random.key(1))
        aux = right * jax.random.normal(jax.random.key(1), (4096, 2)) if objective == "pcd" else aux

        @eqx.filter_jit
        def slope(a, x, aux, config=config):
            model = EnergyModel(config, Bowl(a))
            walk = jax.random.key(2)
            value, grad = eqx.filter_value_and_grad(lambda m: loss(m, x, aux, key=walk), has_aux=True)(model)
            return grad.net.a, value[1][1]

        found, kept = slope(jnp.asarray(a), x, aux)
        error = np.sqrt(2 * 2) * right**2 / 2 * np.sqrt(2 / 4096)  # two sums of two squares of s.d. √2 right²
        assert abs(float(found)) < 4 * error, objective
        assert float(slope(jnp.asarray(a), 2 * x, aux)[0]) > 10 * error, objective  # wider data: a has to fall
        if objective == "pcd":
            assert kept.shape == aux.shape
            assert not np.isclose(kept, aux).all(1).any()  # each chain moved


def test_noise_contrastive_estimation_finds_the_normaliser() -> None:
    """With the energy right, the loss is least in c at log ∫ exp(-E) = ½ d log(2π v): found by Newton's method."""
    a, n = 0.5, 20_000
    config = Config(objective="nce", ratio=2, spread=1.1)
    model = EnergyModel(config, Bowl(jnp.asarray(a)))
    x = jax.random.normal(jax.random.key(0), (n, 2)) / np.sqrt(1 + a)

    @jax.jit
    def least(key):
        def value(c):
            return loss(eqx.tree_at(lambda m: m.log_z, model, c), x, (), key=key)[0]

        def newton(c, _):
            return c - jax.grad(value)(c) / jax.grad(jax.grad(value))(c), None

        return jax.lax.scan(newton, jnp.asarray(1.0), None, length=8)[0]

    found = [float(least(jax.random.key(k))) for k in range(1, 5)]
    assert np.mean(found) == pytest.approx(np.log(2 * np.pi / (1 + a)), abs=0.03)


def test_a_single_level_has_no_place_in_samplers_over_time() -> None:
    model = EnergyModel(Config(objective="nce"), Bowl(jnp.zeros(())))
    with pytest.raises(InputError, match="Langevin or HMC"):
        model.predictor()
    with pytest.raises(InputError, match="a single level"):
        model.energy(jnp.ones(2), 0.5)
    for make in (lambda: Config(chains=0), lambda: Config(fresh=2.0), lambda: Config(spread=0.0),
                 lambda: Langevin(steps=0), lambda: Langevin(h=0.0)):  # fmt: skip
        with pytest.raises(InputError):
            make()

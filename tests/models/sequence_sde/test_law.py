"""The law of one step against SciPy's densities, its own samples, and the process inside a gap."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sequence_models import KEY, model

from neuralsde.models.sequence_sde import Config, InGap, StepLaw
from neuralsde.models.sequence_sde.law import random_clock
from neuralsde.models.sequence_sde.rollout import Steps, rollout
from neuralsde.models.sequence_sde.window import Window

D, DOF = 4, 5.5
SHAPES = {"diagonal": 0, "low-rank": 2, "full": D, "more factors than channels": 6}


def law(factors: int, dof: Any = None) -> StepLaw:
    rng = np.random.default_rng(factors)
    loading = rng.normal(size=(D, factors))
    sd = np.zeros(D) if factors == D else rng.uniform(0.3, 1.5, D)
    dof = None if dof is None else np.broadcast_to(np.asarray(dof, float), D)
    mean = rng.normal(size=D)
    parts = jnp.asarray(mean), jnp.asarray(sd), jnp.asarray(loading)
    return StepLaw(*parts, dof=None if dof is None else jnp.asarray(dof))


def covariance(step: StepLaw) -> np.ndarray:
    loading = np.asarray(step.loading, np.float64)
    return np.diag(np.asarray(step.sd, np.float64) ** 2) + loading @ loading.T


def scipy_nats(step: StepLaw, x: np.ndarray, seen: np.ndarray) -> float:
    """The marginal density of the seen channels."""
    mean, sigma = np.asarray(step.mean)[seen], covariance(step)[np.ix_(seen, seen)]
    normal: Any = stats.multivariate_normal
    student: Any = stats.multivariate_t
    if not seen.any():
        return 0.0
    if step.correlated and step.dof is not None:
        return float(student.logpdf(x[seen], mean, sigma, df=float(step.dof[0])))
    if step.correlated:
        return float(normal.logpdf(x[seen], mean, sigma))
    sd = np.sqrt(np.diag(sigma))
    if step.dof is not None:
        return float(stats.t.logpdf(x[seen], np.asarray(step.dof)[seen], mean, sd).sum())
    return float(stats.norm.logpdf(x[seen], mean, sd).sum())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dof", [None, DOF])
@pytest.mark.parametrize("shape", SHAPES)
def test_densities_are_scipys_and_unseen_channels_leave(shape: str, dof: float | None) -> None:
    own = np.linspace(3.0, 9.0, D) if shape == "diagonal" and dof else dof  # every channel has a clock of its own
    step, rng = law(SHAPES[shape], own), np.random.default_rng(7)
    density = eqx.filter_jit(StepLaw.log_density)
    for seen in ([1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]):
        seen = np.array(seen, bool)
        x = np.where(seen, rng.normal(size=D), np.nan)
        got = np.asarray(density(step, jnp.asarray(x), jnp.asarray(seen)))
        assert got.sum() == pytest.approx(scipy_nats(step, x, seen), abs=1e-10)
        assert (got[~seen] == 0).all()
    np.testing.assert_allclose(step.spread, np.sqrt(np.diag(covariance(step))), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_student_with_many_degrees_of_freedom_is_gaussian() -> None:
    x, seen = jnp.linspace(-1, 2, D), jnp.ones(D, bool)
    for factors in SHAPES.values():
        nearly = law(factors, 1e7).log_density(x, seen).sum()
        assert float(nearly) == pytest.approx(float(law(factors).log_density(x, seen).sum()), abs=1e-5)


@pytest.mark.parametrize("shape", ["diagonal", "low-rank", "full"])
def test_samples_have_the_covariance_and_the_tails_of_the_density(shape: str) -> None:
    """Cov = Σ ν/(ν-2), kurtosis 3 (ν-2)/(ν-4); squares of two channels are correlated where they share a clock."""
    dof, n = 12.0, 60_000
    step = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), law(SHAPES[shape], dof))
    x = np.asarray(jax.jit(jax.vmap(lambda i: step.sample(KEY, i)))(jnp.arange(n)), np.float64)
    wanted = covariance(step) * dof / (dof - 2)
    scale = np.sqrt(np.diag(wanted))
    np.testing.assert_allclose(x.mean(0), step.mean, atol=4 * scale.max() / np.sqrt(n))
    np.testing.assert_allclose(np.cov(x.T) / np.outer(scale, scale), wanted / np.outer(scale, scale), atol=0.025)
    z = (x - x.mean(0)) / scale
    np.testing.assert_allclose((z**4).mean(0), 3 * (dof - 2) / (dof - 4), atol=0.4)  # four standard errors
    uniform = np.asarray(stats.t.cdf((x - np.asarray(step.mean)) / np.asarray(step.spread), dof))
    for channel in range(D):
        assert stats.kstest(uniform[:, channel], "uniform").statistic < 1.95 / np.sqrt(n)
    # white channels: uncorrelated, and independent only when each has a clock of its own
    white = np.linalg.solve(np.linalg.cholesky(wanted), (x - x.mean(0)).T)
    squares = np.mean(white[0] ** 2 * white[1] ** 2) - 1
    assert squares == pytest.approx(0.0 if shape == "diagonal" else (dof - 2) / (dof - 4) - 1, abs=0.04)


def test_the_slope_of_the_clock_in_its_degrees_of_freedom() -> None:
    """E V = ν/(ν-2), so its slope is -2/(ν-2)²; that of single draws is finite down to the fewest allowed."""

    def clock(dof: jax.Array, i: jax.Array) -> jax.Array:
        return random_clock(jnp.full(1, dof), False, KEY, i, jnp.zeros(1))[0]

    slopes = jax.jit(jax.vmap(jax.value_and_grad(clock), in_axes=(None, 0)))
    value, slope = slopes(jnp.float32(12.0), jnp.arange(20_000))
    assert float(value.mean()) == pytest.approx(1.2, rel=0.02)
    assert float(slope.mean()) == pytest.approx(-0.02, rel=0.1)
    assert np.isfinite(slopes(jnp.float32(2.1), jnp.arange(20_000))[1]).all()


def test_one_clock_for_all_channels_with_factors_and_one_each_without() -> None:
    shared, own = (np.asarray(law(factors, DOF).clock(KEY, 3)) for factors in (2, 0))
    assert len(set(shared.tolist())) == 1
    assert len(set(own.tolist())) == D


# -- in a model --------------------------------------------------------------------------------------------------------


def here(d: int, age: float = 0.0) -> Window:
    value = jnp.linspace(-0.5, 0.7, d)[None]
    return Window(value, jnp.zeros((1, d)).at[0, 0].set(age), jnp.zeros(1), jnp.zeros(()), jnp.zeros(0))


@pytest.mark.parametrize("noise", ["diagonal", "low-rank", "full"])
def test_the_process_has_the_noise_of_the_step(noise: Any) -> None:
    """h G Gᵀ of the process inside a gap is the covariance of a step of that span on that clock; drifts agree too."""
    m, window, gap = model(Config(history=0, width=8, noise=noise), d=3, c=0), here(3, age=1.5), 0.5
    stretch, clock = jnp.array([(gap + 1.5) / gap, 1.0, 1.0]), jnp.array([0.3, 2.0, 1.1])
    args, process = InGap(window, stretch, clock), m.process()
    G = jax.jit(process.diffusion)(0.0, window.present, args)
    G = np.diag(G) if noise == "diagonal" else np.asarray(G)
    step = jax.jit(lambda w: m.step(w, gap + w.staleness).on(clock))(window)
    np.testing.assert_allclose(gap * G @ G.T, covariance(step), rtol=1e-5)
    move = gap * jax.jit(process.drift)(0.0, window.present, args)
    np.testing.assert_allclose(window.present + move, step.mean, rtol=1e-5)
    if noise != "diagonal":
        assert np.abs(np.tril(G @ G.T, -1)).max() > 0.01


@pytest.mark.parametrize("noise", ["diagonal", "low-rank"])
def test_substeps_share_the_clock_of_their_gap(noise: Any) -> None:
    """With constant coefficients the end of a gap has the same Student law in one step and in three."""
    options = Config(history=0, depth=0, noise=noise, rank=1, tails="student")
    m, window, n, dt = model(options, d=2, c=0, size=0.0), here(2), 10_000, jnp.full(1, 0.5)
    if noise == "low-rank":
        m = eqx.tree_at(lambda m: m.first_loading, m, jnp.array([[0.9], [-0.7]]))
    steps = Steps(dt, jnp.zeros((1, 0)))
    run = jax.jit(jax.vmap(lambda k: rollout(m, window, steps, key=k, substeps=3).states[-1]))
    x = np.asarray(run(jax.random.split(KEY, n)), np.float64)
    step = m.step(window, jnp.full(2, 0.5))
    assert m.dof is not None
    dof = float(m.dof[0])
    uniform = np.asarray(stats.t.cdf((x - np.asarray(step.mean)) / np.asarray(step.spread), dof))
    for channel in range(2):
        assert stats.kstest(uniform[:, channel], "uniform").statistic < 1.95 / np.sqrt(n)
    correlation = covariance(step)[0, 1] / float(step.spread.prod())
    assert np.mean(np.prod((x - x.mean(0)) / x.std(0), axis=1)) == pytest.approx(correlation, abs=0.04)
    assert (abs(correlation) > 0.3) == (noise == "low-rank")

"""What holds to rounding: point data, two spellings of one process, and the number of evaluations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.noising import EDM, SCHEDULES, VE, VP, Gaussian, Predictor, times
from neuralsde.sampling import (
    DDIM,
    DDPM,
    SAMPLERS,
    AdaptiveSDE,
    DPMSolver,
    DPMSolverPP,
    DPMSolverPP2S,
    EDMHeun,
    PredictorCorrector,
    UniPC,
    draw,
    gaussian_moments,
    reverse_process,
    sample,
    sampler_named,
)
from neuralsde.sampling.loop import Cell, Counting

pytestmark = pytest.mark.usefixtures("x64")

EXPONENTIAL = (DPMSolver(2), DPMSolverPP(), UniPC(3), EDMHeun(), DPMSolver(3), DPMSolverPP2S())
ANCESTRAL = (DDPM(), DDIM(eta=0.6), DPMSolverPP(eta=1.0))


def test_data_that_are_one_point_are_reached_in_any_steps_under_every_schedule() -> None:
    """With x̂_0 constant the exponential samplers are exact: x_s = α_s x_0 + (σ_s/σ_t) (x - α_t x_0), on unequal grids;
    the ancestral ones in law, N(α_s x_0, σ_s²).
    """
    point, x = jnp.array([1.3, -0.7]), jnp.array([0.4, 2.0])

    @jax.jit
    def ends():
        found = {}
        for k, (name, kind) in enumerate(SCHEDULES.items()):  # the samplers take turns
            schedule = kind()
            predictor = Predictor(lambda x, t: point, "x0", schedule)
            clock = schedule.log_snr(schedule.t1) + jnp.array([0.0, 3.0, 4.5, 9.0])
            ts = schedule.time_at(clock).at[0].set(schedule.t1)
            end, law = sample(predictor, x, ts, sampler=EXPONENTIAL[k]).x, None
            if k % 2:
                start = schedule.alpha(ts[0]) * point, schedule.sigma(ts[0]) ** 2 * jnp.eye(2)
                law = gaussian_moments(predictor, *start, ts, sampler=ANCESTRAL[k // 2])
            found[name] = (ts, end, law)
        return found

    for name, (ts, end, law) in ends().items():
        alpha, sigma = SCHEDULES[name]().alpha(ts), SCHEDULES[name]().sigma(ts)
        exact = alpha[-1] * point + sigma[-1] / sigma[0] * (x - alpha[0] * point)
        np.testing.assert_allclose(end, exact, rtol=1e-9, atol=1e-9, err_msg=name)
        if law is not None:
            np.testing.assert_allclose(law[0], alpha[-1] * point, rtol=1e-9, err_msg=name)
            np.testing.assert_allclose(law[1], sigma[-1] ** 2 * np.eye(2), rtol=1e-9, atol=1e-12, err_msg=name)


def test_the_family_goes_from_the_probability_flow_to_the_time_reversal() -> None:
    """Drift and diffusion: η = 1 is `sde.time_reversal` of the forward SDE, η = 0 minus the velocity."""
    schedule, x, t = VE(), jnp.array([0.3, -1.2]), 0.4
    predictor = Predictor(lambda x, t: jnp.sin(x) - x / (1 + t), "score", schedule)
    anderson = sde.time_reversal(schedule.forward(), lambda t, y, args: predictor.score(y, t), -1.0, 0.0)
    ours, flow = reverse_process(predictor), reverse_process(predictor, eta=0.0)
    np.testing.assert_allclose(ours.drift(-t, x, None), anderson.drift(-t, x, None), rtol=1e-12)
    np.testing.assert_allclose(ours.diffusion(-t, x, None), anderson.diffusion(-t, x, None), rtol=1e-12)
    np.testing.assert_allclose(flow.drift(-t, x, None), -predictor.velocity(x, t), rtol=1e-12)
    assert (flow.diffusion(-t, x, None) == 0).all()


def test_every_sampler_makes_the_evaluations_that_it_declares() -> None:
    predictor, one = Predictor(lambda x, t: -x, "score", VP()), jnp.array(0.5)
    for name in SAMPLERS:
        sampler, predict = sampler_named(name), Counting(predictor)
        if sampler.adaptive or isinstance(sampler, EDMHeun):  # theirs are known in the compiled program only
            continue

        def step(x, sampler=sampler, predict=predict):
            memory = sampler.start(predict, jnp.array([one]), x)
            predict.calls = 0
            cell = Cell(one, 0.9 * one, one, jnp.asarray(0), 1)
            x, _ = sampler.step(predict, cell, x, memory, key=jax.random.key(0))
            return x, predict.calls

        calls = jax.eval_shape(step, jnp.ones(2)) and predict.calls
        assert calls == sampler.cost, name
        assert sampler.steps_for(100) == 100 // sampler.cost


def test_states_are_of_the_default_float_type_or_wider() -> None:
    """THEORY 14: a state in less precision than its times would lose increments. Widened for every kind of memory."""
    predictor, ts = Predictor(lambda x, t: -x, "score", VP()), times(VP(), 3).astype(jnp.float32)
    for sampler in (UniPC(), AdaptiveSDE()):
        found = jax.eval_shape(
            lambda x, s=sampler: sample(predictor, x, ts, sampler=s, key=jax.random.key(0)).x, jnp.ones(2, jnp.bfloat16)
        )
        assert found.dtype == jnp.float64


def test_edm_leaves_out_the_last_second_evaluation_where_no_noise_is_left() -> None:
    """And the state is then x̂_0 itself."""
    predictor = Predictor(lambda x, t: x / (1 + t**2), "x0", EDM())
    ts = EDMHeun().times(EDM(), 6)
    for last, nfe in ((ts[-1], 12), (0.0, 11)):
        found = draw(predictor, (), 3, sampler=EDMHeun(), key=jax.random.key(0), ts=ts.at[-1].set(last), save=True)
        assert found.nfe == nfe
    assert found.xs is not None
    np.testing.assert_allclose(found.x, found.xs[:, -2] / (1 + ts[-2] ** 2), rtol=1e-12)


def test_a_correction_has_the_law_of_a_langevin_step() -> None:
    """Variance P -> (1 - ε/v)² P + 2ε after the predictor's P, ε = 2 snr² σ²: v itself is kept to O(ε²)."""
    schedule, v, ts = VP(), 0.5, jnp.array([0.5, 0.3])
    predictor = Gaussian([0.0], [[v]]).predictor(schedule)
    start = (jnp.zeros(1), jnp.array([[0.9]]))
    ways = (DDIM(), PredictorCorrector(DDIM(), snr=0.2))
    P, corrected = jax.jit(lambda: [gaussian_moments(predictor, *start, ts, sampler=s)[1] for s in ways])()
    at = schedule.alpha(0.3) ** 2 * v + schedule.sigma(0.3) ** 2
    step = 2 * 0.2**2 * schedule.sigma(0.3) ** 2
    np.testing.assert_allclose(corrected, (1 - step / at) ** 2 * P + 2 * step, rtol=1e-12)

"""What cannot be meant is refused in one line that says what to do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from neuralsde import sde
from neuralsde.errors import InputError, RunFailed
from neuralsde.noising import EDM, VE, VP, CondOT, Predictor
from neuralsde.sampling import (
    DDIM,
    DDPM,
    AdaptiveODE,
    DPMSolver,
    DPMSolverPP,
    EDMHeun,
    Euler,
    Heun,
    PredictorCorrector,
    ReverseSDE,
    draw,
    gaussian_moments,
    hmc,
    reverse_process,
    sample,
    sampler_named,
)

KEY = jax.random.key(0)
PLAIN, EXPLODING = (Predictor(lambda x, t: -x, "score", schedule) for schedule in (VP(), VE()))


def drawn(sampler, predictor=PLAIN, **how):
    return draw(predictor, (2,), 2, sampler=sampler, key=KEY, **how)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: drawn(DDIM(), nfe=0), "at least 1 evaluations"),
        (lambda: drawn(DPMSolver(3), nfe=2), "a step of DPMSolver costs 3"),
        (lambda: drawn(DDIM(), steps=0), "a whole number of at least 1"),
        (lambda: drawn(DDIM()), "one of the three"),
        (lambda: drawn(AdaptiveODE(), nfe=20), "AdaptiveODE(rtol=...)"),
        (lambda: drawn(DDIM(), ts=jnp.array([0.2, 0.5])), "decreasing times"),
        (lambda: drawn(Heun(), EXPLODING, ts=jnp.array([1.0, 0.5, 0.0])), "where VE has no noise left"),
        (lambda: drawn(DPMSolver(2), ts=jnp.array([1.0, 0.5, 0.0])), "a last time above 0, such as 0.001"),
        (lambda: sample(PLAIN, jnp.ones(2), jnp.ones(3), sampler=DDPM()), "no key"),
        (lambda: sampler_named("dpmpp2m"), "did you mean 'dpmpp-2m'?"),
        (lambda: DPMSolver(4), "1, 2 or 3"),
        (lambda: DPMSolverPP(3), "UniPC(3)"),
        (lambda: DDIM(eta=2.0), "0 to 1"),
        (lambda: EDMHeun(s_churn=-1.0), "s_churn >= 0"),
        (lambda: AdaptiveODE(rtol=0.0, atol=0.0), "not both 0"),
        (lambda: ReverseSDE(sde.MilsteinArea()), "ShARK"),
        (lambda: PredictorCorrector(AdaptiveODE()), "a sampler on a grid"),
        (lambda: PredictorCorrector(corrections=0), "at least 1"),
        (lambda: reverse_process(PLAIN, eta=-1.0), "at least 0"),
        (lambda: hmc(lambda x: -x @ x, jnp.ones(2), key=KEY, steps=0, step_size=0.1), "steps=0"),
        (
            lambda: gaussian_moments(PLAIN, jnp.zeros(1), jnp.eye(1), jnp.ones(2), sampler=AdaptiveODE()),
            "its steps depend on the state",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line(call, says: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert says in caught.value.line
    assert "\n" not in caught.value.line


def test_a_network_that_gives_nan_is_reported_with_step_and_time() -> None:
    broken = Predictor(lambda x, t: jnp.where(t < 0.55, jnp.nan, -x), "score", VP())
    with pytest.raises(RunFailed, match=r"step 6 of 10, from t=0.5005 to 0.4006: .* in 2 of 2 samples"):
        drawn(Euler(), broken, steps=10)


def test_a_velocity_of_coupled_pairs_has_an_ode_only() -> None:
    """Minibatch optimal transport: no score, no SDE, no step through x̂_0 (THEORY 26); Heun follows it down to t = 0."""
    coupled = Predictor(lambda x, t: x, "velocity", CondOT(), independent=False)
    for sampler in (ReverseSDE(), DPMSolverPP(eta=1.0), DDIM()):
        with pytest.raises(InputError, match="only the ODE"):
            drawn(sampler, coupled, nfe=8)
    x = jnp.ones((2, 2))
    end = drawn(Heun(), coupled, ts=jnp.linspace(1.0, 0.0, 33), x=x).x
    assert jnp.abs(end - jnp.exp(-1.0) * x).max() < 2e-4  # dx/dt = x from 1 to 0


def test_times_that_are_the_noise_itself_are_not_cut_evenly() -> None:
    ts = ReverseSDE().times(EDM(), 10)
    assert ts[-2] < 0.1

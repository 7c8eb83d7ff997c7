"""Processes with memory: floors against closed forms and simulation, and a small run of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from neuralsde.experiments.held_out import Origins, of_law, random_walk
from neuralsde.experiments.memory import (
    DELAY,
    LEADS,
    NOISE,
    PHI,
    PROCESSES,
    PULL,
    conditional,
    covariances,
    delayed,
    exact_delay,
    expected,
    kalman,
    level,
    limited,
    nats,
    response,
)


@pytest.mark.parametrize("process", PROCESSES)
def test_autocovariances_are_those_of_the_simulation(process: str) -> None:
    x = PROCESSES[process][0](np.random.default_rng(0), 400, 600)
    gamma = covariances(process, 40)
    for lag in (0, 1, 12, 30):
        per_series = (x[:, lag:] * x[:, : x.shape[1] - lag]).mean(1)
        error = per_series.std() / np.sqrt(len(x))
        assert abs(per_series.mean() - gamma[lag]) < 4 * error, lag


def test_the_filter_settles_at_the_solution_of_its_riccati_equation() -> None:
    """P = φ² P r² / (P + r²) + 1 - φ², a quadratic; one step ahead the variance is P + r²."""
    q, r = 1 - PHI**2, NOISE**2
    half = (r * (1 - PHI**2) - q) / 2
    settled = -half + np.sqrt(half**2 + q * r)
    _, sd = kalman(np.zeros((1, 400)), (1,))
    assert sd[0, -1, 0] == pytest.approx(np.sqrt(settled + r), rel=1e-10)


@pytest.mark.parametrize("lead", LEADS)
def test_the_filter_is_conditioning_on_all_rows(lead: int) -> None:
    """Two roads to one law: the recursion, and the normal equations of the autocovariances."""
    x = level(np.random.default_rng(1), 4, 60)
    mean, sd = kalman(x, (lead,))
    weights, spread = conditional("level", 59, lead)
    np.testing.assert_allclose(mean[:, -1, 0], x[:, ::-1] @ weights, rtol=1e-9)
    np.testing.assert_allclose(sd[:, -1, 0], spread, rtol=1e-9)


def test_the_delayed_law_needs_the_present_and_the_row_24_ago_and_nothing_else() -> None:
    weights, sd = conditional("delay", 32, 1)
    wanted = np.zeros(33)
    wanted[0], wanted[DELAY] = 1.0, -PULL
    np.testing.assert_allclose(weights, wanted, atol=1e-6)
    assert sd == pytest.approx(1.0, abs=1e-6)


def test_the_delayed_forecast_is_unbiased_with_its_stated_spread_at_every_lead() -> None:
    x = delayed(np.random.default_rng(2), 500, 200)
    mean, sd = exact_delay(x, LEADS)
    assert np.isnan(mean[:, :DELAY]).all()
    assert np.isfinite(mean[:, DELAY:]).all()
    for j, lead in enumerate(LEADS):
        z = (x[:, 100 + lead] - mean[:, 100, j]) / sd[j]
        assert abs(z.mean()) < 4 / np.sqrt(500)
        assert abs(z.std() - 1) < 4 / np.sqrt(1_000)
    assert sd[0] == 1.0
    assert sd[1] == pytest.approx(np.sqrt(8.0))  # no pull comes back before 25 rows
    assert response(26)[-1] == pytest.approx(1 - PULL)


def test_what_a_limited_past_tells_is_the_floor_when_it_holds_all_that_matters() -> None:
    """33 rows of the delayed process are its state; the present alone is not, and of the level it tells γ_h / γ_0."""
    x = delayed(np.random.default_rng(5), 5, 80)
    (mean, sd), (wanted, spread) = limited("delay", x, 32, LEADS), exact_delay(x, LEADS)
    np.testing.assert_allclose(mean[:, 32:], wanted[:, 32:], atol=1e-4)
    np.testing.assert_allclose(sd, spread, rtol=1e-5)
    mean, sd = limited("level", x, 0, (8,))
    np.testing.assert_allclose(mean[..., 0], x * PHI**8 / 2, rtol=1e-12)
    assert sd[0] == pytest.approx(np.sqrt(2 - PHI**16 / 2))


@pytest.mark.parametrize("process", PROCESSES)
def test_a_longer_past_is_worth_nats_and_the_markov_model_cannot_have_them(process: str) -> None:
    best = expected(process)
    assert best["Markov"] > best["4 rows stacked"] + 0.03 > best["GRU summary"] + 0.06
    assert best["GRU summary"] == pytest.approx(nats(conditional(process, 200, 1)[1]), abs=1e-3)


@pytest.mark.parametrize("process", PROCESSES)
def test_the_floor_scores_what_the_theory_says(process: str) -> None:
    """In nats, in CRPS (s.d. / √π for a right Gaussian) and in coverage; a random walk is worse at every lead."""
    draw, law = PROCESSES[process]
    train, test = (draw(np.random.default_rng(seed), 100, 400) for seed in (3, 4))
    origins = Origins.of(100, 100, 368, LEADS, 5)
    floor = of_law(*law(test, LEADS), test, origins)
    walk = of_law(*random_walk(train, test, LEADS), test, origins)
    assert floor["nats"] == pytest.approx(nats(conditional(process, 100, 1)[1]), abs=0.02)
    for lead in LEADS:
        sd = conditional(process, 100, lead)[1]
        assert floor[f"crps {lead}"] == pytest.approx(sd / np.sqrt(np.pi), rel=0.06)
        assert floor[f"coverage {lead}"] == pytest.approx(0.8, abs=0.03)
        assert walk[f"crps {lead}"] > 1.01 * floor[f"crps {lead}"]

"""The agent's law against the simulator, and inverse dynamics against that law.

Positions of an agent at rest determine its actions; a window of n rows back leaves an error that falls by |z| a row;
noise of s px on the labels leaves s (q / n)^½ of it; and what is not linear the networks have to find.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neuralsde.data.pusht import Demonstrations, joined, noisy, without_last
from neuralsde.errors import InputError
from neuralsde.robot import PUBLISHED, PushT, starts
from neuralsde.robot.agent import FORGETTING, actions_of, known_actions, positions_of
from neuralsde.robot.inverse import InverseConfig, fit_inverse, windows
from neuralsde.train.problem import TrainConfig

RNG = np.random.default_rng(0)


def wandering(episodes: int, steps: int, sd: float = 30.0) -> Demonstrations:
    """An agent under the true law, told to go to independent places around the middle; a block of its own."""
    actions = 256 + sd * RNG.standard_normal((episodes, steps, 2))
    paths = np.array([positions_of((200, 300), each)[:-1] for each in actions])
    block = np.concatenate([RNG.uniform(100, 400, (episodes, steps, 2)), RNG.uniform(0, 6, (episodes, steps, 1))], 2)
    state = np.concatenate([paths, block], 2).reshape(-1, 5)
    return Demonstrations(state, actions.reshape(-1, 2), steps * (1 + np.arange(episodes)))


def error(found: np.ndarray, demos: Demonstrations) -> float:
    return float(np.sqrt(np.square(found - without_last(demos).actions).mean()))


# -- the agent ---------------------------------------------------------------------------------------------------------


def test_the_law_of_the_agent_is_the_simulators_in_contact_and_at_the_walls_too():
    """Chasing the block for 80 steps, and into a corner; both ways, and by least squares of what is seen."""
    env, path, told, touched = PushT("pose"), [], [], 0
    start = starts(PUBLISHED, 3)[2]
    env.reset(start)
    for k in range(100):
        state = env.state
        towards = np.array(state[2:4]) if k < 80 else np.array([0.0, 512.0])
        told.append(np.clip(towards + RNG.normal(0, 60, 2), 0, 512))
        path.append(state[:2])
        env.advance(told[-1])
        touched += abs(env.state[4] - state[4]) > 1e-6
    path, told = np.array([*path, env.state[:2]]), np.array(told)
    assert touched > 20
    assert path[-1, 0] < 40  # the wall has a thickness, and the agent a radius
    np.testing.assert_allclose(positions_of(start[:2], told), path, atol=1e-8)
    np.testing.assert_allclose(actions_of(path), told, atol=1e-7)
    state = np.concatenate([path, np.zeros((101, 3))], 1)
    demos = Demonstrations(state, np.concatenate([told, told[-1:]]), np.array([101]))
    np.testing.assert_allclose(known_actions(demos), told, atol=1e-7)
    free = fit_inverse(demos, InverseConfig(past=16, members=0))
    assert error(free.infer(demos).demos.actions, demos) < 1e-2


def test_a_velocity_that_is_not_known_is_forgotten_by_z():
    told = RNG.uniform(100, 400, (12, 2))
    wrong = actions_of(positions_of((200, 200), told)[4:]) - told[4:]  # as if it had rested there
    np.testing.assert_allclose(wrong[1:] / wrong[:-1], FORGETTING, rtol=1e-4)
    assert pytest.approx(-0.3853, abs=1e-4) == FORGETTING


# -- learnt ------------------------------------------------------------------------------------------------------------


def test_least_squares_errs_by_z_to_the_rows_that_it_reads():
    """Of independent actions of s.d. σ with a long past: σ |c| |z|^n, so |z| from one n to the next."""
    train, held = wandering(20, 100), wandering(10, 100)
    found = [
        error(fit_inverse(train, InverseConfig(past=n, members=0)).infer(held).demos.actions, held) for n in (1, 2, 3)
    ]
    np.testing.assert_allclose(np.divide(found[1:], found[:-1]), abs(FORGETTING), rtol=0.15)
    late = fit_inverse(train, InverseConfig(past=12, members=0)).infer(held)
    assert error(late.demos.actions, held) < 1e-3
    ahead = InverseConfig(past=1, future=2, members=0)  # what comes later says more
    assert error(fit_inverse(train, ahead).infer(held).demos.actions, held) < found[0]


def test_noise_on_the_labels_is_averaged_away_and_told():
    """22 numbers from 2,475 rows; the spread is the noise, with networks and without."""
    train, held, s = wandering(25, 100), wandering(10, 100), 10.0
    clean, past = fit_inverse(train, InverseConfig(past=4, members=0)), 4
    found = fit_inverse(noisy(train, s, 0), InverseConfig(past=past, members=0)).infer(held)
    expected = s * np.sqrt((2 * (past + 1) + 1) / (25 * 99))
    assert error(found.demos.actions, held) == pytest.approx(expected, rel=0.5)
    assert error(clean.infer(held).demos.actions, held) < 0.5 * expected
    np.testing.assert_allclose(found.sd, s, rtol=0.1)


def test_networks_find_what_is_not_linear_and_how_sure_it_is():
    """Where the block is on the right the agent is told to go 20 px further, and its labels are spoiled there."""

    def pushed(episodes: int) -> tuple[Demonstrations, np.ndarray]:
        demos = wandering(episodes, 60)
        right = demos.state[:, 2] > 256
        demos.actions[right, 0] += 20.0
        spoiled = demos.actions + np.where(right, 8.0, 2.0)[:, None] * RNG.standard_normal(demos.actions.shape)
        return demos, spoiled

    (train, labels), (held, _) = pushed(40), pushed(10)
    taught = Demonstrations(train.state, labels, train.ends)
    config = InverseConfig(past=3, width=32, blocks=1, members=2)
    training = TrainConfig(steps=400, batch_size=256, learning_rate=5e-3, ema=0.98, validate_every=100)
    plain = fit_inverse(taught, replace(config, members=0)).infer(held)
    found = fit_inverse(taught, config, training).infer(held)
    assert error(plain.demos.actions, held) > 6.5
    assert error(found.demos.actions, held) < 4.0
    right = without_last(held).state[:, 2] > 256
    assert np.median(found.sd[right]) == pytest.approx(8.0, rel=0.25)
    assert np.median(found.sd[~right]) == pytest.approx(2.0, rel=0.4)


def test_windows_end_where_the_episode_does():
    """Before the start the agent rests, past the end it is flagged, and no episode sees another."""
    demos, config = wandering(2, 5), InverseConfig(past=2, future=2)
    seen = windows(demos, config, np.ones(6))
    assert seen.moves.shape == (8, 2 * 4 + 1 + 1)
    path = demos.state[:5, :2]
    np.testing.assert_array_equal(seen.moves[0, :4], 0)
    np.testing.assert_allclose(seen.moves[2, :8].reshape(4, 2), np.diff(path, axis=0), atol=1e-4)
    np.testing.assert_array_equal(seen.moves[3, 6:8], 0)
    np.testing.assert_array_equal(seen.moves[:, 8], [0, 0, 0, 1] * 2)
    alone = windows(demos.take([1]), config, np.ones(6))
    for name in ("moves", "inputs", "present"):
        np.testing.assert_array_equal(getattr(seen, name)[4:], getattr(alone, name))
    both = windows(joined(demos.take([1]), demos.take([0])), config, np.ones(6))
    np.testing.assert_array_equal(both.moves, seen.moves[[4, 5, 6, 7, 0, 1, 2, 3]])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: InverseConfig(kind="image"), "kind='image' of inverse dynamics"),
        (lambda: InverseConfig(future=0), "future=0"),
        (lambda: InverseConfig(members=True), "members=True"),
        (lambda: fit_inverse(wandering(1, 5)), "one labelled episode"),
        (lambda: actions_of(np.zeros((1, 2))), "no step was made"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(wrong, says: str):
    with pytest.raises(InputError, match=says) as caught:
        wrong()
    assert "\n" not in caught.value.line

"""The environment against gym-pusht's own step, coverage against exact clipping, starts, and changed conditions."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from neuralsde.data.pusht import GOAL, image_parts, mirrored, read_demonstrations
from neuralsde.errors import InputError, RunFailed
from neuralsde.robot import PUBLISHED, Conditions, Push, PushT, replay, starts
from neuralsde.robot.coverage import RECTANGLES, coverage
from neuralsde.robot.environment import observed, simulator
from neuralsde.robot.starts import reaching, recorded_start, standing

RNG = np.random.default_rng(0)
QUARTER = math.pi / 2
SECOND_GOAL = (300.0, 210.0, 2.0)


# -- coverage ----------------------------------------------------------------------------------------------------------


def test_coverage_in_closed_form():
    goal = np.array(SECOND_GOAL)
    along = np.array([math.cos(goal[2]), math.sin(goal[2]), 0.0])
    slides = np.array([0.0, 1e-9, 7.0, 45.0, 90.0, 105.0, 400.0])

    def bar_and_stem(s: float) -> float:
        """Area that a T shares with itself moved by s along the bar."""
        bar = max(120 - s, 0) * 30 + max(30 - s, 0) * 90
        return bar / 6300

    blocks = goal + slides[:, None] * along
    np.testing.assert_allclose(coverage(blocks, goal), [bar_and_stem(s) for s in slides], atol=1e-13)
    half = goal + np.array([0, 0, math.pi])  # bar on bar, stems apart: they share nothing but an edge
    assert coverage(half, goal) == pytest.approx(0.0, abs=1e-12)
    assert coverage(goal + np.array([0, 0, 2 * math.pi]), goal) == pytest.approx(1.0, abs=1e-12)


def exact(block: np.ndarray, goal: np.ndarray) -> float:
    """Sutherland-Hodgman in rational arithmetic, rectangle by rectangle; sines and cosines alone are rounded."""
    x, y = (Fraction(float(b - g)) for b, g in zip(block[:2], goal[:2], strict=True))
    cos, sin = Fraction(math.cos(goal[2])), Fraction(math.sin(goal[2]))
    x, y = cos * x + sin * y, -sin * x + cos * y
    cos, sin = Fraction(math.cos(block[2] - goal[2])), Fraction(math.sin(block[2] - goal[2]))
    total = Fraction(0)
    for a, b, c, d in RECTANGLES.astype(int).tolist():
        corners = [(x + cos * u - sin * v, y + sin * u + cos * v) for u, v in ((a, c), (b, c), (b, d), (a, d))]
        for low, high, bottom, top in RECTANGLES.astype(int).tolist():
            polygon = corners
            for axis, bound, sign in ((0, low, 1), (0, high, -1), (1, bottom, 1), (1, top, -1)):
                polygon = clipped(polygon, axis, bound, sign)
            total += sum(p[0] * q[1] - p[1] * q[0] for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True)) / 2
    return float(total / 6300)


def clipped(polygon: list, axis: int, bound: int, sign: int) -> list:
    out = []
    for p, q in zip(polygon[-1:] + polygon[:-1], polygon, strict=True):
        if (sign * (p[axis] - bound) >= 0) != (sign * (q[axis] - bound) >= 0):
            t = (bound - p[axis]) / (q[axis] - p[axis])
            out.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])))
        if sign * (q[axis] - bound) >= 0:
            out.append(q)
    return out


def test_coverage_is_the_exact_area_however_near_the_goal():
    """Of distances from 1e-13 px to the whole arena, parallel, at right angles and not."""
    far = 10.0 ** RNG.uniform(-13, 2, (60, 1))
    turn = np.concatenate([RNG.integers(0, 4, 20) * QUARTER, RNG.normal(0, 10.0 ** RNG.uniform(-12, 0, 40))])
    blocks = np.array(GOAL) + np.concatenate([far * RNG.normal(size=(60, 2)), turn[:, None]], 1)
    np.testing.assert_allclose(coverage(blocks, np.array(GOAL)), [exact(b, np.array(GOAL)) for b in blocks], atol=1e-12)


def test_coverage_is_that_of_the_simulator():
    """To 1e-9 from 0.01 px on; nearer, the geometry library under gym-pusht snaps corners together (up to 1e-6)."""
    env = simulator()
    env.reset(seed=0)
    for goal in (GOAL, SECOND_GOAL):
        env.goal_pose = np.array(goal)
        blocks, found = [], []
        for k in range(250):
            far, turn = 10.0 ** RNG.uniform(-2, 2.3), RNG.normal(0, 10.0 ** RNG.uniform(-3, 0.5))
            env.block.angle = goal[2] + (turn if k % 4 else int(RNG.integers(4)) * QUARTER)
            env.block.position = (goal[0] + far * RNG.normal(), goal[1] + far * RNG.normal())
            blocks.append([*env.block.position, env.block.angle])
            found.append(env._get_coverage())
        np.testing.assert_allclose(coverage(np.array(blocks), np.array(goal)), found, atol=1e-9)
        assert 0.05 < np.mean(np.array(found) > 0.9) < 0.9


# -- the step ----------------------------------------------------------------------------------------------------------


def pushing(start: np.ndarray, steps: int) -> np.ndarray:
    """Actions that chase the block of a start, so that agent, block and walls meet."""
    return np.clip(start[2:4] + RNG.normal(0, 90, (steps, 2)), 5, 505)


def test_a_step_is_that_of_the_simulator_to_the_last_bit():
    """State and reward over three episodes with contacts, float32 actions as recorded and float64 ones."""
    env, fast = simulator(), PushT("pose")
    touched = 0
    for start, kind in zip(starts(PUBLISHED, 3), (np.float32, np.float64, np.float64), strict=True):
        env.reset(options={"reset_to_state": start})
        fast.reset(start)
        assert tuple(env.get_obs()) == fast.state
        for action in pushing(start, 60).astype(kind):
            state, reward, done, _, info = env.step(action)
            seen, got, over = fast.step(action)
            assert tuple(state) == fast.state
            assert got == pytest.approx(float(reward), abs=1e-9)
            assert over == done
            touched += info["n_contacts"] > 0
            np.testing.assert_allclose(seen[[4, 5, 0, 1]], state[:4], atol=1e-4)
    assert touched > 30


def test_pictures_are_those_of_the_simulator():
    env, fast = simulator(), PushT("image")
    start = starts(PUBLISHED, 1)[0]
    env.reset(options={"reset_to_state": start})
    seen = fast.reset(start)
    for action in pushing(start, 3):
        image, agent = image_parts(seen)
        np.testing.assert_array_equal(image, env._render())
        np.testing.assert_allclose(agent, env.agent.position, rtol=1e-6)
        env.step(action)
        seen = fast.step(action)[0]
    assert fast.render().shape == (256, 256, 3)


def test_starts_follow_the_published_protocol():
    """Figures of numpy's legacy generator for the first published seed, where they stand, and the way back."""
    given = starts(PUBLISHED, 40)
    draw = np.random.RandomState(PUBLISHED + 7)
    assert given[7, 0] == draw.randint(50, 450)
    np.testing.assert_array_equal(starts(PUBLISHED + 7, 1)[0], given[7])
    assert ((given[:, :2] >= 50) & (given[:, :2] < 450)).all()
    assert ((given[:, 2:4] >= 100) & (given[:, 2:4] < 400)).all()
    env = PushT("pose")
    for start in given[:8]:
        env.reset(start)
        np.testing.assert_allclose(standing(start), env.state, atol=1e-9)
    np.testing.assert_allclose(standing(reaching(standing(given))), standing(given), atol=1e-9)
    np.testing.assert_array_equal(
        recorded_start(standing(given[3]).astype(np.float32).astype(float), PUBLISHED + 3), given[3]
    )
    other = np.array([100.0, 200.0, 300.5, 250.25, 1.0])
    env.reset(recorded_start(other, 0))
    np.testing.assert_allclose(env.state, other, atol=1e-9)


def test_demonstrations_played_again_go_through_the_recorded_states(needs_data: Callable[[str], Path]):
    """Within the rounding of the single precision in which they were recorded; the mean over all is 0.9465."""
    demos = read_demonstrations(needs_data("pusht")).take([0, 50, 120])
    found = replay(demos)
    assert found.gap.max() < 3.1e-5
    np.testing.assert_allclose(found.max_reward, [0.936636, 0.962398, 0.950153], atol=1e-6)


def test_the_mirror_image_of_an_episode_is_an_episode(needs_data: Callable[[str], Path]):
    """Recorded actions in the mirror lead through the states in the mirror, to the same reward.

    So do 96 % of all; in the others a contact is chaotic, and the reward is off by .017 at most (50 is one of them).
    """
    demos = read_demonstrations(needs_data("pusht")).take([0, 50, 120])
    found = replay(mirrored(demos))
    assert found.gap[[0, 2]].max() < 0.01
    np.testing.assert_allclose(found.max_reward, [0.936636, 0.962398, 0.950153], atol=0.02)
    np.testing.assert_allclose(found.max_reward[[0, 2]], [0.936636, 0.950153], atol=1e-4)


# -- changed conditions ------------------------------------------------------------------------------------------------


def test_a_delayed_action_is_the_action_later():
    """Three steps late: the agent stays for three steps and then does what it would have done."""
    start = starts(PUBLISHED, 1)[0]
    actions = pushing(start, 8)
    plain, late = PushT("pose"), PushT("pose", Conditions(delay=3))
    plain.reset(start)
    late.reset(start)
    path = [plain.state]
    for action in actions:
        plain.advance(action)
        path.append(plain.state)
    for k, action in enumerate(actions):
        assert late.state == path[max(k - 3, 0)]
        late.advance(action)


def test_a_push_moves_the_block_once_by_what_was_asked():
    """In the open: 40 px and 0.3 rad, in a direction drawn by the seed, and the agent is not touched."""
    start = reaching(np.array([60.0, 60.0, 300.0, 280.0, 1.0]))
    here = start[:2]
    ends = []
    for seed in (0, 0, 1):
        env = PushT("pose", Conditions(push=Push(step=2, distance=40.0, turn=0.3)))
        env.reset(start, seed)
        states = [env.state]
        for _ in range(5):
            env.advance(here)
            states.append(env.state)
        moves = np.diff(np.array(states), axis=0)
        assert not moves[[0, 1, 3, 4]].any()
        # the centre of gravity, 45 px up the stem, is what moves in a straight line
        stem = [np.array([-math.sin(s[4]), math.cos(s[4])]) * 45 for s in (states[2], states[3])]
        assert np.linalg.norm(moves[2, 2:4] + stem[1] - stem[0]) == pytest.approx(40.0, rel=1e-6)
        assert abs(moves[2, 4]) == pytest.approx(0.3, rel=1e-6)
        assert not moves[2, :2].any()
        ends.append(states[-1])
    assert ends[0] == ends[1] != ends[2]


def test_noise_has_the_size_that_was_asked_for_and_leaves_the_world_alone():
    start = starts(PUBLISHED, 1)[0]
    for kind, size in (("pose", 3.0), ("keypoints", 3.0)):
        clear, noisy = PushT(kind), PushT(kind, Conditions(noise=size))
        truth = clear.reset(start)
        noisy.reset(start, seed=5)
        seen = observed([noisy] * 1500, np.repeat(np.array([noisy.state]), 1500, 0)) - truth
        places = [0, 1, 4, 5] if kind == "pose" else slice(None)
        np.testing.assert_allclose(seen[:, places].std(0), size, rtol=0.08)
        np.testing.assert_allclose(seen[:, places].mean(0), 0, atol=0.35)
        if kind == "pose":  # along the circle of radius 256: 256 x 3 / 60
            np.testing.assert_allclose(np.hypot(*seen[:, 2:4].std(0)), 256 * size / 60, rtol=0.08)
        assert noisy.state == clear.state


def test_what_cannot_be_meant_is_refused(monkeypatch: pytest.MonkeyPatch):
    env = PushT()
    env.reset(starts(PUBLISHED, 1)[0])
    for ask, says in [
        (lambda: PushT("pixels"), "kind 'pixels'"),
        (lambda: PushT(size=64), "pictures of 64 px"),
        (lambda: Conditions(delay=-1), "a delay of -1"),
        (lambda: Conditions(noise=-0.5), "noise of -0.5"),
        (lambda: Conditions(goal=(1.0, 2.0, math.nan)), "the goal"),
        (lambda: Conditions(push=Push(step=-1)), "a push at step -1"),
        (lambda: starts(-1, 2), "2 starts from seed -1"),
        (lambda: env.reset(np.full(5, np.inf)), "five finite numbers"),
    ]:
        with pytest.raises(InputError, match=says):
            ask()
    with pytest.raises(RunFailed, match="not finite"):
        env.step(np.array([np.nan, 1.0]))
    monkeypatch.setitem(sys.modules, "gym_pusht.envs.pusht", None)
    with pytest.raises(InputError, match=r"needs the extra 'robot'(.|\n)*pip install"):
        PushT()

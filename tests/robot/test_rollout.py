"""Episodes side by side: against one at a time, in one process or two, whoever else plays; records and figures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from neuralsde.data.pusht import GOAL
from neuralsde.errors import InputError, RunFailed
from neuralsde.robot import (
    CHOICES,
    Actor,
    Conditions,
    Push,
    PushT,
    Relocated,
    Rollouts,
    mp4,
    rollout,
    side_by_side,
    starts,
    video_tag,
    write_mp4,
)
from neuralsde.robot.relocate import moved
from neuralsde.robot.rollout import batch_size
from neuralsde.robot.starts import reaching
from tests.robot.actors import Script, Wanderer

STARTS = starts(CHOICES, 5)
HARD = Conditions(delay=1, noise=2.0, push=Push(step=3))


def same(a: Rollouts, b: Rollouts) -> None:
    for name in ("rewards", "success", "steps", "plans", "states", "actions"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def test_an_episode_does_not_depend_on_the_others():
    """Alone among the first two, or among five: the same bits, also where noise and pushes are drawn."""
    every = rollout(Wanderer(), STARTS, max_steps=30, seed=3, conditions=HARD)
    first = rollout(Wanderer(), STARTS[:2], max_steps=30, seed=3, conditions=HARD)
    for name in ("rewards", "states", "actions"):
        np.testing.assert_array_equal(getattr(every, name)[:2], getattr(first, name))
    other = rollout(Wanderer(), STARTS[:2], max_steps=30, seed=4, conditions=HARD)
    assert (other.actions != first.actions).any()


def test_two_processes_play_the_same_episodes_and_record_the_same_pictures():
    kwargs = {"max_steps": 9, "conditions": HARD, "record": (3, 1), "size": 96}
    here = rollout(Wanderer("image"), STARTS, **kwargs)
    there = rollout(Wanderer("image"), STARTS, processes=2, **kwargs)
    same(here, there)
    assert sorted(here.frames) == sorted(there.frames) == [1, 3]
    for place, frames in here.frames.items():
        assert frames.shape == (10, 96, 96, 3)
        np.testing.assert_array_equal(frames, there.frames[place])


def test_a_rollout_is_the_environment_step_by_step():
    """Rewards, states, what the actor sees (the first observation repeated, the newest last), the last command."""
    actions = np.clip(STARTS[0, 2:4] + np.random.default_rng(1).normal(0, 80, (14, 2)), 10, 500)
    script = Script(actions, execute=4)
    found = rollout(script, STARTS[:1], max_steps=14)
    env = PushT("pose")
    env.reset(STARTS[0])
    rewards, states = [], [env.state]
    for action in actions:
        rewards.append(env.step(action)[1])
        states.append(env.state)
    np.testing.assert_allclose(found.rewards[0], rewards, atol=1e-12)
    np.testing.assert_array_equal(found.states[0], states)
    np.testing.assert_array_equal(found.actions[0], actions)
    assert (found.steps.tolist(), found.plans.tolist()) == ([14], [4])  # the last plan is cut short
    np.testing.assert_allclose(np.array(script.last)[:, 0], [STARTS[0, :2], *actions[[3, 7, 11]]], rtol=1e-6)

    for execute in (1, 3):
        actor = Wanderer("pose", n_obs=2, execute=execute)
        path = rollout(actor, STARTS[:1], max_steps=6)
        agents = path.states[0, :, :2]
        for plan, seen in enumerate(actor.seen):
            now = plan * execute
            np.testing.assert_allclose(seen[0, :, -2:], agents[[max(now - 1, 0), now]], rtol=1e-6)


def test_an_episode_ends_when_the_goal_is_covered():
    """A block that stands 1 px from the goal is there at once; figures of it and of one that never moves."""
    near = reaching(np.array([40.0, 40.0, GOAL[0] + 1.0, GOAL[1], GOAL[2]]))
    far = reaching(np.array([40.0, 40.0, 120.0, 400.0, 0.0]))
    still = Script(np.full((20, 2), 40.0), execute=2)
    found = rollout(still, np.array([near, far]), max_steps=6)
    assert found.success.tolist() == [True, False]
    assert (found.steps.tolist(), found.plans.tolist()) == ([1, 6], [1, 3])
    np.testing.assert_allclose(found.max_reward, [1.0, 0.0], atol=1e-15)
    np.testing.assert_array_equal(found.time_to_095, [0.1, np.inf])
    assert np.isnan(found.rewards[0, 1:]).all()
    assert np.isnan(found.actions[0, 1:]).all()
    assert np.isnan(found.states[0, 2:]).all()
    summary = found.summary()
    np.testing.assert_allclose([summary[k] for k in ("max_reward", "standard_error", "success")], 0.5, atol=1e-15)


def test_batches_shrink_by_halves():
    assert [batch_size(running, 100) for running in (100, 51, 50, 26, 25, 7, 2, 1)] == [100, 100, 50, 50, 25, 7, 2, 1]
    near = reaching(np.array([40.0, 40.0, GOAL[0] + 1.0, GOAL[1], GOAL[2]]))
    actor = Wanderer(execute=1)
    rollout(actor, np.concatenate([STARTS[:2], near[None].repeat(3, 0)]), max_steps=4)
    assert actor.batches == [5, 2, 2, 2]  # 5, 3, 2, 1 are the sizes; two are left


def test_a_moved_scene_gives_moved_actions():
    """A policy for one goal used for another sees what it would have seen, for poses and for keypoints."""
    goal = (300.0, 230.0, 1.9)
    begin = np.array([200.0, 180.0, 280.0, 300.0, 0.7])
    turned = np.concatenate(
        [moved(begin[:2], GOAL, goal), moved(begin[2:4], GOAL, goal), [begin[4] + goal[2] - GOAL[2]]]
    )
    for kind in ("pose", "keypoints"):
        plain = rollout(Wanderer(kind), reaching(begin)[None], max_steps=8)
        actor: Actor = Relocated(Wanderer(kind), goal)
        other = rollout(actor, reaching(turned)[None], max_steps=8, conditions=Conditions(goal=goal))
        np.testing.assert_allclose(other.actions, moved(plain.actions, GOAL, goal), atol=0.02)
        np.testing.assert_allclose(other.rewards, plain.rewards, atol=1e-4)
    with pytest.raises(InputError, match="the goal is drawn into them"):
        Relocated(Wanderer("image"), goal)


def test_a_video_can_be_read_back(tmp_path: Path):
    av = pytest.importorskip("av")
    shades = np.linspace(20, 230, 12).astype(np.uint8)
    one = np.broadcast_to(shades[:, None, None, None], (12, 33, 40, 3)).copy()
    both = side_by_side([one, one[:5]], columns=2)
    assert both.shape == (12, 33, 84, 3)
    assert (both[-1, 10, 50] == shades[4]).all()  # the shorter one stands still
    video = mp4(both, rate=10)
    assert write_mp4(tmp_path / "a.mp4", both).read_bytes()[4:8] == video[4:8] == b"ftyp"
    with av.open(io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, float(stream.average_rate)) == (84, 34, 10.0)
        pictures = [picture.to_ndarray(format="rgb24") for picture in container.decode(stream)]
    assert len(pictures) == 12
    np.testing.assert_allclose([p[5:28, 5:35].mean() for p in pictures], shades, atol=3)
    tag = video_tag(video, "a < b")
    assert 'src="data:video/mp4;base64,' in tag
    assert "a &lt; b" in tag


def test_what_cannot_be_meant_is_refused():
    nan = Script(np.full((4, 2), np.nan))
    flat = Script(np.zeros((4, 3)))
    for ask, says in [
        (lambda: rollout(Wanderer(), STARTS[0]), r"starts of shape \(5,\)"),
        (lambda: rollout(Wanderer(), STARTS, max_steps=0), "0 steps at most"),
        (lambda: rollout(Wanderer(), STARTS, record=[5]), "places from 0 to 4"),
        (lambda: rollout(Wanderer(), STARTS, processes=0), "0 processes"),
        (lambda: rollout(flat, STARTS, max_steps=2), r"plans of shape \(5, 1, 3\)"),
        (lambda: mp4(np.zeros((2, 4, 4), np.uint8)), r"\(t, h, w, 3\)"),
        (lambda: side_by_side([]), "one size"),
    ]:
        with pytest.raises(InputError, match=says):
            ask()
    with pytest.raises(RunFailed, match="not finite"):
        rollout(nan, STARTS, max_steps=2)

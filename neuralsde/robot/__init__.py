"""Push-T: the environment, policies at work in it, and what became of them.

    PushT, Conditions, Push       the simulator, headless; noise, delay, a push, another goal       (environment.py)
    starts, PUBLISHED, CHOICES    where episodes start: the published protocol                      (starts.py)
    Actor, rollout, Rollouts      episodes of a policy, side by side, and their figures             (rollout.py)
    replay                        demonstrations played again                                       (replay.py)
    Relocated                     a policy for one goal, used for another                           (relocate.py)
    mp4, write_mp4, video_tag, side_by_side    recordings                                           (video.py)

On the way: `coverage` is the reward, `stage` plays many episodes, in this process or in several. The simulator and the
video need the extra `robot`. Policies are in modules of their own, so that a process that only simulates loads no JAX:
`policy`, `baselines` and what they are made of; `inverse` infers actions, `agent` is the law it is to find.
"""

from neuralsde.robot.environment import MAX_STEPS, PUBLISHED_TASK, STEPS_PER_SECOND, Conditions, Push, PushT
from neuralsde.robot.relocate import Relocated
from neuralsde.robot.replay import Replay, replay
from neuralsde.robot.rollout import Actor, Rollouts, rollout
from neuralsde.robot.starts import CHOICES, PUBLISHED, starts
from neuralsde.robot.video import mp4, side_by_side, video_tag, write_mp4

__all__ = [
    "CHOICES",
    "MAX_STEPS",
    "PUBLISHED",
    "PUBLISHED_TASK",
    "STEPS_PER_SECOND",
    "Actor",
    "Conditions",
    "Push",
    "PushT",
    "Relocated",
    "Replay",
    "Rollouts",
    "mp4",
    "replay",
    "rollout",
    "side_by_side",
    "starts",
    "video_tag",
    "write_mp4",
]

"""The law of the agent in closed form: where it goes when it is told to, and what it was told when it went there.

The agent is a kinematic body: it pushes and is not pushed, walls do not stop it. In a step of 0.1 s, ten times

    v <- v + (k_p (a - p) - k_v v) h,    p <- p + v h        that is  (p - a, v) <- M (p - a, v),    B = M^10

so a step is linear, wherever the block is. Solved for the action, one coordinate at a time, with v = 0 at first:

    a_t = (p_(t+1) - B_pp p_t - B_pv v_t) / (1 - B_pp),      v_(t+1) = B_vp (p_t - a_t) + B_vv v_t

A velocity that was taken wrongly is forgotten by the factor z = B_vv + B_vp B_pv / (1 - B_pp) = -0.385 a step, the zero
of the agent seen as a filter from actions to positions: positions of the last n steps say as much about an action, up
to |z|^n, as those of all steps since the start. Nobody has to learn this; it is what learning is measured against.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float

from neuralsde.data.pusht import Demonstrations
from neuralsde.errors import InputError

STIFFNESS, DAMPING = 100.0, 20.0
"""k_p and k_v of the PD law."""
_H, _TIMES = 0.01, 10
STEP = np.linalg.matrix_power(
    np.array([[1 - STIFFNESS * _H**2, (1 - DAMPING * _H) * _H], [-STIFFNESS * _H, 1 - DAMPING * _H]]), _TIMES
)
"""B: (p - a, v) after a step of 0.1 s, px and px/s."""
FORGETTING = float(STEP[1, 1] + STEP[1, 0] * STEP[0, 1] / (1 - STEP[0, 0]))
"""z."""


def positions_of(start: Any, actions: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n1 2"]:
    """Positions (n + 1, 2) of an agent that rests at `start` (2,) and is then told `actions`; px, float64."""
    p, v = np.asarray(start, np.float64), np.zeros(2)
    path = [p]
    for a in np.asarray(actions, np.float64):
        p, v = a + STEP[0, 0] * (p - a) + STEP[0, 1] * v, STEP[1, 0] * (p - a) + STEP[1, 1] * v
        path.append(p)
    return np.array(path)


def actions_of(positions: Float[np.ndarray, "n1 2"]) -> Float[np.ndarray, "n 2"]:
    """The actions (n, 2) that lead an agent at rest through positions (n + 1, 2); the inverse of `positions_of`.

    An error of e in the positions is one of about 5 e in the actions. Raises InputError for fewer than two positions.
    """
    if len(positions) < 2:
        raise InputError(f"positions of shape {positions.shape}", "no step was made", "two or more")
    path, v = np.asarray(positions, np.float64), np.zeros(2)
    actions = []
    for p, there in pairwise(path):
        a = (there - STEP[0, 0] * p - STEP[0, 1] * v) / (1 - STEP[0, 0])
        v = STEP[1, 0] * (p - a) + STEP[1, 1] * v
        actions.append(a)
    return np.array(actions)


def known_actions(demos: Demonstrations) -> Float[np.ndarray, "n 2"]:
    """The actions of every step but the last of each episode, one after the other, from the agent's positions alone."""
    ranges = zip(demos.starts, demos.ends, strict=True)
    return np.concatenate([actions_of(demos.state[a:b, :2]) for a, b in ranges])

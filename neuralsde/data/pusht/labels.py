"""Other actions for the same steps: noisy ones, wrong ones, those of some other source.

    noisy          a + N(0, s²)                       a hand that is not measured well
    outliers       uniform in the arena at a share of the steps, whatever was done     (Huber's contamination)
    without_last   the last step of every episode left out: nobody saw what its action did
    joined         several sets as one

States stay as they were recorded. An action is a target, and where the next plan starts from: one that is wrong enters
two transitions of a model of actions, as the end of one and as the start of the next.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from neuralsde.data.pusht.demonstrations import Demonstrations
from neuralsde.data.pusht.features import SIDE
from neuralsde.errors import InputError


def noisy(demos: Demonstrations, sd: float, seed: int) -> Demonstrations:
    """Actions with normal noise of so many px on both coordinates, kept in the arena; a function of the seed.

    Raises InputError for a noise below 0.
    """
    if not 0 <= sd < np.inf:
        raise InputError(f"noise of {sd:g} px on the actions", expected="0 or a positive number")
    noise = sd * np.random.default_rng(seed).standard_normal(demos.actions.shape)
    return _with(demos, np.clip(demos.actions + noise, 0.0, SIDE))


def outliers(demos: Demonstrations, share: float, seed: int) -> tuple[Demonstrations, Bool[np.ndarray, " n"]]:
    """A share of the steps with an action drawn from all the arena, and which steps those are.

    With one seed the steps of a smaller share are among those of a larger one, and get the same actions.
    Raises InputError for a share that is none.
    """
    if not 0 <= share <= 1:
        raise InputError(f"a share of {share:g} of the actions", expected="a number from 0 to 1")
    rng = np.random.default_rng(seed)
    hit = np.zeros(len(demos), bool)
    hit[rng.permutation(len(demos))[: round(share * len(demos))]] = True
    anywhere = rng.uniform(0.0, SIDE, demos.actions.shape)
    return _with(demos, np.where(hit[:, None], anywhere, demos.actions)), hit


def without_last(demos: Demonstrations) -> Demonstrations:
    """Every episode less its last step. Raises InputError for an episode that has no other."""
    lengths = np.diff(demos.ends.astype(np.int64), prepend=0)
    if (lengths < 2).any():
        raise InputError("an episode of one step", "nothing is left of it without its last", "two steps or more")
    kept = np.ones(len(demos), bool)
    kept[np.cumsum(lengths) - 1] = False
    return replace(
        demos,
        state=demos.state[kept],
        actions=demos.actions[kept],
        ends=np.cumsum(lengths - 1),
        keypoints=None if demos.keypoints is None else demos.keypoints[kept],
        images=None if demos.images is None else demos.images[kept],
    )


def joined(*sets: Demonstrations) -> Demonstrations:
    """The episodes of all sets, one set after the other; images where all have them.

    Raises InputError for no set, and for sets with different goals.
    """
    if not sets or len({one.goal for one in sets}) > 1:
        raise InputError(f"{len(sets)} sets of demonstrations", "they do not have one goal", "one or more, of one goal")
    before = np.cumsum([0] + [len(one) for one in sets[:-1]])
    images = [one.images for one in sets if one.images is not None]
    return replace(
        sets[0],
        state=np.concatenate([one.state for one in sets]),
        actions=np.concatenate([one.actions for one in sets]),
        ends=np.concatenate([one.ends.astype(np.int64) + first for one, first in zip(sets, before, strict=True)]),
        keypoints=np.concatenate([one.keypoints for one in sets if one.keypoints is not None]),
        images=np.concatenate(images) if len(images) == len(sets) else None,
        numbers=np.concatenate([one.numbers for one in sets if one.numbers is not None]),
    )


def _with(demos: Demonstrations, actions: np.ndarray) -> Demonstrations:
    return replace(demos, actions=actions.astype(demos.actions.dtype))

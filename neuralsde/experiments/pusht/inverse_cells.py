"""Whose actions are known, what is inferred of the others, and what each policy of `inverse.py` learns from.

    100, 25, 10, 5 % of the episodes are labelled    ->  inverse dynamics  ->  actions of all the others  ->  a policy
    all are, with noise of 5, 10, 20 px              ->  inverse dynamics  ->  their own actions anew     ->  a policy

The physics is known (`robot/agent.py`), which is the floor: from positions alone the recorded actions come back to a
thousandth of a pixel. A window that reads n rows back cannot know the velocity before them, so a linear map of it errs
in proportion to |z|^n; and what n rows X teach of labels with noise of s px errs by s tr(X'ᵀX' (XᵀX)⁻¹ / n')^½ on rows
X' that were held out, about s (q / n)^½ for q numbers. Both stand in the tables as what is expected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from neuralsde.data.pusht import Demonstrations, joined, noisy, without_last
from neuralsde.robot.agent import known_actions
from neuralsde.robot.inverse import TRAINING, Inferred, InverseConfig, InverseDynamics, fit_inverse, windows
from neuralsde.robot.policy import Config

SHARES = (100, 25, 10, 5)
"""Per cent of the episodes that are labelled."""
NOISES = (5.0, 10.0, 20.0)
"""Px, on every recorded action of all episodes."""
PASTS = (0, 1, 2, 4, 8)
DRAWS = 10
"""Of the noise, for least squares: what one draw leaves has few degrees of freedom."""
HELD_OUT = 0.1
"""Share of the episodes that nobody learns from: there inferred actions are compared with recorded ones."""
LINEAR, NETWORK, NEXT, PHYSICS = "least squares", "networks", "next position", "known physics"
FULL_REWARD = "recorded"


@dataclass(frozen=True)
class Size:
    """Policies a cell, their steps of batch moments, width and blocks; starts they are rolled out from.

    noises: labels' noise for which policies are trained. inverse_steps, members, past: of the inverse dynamics.
    """

    policies: int = 1
    steps: int = 2_500
    batch: int = 256
    width: int = 192
    blocks: int = 3
    starts: int = 200
    noises: tuple[float, ...] = (10.0, 20.0)
    inverse_steps: int = 1_000
    members: int = 3
    past: int = 4
    max_steps: int = 300


SMALL = Size(steps=2, batch=8, width=4, blocks=0, starts=2, noises=(20.0,), members=0, max_steps=4)
FULL = Size(policies=3, steps=12_000, batch=512, width=256, noises=NOISES, inverse_steps=5_000, members=5)


@dataclass(frozen=True)
class Labels:
    """Who knows which actions, for one seed: episodes to learn from and held-out ones, all with recorded actions.

    The labelled episodes of a smaller share are among those of a larger one.
    """

    known: Demonstrations
    held: Demonstrations
    seed: int
    size: Size
    fitted: dict[str, InverseDynamics] = field(default_factory=dict, compare=False)

    @cached_property
    def order(self) -> np.ndarray:
        return np.random.default_rng([self.seed, 1]).permutation(self.known.episodes)

    def count(self, share: float) -> int:
        """Labelled episodes; two are needed, one to fit and one to check."""
        return max(2, round(share / 100 * self.known.episodes))

    def labelled(self, share: float) -> Demonstrations:
        return self.known.take(np.sort(self.order[: self.count(share)]))

    def others(self, share: float) -> Demonstrations | None:
        """Episodes of which only the states are known."""
        left = np.sort(self.order[self.count(share) :])
        return self.known.take(left) if len(left) else None

    def noisy(self, sd: float) -> Demonstrations:
        return noisy(self.known, sd, self.seed)

    def dynamics(self, labelled: Demonstrations, **changes: Any) -> InverseDynamics:
        config = InverseConfig(past=self.size.past, members=self.size.members)
        steps = self.size.inverse_steps
        training = replace(TRAINING, steps=steps, validate_every=max(1, steps // 10), seed=self.seed)
        return fit_inverse(labelled, replace(config, **changes), training)

    def of_share(self, share: float) -> InverseDynamics:
        """Learnt from the labelled episodes; once."""
        name = f"{share:g} %"
        self.fitted[name] = self.fitted.get(name) or self.dynamics(self.labelled(share))
        return self.fitted[name]

    def of_noisy(self, sd: float) -> InverseDynamics:
        """Learnt from all episodes with noisy labels; once."""
        name = f"{sd:g} px"
        self.fitted[name] = self.fitted.get(name) or self.dynamics(self.noisy(sd))
        return self.fitted[name]

    def completed(self, share: float) -> Demonstrations:
        """The labelled episodes as they are, and all others with inferred actions; of 100 % all inferred."""
        model = self.of_share(share)
        others = self.others(share)
        if others is None:
            return model.infer(self.known).demos
        return joined(self.labelled(share), model.infer(others).demos)


# -- errors ------------------------------------------------------------------------------------------------------------


def errors(labels: Labels) -> dict[str, Any]:
    """How far inferred actions of held-out episodes are from the recorded ones; px."""
    held = labels.held
    recorded = without_last(held).actions.astype(np.float64)
    ahead = np.delete(held.state[:, :2], held.starts, axis=0)

    def linear(labelled: Demonstrations, past: int = labels.size.past) -> dict[str, float]:
        return measured(labels.dynamics(labelled, members=0, past=past).infer(held), recorded)

    def networks(model: InverseDynamics) -> dict[str, float]:
        return measured(model.infer(held), recorded)

    def of_share(share: float) -> dict[str, Any]:
        return {LINEAR: linear(labels.labelled(share)), NETWORK: networks(labels.of_share(share))}

    def of_noise(sd: float) -> dict[str, Any]:
        draws = [linear(noisy(labels.known, sd, labels.seed + k))["rms"] for k in range(DRAWS)]
        several = {"rms": float(f"{np.sqrt(np.square(draws).mean()):.4g}")}
        return {LINEAR: several, NETWORK: networks(labels.of_noisy(sd)), "expected": sd * left_of_noise(labels)}

    return {
        PHYSICS: _sizes(known_actions(held) - recorded),
        NEXT: _sizes(ahead - recorded),
        "one episode": linear(labels.known.take(labels.order[:1])),
        "past": {f"{past}": linear(labels.labelled(10), past) for past in PASTS},
        "share": {f"{share}": of_share(share) for share in SHARES},
        "noise": {f"{sd:g}": of_noise(sd) for sd in NOISES},
        "rows": {f"{share}": len(without_last(labels.labelled(share))) for share in SHARES},
    }


def left_of_noise(labels: Labels) -> float:
    """What least squares of all episodes leave in held-out actions of noise of 1 px on their labels."""
    config = InverseConfig(past=labels.size.past)
    train, held = (windows(demos, config).moves for demos in (labels.known, labels.held))
    return float(np.sqrt(np.trace(np.linalg.solve(train.T @ train, held.T @ held)) / len(held)))


def measured(found: Inferred, recorded: np.ndarray) -> dict[str, float]:
    """`said` is the root mean square of the spread that the model gives."""
    said = float(np.sqrt(np.square(found.sd).mean()))
    return _sizes(found.demos.actions - recorded) | {"said": float(f"{said:.4g}")}


def _sizes(error: np.ndarray) -> dict[str, float]:
    """Root mean square of a coordinate, and the distance that 99 of 100 actions keep within."""
    far = np.quantile(np.linalg.norm(error, axis=1), 0.99)
    return {"rms": float(f"{np.sqrt(np.square(error).mean()):.4g}"), "99 %": float(f"{far:.4g}")}


# -- policies ----------------------------------------------------------------------------------------------------------


def cells(size: Size) -> dict[str, Callable[[Labels], Demonstrations]]:
    """What each policy learns from."""
    some = [share for share in SHARES if share < 100]
    return {
        FULL_REWARD: lambda labels: labels.known,
        **{inferred(share): lambda labels, share=share: labels.completed(share) for share in SHARES},
        **{alone(share): lambda labels, share=share: labels.labelled(share) for share in some},
        **{direct(sd): lambda labels, sd=sd: labels.noisy(sd) for sd in size.noises},
        **{denoised(sd): lambda labels, sd=sd: anew(labels, sd) for sd in size.noises},
        NEXT: lambda labels: next_positions(labels.known),
    }


def inferred(share: float) -> str:
    return f"inferred, {share:g} % labelled"


def alone(share: float) -> str:
    return f"labelled {share:g} % alone"


def direct(sd: float) -> str:
    return f"noise {sd:g} px"


def denoised(sd: float) -> str:
    return f"inferred, noise {sd:g} px"


def anew(labels: Labels, sd: float) -> Demonstrations:
    """All actions inferred, by dynamics that learnt from all noisy ones."""
    return labels.of_noisy(sd).infer(labels.known).demos


def next_positions(demos: Demonstrations) -> Demonstrations:
    """Where the agent went taken for where it was told to go."""
    ahead = np.delete(demos.state[:, :2], demos.starts, axis=0)
    return replace(without_last(demos), actions=ahead.astype(demos.actions.dtype))


def policy_config(size: Size) -> Config:
    """The policy that all cells train; every demonstration in the mirror too."""
    return Config(width=size.width, blocks=size.blocks, mirror=True)

"""One action ahead: is the law of a policy right about what was done, and what do outliers make of it?

A policy's law of a_(t+k), given a_(t+k-1) and what was seen at t, is N(m, s²) or Student's, each coordinate by itself.
With a share p of the targets drawn uniformly from the arena, U, and v the mean square of what a flow leaves, its mean
goes to the minimum of (1 - p) E ρ((a - c)² / v) + p E ρ((U - c)² / v), found by reweighting (`outliers/ways.py`). The
diffusion goes to all that is left of that, s'² = (1 - p) (s² + (m - c)²) + p E (U - c)²: no flow loss saves it. By mse

    c = (1 - p) m + p 256

Starts are spoiled as well, but an action far from the agent is seen to be one, so here they are taken to cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuralsde.data.pusht import ACTIONS, Demonstrations, observations
from neuralsde.data.pusht.features import SIDE
from neuralsde.data.rounding import resolution
from neuralsde.evaluate import scores as sc
from neuralsde.experiments.outliers.ways import weights
from neuralsde.models.sequence_sde import StepLaw
from neuralsde.robot.plans import Batch, Plans
from neuralsde.robot.policy import Policy
from neuralsde.robot.sde_plan import SdePlan

LEVELS = (50, 90)
"""Central bands whose coverage is measured, in per cent."""
_NORMAL, _UNIFORM, _ROUNDS, _CLOSE = 15, 64, 60, 1e-3
_FEW = 2_000


@dataclass(frozen=True)
class OneStep:
    """Laws of n actions, what was done, and from where: mean, scale sd, truth, start (n, 2); dof (2,) of Student's; px.

    rounding: the step to which the recorded actions were rounded, 0 if they were not.
    """

    mean: Float[np.ndarray, "n 2"]
    sd: Float[np.ndarray, "n 2"]
    truth: Float[np.ndarray, "n 2"]
    start: Float[np.ndarray, "n 2"]
    rounding: float
    dof: Float[np.ndarray, " 2"] | None = None

    def figures(self) -> dict[str, float]:
        """Nats an action, of the rounded one where it is, and the share of truths in the central bands."""
        half = self.rounding / 2
        if half:
            each = sc.log_probability(self.truth - half, self.truth + half, self.mean, self.sd, self.dof)
        else:
            each = sc.log_density(self.truth, self.mean, self.sd, self.dof)
        inside = {
            f"inside {level}": sc.covered_gaussian(
                self.mean, self.sd, self.truth, level, self.rounding, self.dof
            ).mean()
            for level in LEVELS
        }
        found = {"nats": -each.sum(1).mean(), **inside, "spread": np.sqrt(np.square(self.sd).mean())}
        return {name: float(f"{value:.5g}") for name, value in found.items()}

    def moved(self, other: OneStep) -> float:
        """Root mean square distance of the means from those of other laws of the same actions, a coordinate."""
        return float(f"{np.sqrt(np.square(self.mean - other.mean).mean()):.5g}")


def one_step(policy: Policy, demos: Demonstrations) -> OneStep:
    """Of every action of demonstrations, from every offset of the plan that was made before it."""
    law, config, units = policy.law, policy.config, policy.setting.observations
    assert isinstance(law, SdePlan)
    o = units.encode(observations(demos, config.kind))
    actions, agent = (ACTIONS.encode(part.astype(np.float32)) for part in (demos.actions, demos.state[:, :2]))
    moments, found, start = _laws(law, Plans.of(o, actions, agent, demos.ends))
    seen, scale = np.asarray(moments.seen), ACTIONS.scale[0]

    def px(part: Array) -> np.ndarray:
        return ACTIONS.decode(np.asarray(part, np.float64)[seen])

    return OneStep(
        px(found.mean),
        scale * np.asarray(found.sd, np.float64)[seen],
        px(moments.plan),
        px(start),
        rounding=resolution(demos.actions.astype(np.float64).ravel()),
        dof=None if found.dof is None else np.asarray(found.dof[0, 0], np.float64),
    )


@eqx.filter_jit
def _laws(law: SdePlan, plans: Plans) -> tuple[Batch, StepLaw, Float[Array, "b H a"]]:
    """All moments, the law of each action of each plan, and where it starts from."""
    moments = plans.take(plans.at, law.shape.n_obs, law.shape.horizon)
    starts = jnp.concatenate([moments.action[:, None], moments.plan[:, :-1]], axis=1)

    def one(x: Array, history: Array, offset: Array) -> StepLaw:
        return law.sde.step(law.window(x, history, offset), jnp.ones_like(x))

    along = jax.vmap(one, in_axes=(0, None, 0))
    offsets = jnp.arange(law.shape.horizon)
    return moments, jax.vmap(along, in_axes=(0, 0, None))(starts, moments.history, offsets), starts


def random_walk(train: Demonstrations, of: OneStep) -> OneStep:
    """The trivial law: no drift, with the s.d. of the training moves, spoiled as they are."""
    moves = np.diff(train.actions.astype(np.float64), axis=0)
    moves = np.delete(moves, train.ends[:-1].astype(np.int64) - 1, axis=0)
    return replace(of, mean=of.start, sd=np.broadcast_to(np.sqrt(np.square(moves).mean(0)), of.mean.shape), dof=None)


def expected(clean: OneStep, share: float, loss: str, delta: float = 1e-3) -> dict[str, float]:
    """Figures, and how far the mean moves, of laws learnt by a flow loss from targets of which a share is anywhere.

    clean: the laws of clean demonstrations, which are taken to be right.
    """
    some = _some(clean)
    law = spoiled(some, share, loss, delta)
    return law.figures() | {"moved": law.moved(some)}


def spoiled(clean: OneStep, share: float, loss: str, delta: float = 1e-3) -> OneStep:
    """What laws become by endless data; `loss` is a flow loss."""
    nodes, mass = np.polynomial.hermite_e.hermegauss(_NORMAL)
    anywhere = SIDE * (np.arange(_UNIFORM) + 0.5) / _UNIFORM
    shape = (*clean.mean.shape, _UNIFORM)
    targets = np.concatenate(
        [clean.mean[..., None] + clean.sd[..., None] * nodes, np.broadcast_to(anywhere, shape)], axis=-1
    )
    weight = np.concatenate([(1 - share) * mass / mass.sum(), np.full(_UNIFORM, share / _UNIFORM)])
    centre = clean.mean
    for _ in range(_ROUNDS):
        squared = np.square(targets - centre[..., None])
        q = squared / (squared @ weight).mean(0)[:, None]
        pull = weight * weights(loss, q, delta)
        before, centre = centre, (pull * targets).sum(-1) / pull.sum(-1)
        if np.abs(centre - before).max() < _CLOSE:
            break
    return replace(clean, mean=centre, sd=np.sqrt(np.square(targets - centre[..., None]) @ weight), dof=None)


def _some(laws: OneStep) -> OneStep:
    """At most a few thousand of them, evenly."""
    every = slice(None, None, -(-len(laws.mean) // _FEW))
    parts: Mapping[str, np.ndarray] = {name: getattr(laws, name)[every] for name in ("mean", "sd", "truth", "start")}
    return replace(laws, **parts)

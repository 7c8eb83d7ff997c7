"""A policy of images: an encoder that finds points, and a plan of any method that reads them as its observation.

    o = (points found in the image, agent),     loss = loss of the plan + weight · mean |point - keypoint|²

The second term is an auxiliary regression of the block's nine keypoints, known in demonstrations. Where the plan's part
is learnt from, there are two ways:

    keypoints   the demonstrated ones, each history with errors that the encoder has just made on images of the same
                step. The encoder learns from the regression alone. A plan wants hundreds of moments a step and an
                encoder costs a hundred times as much for each, so each gets a batch of its own size.
    images      end to end: from what the encoder finds, and `pull` times the gradient of that reaches the encoder.

Images are moved by a few pixels in training. Points move with them and are moved back before the plan reads them, so
nothing else has to move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key, Num

from neuralsde.data.pusht import ACTIONS, IMAGE, LOCAL_KEYPOINTS, image_parts
from neuralsde.errors import InputError
from neuralsde.nets.convolutions import Votes
from neuralsde.robot.plan_law import Execution, PlanLaw, Planned, Shape
from neuralsde.robot.plans import Batch
from neuralsde.robot.sights import Sights, shifted

KEYPOINTS = len(LOCAL_KEYPOINTS)
PLANS_FROM = ("keypoints", "images")
_MOST_SHIFT = 24


@dataclass(frozen=True)
class Encoder:
    """How a policy of images sees, and how it learns to.

    plans_from: what the plan is learnt from: one of `PLANS_FROM`.
    images:   of a step of training, one of a moment; with plans from images it is that of all observations of as many
              moments, and the batch is no larger than that.
    weight:   of the mean square error of the keypoints, in units of half the arena; 0 switches it off.
    pull:     share of the gradient of the plan's loss that reaches the encoder, with plans from images.
    points:   found in an image; the first nine are those that are compared with keypoints.
    channels, blocks: of the network (`nets.convolutions.Votes`).
    shift:    images are moved by up to so many of their pixels in training.
    """

    plans_from: str = "keypoints"
    images: int = 64
    weight: float = 100.0
    pull: float = 1.0
    points: int = KEYPOINTS
    channels: int = 64
    blocks: int = 4
    shift: int = 4

    def __post_init__(self) -> None:
        least = {"images": 1, "points": KEYPOINTS, "channels": 2, "blocks": 0, "shift": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise InputError(f"{name}={value!r} of an encoder", expected=f"a whole number, at least {low}")
        if self.shift > _MOST_SHIFT:
            raise InputError(f"shift={self.shift} of an encoder", "images are 96 pixels wide", f"0 to {_MOST_SHIFT}")
        if self.plans_from not in PLANS_FROM:
            raise InputError(f"plans_from={self.plans_from!r}", expected=" or ".join(PLANS_FROM))
        if not (0 <= self.weight < np.inf and 0 <= self.pull <= 1):
            raise InputError(f"weight={self.weight!r} and pull={self.pull!r} of an encoder", "",
                             "a number that is not negative, and a share from 0 to 1")  # fmt: skip
        if not self.weight and (self.told or not self.pull):
            raise InputError("weight=0 of an encoder", "then it would learn nothing",
                             "plans from images with pull > 0, or a positive weight")  # fmt: skip
        if self.told and self.points != KEYPOINTS:
            raise InputError(f"points={self.points} with plans from keypoints", "there are no others to be told",
                             f"{KEYPOINTS}", "plans_from='images'")  # fmt: skip

    @property
    def told(self) -> bool:
        """Whether the plan is learnt from keypoints."""
        return self.plans_from == "keypoints"

    @property
    def features(self) -> int:
        """Numbers in what a plan reads of one image: points and agent."""
        return 2 * self.points + 2

    def looks(self, n_obs: int) -> tuple[int | None, int]:
        """Of how many moments of a batch images are taken, and of how many observations of each."""
        return (self.images, 1) if self.told else (None, n_obs)

    def moments(self, batch_size: int) -> int:
        """In a batch."""
        return batch_size if self.told else min(batch_size, self.images)


class Seeing(PlanLaw):
    """The law of plans given images and the agent's position (n_obs, 27650), grey levels and px.

    inner: the law given points and agent in model units.
    """

    shape: Shape = eqx.field(static=True)
    encoder: Votes
    inner: PlanLaw
    options: Encoder = eqx.field(static=True)

    @classmethod
    def of(cls, options: Encoder, shape: Shape, inner: PlanLaw, *, key: Key[Array, ""]) -> Seeing:
        """Before training. shape: that of the whole; `inner` is of `options.features` numbers an observation."""
        net = Votes(IMAGE, options.points, channels=options.channels, blocks=options.blocks, key=key)
        return cls(shape, net, inner, options)

    def points(self, images: Num[Array, "*rows h w c"]) -> Float[Array, "*rows points 2"]:
        """Found in images of grey levels from 0 to 255, bytes or floats; the arena is [-1, 1]."""
        return self.encoder(images.astype(jnp.float32) / 127.5 - 1)

    def features(self, observations: Float[Array, "*rows f"]) -> Float[Array, "*rows features"]:
        """What the inner law reads of image observations."""
        images, agent = image_parts(observations)
        points = self.points(images)
        return jnp.concatenate([points.reshape(*points.shape[:-2], -1), ACTIONS.encode(agent)], -1)

    def errors(self, sights: Sights) -> Float[Array, "m k nine 2"]:
        """How far the first nine points are from the keypoints; the arena is [-1, 1]."""
        return self.points(sights.images)[..., :KEYPOINTS, :] - told(sights)

    # -- training ----------------------------------------------------------------------------------------------------

    def loss(self, batch: Any, aux: Any, *, key: Key[Array, ""]) -> tuple[Array, tuple[dict[str, Array], Any]]:
        """batch: `Sights`. Adds to the metrics `keypoints`, root mean square distance in px."""
        shift_key, error_key, key = jax.random.split(key, 3)
        points, errors = self._looked(batch, key=shift_key)
        squared = jnp.mean(jnp.square(errors))
        if self.options.told:
            moments = misplaced(batch.moments, lax.stop_gradient(errors), key=error_key)
        else:
            moments = self._found(batch.moments, points)
        value, (metrics, aux) = self.inner.loss(moments, aux, key=key)
        metrics = {**metrics, "keypoints": ACTIONS.scale[0] * jnp.sqrt(2 * squared)}
        return value + self.options.weight * squared, (metrics, aux)

    def first_aux(self) -> Any:
        return self.inner.first_aux()

    def _looked(
        self, sights: Sights, *, key: Key[Array, ""]
    ) -> tuple[Float[Array, "m k points 2"], Float[Array, "m k nine 2"]]:
        """Points in the images, which are moved by a few pixels meanwhile, and how far the first nine are off."""
        images, moves = shifted(sights.images, self.options.shift, key=key)
        points = self.points(images) - moves[..., None, :]
        return points, points[..., :KEYPOINTS, :] - told(sights)

    def _found(self, moments: Batch, points: Float[Array, "b n_obs points 2"]) -> Batch:
        """Moments with what was found for observations; nothing is known of future ones."""
        b, n_obs = points.shape[:2]
        points = self.options.pull * points + (1 - self.options.pull) * lax.stop_gradient(points)
        history = jnp.concatenate([points.reshape(b, n_obs, -1), moments.history[..., -2:]], -1)
        future = jnp.zeros((*moments.seen.shape, history.shape[-1]))
        return Batch(history, moments.action, moments.plan, future, moments.seen)

    # -- planning ----------------------------------------------------------------------------------------------------

    def plan(
        self, history: Float[Array, "n_obs f"], action: Float[Array, " a"], how: Execution, *, key: Key[Array, ""]
    ) -> Planned:
        """Evaluations are those of the inner law; the encoder is asked once a plan."""
        return self.inner.plan(self.features(history), action, how, key=key)

    def check(self, how: Execution) -> None:
        self.inner.check(how)


def told(sights: Sights) -> Float[Array, "m k nine 2"]:
    """The keypoints of the moments whose images are there."""
    m, k = sights.images.shape[:2]
    return sights.moments.history[:m, -k:, :-2].reshape(m, k, KEYPOINTS, 2)


def misplaced(moments: Batch, errors: Float[Array, "m k nine 2"], *, key: Key[Array, ""]) -> Batch:
    """Moments whose keypoints are off by errors dealt out at random, each with a random sign: one an observation."""
    b, n_obs, _ = moments.history.shape
    which_key, sign_key = jax.random.split(key)
    dealt = errors.reshape(-1, errors.shape[-2] * errors.shape[-1])
    dealt = dealt[jax.random.randint(which_key, (b, n_obs), 0, len(dealt))]
    dealt = dealt * jax.random.rademacher(sign_key, (b, n_obs, 1), dealt.dtype)
    return eqx.tree_at(lambda m: m.history, moments, moments.history.at[..., :-2].add(dealt))

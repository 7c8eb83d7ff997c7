"""Demonstrations as what a policy of images is trained on: moments as numbers, and images of some of them.

Images stay the bytes that they were recorded as, in one array on the device (0.7 GB for the published set); a batch is
gathered inside the compiled step, where the mirror image of a row is made too: rows n to 2 n - 1 are those before them
in the mirror (`data.pusht.mirror`), so images are held once. Moments are those of `plans.py` with keypoints as
observations, which an encoder may be taught and which its errors are measured by.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from neuralsde.data.pusht import IMAGE, mirrored_images
from neuralsde.errors import InputError
from neuralsde.robot.plans import Batch, Plans


class Sights(eqx.Module):
    """b moments, and images (m, k) of the last k observations of the first m of them, grey levels."""

    moments: Batch
    images: UInt8[Array, "m k h w c"]

    def noisy(self, sd: float, *, key: Key[Array, ""]) -> Sights:
        """With noise on the keypoints and positions that are told, not on what is seen."""
        return Sights(self.moments.noisy(sd, key=key), self.images)


class Album(eqx.Module):
    """Moments with images, like `Plans`.

    plans:  rows of keypoints and agent: those of the images, then perhaps those of their mirror images.
    images: of the first n rows. looks: of how many moments of a drawn batch images are taken, None: of all. back: how
            many of the observations of each.
    """

    plans: Plans
    images: UInt8[Array, "n h w c"]
    looks: int | None = eqx.field(static=True)
    back: int = eqx.field(static=True)

    @classmethod
    def of(cls, plans: Plans, images: np.ndarray | None, looks: int | None, back: int) -> Album:
        """Raises InputError for demonstrations without images, or with others than `data.pusht` reads."""
        if images is None:
            raise InputError("a policy of images", "the demonstrations were read without images", hint="images=True")
        if images.dtype != np.uint8 or images.shape[1:] != IMAGE:
            raise InputError(f"images {images.dtype} of shape {images.shape}", "", f"uint8 of shape (n, {IMAGE})")
        return cls(plans, jnp.asarray(images), looks, back)

    def take(self, t: Int[Array, " b"], n_obs: int, horizon: int, looks: int | None = None) -> Sights:
        """The moments t, with images of the first `looks` of them."""
        at = t[:looks][:, None]
        rows = jnp.maximum(at + jnp.arange(1 - self.back, 1), self.plans.first[at])
        return Sights(self.plans.take(t, n_obs, horizon), self.pictures(rows))

    def sample(self, size: int, n_obs: int, horizon: int, *, key: Key[Array, ""]) -> Sights:
        """Moments drawn evenly; the first of them, of which images are taken, are as random as the rest."""
        return self.take(self.plans.draw(size, key=key), n_obs, horizon, self.looks)

    def pictures(self, rows: Int[Array, "m k"]) -> UInt8[Array, "m k h w c"]:
        """Of rows, in the mirror for those past the last image."""
        n = len(self.images)
        seen = self.images[rows % n]
        if len(self.plans.actions) == n:
            return seen
        return jnp.where((rows < n)[..., None, None, None], seen, mirrored_images(seen))


def shifted(
    images: UInt8[Array, "m k h w c"], most: int, *, key: Key[Array, ""]
) -> tuple[UInt8[Array, "m k h w c"], Float[Array, "m 1 2"]]:
    """Each row of images moved by up to `most` whole pixels right and down or back, edges repeated (as in the crops of
    Chi et al. 2023), and how far points (x, y) in [-1, 1] move with them.
    """
    h, w = images.shape[2:4]
    moves = jax.random.randint(key, (len(images), 2), -most, most + 1)
    if most:
        columns, rows = (jnp.clip(jnp.arange(size) - moves[:, None, i], 0, size - 1) for i, size in ((0, w), (1, h)))
        images = jnp.take_along_axis(images, rows[:, None, :, None, None], 2)
        images = jnp.take_along_axis(images, columns[:, None, None, :, None], 3)
    return images, (2 * moves / jnp.array([w, h]))[:, None]

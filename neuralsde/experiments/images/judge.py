"""How good drawn images are: distance of features, sureness, class shares, and whether they are copies.

Fréchet      of the features of n drawn images and n held-out ones, beside that of n real against n real
sure         share of the images of which the classifier is more than 90 % sure
shares off   largest difference between the share of a class among drawn and among real images
copies       median distance to the nearest training image, over that of held-out images: near 0 for copies, 1 if
drawn images are as new as held-out ones
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np

from neuralsde.data.images import Points, Scale
from neuralsde.evaluate.distances import Floor, floor, frechet_distance, parts
from neuralsde.experiments.images.classifier import Classifier, seen_as

SURE = 0.9
_NEAREST = 500
"""Images whose nearest neighbour is looked for."""


@dataclass(frozen=True)
class Facts:
    """Of one set of images."""

    frechet: float
    sure: float
    shares_off: float
    copies: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


class Judge:
    """What drawn images are compared with: the features of held-out images, the shares, the training images.

    n: how many images a distance is between; real_pool: the images between which the floor is measured.
    """

    def __init__(
        self, classifier: Classifier, scale: Scale, train: Points, held: Points, real_pool: Points, n: int, seed: int
    ) -> None:
        self.classifier, self.scale, self.n = classifier, scale, n
        self.train = train.values.reshape(len(train), -1).astype(np.float32)
        self.real = self.features(held.values)[0][:n]
        everything, probabilities = self.features(real_pool.values)
        self.shares = np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]) / len(probabilities)
        assert held.labels is not None
        self.accuracy = float((self.features(held.values)[1].argmax(1) == held.labels).mean())
        self.sure_of_real = float((self.features(held.values)[1].max(1) > SURE).mean())
        self.floor: Floor = floor(parts(everything, n, n), frechet_distance, key=jax.random.key(seed), pairs=20)
        self.apart = self._nearest(held.values)

    def features(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features and class probabilities of images in data units."""
        features, probabilities = seen_as(self.classifier, jnp.asarray(self.scale.encode(values)))
        return np.asarray(features, np.float64), np.asarray(probabilities)

    def frechet(self, values: np.ndarray) -> float:
        """Of n drawn images against n held-out ones."""
        return frechet_distance(self.features(values)[0][: self.n], self.real)

    def facts(self, values: np.ndarray) -> Facts:
        """Of drawn images in data units."""
        _, probabilities = self.features(values)
        drawn = np.bincount(probabilities.argmax(1), minlength=len(self.shares)) / len(values)
        return Facts(
            self.frechet(values),
            float((probabilities.max(1) > SURE).mean()),
            float(np.abs(drawn - self.shares).max()),
            self._nearest(values) / self.apart,
        )

    def _nearest(self, values: np.ndarray) -> float:
        """Median distance to the nearest training image."""
        some = values[:_NEAREST].reshape(min(len(values), _NEAREST), -1).astype(np.float32)
        square = np.square(self.train).sum(1) - 2 * some @ self.train.T
        return float(np.median(np.sqrt(np.maximum(square.min(1) + np.square(some).sum(1), 0.0))))


def gaussian_images(scale: Scale, train: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The trivial model: draws of a Gaussian with the mean and covariance of the training images, in data units."""
    rng = np.random.default_rng(seed)
    z = scale.encode(train, rng.random(train.shape)).reshape(len(train), -1).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(z.T))
    noise = rng.standard_normal((n, len(values))) * np.sqrt(np.maximum(values, 0.0))
    return scale.decode((z.mean(0) + noise @ vectors.T).reshape(n, *scale.shape))

"""A small classifier of digits: its features are where real and drawn images are compared.

Two hidden layers, 256 and 64 units, the second one the features; trained here, on the images that train the model, with
noise on its input. A Fréchet distance in features of one's own says nothing against published ones, only against the
same distance between real and real.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from neuralsde.nets import Dense
from neuralsde.train.loop import train
from neuralsde.train.problem import Problem, TrainConfig

FEATURES = 64
_NOISE = 0.2
"""S.d. of the noise on the input in training, in s.d. of the pixels."""


class Classifier(eqx.Module):
    """Standardised images (h, w) -> features (64,) -> one logit a class."""

    layers: tuple[Dense, Dense, Dense]

    def __init__(self, size: int, classes: int, *, key: Key[Array, ""]) -> None:
        sizes, keys = (size, 256, FEATURES, classes), jax.random.split(key, 3)
        first, second, third = (Dense(a, b, gain=1.4, key=k) for a, b, k in zip(sizes, sizes[1:], keys, strict=False))
        self.layers = (first, second, third)

    def features(self, x: Float[Array, ...]) -> Float[Array, " features"]:
        first, second, _ = self.layers
        return jax.nn.relu(second(jax.nn.relu(first(jnp.ravel(x)))))

    def __call__(self, x: Float[Array, ...]) -> Float[Array, " classes"]:
        return self.layers[2](self.features(x))


def fit_classifier(
    x: np.ndarray, labels: np.ndarray, checked: tuple[np.ndarray, np.ndarray], *, steps: int, seed: int
) -> Classifier:
    """From standardised images (n, h, w) and their classes (n,); `checked`: the images that choose the weights."""
    model = Classifier(x[0].size, int(labels.max()) + 1, key=jax.random.key(seed))
    training = TrainConfig(
        steps=steps, batch_size=256, learning_rate=2e-3, weight_decay=0.05, ema=0.99, seed=seed,
        validate_every=max(1, steps // 4),
    )  # fmt: skip

    def sample_batch(data: tuple[Array, Array], key: Key[Array, ""]) -> tuple[Array, Array]:
        place, noise = jax.random.split(key)
        rows = jax.random.randint(place, (training.batch_size,), 0, len(data[0]))
        return data[0][rows] + _NOISE * jax.random.normal(noise, (len(rows), *x.shape[1:])), data[1][rows]

    def validate(model: Classifier) -> float:
        return float(_entropy(model, jnp.asarray(checked[0]), jnp.asarray(checked[1])))

    return train(Problem(model, _loss, sample_batch, (jnp.asarray(x), jnp.asarray(labels)), validate), training).model


def _loss(model: Classifier, batch: tuple[Array, Array], aux: Any, *, key: Key[Array, ""]) -> tuple[Array, Any]:
    return _entropy(model, *batch), ({}, aux)


@eqx.filter_jit
def _entropy(model: Classifier, x: Float[Array, "b ..."], labels: Int[Array, " b"]) -> Float[Array, ""]:
    """Mean cross-entropy, nats."""
    logits = jax.vmap(model)(x)
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None].astype(jnp.int32), 1).mean()


@eqx.filter_jit
def seen_as(
    model: Classifier, x: Float[Array, "n ..."]
) -> tuple[Float[Array, "n features"], Float[Array, "n classes"]]:
    """Features and class probabilities of standardised images."""
    features = jax.vmap(model.features)(x)
    return features, jax.nn.softmax(features @ model.layers[2].weight + model.layers[2].bias)

"""The sequence SDE at the fork: one configuration for every density, and paths with parts of it left out.

The flow is trained on chords with noise s on the input, and the denoiser at noise n; both in units of the data, as is
the pull of the denoiser, whose strength counts travel time. So nothing in `NETWORK` knows how dense the points are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.data import Encoder, Nothing, Split, Trajectories
from neuralsde.experiments.branching.fork import DURATION, table, times
from neuralsde.experiments.seeds import window
from neuralsde.models.sequence_sde import Config, SequenceSDE
from neuralsde.runs.fit import fit
from neuralsde.runs.report_field import to_data
from neuralsde.runs.run import Run
from neuralsde.train.problem import TrainConfig
from neuralsde.train.progress import Reporter

INPUT_NOISE, DENOISER_NOISE = 0.04, 0.05
"""s.d. in units of the data; the paper's is .1 for both."""
NETWORK = Config(history=0, width=64, depth=4, interpolation="chord", denoiser="fixed", strength=1.0)
SPLIT = Nothing()


def config(data: Trajectories, network: Config = NETWORK) -> Config:
    """The model; its noises are shares of each column's s.d. for the encoder's sake."""
    sd = Encoder.fit(Split.of(data, SPLIT).train_data).sd
    return replace(
        network,
        input_noise=tuple(INPUT_NOISE / each for each in sd),
        denoiser_noise=tuple(DENOISER_NOISE / each for each in sd),
    )


def fitted(
    density: int, network: Config, training: TrainConfig, *, seed: int, out: Path | None, progress: Reporter | None
) -> Run:
    """A run through the public `fit`."""
    data = table(density)
    return fit(data, model=config(data, network), seed=seed, out=out, split=SPLIT, training=training, progress=progress)


@dataclass(frozen=True)
class Parts:
    """What of a fitted model is sampled: the diffusion or not; the denoiser as fitted, not at all, or as in the paper.

    In the paper α = 1 per unit step: every point goes the whole way back that the denoiser points out.
    """

    diffusion: bool = True
    denoiser: bool = True
    per_point: bool = False


FLOW, DIFFUSION, ALL, PAPER = (
    Parts(diffusion=False, denoiser=False),
    Parts(denoiser=False),
    Parts(),
    Parts(per_point=True),
)


def sampled(run: Run, density: int, parts: Parts, *, n: int, seed: int) -> np.ndarray:
    """Paths (n, 100 density + 1, 2) from (0, 0); one path where nothing is random. All parts: `Run.sample`."""
    start = np.zeros(2)
    if parts == ALL:
        return run.sample(start, times(density), n=n, seed=seed)
    encoder = run.fitted.encoder
    z = jnp.asarray(encoder.encode_values(start), jnp.float32)
    keys = jax.random.split(jax.random.key(seed), n if parts.diffusion else 1)
    later = encoder.decode(np.asarray(_paths(run.model, z, keys, DURATION * density, parts), np.float64))
    return np.concatenate([np.broadcast_to(start, (len(later), 1, 2)), later], axis=1)


@eqx.filter_jit
def _paths(model: SequenceSDE, start: Array, keys: Array, points: int, parts: Parts) -> Float[Array, "n points 2"]:
    size = jnp.asarray(model.config.denoiser_noise, jnp.float32)

    def path(key: Key[Array, ""]) -> Array:
        def point(x: Array, k: Array) -> tuple[Array, Array]:
            here = window(x)
            x = x + (model.drift(here, jnp.ones(2)) if parts.denoiser and not parts.per_point else model.flow(here))
            if parts.per_point:
                x = x - size * model.predicted_noise(here)
            if parts.diffusion:
                x = x + model.diffusion(here) * jax.random.normal(jax.random.fold_in(key, k), x.shape)
            return x, x

        return lax.scan(point, start, jnp.arange(points))[1]

    return jax.vmap(path)(keys)


def coefficients(run: Run, states: np.ndarray, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Mean and s.d. (..., 2) of one step from states (..., 2), short of the decay that a step of the denoiser takes."""
    encoder = run.fitted.encoder
    z = encoder.encode_values(states)
    drift, sigma = (np.asarray(part, np.float64).reshape(z.shape) for part in _coefficients(
        run.model, jnp.asarray(z.reshape(-1, 2), jnp.float32), parts
    ))  # fmt: skip
    move, spread = to_data(encoder, z, drift, sigma)
    return move * encoder.tau, spread * np.sqrt(encoder.tau)


@eqx.filter_jit
def _coefficients(model: SequenceSDE, z: Array, parts: Parts) -> tuple[Array, Array]:
    def at(x: Array) -> tuple[Array, Array]:
        here = window(x)
        return (model.drift(here) if parts.denoiser else model.flow(here)), model.diffusion(here) * parts.diffusion

    return jax.vmap(at)(z)

"""What is measured on the end points: their distance from where the flow ends, sliced W2, and the cross-entropy.

    error     median and root mean square over points of ‖x̂ - x*‖, x* the end of the exact flow from the same start
    sliced W2 of the samples to as many draws of the law at T0, over 64 directions in the plane, equally spaced
    excess    E_samples[-log p] - entropy, in nats: 0 for right samples, above it for points where there should be
              few, and below it for points that lie too near the modes

Paths run in blocks of points that fit a core's cache; one compiled program serves all blocks, seeds and kinds of error.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Key
from numpy.typing import NDArray

from neuralsde.evaluate.distances import Floor, floor_of, slices_w2, sorted_slices
from neuralsde.experiments.samplers import law
from neuralsde.experiments.samplers.rows import Row
from neuralsde.noising import Mixture, Predictor
from neuralsde.sampling.loop import Cell, Counting, Sampler

BLOCK = 4_000
DIRECTIONS = 64
Floats = NDArray[np.float64]


def ends(
    predictor: Predictor,
    row: Row,
    steps: int,
    x: Any,
    *,
    key: Key[Array, ""],
    longest: int,
    block: int = BLOCK,
    dtype: Any = float,
) -> tuple[Floats, float]:
    """The end points (n, 2) of paths from x (n, 2) in so many steps, and the evaluations that a path took on average.

    longest: the most steps that will be asked for: grids are padded to it, so that one program serves all of them.
    dtype:   of the computation; single precision is several times as fast, and enough where only the law counts.
    """
    if row.spacing is None:
        steps = longest = 1
    ts = jnp.pad(law.grid(steps, row.spacing or "log-snr"), (0, longest - steps), mode="edge")
    predictor, x, ts = jax.tree.map(
        lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, (predictor, jnp.asarray(x), ts)
    )
    keys, count = jax.random.split(key, len(x)), jnp.asarray(steps)  # an int would be a constant of the program
    found, asked = [], []
    for k in range(0, len(x), block):
        end, nfe = _block(predictor, row.sampler, x[k : k + block], ts, count, keys[k : k + block])
        found.append(np.asarray(end, np.float64))
        asked.append(np.asarray(nfe).mean())
    return np.concatenate(found), float(np.mean(asked))


@eqx.filter_jit
def _block(predictor: Predictor, sampler: Sampler, x: Array, ts: Array, steps: Any, keys: Any) -> tuple[Array, Array]:
    """`sampling.sample` of many, over the first `steps` gaps of ts; a test holds the two together."""
    before = jnp.concatenate([ts[:1], ts[:-2]])

    def one(x: Array, key: Any) -> tuple[Array, Array]:
        def step(i: Array, carry: Any) -> Any:
            predict, (x, memory, nfe) = Counting(predictor), carry
            x, memory = sampler.step(predict, Cell(ts[i], ts[i + 1], before[i], i, steps), x, memory, key=key)
            return x, memory, nfe + predict.calls

        starting = Counting(predictor)
        memory = sampler.start(starting, ts, x)
        end, _, nfe = lax.fori_loop(0, steps, step, (x, memory, jnp.asarray(starting.calls)))
        return end, nfe

    return jax.vmap(one)(x, keys)


def error(end: Floats, wanted: Floats) -> dict[str, float]:
    """Median and root mean square of ‖x̂ - x*‖."""
    off = np.linalg.norm(end - wanted, axis=1)
    return {"median": float(np.median(off)), "rms": float(np.sqrt(np.mean(off**2)))}


class Yardstick:
    """Draws of the true law, sorted along the directions once, against which samples are held."""

    def __init__(self, n: int, *, key: Key[Array, ""], block: int = BLOCK) -> None:
        self.block = block
        self.real = sorted_slices(np.asarray(law.truth(n, key=key)), _DIRECTIONS)
        self.noised = law.law().at(law.SCHEDULE, law.T0)

    def figures(self, points: Floats) -> dict[str, float]:
        """Sliced W2 and excess of samples (n, 2); infinite when one is not finite."""
        if not np.isfinite(points).all():
            return {"w2": float("inf"), "excess": float("inf")}
        distance = slices_w2(sorted_slices(points, _DIRECTIONS), self.real)
        return {"w2": distance, "excess": cross_entropy(self.noised, points, self.block) - law.ENTROPY}


def _half_circle() -> NDArray[np.float32]:
    angle = np.pi * (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS
    return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


_DIRECTIONS = _half_circle()


def cross_entropy(noised: Mixture, points: Any, block: int = BLOCK) -> float:
    """Mean of -log p over points (n, 2), in nats."""
    parts = [_negative_log(noised, jnp.asarray(points[k : k + block])) for k in range(0, len(points), block)]
    return float(np.mean(np.concatenate(parts)))


@jax.jit
def _negative_log(noised: Mixture, x: Array) -> Array:
    return -jax.vmap(noised.log_density)(x)


def floors(n: int, pairs: int, *, key: Key[Array, ""]) -> dict[str, Floor]:
    """Of sliced W2 and of |excess|, for real samples of this size: what a perfect sampler shows."""
    noised, rows = law.law().at(law.SCHEDULE, law.T0), []
    for k in range(pairs):
        mine, other = jax.random.split(jax.random.fold_in(key, k))
        rows.append(Yardstick(n, key=other).figures(np.asarray(noised.sample(n, key=mine), np.float64)))
    return {name: floor_of([abs(row[name]) for row in rows]) for name in ("w2", "excess")}

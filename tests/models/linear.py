"""A linear sequence SDE with chosen coefficients, and the exact law of its Euler-Maruyama chain.

    x' = y + (A y + B (past - y)) dt + sigma √dt ξ

y is the present, past the row before the last one. Where a gap closes the rows move up; inside a gap only y moves.
Every point is affine in the noise, so the chain is one Gaussian; given some entries, `smoother` conditions it.
"""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from neuralsde.data import Encoder, Trajectories
from neuralsde.models.sequence_sde import Config, SequenceSDE
from neuralsde.tasks.fitted import Fitted, GapLaw

Point = tuple[np.ndarray, np.ndarray]
"""Mean (d,) of a point of the chain, and its slopes by all of the noise (d, K d)."""


def linear_model(
    A: np.ndarray, sigma: np.ndarray, B: np.ndarray | None = None, context: np.ndarray | None = None
) -> SequenceSDE:
    """The model with these coefficients, in units of model time; with B it reads one row of history.

    context: (d, c), added to the drift times the covariates.
    """
    d, history = len(sigma), 0 if B is None else 1
    c = 0 if context is None else context.shape[1]
    model = SequenceSDE(Config(history=history, depth=0), d, c, walk=np.asarray(sigma), key=jax.random.key(0))
    weight = np.zeros(model.flow_net.linear.weight.shape, np.float32)
    weight[:, :d] = A
    if B is not None:
        weight[:, d : 2 * d] = B
    if context is not None:
        weight[:, -c:] = context
    return eqx.tree_at(lambda m: m.flow_net.linear.weight, model, jnp.asarray(weight))


def chain(
    A: np.ndarray,
    sigma: np.ndarray,
    dt: np.ndarray,
    *,
    start: np.ndarray | None = None,
    B: np.ndarray | None = None,
    closes: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (K, d) and covariance (K, d, K, d) of the K points after `start (2, d)`: the row before the last, the last.

    dt: (K,) or (K, d). Without a start the first point is N(0, I), also for the row before it.
    """
    d, K = len(sigma), len(dt)
    B = np.zeros((d, d)) if B is None else B
    closes = np.ones(K, bool) if closes is None else closes
    noise = np.eye(K * d).reshape(K, d, K * d)
    zero = np.zeros((d, K * d))
    points: list[Point] = []
    past: Point
    y: Point
    if start is None:
        points.append((np.zeros(d), noise[0]))
        past = y = points[0]
    else:
        past, y = ((x, zero) for x in np.asarray(start, float))
    row: Point = y
    for k in range(len(points), K):
        step = np.broadcast_to(dt[k], d)
        drift = [step[:, None] * M for M in (A - B, B)]
        moved, turned = (y[i] + drift[0] @ y[i] + drift[1] @ past[i] for i in (0, 1))
        y = (moved, turned + (sigma * np.sqrt(step))[:, None] * noise[k])
        points.append(y)
        if closes[k]:
            past, row = row, y
    mean, slope = np.stack([m for m, _ in points]), np.concatenate([s for _, s in points])
    return mean, (slope @ slope.T).reshape(K, d, K, d)


def smoother(mean: np.ndarray, cov: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and s.d. (K, d) of a Gaussian given the entries of `values` that are not NaN."""
    seen, size = np.flatnonzero(~np.isnan(values)), mean.size
    C = cov.reshape(size, size)
    gain = C[:, seen] @ np.linalg.pinv(C[np.ix_(seen, seen)], hermitian=True)
    after = mean.ravel() + gain @ (values - mean).ravel()[seen]
    left = np.diagonal(C) - np.einsum("ij,ij->i", gain, C[:, seen])
    return after.reshape(mean.shape), np.sqrt(np.maximum(left, 0)).reshape(mean.shape)


def fitted_linear(model: SequenceSDE, data: Trajectories, tau: float = 1.0, substeps: int = 1) -> Fitted:
    """The model with an encoder that leaves values as they are and counts time in units of `tau`."""
    d = len(data.columns)
    units = {"mean": (0.0,) * d, "sd": (1.0,) * d, "resolution": (0.0,) * d, "tau": tau}
    c = len(data.context_columns)
    encoder = dataclasses.replace(Encoder.fit(data), **units, context_mean=(0.0,) * c, context_sd=(1.0,) * c)
    return Fitted(model, encoder, GapLaw(1.0, 1.0, 1.0, substeps))

"""A linear sequence SDE with chosen coefficients, and the exact law of its Euler-Maruyama chain.

    x_{k+1} = x_k + (A x_k + B (x_{k-1} - x_k)) dt_k + sigma √dt_k ξ_k

Every x_k is affine in the noise, so the chain is one Gaussian; given some entries, `condition` is its Kalman smoother.
"""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from neuralsde.data import Encoder, Trajectories, from_arrays
from neuralsde.models.sequence_sde import Config, SequenceSDE
from neuralsde.sde import condition
from neuralsde.tasks.fitted import Fitted, GapLaw


def linear_model(A: np.ndarray, sigma: np.ndarray, B: np.ndarray | None = None) -> SequenceSDE:
    """The model with these coefficients, in units of model time; with B it reads one row of history."""
    d, history = len(sigma), 0 if B is None else 1
    config = Config(history=history, depth=0)
    model = SequenceSDE(config, d, 0, walk=np.asarray(sigma), key=jax.random.key(0))
    weight = np.zeros(model.flow_net.linear.weight.shape, np.float32)
    weight[:, :d] = A
    if B is not None:
        weight[:, d : 2 * d] = B
    return eqx.tree_at(lambda m: m.flow_net.linear.weight, model, jnp.asarray(weight))


def chain(
    A: np.ndarray, sigma: np.ndarray, start: np.ndarray, dt: np.ndarray, B: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (K, d) and covariance (K, d, K, d) of x_1..x_K; start (2, d): x_{-1} and x_0."""
    K, d = len(dt), len(sigma)
    B = np.zeros((d, d)) if B is None else B
    mean, slope = [*np.asarray(start, float)], [np.zeros((d, K * d))] * 2
    for k, step in enumerate(dt):
        F = np.eye(d) + (A - B) * step
        noise = np.zeros((d, K * d))
        noise[:, k * d : (k + 1) * d] = np.diag(sigma) * np.sqrt(step)
        mean.append(F @ mean[-1] + B @ mean[-2] * step)
        slope.append(F @ slope[-1] + B @ slope[-2] * step + noise)
    G = np.concatenate(slope[2:])
    return np.stack(mean[2:]), (G @ G.T).reshape(K, d, K, d)


def smoother(mean: np.ndarray, cov: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and s.d. (K, d) of a Gaussian given the entries of `values` that are not NaN."""
    with jax.enable_x64(True):
        after, spread, _ = condition(mean, cov, np.nan_to_num(values), ~np.isnan(values))
        return np.asarray(after), np.sqrt(np.maximum(np.einsum("kiki->ki", np.asarray(spread)), 0))


def fitted_linear(model: SequenceSDE, data: Trajectories, tau: float = 1.0, substeps: int = 1) -> Fitted:
    """The model with an encoder that leaves values as they are and counts time in units of `tau`."""
    d = len(data.columns)
    encoder = dataclasses.replace(Encoder.fit(data), mean=(0.0,) * d, sd=(1.0,) * d, resolution=(0.0,) * d, tau=tau)
    return Fitted(model, encoder, GapLaw(1.0, 1.0, 1.0, substeps))


def table(times: np.ndarray, values: np.ndarray) -> Trajectories:
    """One series as it is."""
    return from_arrays(times, values)

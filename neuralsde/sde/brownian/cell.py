"""One cell of a Brownian path, [t0, t1] of length h, and the integrals over it that methods use.

    W      the increment, N(0, h)
    H      (1/h) ∫ (W_s - W_t0 - ((s - t0)/h) W) ds, the space-time Lévy area, N(0, h/12), independent of W
    A_ij   ½ ∫ (W^i dW^j - W^j dW^i), the space-space Lévy area, so that ∫∫ dW^i dW^j = ½ W_i W_j + A_ij for i != j

Neighbouring cells merge exactly: W adds up, H and A by Chen's rule (K.-T. Chen 1957). Run backward in time the same
piece of path has dt, W and A negated, and H as it is (THEORY 6).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key


class Cell(NamedTuple):
    """What a method sees of one step.

    t0, t1: () its ends, dt: () its length, all in the dtype of the state; t1 < t0 and dt < 0 backward in time.
    W:      the increment, in the shape of the Brownian motion (see `Noise.brownian_shape`).
    H:      the space-time area, in the same shape; None unless asked for.
    A:      (m, m) the space-space area of m Brownian motions, antisymmetric; None unless asked for.
    key:    a key of this cell alone, for the auxiliary variables of weak methods; None unless asked for.
    """

    t0: Float[Array, ""]
    t1: Float[Array, ""]
    dt: Float[Array, ""]
    W: Float[Array, ...]
    H: Float[Array, ...] | None = None
    A: Float[Array, "m m"] | None = None
    key: Key[Array, ""] | None = None


class Motion(NamedTuple):
    """The random part of a cell, or of a stack of cells."""

    W: Float[Array, ...]
    H: Float[Array, ...] | None = None
    A: Float[Array, "*n m m"] | None = None


def merge(parts: Motion, lengths: Float[Array, " r"]) -> Motion:
    """R neighbouring cells as one: W = Σ W_k; with B_k = W_1 + ... + W_{k-1}, the path at the start of cell k,

    H = (1/h) Σ_k h_k (B_k + W_k/2 + H_k) - W/2,     A = Σ_k A_k + ½ (B_k ⊗ W_k - W_k ⊗ B_k).
    """
    W = parts.W.sum(0)
    if parts.H is None:
        return Motion(W)
    before = jnp.cumsum(parts.W, axis=0) - parts.W
    share = (lengths / lengths.sum()).reshape((-1,) + (1,) * W.ndim)
    H = (share * (before + 0.5 * parts.W + parts.H)).sum(0) - 0.5 * W
    if parts.A is None:
        return Motion(W, H)
    turn = jnp.einsum("ki,kj->ij", before, parts.W)
    return Motion(W, H, parts.A.sum(0) + 0.5 * (turn - turn.T))

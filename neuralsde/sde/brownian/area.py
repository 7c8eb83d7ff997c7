"""The space-space Lévy area A of a cell, given its W and H. Its law has no closed form; three models of it.

Around its chord and its parabola (W and H) the path swings freely, and the area splits (Foster & Habermann 2023):

    A = H ⊗ W - W ⊗ H + b,     b antisymmetric, uncorrelated with W and H, Var b_ij = h²/12.

`Davie` draws b as Gaussian, blind to H. `Foster` adds the next coefficient K ~ N(0, h/720) of the path, which gives b
its conditional variance h²/20 + (h/5)(H_i² + H_j²). `Fourier` sums the series of the swings to `terms` terms and draws
the tail with its exact variance: its error given the path falls as h/terms. The first two match moments of A and give
orders in coupling; only the last converges to the area of *this* path (THEORY 5).
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.sde.brownian.normals import normals


class Area(abc.ABC):
    """A model of A given W and H."""

    @abc.abstractmethod
    def swing(self, key: Key[Array, ""], H: Float[Array, " m"], h: Float[Array, ""]) -> Float[Array, "m m"]:
        """b, the part of A that W and H do not tell."""

    def draw(
        self, key: Key[Array, ""], W: Float[Array, " m"], H: Float[Array, " m"], h: Float[Array, ""]
    ) -> Float[Array, "m m"]:
        """A = H ⊗ W - W ⊗ H + b, antisymmetric, units of time."""
        chord = jnp.outer(H, W)
        return chord - chord.T + self.swing(key, H, h)


@dataclasses.dataclass(frozen=True)
class Davie(Area):
    """b_ij ~ N(0, h²/12). Davie 2014, "KMT theory applied to approximations of SDE"."""

    def swing(self, key: Key[Array, ""], H: Float[Array, " m"], h: Float[Array, ""]) -> Float[Array, "m m"]:
        """Independent Gaussians."""
        m = H.shape[0]
        return h * float(np.sqrt(1 / 12)) * _antisymmetric(_drawn(key, (m, m), H.dtype))


@dataclasses.dataclass(frozen=True)
class Foster(Area):
    """b = 12 (K ⊗ H - H ⊗ K) + a, K ~ N(0, h/720), a_ij ~ N(0, h²/20).

    K is the projection of the path on the next polynomial, (1/h²) ∫ Z_s (h/2 - s) ds for the swing Z around the
    parabola. Mean, variance and all correlations between the entries of A given W and H are exact.
    Foster, Lyons & Oberhauser 2020, SIAM J. Numer. Anal. 58.
    """

    def swing(self, key: Key[Array, ""], H: Float[Array, " m"], h: Float[Array, ""]) -> Float[Array, "m m"]:
        """K for every motion, a for every pair: m + m² normals."""
        m = H.shape[0]
        K = jnp.sqrt(h / 720) * _drawn(key, (m,), H.dtype)
        turn = 12 * jnp.outer(K, H)
        return turn - turn.T + h * float(np.sqrt(1 / 20)) * _antisymmetric(_drawn(key, (m, m), H.dtype, first=m))


@dataclasses.dataclass(frozen=True)
class Fourier(Area):
    """The first `terms` terms of the Fourier series of the swing, the rest as a Gaussian of the exact variance.

    Z_s - H = Σ_r a_r cos(2πrs/h) + b_r sin(2πrs/h) with a_r, b_r ~ N(0, h/(2π²r²)) and Σ_r a_r = -H, so
    b = π Σ_r r (a_r ⊗ b_r - b_r ⊗ a_r). The a_r are drawn given H. Root mean square error given the path: O(h/terms),
    so strong order 1 needs terms of the order of h^(-1/2). Kloeden, Platen & Wright 1992; the tail: Wiktorsson 2001, in
    the form of Mrongowius & Rößler 2022, where H is drawn exactly.
    """

    terms: int = 10

    def __post_init__(self) -> None:
        if isinstance(self.terms, bool) or not isinstance(self.terms, int) or self.terms < 1:
            raise InputError(f"Fourier(terms={self.terms!r})", expected="a number of terms, an integer >= 1")

    def swing(self, key: Key[Array, ""], H: Float[Array, " m"], h: Float[Array, ""]) -> Float[Array, "m m"]:
        """2 m `terms` draws for the series, and one Gaussian for every pair of the tail."""
        m, p = H.shape[0], self.terms
        drawn = _drawn(key, (2 * p + 1 + m, m), H.dtype)
        r = np.arange(1, p + 1)
        left = float(np.pi**2 / 6 - (1.0 / r**2).sum())  # Σ 1/r² over the terms left out
        sd, order = jnp.sqrt(h / 2) / np.pi, jnp.asarray(r, H.dtype)[:, None]
        a, b = sd / order * drawn[:p], sd / order * drawn[p : 2 * p]
        rest = sd * float(np.sqrt(left)) * drawn[2 * p]
        # Given H, the coefficients and their tail share what the free draws miss of -H, each by its variance.
        a = a - 6 / (np.pi**2 * order**2) * (H + a.sum(0) + rest)
        turn = np.pi * jnp.einsum("ri,rj->ij", order * a, b)
        tail = h * float(np.sqrt(left / (2 * np.pi**2))) * _antisymmetric(drawn[2 * p + 1 :])
        return turn - turn.T + tail


def _drawn(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any, first: int = 0) -> Float[Array, ...]:
    """Normals behind a fence: entries of A use them many times, and XLA would draw them as often."""
    return lax.optimization_barrier(normals(key, 0, shape, dtype, first))


def _antisymmetric(drawn: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """Those above the diagonal, their negatives below."""
    upper = jnp.triu(drawn, 1)
    return upper - upper.T

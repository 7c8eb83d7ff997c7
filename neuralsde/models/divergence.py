"""∇·v of a vector field, exactly or by random probes; the value of the field comes with it.

With J = ∂v/∂x, of d rows, and probes e of mean zero and covariance I:

    Exact           ∇·v = Σ_i e_iᵀ J e_i                                     d products J e
    Hutchinson      ∇·v ≈ mean of eᵀ J e                                     m products; unbiased (Hutchinson 1990)
    HutchPlusPlus   tr QᵀJQ + mean of gᵀ J g,  Q = orth(J S), g = (I - QQᵀ)e  3k products; unbiased, for tr(QQᵀJ) +
                    tr((I - QQᵀ) J (I - QQᵀ)) = tr J; exact once k reaches the rank of J (Meyer, Musco & others 2021)

The spread of one Rademacher probe is 2 Σ_{i≠j} of the symmetric part of J squared, so a diagonal J costs nothing; a
Gaussian one adds the diagonal. Probes are drawn once and kept along an ordinary equation, which then stays one: the
estimate of an integral of ∇·v is unbiased because the path does not look at the probes.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.typing import Y

Field = Callable[[Array], Array]


def _require_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name}={value!r}", expected=f"a whole number of at least {least}")


class Divergence(abc.ABC):
    """How ∇·v is found; a frozen value. `draw` once a path, then call at every point of it."""

    random: bool = True

    @abc.abstractmethod
    def draw(self, x: Y, key: Key[Array, ""] | None) -> Float[Array, "m ..."]:
        """The probes for states like x, (m, *x.shape)."""

    @abc.abstractmethod
    def __call__(self, field: Field, x: Y, probes: Float[Array, "m ..."]) -> tuple[Y, Float[Array, ""]]:
        """(v(x), ∇·v(x)); the field is evaluated once, its Jacobian only in products."""

    def needs(self, key: Key[Array, ""] | None) -> Key[Array, ""]:
        """The key, which random probes cannot do without; any other divergence does not read it."""
        if key is not None:
            return key
        if self.random:
            raise InputError(f"{self} without a key", "its probes are random", "key=jax.random.key(0), or Exact()")
        return jax.random.key(0)


@dataclass(frozen=True)
class Exact(Divergence):
    """All d diagonal entries; `chunk` of them at once, None for all: the memory of a batch `chunk` times as large."""

    chunk: int | None = None
    random = False

    def __post_init__(self) -> None:
        if self.chunk is not None:
            _require_count("chunk", self.chunk, 1)

    def draw(self, x: Y, key: Key[Array, ""] | None) -> Float[Array, "m ..."]:
        """No probes."""
        return jnp.zeros((0, *x.shape), x.dtype)

    def __call__(self, field: Field, x: Y, probes: Float[Array, "m ..."]) -> tuple[Y, Float[Array, ""]]:
        """As many products as x has entries."""
        value, along = jax.linearize(field, x)

        def entry(i: Array) -> Array:
            return along(jax.nn.one_hot(i, x.size, dtype=x.dtype).reshape(x.shape)).ravel()[i]

        rows = jnp.arange(x.size)
        found = jax.vmap(entry)(rows) if self.chunk is None else lax.map(entry, rows, batch_size=self.chunk)
        return value, found.sum()


@dataclass(frozen=True)
class Hutchinson(Divergence):
    """The mean of eᵀ J e over `probes` random signs, or Gaussian vectors."""

    probes: int = 1
    law: Literal["rademacher", "gaussian"] = "rademacher"

    def __post_init__(self) -> None:
        _require_count("probes", self.probes, 1)
        if self.law not in ("rademacher", "gaussian"):
            raise InputError(f"law={self.law!r}", expected="'rademacher' or 'gaussian'")

    def draw(self, x: Y, key: Key[Array, ""] | None) -> Float[Array, "m ..."]:
        """`probes` of the law."""
        law = jax.random.rademacher if self.law == "rademacher" else jax.random.normal
        return law(self.needs(key), (self.probes, *x.shape), x.dtype)

    def __call__(self, field: Field, x: Y, probes: Float[Array, "m ..."]) -> tuple[Y, Float[Array, ""]]:
        """As many products as probes."""
        value, along = jax.linearize(field, x)
        return value, jax.vmap(lambda e: jnp.vdot(e, along(e)))(probes).mean()


@dataclass(frozen=True)
class HutchPlusPlus(Divergence):
    """`rank` directions of the range of J exactly, and `probes` random signs for the rest."""

    rank: int = 2
    probes: int = 2

    def __post_init__(self) -> None:
        _require_count("rank", self.rank, 1)
        _require_count("probes", self.probes, 1)

    def draw(self, x: Y, key: Key[Array, ""] | None) -> Float[Array, "m ..."]:
        """First those that find the range (no more than entries of x), then those for the rest."""
        return jax.random.rademacher(self.needs(key), (min(self.rank, x.size) + self.probes, *x.shape), x.dtype)

    def __call__(self, field: Field, x: Y, probes: Float[Array, "m ..."]) -> tuple[Y, Float[Array, ""]]:
        """2 rank + probes products."""
        value, along = jax.linearize(field, x)
        flat = probes.reshape(len(probes), -1)
        rank = len(flat) - self.probes

        def products(rows: Array) -> Array:
            return jax.vmap(lambda e: along(e.reshape(x.shape)).ravel())(rows)

        basis = jnp.linalg.qr(products(flat[:rank]).T)[0].T  # orthonormal rows
        rest = flat[rank:] - (flat[rank:] @ basis.T) @ basis
        return value, jnp.vdot(basis, products(basis)) + jnp.vdot(rest, products(rest)) / self.probes

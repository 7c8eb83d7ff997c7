"""A stochastic differential equation as a value: its coefficients, the shape of its noise and its calculus.

    dy = drift(t, y, args) dt + diffusion(t, y, args) · dW        (Ito)        or        ... ∘ dW   (Stratonovich)

Noise carries two separate facts. Its *shape* says how dW enters: `Diagonal` (one Brownian motion per entry of y),
`Scalar` (one for all entries), `General(m)` (m of them through a matrix). Its *dependence* says what g depends on:
"additive" (not on y), "separable" (g_i on y_i only), "commutative", or "any" (the default, always true). A network
sigma(y) of the whole state has diagonal shape but is neither separable nor commutative, so the order of a method
follows from both facts. The two calculi differ by the drift ½ Σ_j (∂G_·j) G_·j, where G_·j is what dW_j multiplies
(Kloeden & Platen 1992, §4.9); `SDE.to` adds or removes it.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from neuralsde.errors import InputError, closest

Coefficient: TypeAlias = Callable[[Any, Any, Any], Any]
Dependence = Literal["additive", "separable", "commutative", "any"]


def _check_dependence(depends: str) -> None:
    if depends not in get_args(Dependence):
        raise InputError(
            f"depends={depends!r}",
            "not one of the facts about what the diffusion depends on",
            "one of: " + ", ".join(get_args(Dependence)),
            closest(str(depends), get_args(Dependence)),
        )


@dataclasses.dataclass(frozen=True)
class Diagonal:
    """One Brownian motion for every entry of y: g has the shape of y and dy_i = ... + g_i dW_i."""

    depends: Dependence = "any"

    def __post_init__(self) -> None:
        _check_dependence(self.depends)

    def brownian_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of dW for a state of shape `y_shape`."""
        return y_shape

    def diffusion_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape that `diffusion` must return for a state of shape `y_shape`."""
        return y_shape

    def apply(self, g: Array, dW: Array) -> Array:
        """G · dW, in the shape of the state."""
        return g * dW


@dataclasses.dataclass(frozen=True)
class Scalar:
    """One Brownian motion for the whole state: g has the shape of y and dy_i = ... + g_i dW."""

    depends: Dependence = "any"

    def __post_init__(self) -> None:
        _check_dependence(self.depends)

    def brownian_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of dW: a scalar."""
        return ()

    def diffusion_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape that `diffusion` must return for a state of shape `y_shape`."""
        return y_shape

    def apply(self, g: Array, dW: Array) -> Array:
        """G · dW, in the shape of the state."""
        return g * dW


@dataclasses.dataclass(frozen=True)
class General:
    """m Brownian motions through a matrix: g has the shape y.shape + (m,) and dy_i = ... + Σ_j g_ij dW_j."""

    m: int
    depends: Dependence = "any"

    def __post_init__(self) -> None:
        _check_dependence(self.depends)
        if isinstance(self.m, bool) or not isinstance(self.m, int) or self.m < 1:
            raise InputError(f"General(m={self.m!r})", expected="m, the number of Brownian motions, an integer >= 1")

    def brownian_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of dW: (m,)."""
        return (self.m,)

    def diffusion_shape(self, y_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape that `diffusion` must return for a state of shape `y_shape`."""
        return (*y_shape, self.m)

    def apply(self, g: Array, dW: Array) -> Array:
        """G · dW, in the shape of the state."""
        return g @ dW


@dataclasses.dataclass(frozen=True)
class Ito:
    """Integrals with the integrand at the left end of every cell."""


@dataclasses.dataclass(frozen=True)
class Stratonovich:
    """Integrals with the integrand at the middle: the ordinary chain rule holds."""


Noise: TypeAlias = Diagonal | Scalar | General
Calculus: TypeAlias = Ito | Stratonovich


def _require(field: str, value: object, kinds: tuple[type, ...]) -> None:
    if isinstance(value, kinds):
        return
    names = ", ".join(kind.__name__ + "(m)" * (kind is General) + "()" * (kind is not General) for kind in kinds)
    given = value.__name__ if isinstance(value, type) else repr(value)
    forgot = isinstance(value, type) and value in kinds
    raise InputError(
        f"{field}={given}",
        "a class, not a value" if forgot else f"not a value that {field} can have",
        f"one of: {names}",
        f"write {given}(...) with the brackets" if forgot else closest(str(given), [kind.__name__ for kind in kinds]),
    )


def check_arguments(name: str, function: Coefficient) -> None:
    """Refuse a function that cannot be called with (t, y, args)."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-in functions have none
        return
    try:
        signature.bind(None, None, None)
    except TypeError:
        raise InputError(
            f"{name}{signature}",
            "it is called with three arguments: time, state, and whatever `args` is",
            f"{name}(t, y, args)",
            f"{name}=lambda t, y, args: net(y), for a function of the state alone",
        ) from None


class SDE(eqx.Module):
    """dy = drift dt + diffusion · dW.

    drift:     (t, y, args) -> array of the shape of y; units of y per time.
    diffusion: (t, y, args) -> array of the shape that `noise` declares; units of y per square root of time.
    noise:     Diagonal() | Scalar() | General(m), each with `depends="any"`.
    calculus:  Ito() | Stratonovich().

    One path: `y` has no batch axis, `jax.vmap` puts one at the edge. The callables have diffrax's own signature, and
    may be equinox modules: the process is a pytree, so gradients with respect to their parameters pass through.
    """

    drift: Coefficient
    diffusion: Coefficient
    noise: Noise = eqx.field(static=True, default=Diagonal())
    calculus: Calculus = eqx.field(static=True, default=Ito())

    def __check_init__(self) -> None:
        _require("noise", self.noise, (Diagonal, Scalar, General))
        _require("calculus", self.calculus, (Ito, Stratonovich))
        for name, value in (("drift", self.drift), ("diffusion", self.diffusion)):
            if not callable(value):
                raise InputError(
                    f"{name}={value!r}", "not a function", f"{name}(t, y, args)", f"{name}=lambda t, y, args: ..."
                )
            check_arguments(name, value)

    def to(self, calculus: Calculus) -> SDE:
        """The same process written in the other calculus: the same paths, another drift.

        Extra cost of one drift: nothing for additive noise; one JVP of the diffusion for Scalar noise and for Diagonal
        noise that is separable or commutative; one per entry of y for any other Diagonal; m for General(m).
        There and back gives the process itself.
        """
        _require("calculus", calculus, (Ito, Stratonovich))
        if calculus == self.calculus:
            return self
        if isinstance(self.drift, CorrectedDrift):
            drift = self.drift.drift
        elif self.noise.depends == "additive":
            drift = self.drift
        else:
            sign = 1.0 if isinstance(calculus, Ito) else -1.0
            drift = CorrectedDrift(self.drift, self.diffusion, self.noise, sign)
        return SDE(drift, self.diffusion, self.noise, calculus)

    def correction(self, t: Any, y: Any, args: Any = None) -> Any:
        """½ Σ_j (∂G_·j) G_·j at one state, in its shape: the Ito drift minus the Stratonovich drift."""
        return ito_correction(self.diffusion, self.noise, t, y, args)


class CorrectedDrift(eqx.Module):
    """drift + sign · ½ Σ_j (∂G_·j) G_·j; made by `SDE.to`, which also undoes it."""

    drift: Coefficient
    diffusion: Coefficient
    noise: Noise = eqx.field(static=True)
    sign: float = eqx.field(static=True)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        extra = ito_correction(self.diffusion, self.noise, t, y, args)
        return jax.tree.map(lambda a, b: a + self.sign * b, self.drift(t, y, args), extra)


def ito_correction(diffusion: Coefficient, noise: Noise, t: Any, y: Any, args: Any) -> Any:
    """½ Σ_j (∂G_·j) G_·j for a state of any structure, with as few JVPs as the noise allows (see `SDE.to`)."""

    def g_of(state: Any) -> Any:
        return jax.tree.map(lambda g, leaf: jnp.asarray(g, leaf.dtype), diffusion(t, state, args), state)

    def along(direction: Any) -> Any:
        return jax.jvp(g_of, (y,), (direction,))[1]

    if noise.depends == "additive":
        return jax.tree.map(jnp.zeros_like, y)
    g = g_of(y)
    if isinstance(noise, General):
        # Column j is moved along itself. One vmapped JVP moves the whole matrix along it; only column j is kept.
        columns = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), g)
        pick = jax.vmap(lambda column, j: jax.tree.map(lambda leaf: leaf[..., j], along(column)))
        return jax.tree.map(lambda leaf: 0.5 * leaf.sum(0), pick(columns, jnp.arange(noise.m)))
    if isinstance(noise, Scalar) or noise.depends in ("separable", "commutative"):
        # For a diagonal G both facts make g_k ∂_k g_i vanish for k != i, so that one tangent serves all entries.
        return jax.tree.map(lambda leaf: 0.5 * leaf, along(g))
    # Coupled diagonal noise: G_·j = g_j e_j, so entry i of the sum is g_i ∂_i g_i, the diagonal of the Jacobian only.
    flat, restore = ravel_pytree(y)
    unit = jnp.eye(flat.size, dtype=flat.dtype)
    slopes = jax.vmap(lambda e: ravel_pytree(along(restore(e)))[0] @ e)(unit)
    return restore(0.5 * ravel_pytree(g)[0] * slopes)

"""The parameters of a user's own modules as one unconstrained vector z, and back.

    Positive(v)        v = e^z                                   rates, scales
    Between(v, a, b)   v = a + (b - a) / (1 + e^-z)              shares, angles
    an array           v = z                                     anything on the real line

A module holds these where it would hold numbers; when its coefficients are called they are numbers. Python numbers stay
what they are: constants. The same object in two places is one parameter, so `drift=m.drift, diffusion=m.diffusion` of
one module `m` share what they share. Estimates and standard errors live on z, where a likelihood is closer to
a parabola; maps are increasing, so an interval's ends are mapped to the interval's ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuralsde.errors import InputError


def _floats(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)


class Positive(eqx.Module):
    """A parameter above 0, of any shape; `value` is where the search begins."""

    value: np.ndarray = eqx.field(converter=_floats)

    def __check_init__(self) -> None:
        if not (np.isfinite(self.value).all() and (self.value > 0).all()):
            raise InputError(f"Positive({self.value})", "", "start values above 0")


class Between(eqx.Module):
    """A parameter strictly between two ends; `value` is where the search begins."""

    value: np.ndarray = eqx.field(converter=_floats)
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not ((self.low < self.value) & (self.value < self.high)).all():
            raise InputError(f"Between({self.value}, {self.low}, {self.high})", "", "low < value < high")


@dataclass(frozen=True)
class _Real:
    def to_real(self, value: np.ndarray) -> np.ndarray:
        return value

    def to_value(self, z: Array) -> Array:
        return z


@dataclass(frozen=True)
class _Log:
    def to_real(self, value: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(value))

    def to_value(self, z: Array) -> Array:
        return jnp.exp(z)


@dataclass(frozen=True)
class _Logit:
    low: float
    high: float

    def to_real(self, value: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(value - self.low) - np.log(self.high - value))

    def to_value(self, z: Array) -> Array:
        return self.low + (self.high - self.low) * jax.nn.sigmoid(z)


_Scale: TypeAlias = _Real | _Log | _Logit


@dataclass(frozen=True)
class Slot:
    """One parameter: its name, and which entries of z it is."""

    name: str
    first: int
    shape: tuple[int, ...]
    scale: _Scale

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def is_real(self) -> bool:
        """Whether the parameter is its own z."""
        return isinstance(self.scale, _Real)

    def read(self, z: Array) -> Array:
        """The value, from z (p,)."""
        return self.scale.to_value(z[self.first : self.first + self.size]).reshape(self.shape)

    def names(self) -> list[str]:
        """One name for each entry: `rate`, or `A[0,1]` in a matrix."""
        return [self.name + ("[" + ",".join(map(str, i)) + "]" if i else "") for i in np.ndindex(*self.shape)]


class Parameters(eqx.Module):
    """Modules with a `Slot` where a parameter was, and the start of the search."""

    rest: Any
    slots: tuple[Slot, ...] = eqx.field(static=True)
    start: tuple[float, ...] = eqx.field(static=True)

    @staticmethod
    def of(**modules: Any) -> Parameters:
        """Find the parameters in modules (pytrees); their keywords tell equal names apart."""
        leaves, structure = jax.tree_util.tree_flatten_with_path(modules, is_leaf=_is_wrapped)
        found: dict[int, Slot] = {}
        start: list[float] = []
        paths = {id(leaf): _path(path) for path, leaf in reversed(leaves) if _is_parameter(leaf)}
        names = _short(list(paths.values()))
        for _, leaf in leaves:
            if _is_parameter(leaf) and id(leaf) not in found:
                scale, value = _scale(leaf)
                found[id(leaf)] = Slot(names[paths[id(leaf)]], len(start), value.shape, scale)
                start += scale.to_real(value).ravel().tolist()
        rest = jax.tree.unflatten(structure, [found.get(id(leaf), leaf) for _, leaf in leaves])
        return Parameters(rest, tuple(found.values()), tuple(start))

    def __len__(self) -> int:
        return len(self.start)

    @property
    def names(self) -> tuple[str, ...]:
        """One name for each entry of z."""
        return tuple(name for slot in self.slots for name in slot.names())

    def fill(self, z: Float[Array, " p"]) -> dict[str, Any]:
        """The modules with their parameters as numbers."""
        return jax.tree.map(lambda leaf: leaf.read(z) if isinstance(leaf, Slot) else leaf, self.rest)

    def values(self, z: Float[Array, " p"]) -> Float[Array, " p"]:
        """Parameters on their own scale, entry by entry."""
        return jnp.concatenate([slot.read(z).ravel() for slot in self.slots]) if self.slots else z

    def shape(self) -> list[str]:
        """What a saved vector must fit: names and scales, then every constant, as text."""
        slots = [f"{name}: {slot.scale!r}" for slot in self.slots for name in slot.names()]
        rest = jax.tree_util.tree_flatten_with_path(self.rest)[0]
        return slots + [f"{'.'.join(_path(path))}: {_shown(leaf)}" for path, leaf in rest]


def _is_wrapped(leaf: Any) -> bool:
    return isinstance(leaf, Positive | Between)


def _is_parameter(leaf: Any) -> bool:
    return _is_wrapped(leaf) or eqx.is_inexact_array(leaf)


def _scale(leaf: Any) -> tuple[_Scale, np.ndarray]:
    if isinstance(leaf, Positive):
        return _Log(), leaf.value
    if isinstance(leaf, Between):
        return _Logit(leaf.low, leaf.high), leaf.value
    return _Real(), _floats(leaf)


def _path(path: tuple[Any, ...]) -> tuple[str, ...]:
    """The names on the way to a leaf, without those that are equinox's own (the module behind a bound method)."""
    parts = (jax.tree_util.keystr((key,), simple=True) for key in path)
    return tuple(part for part in parts if part not in ("__self__", "__func__"))


def _short(paths: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Each path without the module's keyword, unless two would be the same then."""
    short = [".".join(path[1:]) or path[0] for path in paths]
    return {path: name if short.count(name) == 1 else ".".join(path) for path, name in zip(paths, short, strict=True)}


def _shown(leaf: Any) -> str:
    """A constant as text that is the same in every process: a function has no address."""
    if isinstance(leaf, Slot):
        return leaf.name
    if isinstance(leaf, bool | int | float | str):
        return repr(leaf)
    return str(np.asarray(leaf).tolist()) if eqx.is_array(leaf) else type(leaf).__name__

"""Maps of a column's support onto the real line, so that no sample can leave it.

    Identity          z = x                            x = z
    Positive(s)       z = s log(e^(x/s) - 1)           x = s log(1 + e^(z/s))     [0, inf)
    Logarithm         z = log x                        x = e^z                    (0, inf), where a model asks for it
    Rectified         z = x                            x = max(z, 0)              [0, inf), 0 with a probability
    Bounded(lo, hi)   z = (hi-lo)/4 log(u / (1-u))     u = (x-lo)/(hi-lo)         [lo, hi]

Each is the identity to first order where the data lie (far from 0, in the middle of the range), so noise keeps its
scale; near an end they become logarithmic. A value at the very end has no image: it is moved inwards by `floor`, half a
rounding step, because a 0 that was rounded to whole steps stands for anything below half a step.

log_slope is log |dz/dx|:   log p_x(x) = log p_z(z(x)) + log_slope(x).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neuralsde.errors import InputError

_UNROUNDED_FLOOR = 1e-3
"""Distance from an end, in units of the scale, of a value at the end of a column without rounding step."""

_ZEROS = 0.002
"""From this share of zeros on, 0 is a value with a probability of its own."""


@dataclass(frozen=True)
class Identity:
    """The whole real line."""

    def to_real(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x, np.float64)

    edge = to_real

    def to_data(self, z: np.ndarray) -> np.ndarray:
        return np.asarray(z, np.float64)

    def log_slope(self, x: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(x), np.nan, 0.0)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "identity"}


@dataclass(frozen=True)
class Positive:
    """[0, inf) by the softplus of width `scale`, in data units; values below `floor` are taken as `floor`."""

    scale: float
    floor: float

    def to_real(self, x: np.ndarray) -> np.ndarray:
        return self.edge(self._inside(x))

    def edge(self, x: np.ndarray) -> np.ndarray:
        """The map itself, without the floor: -inf at 0 and below."""
        x = np.maximum(np.asarray(x, np.float64), 0.0)
        with np.errstate(divide="ignore"):
            return x + self.scale * np.log(-np.expm1(-x / self.scale))

    def to_data(self, z: np.ndarray) -> np.ndarray:
        return self.scale * _softplus(np.asarray(z, np.float64) / self.scale)

    def log_slope(self, x: np.ndarray) -> np.ndarray:
        return -np.log(-np.expm1(-self._inside(x) / self.scale))

    def _inside(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(np.asarray(x, np.float64), self.floor)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "positive", **asdict(self)}


@dataclass(frozen=True)
class Logarithm:
    """(0, inf) by the logarithm, the coordinates of a stated SDE in logs; no value at or below 0 has an image."""

    def to_real(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(np.asarray(x, np.float64))

    def edge(self, x: np.ndarray) -> np.ndarray:
        return self.to_real(np.maximum(x, 0.0))

    def to_data(self, z: np.ndarray) -> np.ndarray:
        return np.exp(np.asarray(z, np.float64))

    def log_slope(self, x: np.ndarray) -> np.ndarray:
        return -self.to_real(x)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "logarithm"}


@dataclass(frozen=True)
class Rectified:
    """[0, inf) with a probability of its own for 0, as calm has in a column of wind speeds: z < 0 is read as 0."""

    def to_real(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(np.asarray(x, np.float64), 0.0)

    def edge(self, x: np.ndarray) -> np.ndarray:
        """The ends of a rounding interval: -inf below 0, so that the interval of 0 holds all z < 0."""
        x = np.asarray(x, np.float64)
        return np.where(x < 0, -np.inf, x)

    to_data = to_real

    def log_slope(self, x: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(x), np.nan, 0.0)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "rectified"}


@dataclass(frozen=True)
class Bounded:
    """[lo, hi] by the logit with slope 1 in the middle; values nearer than `floor` to an end are moved to that."""

    lo: float
    hi: float
    floor: float

    @property
    def width(self) -> float:
        return self.hi - self.lo

    def to_real(self, x: np.ndarray) -> np.ndarray:
        return self._logit(self._inside(x))

    def edge(self, x: np.ndarray) -> np.ndarray:
        """The map itself, without the floor: -inf and inf at the ends and beyond."""
        return self._logit(np.clip((np.asarray(x, np.float64) - self.lo) / self.width, 0.0, 1.0))

    def to_data(self, z: np.ndarray) -> np.ndarray:
        z = np.asarray(z, np.float64) * 4 / self.width
        return np.clip(self.lo + self.width * np.exp(-_softplus(-z)), self.lo, self.hi)

    def log_slope(self, x: np.ndarray) -> np.ndarray:
        u = self._inside(x)
        return -np.log(4 * u * (1 - u))

    def _inside(self, x: np.ndarray) -> np.ndarray:
        """Place in the range, 0..1, at least `floor` from both ends."""
        margin = self.floor / self.width
        return np.clip((np.asarray(x, np.float64) - self.lo) / self.width, margin, 1 - margin)

    def _logit(self, u: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return self.width / 4 * (np.log(u) - np.log1p(-u))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "bounded", **asdict(self)}


def _softplus(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


Transform = Identity | Positive | Logarithm | Rectified | Bounded
_KINDS: dict[str, type[Transform]] = {
    "identity": Identity,
    "positive": Positive,
    "logarithm": Logarithm,
    "rectified": Rectified,
    "bounded": Bounded,
}


def transform_from_dict(saved: dict[str, Any]) -> Transform:
    """The transform that `to_dict` wrote."""
    fields = {name: value for name, value in saved.items() if name != "kind"}
    return _KINDS[saved["kind"]](**fields)


def choose_transform(values: np.ndarray, step: float, support: tuple[float, float] | None) -> Transform:
    """The transform of a column with a declared support: (0, inf), (lo, hi), or None for the real line.

    values: (n,) without NaN, from which the softplus takes its width, half a robust standard deviation; rounded
            values with zeros among them are rectified instead;
    step: the rounding step q.
    """
    if support is None:
        return Identity()
    lo, hi = support
    if np.isfinite(hi):
        return Bounded(lo, hi, min(step / 2, (hi - lo) / 4) or _UNROUNDED_FLOOR * (hi - lo))
    if lo != 0:
        raise InputError(f"the support {lo:g} to {hi:g}", expected="0 and above, or two finite ends")
    if step > 0 and np.mean(values < step / 2) >= _ZEROS:
        return Rectified()
    scale = max(_robust_sd(values) / 2, step / 2)
    return Positive(scale, step / 2 or _UNROUNDED_FLOOR * scale)


def _robust_sd(values: np.ndarray) -> float:
    if not len(values):
        return 1.0
    low, high = np.quantile(values, [0.25, 0.75])
    # half of the values or more at one point, as with rain: the plain standard deviation is what is left
    return float((high - low) / 1.349) or float(np.std(values)) or 1.0

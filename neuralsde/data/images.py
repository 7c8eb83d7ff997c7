"""Independent points: rows of a table as vectors, or images; what a diffusion model is fitted to.

    x in data units  ->  z = (x + q u - m) / s,   u ~ U[0, 1)        and back: x = q floor((s z + m) / q), within range

q is the step of quantised data (whole numbers: 1; pixels written as k / 255: 1 / 255) and 0 for the others. Whole
numbers have no density; spread evenly over their cell they have one, and its mean logarithm is a lower bound of the log
probability of the whole number (Theis et al. 2016), up to Σ log q. m and s are one number a column of a table, or one a
channel of images: pixels that never change have no s.d. of their own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from neuralsde.data.split import TEST, TRAIN, VALIDATION, VALIDATION_SHARE
from neuralsde.errors import InputError

MOST_VALIDATION = 1_000
"""No more points than this choose the checkpoint."""
_STEPS = (1.0, 1.0 / 255.0)


@dataclass(frozen=True)
class Points:
    """n points `values` (n, *shape) in data units: (n, d), or images (n, h, w) or (n, h, w, c).

    labels: (n,) their classes as 0, 1, ..., or None; classes: the names of these. A model of points with labels is one
            of each class.
    columns: of a table, else empty.
    source: the file, or the name of embedded data; empty for arrays from memory. named, label_name: what was asked for
            by name in it.
    Raises InputError for values that are no numbers or not finite, and labels that do not fit.
    """

    values: np.ndarray
    labels: np.ndarray | None = None
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    source: str = ""
    named: tuple[str, ...] = ()
    label_name: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        values = self.values
        if values.ndim not in (2, 3, 4) or min(values.shape) < 1:
            raise InputError(f"an array of shape {values.shape}", "", "(n, d), or images (n, h, w) or (n, h, w, c)")
        if values.dtype.kind not in "buif":
            raise InputError(f"an array of {values.dtype}", "it holds no numbers", "integers or floats")
        bad = int(values.size - np.isfinite(values).sum())
        if bad:
            raise InputError(f"{bad} entries that are not finite", f"in {len(values)} points", "complete points")
        if self.labels is not None and self.labels.shape != (len(values),):
            raise InputError(f"labels of shape {self.labels.shape} for {len(values)} points", "", f"({len(values)},)")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one point."""
        return self.values.shape[1:]

    @property
    def is_images(self) -> bool:
        return len(self.shape) > 1

    def rows(self, keep: np.ndarray | slice) -> Points:
        """The points that a boolean mask, an index array or a slice keeps."""
        return replace(self, values=self.values[keep], labels=None if self.labels is None else self.labels[keep])

    def fingerprint(self) -> str:
        """SHA-256 over values and labels: says whether two sets are the same data."""
        digest = hashlib.sha256(repr((self.values.shape, self.columns)).encode())
        digest.update(np.ascontiguousarray(self.values, np.float64).tobytes())
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, np.int64).tobytes())
        return digest.hexdigest()


def points(values: Any, labels: Any = None, **given: Any) -> Points:
    """Arrays as `Points`: (n,) or (n, d), or images; labels may be numbers or text, one for each point.

    given: other fields of `Points`. Raises InputError for what is no array of finite numbers.
    """
    array = np.asarray(values)
    if array.dtype == object:
        raise InputError("an array of objects", "points differ in shape, or hold no numbers", "one array of numbers")
    array = array[:, None] if array.ndim == 1 else array
    if labels is None:
        return Points(array, **given)
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    classes = tuple(str(name) for name in names)
    return Points(array, codes.reshape(np.shape(labels)), classes=classes, **given)


# -- what is held out --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SomePoints:
    """Held out for the score: a share of the points below 1, or so many; drawn by `seed`."""

    share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        whole = float(self.share).is_integer()
        if not (math.isfinite(self.share) and (0 < self.share < 1 or (self.share >= 1 and whole))):
            raise InputError(f"a held-out share of {self.share:g}", expected="between 0 and 1, or a number of points")

    def roles(self, count: int) -> np.ndarray:
        """TRAIN, VALIDATION or TEST for each of `count` points (int8); a tenth of the rest is for validation."""
        held = round(self.share * count) if self.share < 1 else int(self.share)
        checked = min(max(1, round(VALIDATION_SHARE * (count - held))), MOST_VALIDATION)
        if held < 1 or count - held - checked < 1:
            expected = "more points" if self.share < 1 else f"at most {count - 2}"
            raise InputError(f"{count} points", f"{self.describe()} would be held out", expected)
        order = np.random.default_rng(self.seed).permutation(count)
        roles = np.full(count, TRAIN, np.int8)
        roles[order[:held]], roles[order[held : held + checked]] = TEST, VALIDATION
        return roles

    def describe(self) -> str:
        many = f"{100 * self.share:g} % of the points" if self.share < 1 else f"{self.share:g} points"
        return f"{many}, drawn with seed {self.seed}"

    def to_dict(self) -> dict[str, Any]:
        return {"rule": "some-points", **asdict(self)}


# -- data units and what a network reads -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """Data units <-> standardised ones; JSON by `to_dict`.

    mean, sd: one a column, or one a channel. step: the quantum of each, 0 for none. low, high: the range of the
    training points, which quantised samples keep. dtype: of the data.
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    step: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    dtype: str

    @classmethod
    def fit(cls, data: Points) -> Scale:
        """From the training points. Raises InputError for a column or a set of images that never changes."""
        flat = _by_channel(data.values, data.shape)
        whole = data.values.dtype.kind in "bui"
        step = np.array([1.0 if whole else quantum(channel) for channel in flat.T])
        middle = flat + step / 2
        sd = np.sqrt(middle.var(0) + step**2 / 12)
        for k in np.flatnonzero(flat.min(0) == flat.max(0)):
            name = f"the column {data.columns[k]!r}" if data.columns else f"column or channel {k}"
            raise InputError(name, f"all its entries are {flat[0, k]:g}", "values that differ", "leaving it out")
        mean, low, high = middle.mean(0), flat.min(0), flat.max(0)
        parts = [tuple(part.tolist()) for part in (mean, sd, step, low, high)]
        return cls(data.shape, parts[0], parts[1], parts[2], parts[3], parts[4], data.values.dtype.name)

    @property
    def quantised(self) -> bool:
        """Whether all of a point is."""
        return all(step > 0 for step in self.step)

    @property
    def size(self) -> int:
        """Numbers in a point."""
        return math.prod(self.shape)

    def require(self, data: Points) -> Points:
        """The same points, if they are of the shape that this scale is for."""
        if data.shape != self.shape:
            what = "an image" if len(self.shape) > 1 else "a point"
            raise InputError(f"{what} of shape {data.shape}", f"the run was fitted on {self.shape}", "the same shape")
        return data

    def encode(self, values: Any, u: Any = 0.5) -> Any:
        """Points (n, *shape) as z, float32, of values in data units; u: their shape, or one number. Numpy or JAX."""
        mean, sd, step = self._parts()
        return ((values + step * u - mean) / sd).astype(np.float32)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Values in data units: whole steps within the range of the training points where quantised."""
        mean, sd, step = self._parts()
        low, high = (np.array(part) for part in (self.low, self.high))
        x = np.asarray(z, np.float64) * sd + mean
        unit = np.where(step > 0, step, 1.0)
        x = np.where(step > 0, np.clip(np.floor(x / unit) * unit, low, high), x)
        return np.rint(x).astype(self.dtype) if np.dtype(self.dtype).kind in "bui" else x

    def log_volume(self) -> float:
        """Σ log s over a point: log density in data units = log density of z - this."""
        return self._total(np.log(self.sd))

    def log_cell(self) -> float:
        """Σ log q over the quantised numbers of a point: what makes a density a probability of the cell."""
        return self._total([math.log(step) if step > 0 else 0.0 for step in self.step])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Scale:
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}
        return cls(**given)

    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.array(self.mean), np.array(self.sd), np.array(self.step)

    def _total(self, each: Any) -> float:
        return float(np.sum(each)) * self.size / len(self.mean)


def quantum(values: np.ndarray) -> float:
    """The step of which all values are multiples: 1, or 1 / 255 (pixels in [0, 1]); 0 for none."""
    for step in _STEPS:
        cells = np.asarray(values, np.float64) / step
        if np.abs(cells - np.rint(cells)).max(initial=0.0) < 1e-3:
            return step
    return 0.0


def _by_channel(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(rows, columns) of a table; (pixels, channels) of images, one channel where they have no axis for it."""
    channels = shape[-1] if len(shape) != 2 else 1
    return np.asarray(values, np.float64).reshape(-1, channels)

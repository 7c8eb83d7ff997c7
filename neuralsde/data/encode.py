"""Between data units and what a model reads.

A value x becomes z = (T(x) - mean) / sd, with T a map of its support onto the real line (`transforms.py`) and the
moments those of the fitted rows. A time becomes model time, in units of the typical gap (`model_time.py`).
Missing values (THEORY 20): the last observed value is carried forward, with a mask and its age beside it.
Covariates are context of the model: numbers in units of their s.d., labels as an indicator for each level that the
fitted rows hold, calendar features as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neuralsde.data.clock import Clock
from neuralsde.data.labels import labels_at
from neuralsde.data.layout import Layout
from neuralsde.data.model_time import time_unit, to_model_time
from neuralsde.data.rounding import resolution
from neuralsde.data.rows import Rows, carry_forward
from neuralsde.data.trajectories import Series, Trajectories
from neuralsde.data.transforms import Transform, choose_transform, transform_from_dict
from neuralsde.errors import InputError


@dataclass(frozen=True)
class Encoder:
    """The map between a table and a model; learned from the fitted rows, plain JSON in a run.

    `mean` and `sd` (d,) of the transformed values; `resolution` (d,) the rounding step q in data units, 0 when not
    rounded; `tau` one unit of model time, in clock units; `context_mean` and `context_sd` (c,) of the covariates of the
    table that are numbers; `levels` of those that are labels, as far as the fitted rows hold them.
    """

    columns: tuple[str, ...]
    transforms: tuple[Transform, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    resolution: tuple[float, ...]
    tau: float
    context_mean: tuple[float, ...]
    context_sd: tuple[float, ...]
    clock: Clock
    layout: Layout
    levels: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def fit(cls, data: Trajectories) -> Encoder:
        """Learn scales from the rows of `data`; the transforms follow its declared support."""
        values = np.concatenate([s.values for s in data])
        present = [column[~np.isnan(column)] for column in values.T]
        steps = tuple(resolution(column) for column in present)
        transforms = tuple(
            choose_transform(column, step, data.support.get(name))
            for name, column, step in zip(data.columns, present, steps, strict=True)
        )
        real = [transform.to_real(column) for transform, column in zip(transforms, present, strict=True)]
        context = dict(zip(data.covariates, np.concatenate([s.context for s in data]).T, strict=True))
        numbers = [column for name, column in context.items() if name not in data.levels]
        seen = {name: np.unique(context[name]) for name in data.covariates if name in data.levels}
        return cls(
            columns=data.columns,
            transforms=transforms,
            mean=tuple(float(np.mean(column)) if len(column) else 0.0 for column in real),
            sd=tuple(_spread(column) for column in real),
            resolution=steps,
            tau=time_unit(data),
            context_mean=tuple(float(np.mean(column)) for column in numbers),
            context_sd=tuple(_spread(column) for column in numbers),
            clock=data.clock,
            layout=Layout.of(data),
            levels={name: tuple(data.levels[name][int(k)] for k in codes if k >= 0) for name, codes in seen.items()},
        )

    # -- sizes -------------------------------------------------------------------------------------------------------

    @property
    def calendar(self) -> tuple[str, ...]:
        return self.layout.calendar

    @property
    def constants(self) -> dict[str, float]:
        return self.layout.constants

    @property
    def dim(self) -> int:
        """Number d of modelled columns."""
        return len(self.columns)

    @property
    def context_dim(self) -> int:
        """Number of encoded covariates: numbers, one for each level of a label, two for each calendar feature."""
        return len(self.context_mean) + sum(map(len, self.levels.values())) + 2 * len(self.calendar)

    @property
    def held(self) -> np.ndarray:
        """Which of the encoded covariates (k,) are not known ahead: those of the discrete columns."""
        first, places = len(self.context_mean), []
        for name, levels in self.levels.items():
            places += list(range(first, first + len(levels))) if name in self.layout.discrete else []
            first += len(levels)
        return np.array(places, np.int64)

    # -- values ------------------------------------------------------------------------------------------------------

    def encode_values(self, x: np.ndarray) -> np.ndarray:
        """Model units, float64, for data units (..., d); NaN stays NaN."""
        return (self._each("to_real", x) - np.array(self.mean)) / np.array(self.sd)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Data units, float64, for model units (..., d); never outside the support."""
        return self._each("to_data", self._checked(z) * np.array(self.sd) + np.array(self.mean))

    def log_slope(self, x: np.ndarray) -> np.ndarray:
        """The log of |dz/dx| at data x (..., d): add it to a log density of z to have that of x."""
        return self._each("log_slope", x) - np.log(self.sd)

    def interval(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rounding interval [x - q/2, x + q/2] of data x (..., d) in model units; endless at the support's end.

        Where a column is not rounded (q = 0) both ends are the encoded value.
        """
        half, x = np.array(self.resolution) / 2, self._checked(x)
        ends = [(self._each("edge", end) - np.array(self.mean)) / np.array(self.sd) for end in (x - half, x + half)]
        point = self.encode_values(x)
        return np.where(half > 0, ends[0], point), np.where(half > 0, ends[1], point)

    def _each(self, method: str, array: np.ndarray) -> np.ndarray:
        array = self._checked(array)
        columns = [getattr(t, method)(array[..., k : k + 1]) for k, t in enumerate(self.transforms)]
        return np.concatenate(columns, axis=-1)

    def _checked(self, array: np.ndarray) -> np.ndarray:
        array = np.asarray(array, np.float64)
        if array.shape[-1:] != (self.dim,):
            raise InputError(f"values of shape {array.shape}", "", f"(..., {self.dim}): {', '.join(self.columns)}")
        return array

    # -- times and covariates ----------------------------------------------------------------------------------------

    def model_time(self, times: np.ndarray, origin: float) -> np.ndarray:
        """Model time, float64, of clock times (n,) counted from `origin`, snapped to multiples of 2**-30."""
        return to_model_time(times, origin, self.tau)

    def clock_time(self, model_times: np.ndarray, origin: float) -> np.ndarray:
        """Clock times of model times; undoes `model_time` to within tau * 2**-31."""
        return origin + np.asarray(model_times, np.float64) * self.tau

    def context_at(self, times: np.ndarray, *known: Series) -> np.ndarray:
        """Encoded covariates (n, context_dim) float32 at any clock times (n,).

        The table's covariates hold from the row that gives them to the next; `known` are the series that give them, a
        later one before an earlier one: `context_at(times, history, future)`. Calendar features need none.
        """
        times = np.asarray(times, np.float64)
        table = self._covariates(self.raw_context_at(times, *known))
        calendar = self.clock.features(times, self.calendar)
        return np.concatenate([table, calendar], axis=1).astype(np.float32)

    def raw_context_at(self, times: np.ndarray, *known: Series) -> np.ndarray:
        """Covariates of the table (n, c) at clock times (n,), in their own units, labels as codes; see `context_at`."""
        if not self.layout.covariates:
            return np.zeros((len(times), 0))
        if not known:
            raise InputError("no rows with covariates", "the model needs " + ", ".join(self.layout.covariates))
        return _hold(np.asarray(times, np.float64), known)

    def labels_at(self, times: np.ndarray, *known: Series) -> dict[str, list[str | None]]:
        """The labels (n,) of every discrete column at clock times (n,), None where missing or unknown."""
        layout = self.layout
        if not layout.discrete:
            return {}
        raw = self.raw_context_at(times, *known)
        place = {name: raw[:, k] for k, name in enumerate(layout.covariates)}
        return {name: labels_at(place[name], layout.levels[name]) for name in layout.discrete}

    def _covariates(self, raw: np.ndarray) -> np.ndarray:
        """Covariates of the table (n, c) as the model reads them; an unknown or missing label is no level."""
        place = {name: k for k, name in enumerate(self.layout.covariates)}
        names = [name for name in place if name not in self.layout.levels]
        numbers = raw[:, [place[name] for name in names]]
        for name, column in zip(names, numbers.T, strict=True):
            if np.isnan(column).any():
                raise InputError(f"nothing for the covariate {name!r}", "the model reads it", "a number at every time")
        parts = [(numbers - np.array(self.context_mean)) / np.array(self.context_sd)]
        for name, levels in self.levels.items():
            codes = np.array([self.layout.levels[name].index(level) for level in levels], np.float64)
            parts.append((raw[:, [place[name]]] == codes).astype(np.float64))
        return np.concatenate(parts, axis=1)

    # -- whole tables ------------------------------------------------------------------------------------------------

    def encode(self, data: Trajectories) -> Rows:
        """All series as flat arrays; `InputError` when the table has other columns than the fitted one."""
        self._same_shape(data)
        times = [self.model_time(s.times, s.times[0]) for s in data]
        values = [self.encode_values(s.values).astype(np.float32) for s in data]
        carried = [carry_forward(t, v) for t, v in zip(times, values, strict=True)]
        gaps = [self._gaps(s, t) for s, t in zip(data, times, strict=True)]
        lengths = [len(s) for s in data]
        stacked = np.concatenate(values)
        observed = ~np.isnan(stacked)
        return Rows(
            value=np.where(observed, stacked, np.float32(0)),
            observed=observed,
            filled=np.concatenate([filled for filled, _ in carried]),
            age=np.concatenate([age for _, age in carried]),
            time=np.concatenate(times),
            gap=np.concatenate(gaps).astype(np.float32),
            context=np.concatenate([self.context_at(s.times, s) for s in data]),
            series=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
            start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            origin=np.array([s.times[0] for s in data], np.float64),
            ids=tuple(s.id for s in data),
        )

    def _gaps(self, series: Series, times: np.ndarray) -> np.ndarray:
        gaps = np.diff(times, prepend=0.0)
        same = np.flatnonzero(gaps[1:] == 0)
        if len(same):
            raise InputError(
                f"two times of {series.id} next to {self.clock.show(float(series.times[same[0]]))}",
                f"they are closer than a billionth of the typical gap {self.clock.show_duration(self.tau)}",
                "one row for each time",
            )
        return gaps

    def _same_shape(self, data: Trajectories) -> None:
        given, wanted = (data.columns, data.covariates), (self.columns, self.layout.covariates)
        labelled = (data.static, data.levels) == (self.layout.static, self.layout.levels)
        if given == wanted and not labelled:
            raise InputError(
                f"a table with other labels in {', '.join(self.layout.levels) or 'its columns'}",
                "a label is known by its place among those of the fitted table",
                hint="reading it with the layout of the run, read(path, layout=run.layout)",
            )
        if given != wanted:
            raise InputError(
                "a table with the columns " + ", ".join((*given[0], *given[1])),
                "the data are of another shape than the run was trained on",
                ", ".join((*wanted[0], *wanted[1])),
                "reading it with the layout of the run, read(path, layout=...)",
            )
        self.clock.require_kind(data.clock)

    # -- files -------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        return {
            "columns": list(self.columns),
            "transforms": [transform.to_dict() for transform in self.transforms],
            "mean": list(self.mean),
            "sd": list(self.sd),
            "resolution": list(self.resolution),
            "tau": self.tau,
            "context_mean": list(self.context_mean),
            "context_sd": list(self.context_sd),
            "clock": self.clock.to_dict(),
            "layout": self.layout.to_dict(),
            **({"levels": {name: list(levels) for name, levels in self.levels.items()}} if self.levels else {}),
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Encoder:
        return cls(
            columns=tuple(saved["columns"]),
            transforms=tuple(transform_from_dict(each) for each in saved["transforms"]),
            mean=tuple(saved["mean"]),
            sd=tuple(saved["sd"]),
            resolution=tuple(saved["resolution"]),
            tau=saved["tau"],
            context_mean=tuple(saved["context_mean"]),
            context_sd=tuple(saved["context_sd"]),
            clock=Clock.from_dict(saved["clock"]),
            layout=Layout.from_dict(saved["layout"]),
            levels={name: tuple(levels) for name, levels in saved.get("levels", {}).items()},
        )


def _spread(column: np.ndarray) -> float:
    sd = float(np.std(column)) if len(column) else 0.0
    return sd if sd > 0 else 1.0


def _hold(times: np.ndarray, known: tuple[Series, ...]) -> np.ndarray:
    """Covariates (n, c) of the latest row at or before each time that gives them; of the first such row before it."""
    rows = np.concatenate([s.times for s in known])
    order = np.argsort(rows, kind="stable")
    rows, given = rows[order], np.concatenate([s.context for s in known])[order]
    there = ~np.isnan(given)
    if there.all():
        return given[np.maximum(np.searchsorted(rows, times, side="right") - 1, 0)]
    found = np.full((len(times), given.shape[1]), np.nan)
    for k in np.flatnonzero(there.any(0)):
        index = np.searchsorted(rows[there[:, k]], times, side="right") - 1
        found[:, k] = given[there[:, k], k][np.maximum(index, 0)]
    return found

"""Pictures of a run: forecasts of held-out windows against what happened, and longer sample paths.

Paths run over the times of the rows that followed; a longer gap between two rows is filled with the steps that the
simulation takes there anyway, so what is drawn is the law that was fitted (THEORY 15). What happened is drawn as far
as it was held out. Windows are picked by their place alone, never by how good the forecast is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuralsde.data import Clock, Rows, Split
from neuralsde.data.split import TEST
from neuralsde.evaluate.content import Fan, Paths
from neuralsde.evaluate.scores import Floats, band
from neuralsde.tasks.ahead import paths_ahead
from neuralsde.tasks.fitted import Fitted
from neuralsde.tasks.windows import find_windows

LEVELS = (80, 95)
_PATHS, _SHOWN, _ON_PLANE = 400, 30, 4
_PAST = 24
_STRETCH = 3
"""Sample paths run this many times as far as forecasts, where the held-out part allows it."""
_CALENDAR = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("seconds", 1.0))


@dataclass(frozen=True)
class Moment:
    """A row, by its number in the encoded table: the origin of a picture."""

    rows: Rows
    row: int


@dataclass(frozen=True)
class Pictures:
    """Fans and paths in `time_unit`, one moment among them, and a few paths `plane (n, k, d)` from there."""

    time_unit: str = "steps"
    fans: tuple[Fan, ...] = ()
    paths: tuple[Paths, ...] = ()
    moment: Moment | None = None
    plane: Floats | None = None


@dataclass(frozen=True)
class Scene:
    """The encoded table with what is held out (R,), the horizon of a forecast and of the sample paths, in steps."""

    fitted: Fitted
    split: Split
    rows: Rows
    held: np.ndarray
    horizon: int
    reach: int

    @classmethod
    def of(cls, fitted: Fitted, split: Split, leads: tuple[int, ...]) -> Scene:
        """leads: horizons to try, the longest first."""
        rows = fitted.encoder.encode(split.data)
        held = np.concatenate(split.roles) == TEST
        horizon = next((lead for lead in leads if len(_origins(rows, held, lead))), leads[0])
        longer = (horizon * times for times in range(_STRETCH, 0, -1))
        reach = next((lead for lead in longer if len(_origins(rows, held, lead))), horizon * _STRETCH)
        return cls(fitted, split, rows, held, horizon, reach)

    @property
    def clock(self) -> Clock:
        return self.fitted.encoder.clock

    def clock_time(self, row: int) -> float:
        series = self.rows.series[row]
        return float(self.rows.origin[series] + self.rows.time[row] * self.fitted.encoder.tau)

    def label(self, row: int) -> str:
        """Series and time of a row, as a person writes them."""
        time = moment_text(self.clock, self.clock_time(row))
        return f"{self.rows.ids[self.rows.series[row]]} · {time}" if len(self.rows.ids) > 1 else time

    def unit(self) -> tuple[str, float]:
        """The unit of the time axis, and the length of one step in it."""
        if not self.clock.is_calendar:
            return "steps", 1.0
        tau = self.fitted.encoder.tau
        for name, length in _CALENDAR:
            if tau >= length or self.horizon * tau >= 3 * length:
                return name, tau / length
        return "seconds", tau


def draw(scene: Scene, *, seed: int) -> Pictures:
    """Fans of a few held-out windows, and paths from one more; from the end of the table when nothing is held out."""
    windows = spread_out(scene.rows, _whole(scene, scene.horizon), 6 if scene.fitted.encoder.dim == 1 else 3)
    start = spread_out(scene.rows, _whole(scene, scene.reach), 1)
    start = start if len(start) else np.array([np.argmax(scene.rows.time)])
    origins = np.concatenate([windows, start])
    ahead = [_Ahead.of(scene, int(row), scene.horizon) for row in windows]
    ahead.append(_Ahead.of(scene, int(start[0]), scene.reach))
    targets = np.full((len(origins), max(len(one.times) for one in ahead)), np.nan)
    for line, one in zip(targets, ahead, strict=True):
        line[: len(one.times)] = one.times
    known = [[series] for series in scene.split.data]
    simulated = paths_ahead(scene.fitted, scene.rows, origins, targets, known, n=_PATHS, seed=seed)
    values = scene.fitted.encoder.decode(simulated.states)
    samples = [values[i, :, : len(one.times)] for i, one in enumerate(ahead)]
    fans = tuple(_fan(scene, one, draws) for one, draws in zip(ahead[:-1], samples[:-1], strict=True))
    last, bundle = ahead[-1], samples[-1]
    moment = Moment(scene.rows, last.row)
    short = len(last.times[last.times <= scene.horizon])
    return Pictures(scene.unit()[0], fans, (_paths(scene, last, bundle),), moment, bundle[:_ON_PLANE, :short])


def spread_out(rows: Rows, origins: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the rows `origins (n,)`, far apart: from one series after another, from early to late."""
    series = np.unique(rows.series[origins])
    chosen: list[int] = []
    for i in range(count if len(origins) else 0):
        place = (i + 0.5) / count
        wanted = series[int(place * len(series))] if len(series) > count else series[i % len(series)]
        mine = origins[rows.series[origins] == wanted]
        chosen.append(int(mine[int(place * len(mine))]))
    return np.array(list(dict.fromkeys(chosen)), np.int64)


def moment_text(clock: Clock, time: float) -> str:
    """`6 February 2013, 05:00`, or the number."""
    if not clock.is_calendar:
        return f"t = {time:.6g}"
    stamp = clock.wall(np.array([time]), "s")[0].item()
    hour = "" if clock.dates else f"{stamp:, %H:%M:%S}" if stamp.second else f"{stamp:, %H:%M}"
    return f"{stamp.day} {stamp:%B %Y}{hour}"


# -- one window ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ahead:
    """What follows an origin: `times (k,)` model time since then, and the rows there; -1: none that is held out."""

    row: int
    times: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, scene: Scene, row: int, horizon: int) -> _Ahead:
        rows, held = scene.rows, scene.held
        end = int(rows.start[rows.series[row] + 1])
        after = np.arange(row + 1, min(end, row + 1 + 4 * horizon))
        seen = after[np.cumprod(held[after]).astype(bool)]
        seen = seen[rows.time[seen] - rows.time[row] < horizon + 0.5]
        times, index, reached = [], [], 0.0
        for time, at in [*zip(rows.time[seen] - rows.time[row], seen, strict=True), (float(horizon), -1)]:
            if at < 0 and time - reached < 0.5:
                break  # the rows went to the horizon themselves
            steps = max(1, round(time - reached))
            times += [reached + (time - reached) * (k + 1) / steps for k in range(steps)]
            index += [-1] * (steps - 1) + [at]
            reached = time
        return cls(row, np.array(times), np.array(index, np.int64))


def _fan(scene: Scene, ahead: _Ahead, draws: np.ndarray) -> Fan:
    rows, (_, step) = scene.rows, scene.unit()
    first = rows.start[rows.series[ahead.row]]
    past = np.arange(max(int(first), ahead.row + 1 - max(_PAST, 2 * scene.fitted.history)), ahead.row + 1)
    return Fan(
        label=scene.label(ahead.row),
        past_times=(rows.time[past] - rows.time[ahead.row]) * step,
        past=_values(scene, past),
        times=ahead.times * step,
        truth=_values(scene, ahead.rows),
        mean=draws.mean(0),
        bands={level: band(draws, level) for level in LEVELS},
    )


def _paths(scene: Scene, ahead: _Ahead, draws: np.ndarray) -> Paths:
    known = _values(scene, np.concatenate([[ahead.row], ahead.rows]))
    start = np.broadcast_to(known[0], (_SHOWN, 1, draws.shape[-1]))
    return Paths(
        label=f"From {scene.label(ahead.row)}",
        times=np.concatenate([[0.0], ahead.times]) * scene.unit()[1],
        values=np.concatenate([start, draws[:_SHOWN]], axis=1),
        truth=known if (ahead.rows >= 0).any() else None,
    )


def _values(scene: Scene, index: np.ndarray) -> np.ndarray:
    """The table's own values (n, d) in the rows `index`; NaN where missing, and for -1."""
    there = np.maximum(index, 0)
    series, table = scene.rows.series[there], scene.split.data.series
    own = [table[s].values[i - scene.rows.start[s]] for s, i in zip(series, there, strict=True)]
    return np.where(index[:, None] >= 0, np.array(own), np.nan)


def _origins(rows: Rows, held: np.ndarray, lead: int) -> np.ndarray:
    """Held-out rows with a held-out row `lead` steps later."""
    return find_windows(rows, held, (lead,), 1e-6).origin if held.any() else np.zeros(0, np.int64)


def _whole(scene: Scene, lead: int) -> np.ndarray:
    """Origins in which every column was seen, unless there are none such."""
    origins = _origins(scene.rows, scene.held, lead)
    whole = origins[scene.rows.observed[origins].all(1)]
    return whole if len(whole) else origins

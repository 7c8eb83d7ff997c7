"""What a fitted model gets wrong on rows that it has not seen: see `evaluate.diagnostics` for what is measured.

Residuals are those of the fitted one-step law on every held-out transition. Paths run from evenly spread held-out rows
to each of the rows that follow, so that their quadratic variation is taken at the gaps of the data. What more steps
a gap would change (THEORY 15) comes from two simulations of single gaps: the mean shift as a product of two halves of
the paths, so that it is not inflated by their number being finite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralsde.data import Rows, Split, Trajectories
from neuralsde.data.rules import MANY_SERIES, Rule
from neuralsde.data.split import TEST, TRAIN, VALIDATION
from neuralsde.data.windows import Table, starts
from neuralsde.errors import InputError, RunFailed
from neuralsde.evaluate import diagnostics as dg
from neuralsde.evaluate.bootstrap import Estimate, block_bootstrap, length_blocks
from neuralsde.evaluate.diagnostics import ColumnDiagnosis, Diagnostics
from neuralsde.models.sequence_sde import SequenceSDE
from neuralsde.models.sequence_sde.module import LOG_SIGMA_RANGE
from neuralsde.models.sequence_sde.window import OLDEST
from neuralsde.tasks.ahead import paths_ahead
from neuralsde.tasks.fitted import Fitted
from neuralsde.tasks.forecast import DEFAULT_HORIZON

FINER = 10
_MOST_TRANSITIONS, _ORIGINS, _PATHS = 20_000, 64, 32
_SINGLE_ORIGINS, _SINGLE_PATHS = 128, 128
_BLOCKS = 24
_ROOM = 0.05


def diagnose(
    fitted: Fitted,
    data: Trajectories,
    rule: Rule,
    other: Trajectories | None = None,
    *,
    part: str = "held-out",
    seed: int = 0,
) -> Diagnostics:
    """Diagnostics on what `rule` holds out of `data`, or on all of `other`.

    part: "held-out", or "validation" for the rows that chose the checkpoint; the latter also where nothing is held
          out, and the training rows where not even those could be spared.

    Raises InputError when no transition is left to judge by.
    """
    split = Split.of(data, rule)
    table, marked, about = (other, None, "another table") if other is not None else _part(split, part)
    rows = fitted.encoder.encode(table)
    marked = np.ones(len(rows), bool) if marked is None else marked
    start = _inside(starts(rows, marked), marked)
    if len(start) == 0:
        raise InputError("nothing to diagnose", f"no transition in {about}", "two neighbouring rows with a value")
    columns = residuals(fitted, rows, start)
    result = Diagnostics(columns, substeps=fitted.law.substeps, finer=FINER, history=fitted.history,
                         bound=LOG_SIGMA_RANGE, about=f"{len(start)} transitions of {about}")  # fmt: skip
    try:
        result = _with_paths(result, fitted, table, rows, marked, _range(fitted, split), seed)
        return _with_finer(result, fitted, table, rows, start, seed)
    except RunFailed as failure:
        return replace(result, broken=failure.got)


def watch(fitted: Fitted, rows: Rows, start: np.ndarray) -> Callable[[SequenceSDE], tuple[str, ...]]:
    """What to say of a model in training, from one pass over some transitions: a function of the model.

    Only a diffusion at its bounds: whatever else is wrong of a model that is half trained may go by itself.

    rows, start: encoded rows, and the first rows of the transitions that validate.
    """
    few = start[-2_000:]

    def remarks(model: SequenceSDE) -> tuple[str, ...]:
        columns = residuals(replace(fitted, model=model), rows, few)
        seen = Diagnostics(columns, history=fitted.history, bound=LOG_SIGMA_RANGE)
        return tuple(found.text for found in seen.findings if found.kind in ("collapse", "explosion"))

    return remarks


# -- residuals -----------------------------------------------------------------------------------------------------


def residuals(fitted: Fitted, rows: Rows, start: np.ndarray) -> tuple[ColumnDiagnosis, ...]:
    """What the residuals of the transitions from the rows `start` say of each column; nothing is simulated."""
    encoder = fitted.encoder
    start = start[-_MOST_TRANSITIONS:]  # neighbours, since their correlation is asked for
    laws = _laws(fitted.model, Table.of(rows), jax.device_put(start))  # a law that is not finite is told by its paths
    mean, spread, log_sigma, dof = (None if x is None else np.asarray(x, np.float64) for x in laws[:4])
    assert mean is not None
    assert spread is not None
    assert log_sigma is not None
    finite = np.isfinite(mean) & np.isfinite(spread)
    seen, mean, spread = np.asarray(laws[4]) & finite, np.where(finite, mean, 0.0), np.where(finite, spread, 1.0)
    after = rows.value[start + 1].astype(np.float64)
    scores = np.where(seen, dg.normal_scores((after - mean) / spread, None if dof is None else dof[0]), np.nan)
    place = start.astype(np.int64) + (dg.LAGS + 1) * rows.series[start]
    count = seen.sum(0)
    correlation, pairs = dg.autocorrelation(np.where(count > 1, scores, 0.0), place)
    p_white, band = dg.ljung_box(correlation, pairs, np.maximum(count, 1).astype(np.float64))
    variance = block_bootstrap(scores**2, _blocks(encoder.tau, rows, start))
    step = np.array(encoder.resolution)
    in_steps = spread * np.exp(-encoder.log_slope(encoder.decode(mean))) / np.where(step > 0, step, np.nan)
    kurtosis = dg.excess_kurtosis(np.where(count > 1, scores, np.arange(len(scores))[:, None]))
    nothing = Estimate(*(np.array(np.nan) for _ in range(3)))
    return tuple(
        ColumnDiagnosis(
            column=name,
            count=int(count[k]),
            variance=variance.at(k),
            kurtosis=float(kurtosis[k]),
            correlation=correlation[:, k],
            band=band[:, k],
            p_white=float(p_white[k]) if count[k] > 2 * dg.LAGS else np.nan,
            log_sigma=float(np.median(log_sigma[:, k])),
            rounding=float(np.median(in_steps[:, k])),
            variation=nothing,
        )
        for k, name in enumerate(encoder.columns)
    )


@eqx.filter_jit
def _laws(model: SequenceSDE, table: Table, start: Array) -> tuple[Array, Array, Array, Array | None, Array]:
    """Mean, scale, log diffusion over the walk's, degrees of freedom, and which are judged; each (n, d)."""

    def one(row: Array) -> tuple[Array, Array, Array, Array | None, Array]:
        transition = table.transition(row, model.config.past)
        window = model.recall(transition.window)
        law = model.transition(window, transition.dt)
        seen = transition.seen & (window.age[-1] < OLDEST) & (transition.dt + window.staleness > 0)
        return law.mean, law.spread, jnp.log(model.diffusion(window) / model.walk), law.dof, seen

    return jax.vmap(one)(start)


# -- paths ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Windows:
    """m origins and the H rows after each: `origin (m,)`, `after (m, H)`."""

    origin: np.ndarray
    after: np.ndarray

    @classmethod
    def of(cls, rows: Rows, marked: np.ndarray) -> _Windows:
        """Evenly spread, as long as the marked stretches allow, at most `DEFAULT_HORIZON` rows."""
        here = np.flatnonzero(marked)
        goes_on = np.append((rows.series[1:] == rows.series[:-1]) & marked[1:], False)
        ends = np.flatnonzero(~goes_on)
        length = (
            ends[np.searchsorted(ends, np.arange(len(rows)))] - np.arange(len(rows)) + 1
        )  # of the rest of a stretch
        horizon = int(min(DEFAULT_HORIZON, length[here].max(initial=1) - 1))
        fits = here[(length[here] > horizon) & rows.observed[here].any(1)] if horizon > 0 else here[:0]
        span = rows.time[np.minimum(fits + horizon, len(rows) - 1)] - rows.time[fits]
        fits = fits[span <= 4 * max(horizon, 1)]  # a hole of a thousand steps is no place to look for roughness
        origin = fits[_evenly(len(fits), _ORIGINS)]
        return cls(origin, origin[:, None] + np.arange(1, horizon + 1))


def _with_paths(
    found: Diagnostics, fitted: Fitted, data: Trajectories, rows: Rows, marked: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray], seed: int,
) -> Diagnostics:  # fmt: skip
    """Roughness of paths, and how often their mean leaves the range `ends` of the data."""
    windows = _Windows.of(rows, marked)
    if not windows.after.size:
        return found
    origin, after = windows.origin, windows.after
    spans = rows.time[after] - rows.time[origin][:, None]
    drawn = paths_ahead(fitted, rows, origin, spans, [[s] for s in data], n=_PATHS, seed=seed).states.astype(np.float64)
    both = np.concatenate([origin[:, None], after], axis=1)
    observed = rows.observed[both][:, 1:] & rows.observed[both][:, :-1]
    happened = np.where(observed, np.diff(rows.value[both].astype(np.float64), axis=1) ** 2, 0.0).sum(1)
    begin = np.broadcast_to(rows.filled[origin][:, None, None], (*drawn.shape[:2], 1, drawn.shape[3]))
    moves = np.diff(np.concatenate([begin, drawn], axis=2), axis=2) ** 2
    sampled = np.where(observed, moves.mean(1), 0.0).sum(1)
    ratio = dg.variation_ratio(sampled, happened, _blocks(fitted.encoder.tau, rows, origin))
    known = np.where(rows.observed[both], rows.value[both], rows.filled[origin][:, None])
    low, high = (np.minimum(ends[0], known.min(1)), np.maximum(ends[1], known.max(1)))
    room = _ROOM * (ends[1] - ends[0])
    mean = drawn.mean(1)
    leaves = ((mean < (low - room)[:, None]) | (mean > (high + room)[:, None])).any(1).mean(0)
    columns = tuple(
        replace(column, variation=ratio.at(k), leaves=float(leaves[k])) for k, column in enumerate(found.columns)
    )
    steps = after.shape[1]
    return replace(found, columns=columns, horizon=f"{steps} steps" if steps > 1 else "1 step")


def _with_finer(
    found: Diagnostics, fitted: Fitted, data: Trajectories, rows: Rows, start: np.ndarray, seed: int
) -> Diagnostics:
    """What `FINER` steps a gap change in the law of one gap."""
    single = start[rows.gap[start + 1] <= 1.5]  # a longer gap takes several times the steps of a typical one
    if fitted.law.substeps >= FINER or not len(single):
        return found
    some = single[_evenly(len(single), _SINGLE_ORIGINS)]
    gap = rows.gap[some + 1][:, None].astype(np.float64)
    known = [[s] for s in data]
    fitted_law, finer = (
        paths_ahead(fitted, rows, some, gap, known, n=_SINGLE_PATHS, seed=seed + k, substeps=m).states[:, :, 0]
        for k, m in enumerate((fitted.law.substeps, FINER))
    )
    shift, widening = moved(fitted_law.astype(np.float64), finer.astype(np.float64))
    columns = tuple(
        replace(column, shift=float(shift[k]), widening=float(widening[k])) for k, column in enumerate(found.columns)
    )
    return replace(found, columns=columns)


def moved(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square shift of the mean, in s.d., and relative change of the s.d. (d,), from samples (m, n, d).

    The square of a shift is the product of those of two halves of the samples, which do not share their noise.
    """
    sd = np.sqrt(before.var(1, ddof=1))
    scale = np.where(sd > 0, sd, 1.0)
    half = before.shape[1] // 2
    halves = [(after[:, part].mean(1) - before[:, part].mean(1)) / scale for part in (slice(half), slice(half, None))]
    square = (halves[0] * halves[1]).mean(0)
    spread = after.var(1, ddof=1).mean(0) / np.maximum(before.var(1, ddof=1).mean(0), 1e-30)
    return np.sqrt(np.maximum(square, 0.0)), np.sqrt(spread) - 1


# -- which rows ----------------------------------------------------------------------------------------------------


def _part(split: Split, part: str) -> tuple[Trajectories, np.ndarray, str]:
    """The table, the rows of it that are judged, and what they are."""
    roles = np.concatenate(split.roles)
    wanted = {"held-out": (TEST, VALIDATION, TRAIN), "validation": (VALIDATION, TRAIN)}
    if part not in wanted:
        raise InputError(f"the part {part!r}", expected=" or ".join(wanted))
    names = {TEST: split.rule.describe(), VALIDATION: "the validation rows", TRAIN: "the training rows"}
    role = next(role for role in wanted[part] if _neighbours(split, role))
    return split.data, roles == role, names[role]


def _neighbours(split: Split, role: int) -> bool:
    return role == TRAIN or any(np.any((each[1:] == role) & (each[:-1] == role)) for each in split.roles)


def _inside(start: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Starts in a marked row, so that no residual has one foot in a training row."""
    return start[marked[start]]


def _range(fitted: Fitted, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest training value (d,), in model units."""
    z = fitted.encoder.encode_values(np.concatenate([s.values for s in split.train_data]))
    z = np.where(np.isnan(z).all(0), 0.0, z)
    return np.nanmin(z, axis=0), np.nanmax(z, axis=0)


def _blocks(tau: float, rows: Rows, at: np.ndarray) -> np.ndarray:
    """Labels (n,) of rows that may depend on each other: whole series when there are many, else parts of the time."""
    series = rows.series[at]
    if len(np.unique(series)) > MANY_SERIES:
        return series
    times = rows.origin[series] + rows.time[at] * tau
    return length_blocks(times, max((times.max() - times.min()) / _BLOCKS, tau))


def _evenly(count: int, most: int) -> np.ndarray:
    return (
        np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)) if count else np.zeros(0, int)
    )

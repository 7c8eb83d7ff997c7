"""Is the model right where it can be checked? Residuals, roughness, and what is said when something is wrong.

With e = (x' - mean) / spread the standardised residual of a held-out transition, turned into a normal score where the
law is not Gaussian, a model that is right has e independent and N(0, 1):

    r_l = Σ e_i e_(i+l) / Σ e²            autocorrelation over the n_l pairs l rows apart, s.d. √(n_l / (n (n + 2)))
    Q   = Σ_l r_l² n (n + 2) / n_l  ~  χ²     (Ljung and Box 1978; n_l < n - l where rows are missing)
    V   = Σ (y_(k+1) - y_k)² / Σ (x_(k+1) - x_k)²      quadratic variation of paths over that of the data, at its gaps

Of each column only the first finding is told, in the order of `KINDS`: a drift that runs away has correlated residuals
too, and a collapsed noise has large ones, but there is one cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from neuralsde.evaluate.bootstrap import Estimate, block_bootstrap
from neuralsde.evaluate.scores import Floats

LAGS = 10
_NEAR_BOUND = 1.0
"""Distance in log from the bounds of the diffusion that counts as "at the bound"."""
_FAR_BELOW_ROUNDING = 0.05
"""Noise of a step, in rounding steps, that claims to know more than the data can show: its own s.d. is 0.29."""
_LEAVES = 0.05
_VARIANCE = 1.5
_ROUGHNESS = 1.4
_CORRELATED, _SURE = 0.1, 1e-3
_MOVED = 0.2


@dataclass(frozen=True)
class ColumnDiagnosis:
    """What was measured of one column; NaN where it could not be.

    variance:   of its normal scores, 1 when the spread is right; with an interval by blocks.
    kurtosis:   excess over the Gaussian's: above 0 for heavier tails than the model has.
    correlation, band: (10,) autocorrelation of the scores at lags 1..10, and the half width of its 95 % band.
    p_white:    Ljung-Box p-value: small when the residuals remember.
    variation:  quadratic variation of paths over that of the data, with an interval by blocks.
    leaves:     share of starts whose mean path leaves the range of the data.
    log_sigma:  median log of the diffusion over a random walk's.
    rounding:   median spread of a step in rounding steps of the data; NaN when they are not rounded.
    shift, widening: what more steps a gap change in the one-step law: its mean (root mean square, in s.d.), and its
                s.d. (as a share).
    """

    column: str
    count: int
    variance: Estimate
    kurtosis: float
    correlation: Floats
    band: Floats
    p_white: float
    log_sigma: float
    rounding: float
    variation: Estimate
    leaves: float = np.nan
    shift: float = np.nan
    widening: float = np.nan


@dataclass(frozen=True)
class Finding:
    """Something wrong: its kind, the columns, and one plain sentence."""

    kind: str
    columns: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Diagnostics:
    """All columns; how far paths ran, in words; steps a gap of the fit and of the finer law; the rows, in words.

    bound:  largest |log_sigma| that the model allows.  broken: why paths could not be simulated, empty if they could.
    """

    columns: tuple[ColumnDiagnosis, ...]
    horizon: str = ""
    substeps: int = 1
    finer: int = 10
    history: int = 0
    bound: float = np.inf
    broken: str = ""
    about: str = ""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, a finding for each kind; empty for a model that passes."""
        if self.broken:
            text = f"{self.broken}: the drift drives them away from the data; train longer, or use a denoiser."
            return (Finding("not-finite", tuple(c.column for c in self.columns), text),)
        kinds = {c.column: kind_of(c, self.bound) for c in self.columns}
        found = []
        for kind, (_, sentence) in KINDS.items():
            mine = [c for c in self.columns if kinds[c.column] == kind]
            if mine:
                found.append(Finding(kind, tuple(c.column for c in mine), sentence(mine, self)))
        return tuple(found)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentences of the findings."""
        return tuple(finding.text for finding in self.findings)


# -- arithmetic ----------------------------------------------------------------------------------------------------


def normal_scores(residuals: Floats, dof: Floats | None) -> Floats:
    """Residuals (n, d) in units of their law's scale as N(0, 1) scores; Student's with `dof` (d,), else as they are."""
    if dof is None:
        return residuals
    # from the nearer tail, so that an outlier stays finite
    z = -stats.norm.ppf(stats.t.sf(np.abs(residuals), dof))
    return np.sign(residuals) * np.minimum(z, 38.0)


def autocorrelation(scores: Floats, place: np.ndarray, lags: int = LAGS) -> tuple[Floats, Floats]:
    """Autocorrelation and numbers of pairs (lags, d) of scores (n, d) with NaN, about their mean.

    place: (n,) increasing whole numbers; two scores are l apart when their places are.
    """
    line = np.full((int(place[-1] - place[0]) + 1 + lags, scores.shape[1]), np.nan)
    line[place - place[0]] = scores - np.nanmean(scores, axis=0)
    total = np.nansum(line**2, axis=0)
    products = [line[:-lag] * line[lag:] for lag in range(1, lags + 1)]
    pairs = np.array([(~np.isnan(product)).sum(0) for product in products], np.float64)
    sums = np.array([np.nansum(product, axis=0) for product in products])
    return np.where(pairs > 0, sums / np.where(total > 0, total, 1.0), 0.0), pairs


def ljung_box(correlation: Floats, pairs: Floats, count: Floats) -> tuple[Floats, Floats]:
    """P-value (d,) of no autocorrelation, and the 95 % bands (lags, d) of each one; `count` (d,) scores in all."""
    variance = pairs / (count * (count + 2))
    used = pairs > 0
    statistic = np.where(used, correlation**2 / np.where(used, variance, 1.0), 0.0).sum(0)
    return stats.chi2.sf(statistic, used.sum(0)), 1.96 * np.sqrt(variance)


def excess_kurtosis(scores: Floats) -> Floats:
    """Fourth moment over the squared second one, less 3 (d,), of scores (n, d) with NaN."""
    centred = scores - np.nanmean(scores, axis=0)
    return np.nanmean(centred**4, axis=0) / np.nanmean(centred**2, axis=0) ** 2 - 3


def variation_ratio(paths: Floats, data: Floats, blocks: np.ndarray, *, seed: int = 0) -> Estimate:
    """Quadratic variation of paths over that of the data, (d,), with a 95 % interval by blocks of windows.

    paths (m, d): sum over a window's gaps of squared moves, a mean over paths; data (m, d): the same of what happened,
    over the gaps that were observed in both rows. blocks (m,): labels of dependent windows.
    """
    joint = block_bootstrap(np.concatenate([paths, data], axis=1), blocks, seed=seed)
    d = data.shape[1]
    value = joint.value[:d] / np.where(joint.value[d:] > 0, joint.value[d:], np.nan)
    # linearised: the interval of the mean of paths - ratio * data, over the mean of data
    rest = block_bootstrap(paths - value * data, blocks, seed=seed)
    scale = np.where(joint.value[d:] > 0, joint.value[d:], np.nan)
    return Estimate(value, value + rest.low / scale, value + rest.high / scale)


# -- findings ------------------------------------------------------------------------------------------------------


def kind_of(column: ColumnDiagnosis, bound: float) -> str:
    """The first finding of a column, or ""."""
    return next((kind for kind, (holds, _) in KINDS.items() if holds(column, bound)), "")


def _collapses(c: ColumnDiagnosis, bound: float) -> bool:
    return c.log_sigma < _NEAR_BOUND - bound or c.rounding < _FAR_BELOW_ROUNDING


def _apart(estimate: Estimate, factor: float, over: bool) -> bool:
    """Above `factor` (or below one over it), and resolved."""
    value, low, high = (float(end) for end in (estimate.value, estimate.low, estimate.high))
    return (value > factor and not low <= 1) if over else (value < 1 / factor and not high >= 1)


def _remembers(c: ColumnDiagnosis, bound: float) -> bool:
    return c.p_white < _SURE and bool(np.abs(c.correlation).max(initial=0.0) > _CORRELATED)


def _rough(c: ColumnDiagnosis, bound: float) -> bool:
    return _apart(c.variation, _ROUGHNESS, True) or _apart(c.variation, _ROUGHNESS, False)


def _names(columns: Sequence[ColumnDiagnosis]) -> str:
    named = [c.column for c in columns[:4]]
    return ", ".join(named) + (f" and {len(columns) - 4} more" if len(columns) > 4 else "")


def _say_leaves(columns: Sequence[ColumnDiagnosis], d: Diagnostics) -> str:
    share = max(c.leaves for c in columns)
    return (
        f"{_names(columns)}: the mean path leaves the range of the data within {d.horizon} from {100 * share:.0f} % of "
        "the starts, so the drift pushes away from the data; train longer, or use a denoiser."
    )


def _say_collapse(columns: Sequence[ColumnDiagnosis], d: Diagnostics) -> str:
    worst = min(columns, key=lambda c: c.log_sigma)
    if worst.log_sigma < _NEAR_BOUND - d.bound:
        size = f"its median is {np.exp(worst.log_sigma):.1g} of a random walk's, as small as the model allows"
    else:
        size = f"a step of it is {min(c.rounding for c in columns):.1g} of the step to which the data are rounded"
    return f"{_names(columns)}: the diffusion has collapsed, {size}; look for copied or interpolated rows."


def _say_explosion(columns: Sequence[ColumnDiagnosis], d: Diagnostics) -> str:
    size = np.exp(max(c.log_sigma for c in columns))
    return (
        f"{_names(columns)}: the diffusion has exploded, its median is {size:.1g} times a random walk's, as large as "
        "the model allows; look for outliers, or lower the learning rate."
    )


def _say_narrow(columns: Sequence[ColumnDiagnosis], d: Diagnostics) -> str:
    worst = max(columns, key=lambda c: float(c.variance.value))
    tails = ", with heavy tails (tails=student may help)" if worst.kurtosis > 3 else ""
    return (
        f"{_names(columns)}: over-confident one step ahead, held-out residuals have {float(worst.variance.value):.2g} "
        f"times the variance that the model states{tails}."
    )


def _say_wide(columns: Sequence[ColumnDiagnosis], d: Diagnostics) -> str:
    least = min(float(c.variance.value) for c in columns)
    return (
        f"{_names(columns)}: too cautious one step ahead, held-out residuals have {least:.2g} times the variance that "
        "the model states."
    )


def _say_memory(columns: Sequence[ColumnDiagnosis], d: Diagnostics) -> str:
    worst = max(columns, key=lambda c: float(np.abs(c.correlation).max()))
    size = np.abs(worst.correlation)
    lag, first = int(np.argmax(size)), int(np.argmax(size > _CORRELATED))
    return (
        f"{_names(columns)}: residuals are correlated ({worst.correlation[lag]:.2f} at lag {lag + 1}), so the data "
        f"remember more than the model reads; try history={d.history + first + 1} instead of {d.history}."
    )


def _say_rough(columns: Sequence[ColumnDiagnosis], d: Diagnostics) -> str:
    worst = max(columns, key=lambda c: abs(np.log(float(c.variation.value))))
    return (
        f"{_names(columns)}: the quadratic variation of sampled paths is {float(worst.variation.value):.2g} times that "
        f"of the data over {d.horizon}, although single steps fit: paths come where the data are not."
    )


def _say_effective(columns: Sequence[ColumnDiagnosis], d: Diagnostics) -> str:
    shift, wide = max(c.shift for c in columns), max((c.widening for c in columns), key=abs)
    taken = "1 step" if d.substeps == 1 else f"{d.substeps} steps"
    return (
        f"{_names(columns)}: the law of a gap depends on its number of steps: {d.finer} instead of {taken} move its "
        f"mean by {shift:.2g} s.d. and change its s.d. by {100 * wide:+.0f} %; sample as it was fitted."
    )


KINDS: dict[
    str,
    tuple[Callable[[ColumnDiagnosis, float], bool], Callable[[Sequence[ColumnDiagnosis], Diagnostics], str]],
] = {
    "collapse": (_collapses, _say_collapse),
    "explosion": (lambda c, bound: c.log_sigma > bound - _NEAR_BOUND, _say_explosion),
    "drift-leaves": (lambda c, bound: c.leaves > _LEAVES, _say_leaves),
    "over-confident": (lambda c, bound: _apart(c.variance, _VARIANCE, True), _say_narrow),
    "too-cautious": (lambda c, bound: _apart(c.variance, _VARIANCE, False), _say_wide),
    "memory": (_remembers, _say_memory),
    "roughness": (_rough, _say_rough),
    "effective-steps": (lambda c, bound: c.shift > _MOVED or abs(c.widening) > _MOVED, _say_effective),
}
"""Kind -> when a column has it, and the sentence that says so, the first cause first."""

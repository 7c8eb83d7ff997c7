"""Is the step small enough? The same Brownian paths at steps h, h/2 and h/4, and what the differences say.

    strong   δ₁ = RMS |y_h - y_{h/2}|,    δ₂ = RMS |y_{h/2} - y_{h/4}|,    order p = log₂(δ₁/δ₂)
    weak     d₁ = mean φ(y_h) - φ(y_{h/2}), d₂ likewise one level finer,   order q = log₂(|d₁|/|d₂|)

at the last time. Summed over all finer levels (Richardson), with r = 2^-order and ρ the correlation of the two
differences, the errors of the given step are

    strong   δ₁ ((1 + 2ρr/(1 - r)) / (1 - r²))^½        (ρ = 1: δ₁/(1 - r); independent levels: δ₁/√(1 - r²))
    weak     |d₁| / (1 - r)

Intervals (95 %) are percentiles of a bootstrap over paths. An order is `not resolved` where its interval holds 0, or a
difference is below 5 of its standard errors or at the floor of rounding, and `not asymptotic` where its whole interval
lies far above the declared one: h is then too long for orders to mean anything. The declared one takes its place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError
from neuralsde.sde.brownian import BrownianGrid
from neuralsde.sde.edge import as_floats
from neuralsde.sde.inputs import checked_times
from neuralsde.sde.keys import checked_key
from neuralsde.sde.methods import EulerMaruyama, Method
from neuralsde.sde.process import SDE
from neuralsde.sde.simulate import simulate

FEWEST_PATHS = 256
_DEFAULT_TOLERANCE = 0.05  # of the spread of the end state
_GAUSSIAN_QUARTILES = 1.349  # interquartile range of a Gaussian, in standard deviations
_LEFT = 1e60  # a state beyond it counts as not finite: in float64 its fourth powers would overflow soon after
_FAR = 1.5  # an order this far above the declared one is no order; smooth problems with little noise gain up to 1
_BOOTSTRAPS, _BLOCKS = 1000, 1024
_RESOLVED = 5.0  # standard errors
Answer = Literal["yes", "no", "not resolved"]
Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Measured:
    """One row of a certificate.

    differences:  between h and h/2, and between h/2 and h/4.
    error:        estimated at h, with error_interval.
    order:        measured, None where it is not resolved or not asymptotic; order_interval in every case.
    declared:     the order that the method claims.
    allowed:      the error that the tolerance allows for this quantity.
    small_enough: whether the whole interval of the error stays below it ("yes"), above it ("no"), or neither.
    asymptotic:   False where the differences fall far faster than the declared order lets them.
    """

    name: str
    differences: tuple[float, float]
    error: float
    error_interval: Interval
    order: float | None
    order_interval: Interval
    declared: float | None
    allowed: float
    small_enough: Answer
    asymptotic: bool = True

    def __str__(self) -> str:
        unknown = "not resolved" if self.asymptotic else "not asymptotic"
        order = unknown if self.order is None else f"{self.order:.2f} {_span(self.order_interval, '.2f')}"
        declared = "-" if self.declared is None else f"{self.declared:g}"
        error = f"{self.error:.3g} {_span(self.error_interval, '.3g')}"
        return f"{self.name:<16}{error:<30}{order:<22}{declared:<10}{self.allowed:<10.3g}{self.small_enough}"


@dataclasses.dataclass(frozen=True)
class StepSizeCertificate:
    """What `step_size_certificate` measured. `str(certificate)` is the table.

    rows:   strong error first (left out where the method has no strong claim), then the weak ones.
    spread: of the end state, root mean square over its entries, and the smallest of the three levels: the standard
            deviation or 0.741 of the interquartile range, whichever is less. For a Gaussian they are equal; a few
            paths that explode move the first without bound, the second hardly.
    failed: paths that were not finite at h, h/2, h/4; they are left out of the rows, and any of them is a "no".
    """

    method: str
    steps: int
    step: Interval
    paths: int
    dtype: str
    spread: float
    failed: tuple[int, int, int]
    rows: tuple[Measured, ...]

    @property
    def small_enough(self) -> Answer:
        """The answer "yes" where every row says so, "no" where one does or a path failed at any level."""
        answers = [row.small_enough for row in self.rows]
        if any(self.failed) or not answers or "no" in answers:
            return "no"
        return "yes" if all(answer == "yes" for answer in answers) else "not resolved"

    @property
    def explodes(self) -> bool:
        """Whether shorter steps lose more paths, as they do where the solution itself leaves every bound."""
        return max(self.failed[1:]) > self.failed[0]

    @property
    def suggested_factor(self) -> int | None:
        """How many times more steps the rows ask for by their orders; None where they ask for none, or cannot tell.

        A row that is not asymptotic has no order to go by and asks for 4 times as many, to be certified again.
        """
        if self.explodes:
            return None
        wanted = 1.0
        for row in self.rows:
            order = min(row.order or np.inf, row.declared or np.inf)  # what is above the declared order may not last
            ratio = row.error_interval[1] / row.allowed if row.allowed > 0 else np.inf
            if row.small_enough != "yes" and not row.asymptotic:
                wanted = max(wanted, 4.0)
            elif row.small_enough != "yes" and np.isfinite(order) and np.isfinite(ratio):
                wanted = max(wanted, 2.0 ** min(np.log2(ratio) / order, 64.0))
        return int(np.ceil(wanted)) if 1 < wanted < 1e6 else None

    def __str__(self) -> str:
        low, high = self.step
        h = f"{low:.4g}" if np.isclose(low, high, rtol=1e-3) else f"{low:.4g} to {high:.4g}"
        head = (
            f"{'quantity':<16}{'error at h [95 %]':<30}{'order [95 %]':<22}{'declared':<10}{'allowed':<10}small enough"
        )
        lines = [f"{self.method}, {self.steps} steps of h = {h}, {self.paths} paths in {self.dtype}", head]
        lines += [str(row) for row in self.rows]
        if any(self.failed):
            lines.append("paths not finite at h, h/2, h/4: " + ", ".join(map(str, self.failed)))
        for row in self.rows:
            if not row.asymptotic:
                at_least = f"order {row.order_interval[0]:.1f} or more where {row.declared:g} is declared"
                lines.append(f"{row.name} is not asymptotic: {at_least}, so that h is too long to measure one")
        verdict = f"verdict: is the step small enough? {self.small_enough}"
        if self.explodes:
            verdict += "; finer steps blow up, so that the solution may explode: see wellposedness"
        if self.small_enough != "yes" and self.suggested_factor is not None:
            verdict += f"; try {self.suggested_factor} times as many steps"
        if any(row.small_enough == "not resolved" for row in self.rows):
            verdict += "; more paths for what is not resolved"
        return "\n".join([*lines, verdict])


def step_size_certificate(
    process: SDE,
    y0: Any,
    ts: Any,
    *,
    key: Key[Array, ""],
    method: Method = EulerMaruyama(),  # noqa: B008 (a frozen value)
    substeps: int = 1,
    paths: int = FEWEST_PATHS,
    functional: Callable[[Any], Any] | None = None,
    tolerance: float | None = None,
    args: Any = None,
) -> StepSizeCertificate:
    """Measure strong and weak error of a solve at the given step, and say whether it is small enough.

    y0, ts, method, substeps, args: as for `simulate`; the errors are those of the state at ts[-1].
    paths:      at least 256. Strong errors resolve with a few hundred, weak ones often need 10⁴ to 10⁶.
    functional: y -> array; its expectation is the weak error asked for. Default: the mean and the second moment of y.
    tolerance:  allowed error of the end state, in units of y (root mean square over entries); default 5 % of its
                `spread`. Of a functional, the same fraction of its own spread is allowed. Where the end state has no
                spread (no noise) its size takes that place.

    Runs 7 times the steps of one solve on every path, in the dtype of y0: small differences need float64.
    """
    if isinstance(paths, bool) or not isinstance(paths, int) or paths < FEWEST_PATHS:
        raise InputError(
            f"paths={paths!r}",
            "intervals from so few paths say nothing",
            f"an integer >= {FEWEST_PATHS}",
            f"paths={FEWEST_PATHS}",
        )
    if tolerance is not None and not (isinstance(tolerance, int | float | np.number) and 0 < tolerance < np.inf):
        raise InputError(f"tolerance={tolerance!r}", expected="an error above 0, in units of y")
    times, back = checked_times(jnp.asarray(ts))
    times = jnp.asarray(times)
    if back:
        raise InputError("decreasing ts", "the certificate follows paths forward", "increasing ts", "ts[::-1]")
    keys = jax.random.split(checked_key(key), paths)
    start = as_floats(y0)
    solved = _solve_levels(process, start, times, keys, method, substeps, functional, args)
    ends, phi = np.asarray(solved[0]), np.asarray(solved[1])
    finite: np.ndarray = np.asarray(_within(ends, _LEFT).all(axis=2) & _within(phi, _LEFT**2).all(axis=(2, 3)))
    failed = tuple(int((~finite[:, level]).sum()) for level in range(3))
    good: np.ndarray = np.asarray(finite.all(axis=-1))
    gaps = np.abs(np.diff(np.asarray(times, np.float64))) / substeps
    names = ("mean", "second moment") if functional is None else ("functional",)
    rows = ()
    if good.sum() >= 2:
        rng = np.random.default_rng(np.asarray(jax.random.bits(jax.random.fold_in(keys[0], paths), (4,))))
        rows = _rows(ends[good], phi[good], names, process, method, tolerance, len(gaps) * substeps, rng)
    spread = _spread(ends[good].astype(np.float64)) if good.any() else np.nan
    return StepSizeCertificate(
        type(method).__name__,
        len(gaps) * substeps,
        (float(gaps.min()), float(gaps.max())),
        paths,
        str(ends.dtype),
        spread,
        (failed[0], failed[1], failed[2]),
        rows,
    )


@eqx.filter_jit
def _solve_levels(
    process: SDE,
    y0: Any,
    ts: Array,
    keys: Array,
    method: Method,
    substeps: int,
    functional: Callable[[Any], Any] | None,
    args: Any,
) -> tuple[Array, Array]:
    """End states (paths, 3, d) and functionals (paths, 3, kinds, p), at h, h/2 and h/4 of the same paths."""

    def values(y: Any) -> tuple[Array, Array]:
        flat = ravel_pytree(y)[0]
        if functional is None:
            return flat, jnp.stack([flat, flat**2])
        return flat, ravel_pytree(functional(y))[0].astype(flat.dtype)[None]

    def one(key: Array) -> tuple[Array, Array]:
        finest = BrownianGrid(key, ts, 4 * substeps)
        found = []
        for finer in (1, 2, 4):
            path = finest.coarsen(4 // finer)
            solution = simulate(process, y0, ts, path=path, method=method, substeps=finer * substeps, args=args)
            found.append(values(jax.tree.map(lambda leaf: leaf[-1], solution.ys)))
        return jnp.stack([end for end, _ in found]), jnp.stack([phi for _, phi in found])

    return jax.vmap(one)(keys)


def _rows(
    ends: np.ndarray,
    phi: np.ndarray,
    names: tuple[str, ...],
    process: SDE,
    method: Method,
    tolerance: float | None,
    steps: int,
    rng: np.random.Generator,
) -> tuple[Measured, ...]:
    floor = 2 * float(np.finfo(ends.dtype).eps) * np.sqrt(steps)
    ends, phi = ends.astype(np.float64), phi.astype(np.float64)
    noisy = _spread(ends) > floor * _size(ends)
    scale = _spread if noisy else _size
    relative = _DEFAULT_TOLERANCE if tolerance is None else tolerance / max(scale(ends), np.finfo(np.float64).tiny)
    weights = _bootstrap_weights(len(_blocks(ends)), rng)
    rows = []
    declared = method.strong_order(process.noise)
    if declared is not None:
        allowed = _DEFAULT_TOLERANCE * scale(ends) if tolerance is None else tolerance
        rows.append(_strong(ends, weights, declared, allowed, floor * _size(ends)))
    for kind, name in enumerate(names):
        values = phi[:, :, kind]
        weak = method.weak_order(process.noise)
        rows.append(_weak(name, values, weights, weak, relative * scale(values), floor * _size(values)))
    return tuple(rows)


def _within(values: np.ndarray, bound: float) -> np.ndarray:
    return np.asarray(np.abs(values.astype(np.float64)) < bound)


def _spread(values: np.ndarray) -> float:
    """Of (paths, 3, d): see `StepSizeCertificate`. Where half the paths agree the quartiles say nothing."""
    deviation = values.std(axis=0)
    low, high = np.percentile(values, [25.0, 75.0], axis=0)
    middle = (high - low) / _GAUSSIAN_QUARTILES
    least = np.where(middle > 0, np.minimum(middle, deviation), deviation)
    return float(np.sqrt((least**2).mean(axis=1).min()))


def _size(values: np.ndarray) -> float:
    """Root mean square of (paths, 3, d), of the level where it is least."""
    return float(np.sqrt((values**2).mean(axis=(0, 2)).min()))


def _strong(ends: np.ndarray, weights: np.ndarray, declared: float, allowed: float, floor: float) -> Measured:
    """Rows of moments per path: |first|², |second|², <first, second>, means over entries."""
    first, second = ends[:, 0] - ends[:, 1], ends[:, 1] - ends[:, 2]
    moments = np.stack([(first**2).mean(1), (second**2).mean(1), (first * second).mean(1)], axis=1)
    means, draws = moments.mean(0), weights @ _blocks(moments)
    error_of_mean = moments.std(axis=0) / np.sqrt(len(moments))
    seen = (means[:2] > _RESOLVED * error_of_mean[:2]) & (np.sqrt(means[:2]) > floor)
    sizes = (float(np.sqrt(means[0])), float(np.sqrt(means[1])))
    order, interval, far = _order(np.sqrt(means[:2]), np.sqrt(draws[:, :2]), seen, declared)

    def total(m: np.ndarray) -> np.ndarray:
        r = 2.0 ** -(
            0.5 * np.log2(_ratio(m[..., 0], m[..., 1])) if order is not None else np.full(m.shape[:-1], declared)
        )
        rho = np.clip(_ratio(m[..., 2], np.sqrt(m[..., 0] * m[..., 1])), 0.0, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.sqrt(m[..., 0] * (1 + 2 * rho * r / (1 - r)) / (1 - r**2))
        return np.where(r < 1, found, np.inf)

    found = total(np.concatenate([means[None], draws]))
    error, span = float(found[0]), _percentiles(found[1:])
    answer = _answer(span, allowed)
    return Measured("strong (RMS)", sizes, error, span, order, interval, declared, allowed, answer, not far)


def _weak(
    name: str, values: np.ndarray, weights: np.ndarray, declared: float, allowed: float, floor: float
) -> Measured:
    """Differences of means over paths, root mean square over the entries of the functional."""
    steps = np.stack([values[:, 0] - values[:, 1], values[:, 1] - values[:, 2]], axis=1)
    blocks = _blocks(steps)
    draws = np.tensordot(weights, blocks, axes=1)
    sizes, drawn = np.sqrt((steps.mean(0) ** 2).mean(-1)), np.sqrt((draws**2).mean(-1))
    error_of_mean = np.sqrt((steps.var(axis=0) / len(steps)).mean(-1))
    seen = (sizes > _RESOLVED * error_of_mean) & (sizes > floor)
    order, interval, far = _order(sizes, drawn, seen, declared)

    def total(d: np.ndarray) -> np.ndarray:
        r = _ratio(d[..., 1], d[..., 0]) if order is not None else np.full(d.shape[:-1], 2.0**-declared)
        with np.errstate(divide="ignore"):
            return np.where(r < 1, d[..., 0] / (1 - np.minimum(r, 1)), np.inf)

    found = total(np.concatenate([sizes[None], drawn]))
    error, span = float(found[0]), _percentiles(found[1:])
    if order is None:  # |mean| of noise is never near 0, so its lower end says nothing; a clear difference does
        span = (_percentiles(drawn[:, 0])[0] if seen[0] else 0.0, span[1])
    both = (float(sizes[0]), float(sizes[1]))
    answer = _answer(span, allowed)
    return Measured(name, both, error, span, order, interval, declared, allowed, answer, not far)


def _order(
    sizes: np.ndarray, draws: np.ndarray, seen: np.ndarray, declared: float
) -> tuple[float | None, Interval, bool]:
    """Log₂ of the ratio of two differences, with its interval, and whether that is far above the declared order; None
    where it is, or where it is not resolved. `seen`: which of the two stand clear of noise and rounding.
    """
    if not (sizes > 0).all():
        return None, (-np.inf, np.inf), False
    interval = _percentiles(np.log2(_ratio(draws[:, 0], draws[:, 1])))
    far = bool(seen[0]) and interval[0] > declared + _FAR
    resolved = bool(seen.all()) and interval[0] > 0 and not far
    return (float(np.log2(sizes[0] / sizes[1])) if resolved else None), interval, far


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    tiny = np.finfo(np.float64).tiny
    return np.maximum(a, tiny) / np.maximum(b, tiny)


def _percentiles(draws: np.ndarray) -> Interval:
    low, high = np.percentile(draws, [2.5, 97.5], method="nearest")
    return float(low), float(high)


def _answer(span: Interval, allowed: float) -> Answer:
    if span[1] <= allowed:
        return "yes"
    return "no" if span[0] > allowed else "not resolved"


def _blocks(values: np.ndarray) -> np.ndarray:
    """Means over equal blocks of paths, at most 1024 of them: what the bootstrap draws from."""
    per = -(-len(values) // _BLOCKS)
    kept = values[: len(values) // per * per]
    return kept.reshape(-1, per, *values.shape[1:]).mean(axis=1)


def _bootstrap_weights(blocks: int, rng: np.random.Generator) -> Float[np.ndarray, "draws blocks"]:
    """How often each block is drawn, over their number."""
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=_BOOTSTRAPS) / blocks


def _span(interval: Interval, form: str) -> str:
    return f"[{interval[0]:{form}}, {interval[1]:{form}}]"

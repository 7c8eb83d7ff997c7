"""The losses that are compared, and what each finds with endless data.

A loss ρ(q), q = r²/v, of the residuals r = y - a - c x, v their mean square, is an M-estimator: its minimum solves
Σ w(q) r (1, x) = 0, found by reweighting (Huber 1964):

    gaussian  ρ = q/2               w = 1
    log       ρ = ½ log(q + δ)      w = 1 / (q + δ)
    student   ρ = 5/2 log(1 + q/4)  w = 5 / (4 + q)

With ψ = ρ' in r, its s.d. is √(E ψ²) / E ψ' per root of the number of rows; a Gaussian loss has 1 (`efficiency`).
v is a mean square, so outliers widen it: what is far off in units of √v is so no more when they are many.
A Student likelihood has the weights (ν + 1) / (ν + r²/s²), with s and ν at their maximum likelihood too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import ndtr, ndtri, stdtrit

from neuralsde.evaluate.scores import log_density
from neuralsde.models.sequence_sde.module import FEWEST_DOF
from neuralsde.models.sequence_sde.objective import STUDENT_DOF

WAYS: dict[str, dict[str, Any]] = {
    "gaussian (= mse)": {},
    "log, δ = .001": {"flow_loss": "log"},
    "log, δ = 1": {"flow_loss": "log", "log_delta": 1.0},
    "student flow": {"flow_loss": "student"},
    "student flow and tails": {"flow_loss": "student", "tails": "student"},
    "student likelihood": {"objective": "joint", "tails": "student"},
}
"""Options of the fit. On equal gaps "mse" is the same loss as "gaussian"."""
PLAIN = "gaussian (= mse)"
_MOST_DOF, _ROUNDS, _CLOSE = 1e4, 300, 1e-5


@dataclass(frozen=True)
class Limit:
    """Of endless data: the increment has the law a + c x + s T, T normal or Student's with `dof`."""

    a: float
    c: float
    s: float
    dof: float | None = None

    def quantile(self, p: Any) -> Any:
        """Of T."""
        return ndtri(p) if self.dof is None else stdtrit(self.dof, p)

    def half_width(self, level: float) -> float:
        """Of the central band at `level` (.8, .95)."""
        return self.s * float(self.quantile((1 + level) / 2))

    def covers(self, level: float, error_sd: float) -> float:
        """The share of truths inside, when truth minus forecast mean is N(-a, error_sd²)."""
        half = self.half_width(level)
        return float(ndtr((half + self.a) / error_sd) - ndtr((self.a - half) / error_sd))


@dataclass(frozen=True)
class Rows:
    """Endless data as weighted points: states x, increments y and their probabilities, (n,) each."""

    x: np.ndarray
    y: np.ndarray
    mass: np.ndarray

    def mean(self, values: np.ndarray) -> float:
        return float(self.mass @ values / self.mass.sum())

    def line(self, weight: np.ndarray | float = 1.0) -> tuple[float, float]:
        """Intercept and slope of weighted least squares."""
        w = self.mass * weight
        mx, my = w @ self.x / w.sum(), w @ self.y / w.sum()
        c = float((w * (self.x - mx)) @ (self.y - my) / ((w * (self.x - mx)) @ (self.x - mx)))
        return float(my - c * mx), c


def limit(way: str, rows: Rows) -> Limit:
    """What a way finds."""
    options = WAYS[way]
    if options.get("objective") == "joint":
        return _student(rows, *rows.line(), moves=True)
    a, c = reweighted(options.get("flow_loss", "gaussian"), rows, options.get("log_delta", 1e-3))
    if options.get("tails") == "student":
        return _student(rows, a, c, moves=False)
    return Limit(a, c, float(np.sqrt(rows.mean(np.square(rows.y - a - c * rows.x)))))


def reweighted(kind: str, rows: Rows, delta: float = 1e-3) -> tuple[float, float]:
    """Intercept and slope at the minimum of a flow loss."""
    line = rows.line()
    for _ in range(_ROUNDS):
        r2 = np.square(rows.y - line[0] - line[1] * rows.x)
        before, line = line, rows.line(weights(kind, r2 / rows.mean(r2), delta))
        if np.allclose(before, line, rtol=0, atol=_CLOSE):
            break
    return line


def weights(kind: str, q: np.ndarray, delta: float = 1e-3) -> np.ndarray:
    """Of residuals with q = r²/v."""
    if kind == "log":
        return 1 / (q + delta)
    return (STUDENT_DOF + 1) / (STUDENT_DOF + q) if kind == "student" else np.ones_like(q)


def efficiency(kind: str, delta: float = 1e-3) -> float:
    """S.d. of an estimate over that of least squares, for Gaussian residuals: √(E ψ²) / E z ψ."""
    z = np.linspace(-9, 9, 200_001)
    p = np.exp(-0.5 * z**2)
    psi = z * weights(kind, z**2, delta)
    return float(np.sqrt((p * psi**2).sum() * p.sum()) / (p * z * psi).sum())


def _student(rows: Rows, a: float, c: float, *, moves: bool) -> Limit:
    """Maximum likelihood of scale and degrees of freedom, and of the line if it moves: expectation-maximisation."""
    r, dof = rows.y - a - c * rows.x, 10.0
    s2, before = rows.mean(r**2), (np.inf, np.inf)
    for k in range(_ROUNDS):
        weight = (dof + 1) / (dof + r**2 / s2)
        if moves:
            a, c = rows.line(weight)
            r = rows.y - a - c * rows.x
        s2 = rows.mean(weight * r**2)
        if k % 5 == 4:
            dof = _best_dof(rows, r, np.sqrt(s2))
            if np.allclose(before, (c, s2), rtol=0, atol=_CLOSE):
                break
            before = (c, s2)
    return Limit(a, c, float(np.sqrt(s2)), dof)


def _best_dof(rows: Rows, r: np.ndarray, s: float) -> float:
    def nats(log: float) -> float:
        return -rows.mean(log_density(r, 0.0, s, FEWEST_DOF + np.exp(log)))

    found: Any = minimize_scalar(nats, bounds=(-8.0, np.log(_MOST_DOF)), method="bounded", options={"xatol": 1e-2})
    return FEWEST_DOF + float(np.exp(found.x))


def spoiled(
    values: np.ndarray, share: float, size: float, rng: np.random.Generator, *, rows: bool = False
) -> np.ndarray:
    """Values (..., rows, d) with N(0, size²) added to a `share` of the entries, or of whole rows."""
    shape = (*values.shape[:-1], 1) if rows else values.shape
    hit = rng.random(shape) < share
    return values + np.where(hit, size * rng.standard_normal(values.shape), 0.0)

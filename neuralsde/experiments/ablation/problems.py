"""Problems for the objectives: transitions to fit and to score, and what truth, a Gaussian and a constant would get.

A regression is a transition of one step: covariates in (in units of their s.d., as `fit` has them), target out, from a
state that is always zero. With the conditional law p(y | u) known, three figures need no training (nats per dimension,
the mean over held-out rows):

    floor      -log p(y | u)
    reachable  that of the Gaussian with the mean and the s.d. of p(· | u), each column for itself: the model's best
    trivial    that of one Gaussian for all rows, from the training rows

fork            rows of the branching experiment (density 1) seen with noise, and a step that is noisy
heteroscedastic y = ½ sin 3πu₁ + 10^(u₂ - 1) ε: noise from .01 to 1, a mean that is lost in most of it
bimodal         y = ½ sin 2u₁ + h(u₂) b + .05 ε, b = 1 with probability .7, else -1: no Gaussian is right
two scales      a slow OU process and a fast one that relaxes to sin 2x within a gap, with noise of .01
diabetes        442 patients, ten covariates (Efron et al. 2004); law unknown
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from neuralsde.errors import InputError
from neuralsde.evaluate.scores import log_density
from neuralsde.experiments.branching.fork import demonstrations
from neuralsde.experiments.seeds import pairs
from neuralsde.models.sequence_sde import Transition

BLUR, JUMP, LENGTH = 0.05, 0.005, 3.0
"""Fork: s.d. of the state about its row and of the step, in units of the data; the unit of the model."""
LIKELY, SPREAD = 0.7, 0.05
"""Bimodal: probability of the upper mode, and the s.d. of both."""
SLOW, FAST, FINE = 0.01, 5.0, 0.01
"""Two scales: the rates per gap, and the s.d. of the fast noise."""
HELD_OUT = 0.2
"""Of the patients."""


@dataclass(frozen=True)
class Drawn:
    """Rows x0 (n, d), covariates (n, c) and x1 (n, d); with the true log density (n,) and the moments of x1 given them.

    mode: (n, d) most likely place of x1, where it is not the mean.
    """

    x0: np.ndarray
    context: np.ndarray
    x1: np.ndarray
    log_p: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    mode: np.ndarray | None = None


@dataclass(frozen=True)
class Problem:
    """Transitions (seeds, n, ...) to fit and to score, and nats by name that need no training."""

    name: str
    data: Transition
    held: Transition
    known: dict[str, float]


def fork(n: int, rng: np.random.Generator) -> Drawn:
    """Steps from blurred rows of the fork: given x, a mixture over the rows that it may have come from."""
    lines = demonstrations() / LENGTH
    rows, moves = lines[:, :-1].reshape(-1, 2), np.diff(lines, axis=1).reshape(-1, 2)
    blur, jump = BLUR / LENGTH, JUMP / LENGTH
    j = rng.integers(len(rows), size=n)
    x0 = rows[j] + blur * rng.standard_normal((n, 2))
    x1 = x0 + moves[j] + jump * rng.standard_normal((n, 2))
    log_w = -np.square(x0[:, None] - rows).sum(-1) / (2 * blur**2)
    log_w -= logsumexp(log_w, axis=1, keepdims=True)
    log_p = np.asarray(logsumexp(log_w + log_density((x1 - x0)[:, None], moves, jump).sum(-1), axis=1))
    w = np.exp(log_w)
    mean = w @ moves
    var = w @ moves**2 - mean**2 + jump**2
    return Drawn(x0, np.zeros((n, 0)), x1, log_p, x0 + mean, np.sqrt(var))


def heteroscedastic(n: int, rng: np.random.Generator) -> Drawn:
    """A sine under noise of two orders of magnitude."""
    u = rng.uniform(-1, 1, (n, 2))
    mean, sd = 0.5 * np.sin(3 * np.pi * u[:, :1]), 10 ** (u[:, 1:] - 1)
    y = mean + sd * rng.standard_normal((n, 1))
    return Drawn(np.zeros((n, 1)), u, y, log_density(y, mean, sd)[:, 0], mean, sd)


def bimodal(n: int, rng: np.random.Generator) -> Drawn:
    """Two narrow modes, one likelier than the other."""
    u = rng.uniform(-1, 1, (n, 2))
    centre, half = 0.5 * np.sin(2 * u[:, :1]), 0.5 * (1 + 0.5 * u[:, 1:])
    side = np.where(rng.random((n, 1)) < LIKELY, 1.0, -1.0)
    y = centre + side * half + SPREAD * rng.standard_normal((n, 1))
    both = [np.log(p) + log_density(y, centre + s * half, SPREAD) for p, s in ((LIKELY, 1), (1 - LIKELY, -1))]
    log_p = np.logaddexp(*both)[:, 0]
    lean = 2 * LIKELY - 1
    sd = np.sqrt(half**2 * (1 - lean**2) + SPREAD**2)
    return Drawn(np.zeros((n, 1)), u, y, log_p, centre + lean * half, sd, centre + half)


def two_scales(n: int, rng: np.random.Generator) -> Drawn:
    """One gap of dx = -ε x dt + √2ε dW, dy = -k (y - sin 2x₀) dt + √2k s dB; x₀ is x at its start."""
    slow, fast = np.exp(-SLOW), np.exp(-FAST)
    x_before = rng.standard_normal((n, 1))
    x = slow * x_before + np.sqrt(1 - slow**2) * rng.standard_normal((n, 1))
    y = np.sin(2 * x_before) + FINE * rng.standard_normal((n, 1))
    mean = np.concatenate([slow * x, fast * y + (1 - fast) * np.sin(2 * x)], axis=1)
    sd = np.broadcast_to([np.sqrt(1 - slow**2), FINE * np.sqrt(1 - fast**2)], mean.shape)
    x1 = mean + sd * rng.standard_normal((n, 2))
    x0 = np.concatenate([x, y], axis=1)
    return Drawn(x0, np.zeros((n, 0)), x1, log_density(x1, mean, sd).sum(1), mean, sd)


KNOWN: dict[str, Callable[[int, np.random.Generator], Drawn]] = {
    "fork": fork,
    "heteroscedastic": heteroscedastic,
    "bimodal": bimodal,
    "two scales": two_scales,
}


def drawn(name: str, seeds: int, train: int, test: int, seed: int) -> Problem:
    """A problem of known law, with rows of its own for every seed."""
    rng = np.random.default_rng(seed)
    fits, scored = ([KNOWN[name](n, rng) for _ in range(seeds)] for n in (train, test))
    d = fits[0].x1.shape[1]
    known = {
        "floor": float(np.mean([-one.log_p.mean() / d for one in scored])),
        "reachable": float(np.mean([_nats(one.x1, one.mean, one.sd) for one in scored])),
        "trivial": float(np.mean([_constant(a.x1 - a.x0, b.x1 - b.x0) for a, b in zip(fits, scored, strict=True)])),
    }
    if scored[0].mode is not None:
        known["at the mode"] = float(np.mean([_at_mode(one) for one in scored]))
    return Problem(name, _transitions(fits), _transitions(scored), known)


_UNIFORM_SD = 1 / np.sqrt(3)
"""Of the covariates of the two tables, which are uniform on (-1, 1)."""


def _at_mode(rows: Drawn) -> float:
    """A Gaussian about the likeliest place, as wide as it must be there."""
    assert rows.mode is not None
    return _nats(rows.x1, rows.mode, np.sqrt(rows.sd**2 + (rows.mode - rows.mean) ** 2))


def diabetes(seeds: int, seed: int) -> Problem:
    """Disease progression after a year from ten covariates; each seed has another fifth of the patients held out."""
    table = read_diabetes()
    rng = np.random.default_rng(seed)
    held = round(HELD_OUT * len(table))
    fits, scored, known = [], [], []
    for _ in range(seeds):
        rows = table[rng.permutation(len(table))]
        test, train = rows[:held], rows[held:]
        test, train = ((part - train.mean(0)) / train.std(0) for part in (test, train))
        fits.append((np.zeros((len(train), 1)), train[:, -1:], train[:, :-1]))
        scored.append((np.zeros((len(test), 1)), test[:, -1:], test[:, :-1]))
        weights, *_ = np.linalg.lstsq(train[:, :-1], train[:, -1], rcond=None)
        spread = np.std(train[:, -1] - train[:, :-1] @ weights, ddof=train.shape[1])
        line = _nats(test[:, -1:], test[:, :-1] @ weights[:, None], spread)
        known.append((line, _constant(train[:, -1:], test[:, -1:])))
    data, held_out = (_stacked(*map(np.stack, zip(*rows, strict=True))) for rows in (fits, scored))
    line, constant = np.mean(known, axis=0)
    return Problem("diabetes", data, held_out, {"least squares": float(line), "trivial": float(constant)})


def read_diabetes(folder: str | Path | None = None) -> np.ndarray:
    """The table (442, 11), the target last, from `diabetes/diabetes.tab.txt` under NEURALSDE_DATA, as published.

    Raises InputError where there is none.
    """
    root = os.environ.get("NEURALSDE_DATA", "") if folder is None else str(folder)
    path = Path(root) / "diabetes" / "diabetes.tab.txt"
    if not root or not path.is_file():
        raise InputError(
            f"NEURALSDE_DATA={root}" if root else "NEURALSDE_DATA is not set",
            "the diabetes table is not there",
            "diabetes/diabetes.tab.txt in that folder",
            "it is offered with Efron et al. 2004, Least Angle Regression (Stanford statistics)",
        )
    return np.loadtxt(path, skiprows=1)


def _transitions(rows: list[Drawn]) -> Transition:
    x0, x1, u = (np.stack([getattr(one, name) for one in rows]) for name in ("x0", "x1", "context"))
    return _stacked(x0, x1, u / _UNIFORM_SD)


def _stacked(*parts: np.ndarray) -> Transition:
    """From states, targets and covariates (seeds, n, ...)."""
    return jax.vmap(pairs)(*(jnp.asarray(part, jnp.float32) for part in parts))


def _constant(train: np.ndarray, test: np.ndarray) -> float:
    return _nats(test, train.mean(0), train.std(0))


def _nats(x: np.ndarray, mean: np.ndarray, sd: np.ndarray | np.floating) -> float:
    return float(-log_density(x, mean, sd).mean())

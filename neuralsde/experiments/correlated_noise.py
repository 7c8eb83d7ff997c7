"""Noise that channels share: what each shape of G finds of a known covariance, what it is worth, what it costs.

    dy = A y dt + S dW,     y(t + 1) | y(t) ~ N(F y, Q),    Q = ∫ e^{As} S Sᵀ e^{Aᵀs} ds        (exact, `sde.exact`)

with S = [diag(own), two common factors] for d = 3 and 8, and a dense S for d = 3. One step learns Q, so the error of
the covariance is ‖GGᵀ - Q‖ / ‖Q‖ (Frobenius); its floor is least squares with the residuals' covariance. The best
diagonal law is ½ (Σ log Q_ii - log det Q) nats a step from the truth: that is its expected regret. Energy scores are of
the whole row. Woodbury's identity costs O(d r²), a Cholesky factorisation O(d³): the cost is the time of one gradient.

    neuralsde reproduce correlated-noise --seeds 5
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from neuralsde.evaluate import style
from neuralsde.evaluate.scores import energy_score
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.seeds import BATCH, cell, pairs, paths, train, window
from neuralsde.models.sequence_sde import Config, Running, SequenceSDE, loss
from neuralsde.sde import LinearSDE

_BASE = {"history": 0, "depth": 0}
WAYS: dict[str, dict[str, Any]] = {
    "diagonal": {},
    "low-rank 1": {"noise": "low-rank", "rank": 1},
    "low-rank 2": {"noise": "low-rank", "rank": 2},
    "low-rank 4": {"noise": "low-rank", "rank": 4},
    "full": {"noise": "full"},
}
FLOOR = "least squares (floor)"
MEASURES = ("covariance", "regret", "energy 1", "energy 10")
LEAD = 10
_RATE, _MIXING, _PROCESS_SEED = 0.1, 0.3, 3


@dataclass(frozen=True)
class Size:
    """Transitions to fit and to score, steps of training; starts and paths of the forecasts; timed dimensions."""

    transitions: int = 10_000
    test: int = 10_000
    steps: int = 1_000
    starts: int = 200
    paths: int = 50
    dims: tuple[int, ...] = (4, 16, 64)
    repeats: int = 30


SMALL = Size(transitions=2_000, test=1_000, steps=300, starts=20, paths=10, dims=(4,), repeats=2)
FULL = Size(transitions=100_000, test=50_000, steps=10_000, starts=1_000, paths=200, dims=(4, 16, 64, 256))


# -- known laws ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """y' ~ N(F y, Q) with stationary covariance P (d, d), all of whose variances are one."""

    name: str
    F: np.ndarray
    Q: np.ndarray
    P: np.ndarray

    @property
    def dim(self) -> int:
        return len(self.F)

    def pairs(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Stationary states (n, d) and where they are one gap later."""
        x0 = rng.standard_normal((n, self.dim)) @ np.linalg.cholesky(self.P).T
        return x0, self.after(x0, 1, rng)

    def after(self, x: np.ndarray, gaps: int, rng: np.random.Generator) -> np.ndarray:
        """Draws (..., d) of the state so many gaps later."""
        root = np.linalg.cholesky(self.Q)
        for _ in range(gaps):
            x = x @ self.F.T + rng.standard_normal(x.shape) @ root.T
        return x

    @property
    def diagonal_regret(self) -> float:
        """½ (Σ log Q_ii - log det Q): nats a step that the best diagonal law lacks."""
        return float(0.5 * (np.log(np.diagonal(self.Q)).sum() - np.linalg.slogdet(self.Q)[1]))

    @property
    def diagonal_error(self) -> float:
        """‖Q - diag Q‖ / ‖Q‖."""
        return float(np.linalg.norm(self.Q - np.diag(np.diagonal(self.Q))) / np.linalg.norm(self.Q))


def known(name: str, d: int, factors: int | None) -> Known:
    """A stable linear SDE of d channels; noise of `factors` common factors and a part of its own, or (None) dense."""
    rng = np.random.default_rng(_PROCESS_SEED)
    mixing = rng.standard_normal((d, d)) / np.sqrt(d)
    A = -_RATE * (np.eye(d) + _MIXING * (mixing - mixing.T))
    S = rng.standard_normal((d, d))
    if factors is not None:
        S = np.concatenate([np.diag(rng.uniform(0.3, 0.6, d)), rng.standard_normal((d, factors))], axis=1)
    eye = np.eye(d)
    P = np.linalg.solve(np.kron(A, eye) + np.kron(eye, A), -(S @ S.T).ravel()).reshape(d, d)
    unit = np.sqrt(np.diagonal(P))
    A, S, P = A * unit / unit[:, None], S / unit[:, None], P / np.outer(unit, unit)
    with jax.enable_x64(True):
        F, _, Q = LinearSDE(jnp.asarray(A), jnp.zeros(d), jnp.asarray(S)).kernel(1.0)
        return Known(name, np.asarray(F), np.asarray(Q), P)


def cases() -> tuple[Known, ...]:
    """The three laws of the tables."""
    return known("d = 3, 2 factors", 3, 2), known("d = 8, 2 factors", 8, 2), known("d = 3, dense", 3, None)


# -- what is measured ----------------------------------------------------------------------------------------------


def log_density(r: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Log N(r; 0, Q) of rows (n, d)."""
    return -0.5 * ((r * np.linalg.solve(Q, r.T).T).sum(1) + np.linalg.slogdet(2 * np.pi * Q)[1])


@eqx.filter_jit
def _laws(models: SequenceSDE, x0: jax.Array, x1: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Covariances of one step (seeds, n, d, d) and its nats (seeds, n)."""

    def one(model: SequenceSDE, x0: jax.Array, x1: jax.Array) -> tuple[jax.Array, jax.Array]:
        def at(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
            law = model.step(window(x), jnp.ones(len(x)))
            return jnp.diag(law.sd**2) + law.loading @ law.loading.T, law.log_density(y, jnp.ones(len(y), bool)).sum()

        return jax.vmap(at)(x0, x1)

    return eqx.filter_vmap(one)(models, x0, x1)


def measure(law: Known, seed: int, seeds: int, size: Size) -> dict[str, dict[str, list[float]]]:
    """By way and measure, one figure a seed; the ways, the floor, and for the energy the exact law."""
    rng = np.random.default_rng(seed)
    train_sets, tests = ([law.pairs(n, rng) for _ in range(seeds)] for n in (size.transitions, size.test))
    (x0, x1), (y0, y1) = (tuple(np.stack(part) for part in zip(*sets, strict=True)) for sets in (train_sets, tests))
    starts = y0[:, : size.starts]
    ends = {lead: law.after(starts, lead, rng) for lead in (1, LEAD)}
    best = np.array([log_density(b - a @ law.F.T, law.Q).mean() for a, b in zip(y0, y1, strict=True)])
    found = {FLOOR: _by_hand(law, x0, x1, y0, y1, best)}
    shape = (seeds, size.starts, size.paths, law.dim)
    exact = np.broadcast_to(starts[:, :, None], shape)
    found[FLOOR] |= {f"energy {lead}": _energy(law.after(exact, lead, rng), ends[lead]) for lead in ends}
    for way, options in WAYS.items():
        if options.get("rank", 1) >= law.dim:
            continue
        models = train(Config(**_BASE, **options), x0, x1, steps=size.steps, seed=seed)
        cov, nats = (np.asarray(part, np.float64) for part in _laws(models, jnp.float32(y0), jnp.float32(y1)))
        ahead = paths(models, starts, np.ones(LEAD), n=size.paths, seed=seed + 1)
        error = np.sqrt(np.square(cov - law.Q).sum((2, 3)).mean(1)) / np.linalg.norm(law.Q)
        found[way] = {"covariance": error.tolist(), "regret": (best - nats.mean(1)).tolist()}
        found[way] |= {f"energy {lead}": _energy(ahead[:, :, :, lead - 1], ends[lead]) for lead in ends}
    return found


def _by_hand(law: Known, x0: Any, x1: Any, y0: Any, y1: Any, best: np.ndarray) -> dict[str, list[float]]:
    """Least squares of x1 on x0, and the covariance of what is left: the maximum-likelihood one-step law."""
    errors, regrets = [], []
    for a, b, c, d, truth in zip(x0, x1, y0, y1, best, strict=True):
        slope = np.linalg.lstsq(a, b, rcond=None)[0]
        Q = (b - a @ slope).T @ (b - a @ slope) / len(a)
        errors.append(float(np.linalg.norm(Q - law.Q) / np.linalg.norm(law.Q)))
        regrets.append(float(truth - log_density(d - c @ slope, Q).mean()))
    return {"covariance": errors, "regret": regrets}


def _energy(draws: np.ndarray, truth: np.ndarray) -> list[float]:
    """Mean energy score of each seed: draws (seeds, starts, n, d), truth (seeds, starts, d)."""
    return [float(energy_score(np.moveaxis(a, 1, 0), b).mean()) for a, b in zip(draws, truth, strict=True)]


# -- cost ----------------------------------------------------------------------------------------------------------


def costs(size: Size) -> dict[str, dict[str, float]]:
    """Milliseconds of one gradient of the loss by way and dimension: the ways take turns, the fastest counts."""
    found: dict[str, dict[str, float]] = {way: {} for way in WAYS}
    for d in size.dims:
        rng = np.random.default_rng(d)
        x0 = rng.standard_normal((BATCH, d))
        batch = pairs(x0, 0.9 * x0 + 0.4 * rng.standard_normal((BATCH, d)))
        walk = np.full(d, 0.4, np.float32)
        runs = {}
        for way, options in WAYS.items():
            model = SequenceSDE(Config(**_BASE, **options), d, 0, walk=walk, key=jax.random.key(d))
            runs[way] = _step(model, batch, walk)
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(size.repeats):
            for way, run in runs.items():
                began = time.perf_counter()
                run()
                times[way].append(time.perf_counter() - began)
        for way in WAYS:
            found[way][f"d = {d}"] = 1e3 * min(times[way])
    return found


def _step(model: SequenceSDE, batch: Any, walk: np.ndarray) -> Any:
    """One compiled gradient, already run once."""
    params, static = eqx.partition(model, eqx.is_inexact_array)
    running = Running.first(jnp.asarray(walk))

    def value(params: Any) -> jax.Array:
        return loss(eqx.combine(params, static), batch, running, key=jax.random.key(0))[0]

    slope = jax.jit(jax.grad(value))

    def run() -> Any:
        return jax.block_until_ready(slope(params))

    run()
    return run


# -- the whole of it -----------------------------------------------------------------------------------------------


@experiment("correlated-noise", Size(), FULL)
def reproduce(asked: Asked[Size]) -> Iterator[str]:
    """Fit every shape to every law, write correlated-noise.json, .md and .png into `out`; yields lines as they come."""
    size = asked.size
    facts = asked.first | {"laws": {}}
    for law in cases():
        found = measure(law, asked.seed, asked.seeds, size)
        expected = {"covariance": law.diagonal_error, "regret": law.diagonal_regret}
        facts["laws"][law.name] = {"found": found, "diagonal expected": expected}
        yield f"{law.name}: regret " + ", ".join(f"{way} {cell(row['regret'])}" for way, row in found.items())
    facts["milliseconds"] = costs(size)
    facts["seconds"] = asked.seconds
    _picture(facts, asked.path())
    asked.write(facts, _page(facts))
    yield from _page(facts).splitlines()


def _page(facts: dict[str, Any]) -> str:
    size = facts["size"]
    lines = [
        "# Correlated noise",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. {size['transitions']:,} transitions of a linear "
        f"SDE with known noise, θΔ = {_RATE}, {size['steps']:,} steps of training, {facts['seeds']} seeds, mean ± "
        "standard error. Covariance: relative Frobenius error of one step. Regret: nats a step behind the exact law on "
        "fresh transitions (floor 0). Energy: energy score of the whole row 1 and 10 steps ahead; in the floor's line "
        "that of the exact law. The diagonal is the trivial line.",
    ]
    for name, part in facts["laws"].items():
        expected = part["diagonal expected"]
        lines += [
            "",
            f"**{name}** (expected of the best diagonal: covariance {expected['covariance']:.3f}, regret "
            f"{expected['regret']:.3f})",
            "",
            "| | " + " | ".join(MEASURES) + " |",
            "|---|" + "--:|" * len(MEASURES),
        ]
        lines += [
            f"| {way} | " + " | ".join(cell(row[m], 4 if m == "regret" else 3) for m in MEASURES) + " |"
            for way, row in part["found"].items()
        ]
    times = facts["milliseconds"]
    dims = list(times["diagonal"])
    lines += [
        "",
        f"One gradient of the loss, batch {BATCH}, linear networks: ms (over that of the diagonal, same run). Rank 4 "
        "for d = 4 is dense, and goes the way of the full one.",
        "",
        "| | " + " | ".join(dims) + " |",
        "|---|" + "--:|" * len(dims),
    ]
    for way, row in times.items():
        lines.append(
            f"| {way} | " + " | ".join(f"{row[d]:.2f} ({row[d] / times['diagonal'][d]:.1f})" for d in dims) + " |"
        )
    return "\n".join(lines)


def _picture(facts: dict[str, Any], path: Path) -> None:
    """Regret by shape for each law, one point a seed."""
    fig = style.figure(780, 240)
    for k, (name, part) in enumerate(facts["laws"].items()):
        ax = fig.add_axes((0.11 + 0.3 * k, 0.2, 0.26, 0.66), facecolor="none")
        for place, way in enumerate(WAYS):
            values = part["found"].get(way, {}).get("regret", [])
            colour = style.MUTED if way == "diagonal" else style.ACCENT
            ax.plot(values, [place] * len(values), "o", color=colour, markersize=4, alpha=0.6)
        ax.axvline(part["diagonal expected"]["regret"], color=style.FAINT, linewidth=0.9)
        ax.axvline(0.0, color=style.INK, linewidth=0.8)
        ax.set_yticks(range(len(WAYS)), list(WAYS) if not k else [""] * len(WAYS))
        ax.invert_yaxis()
        ax.set_title(name, fontsize=10, color=style.INK)
        ax.tick_params(length=0, labelsize=9, colors=style.MUTED)
        for spine in ax.spines.values():
            spine.set_visible(False)
    fig.text(
        0.5, 0.02, "nats a step behind the exact law; grey: what the best diagonal lacks", ha="center", fontsize=10
    )
    style.save(fig, path)

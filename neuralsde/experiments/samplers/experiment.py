"""The run: all rows at all budgets with an exact score, orders by the Gaussian recursion, all rows with one that errs.

Seeds differ in everything: starts, noise, and the real draws that samples are compared with. A run that was stopped
goes on where it was, row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.samplers import law, measure
from neuralsde.experiments.samplers.ladder import ERROR_NFE, FAR_NFE, LAW_NFE, SLICED_W2
from neuralsde.experiments.samplers.page import page
from neuralsde.experiments.samplers.picture import picture
from neuralsde.experiments.samplers.rows import Row, rows
from neuralsde.noising import Gaussian, Predictor
from neuralsde.sampling import gaussian_moments

NAME, PARTS = "samplers", ("found", "far", "moments", "erring")
ERRING = 0.05
ERRING_NFE = (24, 96)
MOMENTS_NFE = (48, 96, 192, 384)
NO_MOMENTS = ("annealed-langevin",)
"""Its steps draw noise inside a loop of their own."""


@dataclass(frozen=True)
class Size:
    """`points` with a pathwise error and `samples` of the law, a seed; `pairs` of real against real for the floor; laws
    of samplers that the published ladder lacks are those of `apart` seeds; `erring` samples with a score that errs;
    `reference` steps of RK4; names of the registry, all if there are none.
    """

    points: int = 4_000
    samples: int = 100_000
    seeds: int = 3
    pairs: int = 60
    apart: int = 1
    erring: int = 40_000
    reference: int = 6_000
    names: tuple[str, ...] = ()


SMALL = Size(400, 800, 2, 3, 2, 400, 500, ("dpmpp-2m", "sde-dpmpp-2m"))
FULL = Size(seeds=10, pairs=200, apart=10)


@experiment(NAME, Size(), FULL)
def reproduce(asked: Asked[Size]) -> Iterator[str]:
    """Run all samplers, write samplers.json, samplers.md and samplers.png into `out`; yields lines as they are known.

    seeds: times the size: two seeds are six draws of starts.
    """
    size = asked.size
    saved = asked.before()
    before = saved.get("seconds", 0)
    facts = asked.first | {key: saved.get(key, {}) for key in ("known", *PARTS)}
    facts["asked"] = asked.seeds * size.seeds
    run = Run(size, range(asked.seed * size.seeds, (asked.seed + asked.seeds) * size.seeds))

    def save() -> None:
        facts["seconds"] = before + asked.seconds
        asked.write(facts, page(facts))

    with jax.enable_x64(True):
        facts["known"] = facts["known"] or run.known()
    for row in rows(size.names):
        for part, measured in zip(PARTS, (run.row, run.far, run.moments, run.erring), strict=True):
            if row.label not in facts[part]:
                with jax.enable_x64(True):
                    facts[part][row.label] = measured(row)
        save()
        yield f"{row.label}: " + _told(facts["found"][row.label])
    picture(facts, asked.path())
    yield from page(facts).splitlines()


@dataclass(frozen=True)
class Run:
    """What is measured, seed by seed."""

    size: Size
    seeds: range

    def key(self, seed: int, use: int) -> Any:
        """One for every use of a seed."""
        return jax.random.fold_in(jax.random.key(seed), use)

    def starts(self, seed: int) -> Any:
        """Exact starts of a seed; errors are of the first of them."""
        return _starts(self, seed)

    def known(self) -> dict[str, Any]:
        """Floors, trivial baselines, how far the reference is from itself, and the entropy by real draws."""
        n, first = self.size.samples, self.seeds[0]
        noised = law.law().at(law.SCHEDULE, law.T0)
        mean, cov = noised.moments()
        draws = np.asarray(Gaussian(mean, cov).sample(n, key=self.key(first, 4)))
        ends = self.reference(first)
        halved = np.asarray(law.reference(self.starts(first)[: self.size.points], self.size.reference // 2))
        real = [measure.cross_entropy(noised, law.truth(n, key=self.key(seed, 5))) for seed in self.seeds]
        return {
            "floor": {name: asdict(one) for name, one in
                      measure.floors(n, self.size.pairs, key=self.key(first, 3)).items()},
            "trivial": self.yardstick(first).figures(draws) | measure.error(np.asarray(mean)[None], ends),
            "reference": {"off": float(np.linalg.norm(ends - halved, axis=1).max()) / 15},
            "entropy": real,
        }  # fmt: skip

    def reference(self, seed: int) -> measure.Floats:
        """Ends of the exact flow from the first of the seed's starts."""
        return _reference(self, seed)

    def yardstick(self, seed: int) -> measure.Yardstick:
        """What the seed's samples are compared with."""
        return _yardstick(self, seed)

    def row(self, row: Row) -> dict[str, Any]:
        """Figures of a row with the exact score: {NFE: {figure: a value a seed}}."""
        found: dict[str, Any] = {}
        pathwise = not row.sampler.stochastic
        budgets = ERROR_NFE if pathwise else LAW_NFE
        apart = len(self.seeds) if row.label in SLICED_W2 else self.size.apart
        for nfe, steps in _budgets(row, budgets):
            for number, seed in enumerate(self.seeds):
                law_too = number < apart and (nfe in LAW_NFE or row.spacing is None)
                if not law_too and not pathwise:
                    continue
                x = self.starts(seed)[: self.size.samples if law_too else self.size.points]
                dtype = float if pathwise else jnp.float32
                end, asked = measure.ends(
                    law.exact(), row, steps, x, key=self.key(seed, 1), longest=max(FAR_NFE), dtype=dtype
                )
                figures = {"nfe": asked}
                if pathwise:
                    figures |= measure.error(end[: self.size.points], self.reference(seed))
                if law_too:
                    figures |= self.yardstick(seed).figures(end)
                _append(found.setdefault(str(nfe), {}), figures)
        return found

    def far(self, row: Row) -> dict[str, Any]:
        """Median errors at more evaluations than the ladder has, on the first seed; {} for a row without an order."""
        if row.sampler.stochastic or row.spacing is None or row.sampler.order is None:
            return {}
        seed, found = self.seeds[0], {}
        for nfe, steps in _budgets(row, FAR_NFE):
            x = self.starts(seed)[: self.size.points]
            end, asked = measure.ends(law.exact(), row, steps, x, key=self.key(seed, 1), longest=max(FAR_NFE))
            _append(found.setdefault(str(nfe), {}), {"nfe": asked, **measure.error(end, self.reference(seed))})
        return found

    def erring(self, row: Row) -> dict[str, Any]:
        """Figures of a row with a score that errs, and with none, on the first seed: {kind: {NFE: figures}}."""
        seed, found = self.seeds[0], {}
        x, key = self.starts(seed)[: self.size.erring], self.key(seed, 2)
        for kind in ("none", "smooth", "white"):
            predictor = law.erring(**({} if kind == "none" else {kind: ERRING}))
            for nfe, steps in _budgets(row, ERRING_NFE):
                longest = max(ERRING_NFE)
                end, asked = measure.ends(predictor, row, steps, x, key=key, longest=longest, dtype=jnp.float32)
                figures = {"nfe": asked, **self.yardstick(seed).figures(end)}
                found.setdefault(kind, {})[str(nfe)] = figures
        return found

    def moments(self, row: Row) -> dict[str, Any]:
        """Errors of mean and covariance on Gaussian data, exactly; {} for a row without such a recursion."""
        if not row.sampler.stochastic or row.spacing is None or row.name in NO_MOMENTS:
            return {}
        data = Gaussian([1.0, -2.0], [[2.0, 0.6], [0.6, 0.3]])
        steps = [n for _, n in _budgets(row, MOMENTS_NFE)]
        grids = [jnp.pad(law.grid(n, row.spacing), (0, max(steps) - n), mode="edge") for n in steps]
        mean, cov = _moments(data.predictor(law.SCHEDULE), data, jnp.stack(grids), jnp.asarray(steps), row)
        return {"nfe": [n * row.sampler.cost for n in steps], "mean": mean.tolist(), "cov": cov.tolist()}


@cache
def _starts(run: Run, seed: int) -> Any:
    return law.starts(max(run.size.samples, run.size.points), key=run.key(seed, 0))


@cache
def _reference(run: Run, seed: int) -> measure.Floats:
    return np.asarray(law.reference(run.starts(seed)[: run.size.points], run.size.reference))


@cache
def _yardstick(run: Run, seed: int) -> measure.Yardstick:
    return measure.Yardstick(run.size.samples, key=run.key(seed, 6))


def _moments(predictor: Predictor, data: Gaussian, grids: Any, steps: Any, row: Row) -> tuple[np.ndarray, np.ndarray]:
    """‖m̂ - m‖ and ‖Ĉ - C‖ at T0 for every grid, from the exact law at T1."""
    start, end = (data.at(law.SCHEDULE, t).moments() for t in (law.T1, law.T0))

    @jax.jit
    def every(grids: Any, steps: Any) -> Any:
        def one(at: Any) -> Any:
            mean, cov = gaussian_moments(predictor, *start, at[0], sampler=row.sampler, steps=at[1])
            return jnp.sqrt(jnp.square(mean - end[0]).sum()), jnp.sqrt(jnp.square(cov - end[1]).sum())

        return lax.map(one, (grids, steps))

    mean, cov = every(grids, steps)
    return np.asarray(mean), np.asarray(cov)


def _budgets(row: Row, budgets: tuple[int, ...]) -> list[tuple[int, int]]:
    """(evaluations allowed, steps); an adaptive row has one budget of its own, called 0."""
    if row.spacing is None:
        return [(0, 1)]
    return [(nfe, row.sampler.steps_for(nfe)) for nfe in budgets if nfe >= row.sampler.cost]


def _append(rows: dict[str, list[float]], figures: dict[str, float]) -> None:
    for name, value in figures.items():
        rows.setdefault(name, []).append(float(f"{value:.5g}"))


def _told(found: dict[str, Any]) -> str:
    best = found[max(found, key=int)]
    return ", ".join(f"{name} {np.mean(values):.3g}" for name, values in best.items())

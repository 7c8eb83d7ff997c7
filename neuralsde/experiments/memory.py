"""Two processes whose next row depends on a long past: learned summaries of it against stacked rows and none.

    level   x_k = l_k + r e_k,   l_k = φ l_(k-1) + √(1 - φ²) w_k     a slow level under noise: its best forecast is the
                                                                     Kalman filter, which forgets over some 12 rows
    delay   x_(k+1) = x_k - a x_(k-24) + w_k                         one Euler step of dx = -a x(t - 24) dt + dW a row

Both are Gaussian, so everything is known beforehand. The floor is the exact law given the whole past. Given the last
m + 1 rows only, the best there is has weights Γ⁻¹ γ and variance γ_0 - γᵀ Γ⁻¹ γ, Γ the autocovariances among these rows
and γ those with the target: what no network with so many rows can beat (`conditional`).

    neuralsde reproduce memory --seed 0
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import toeplitz

from neuralsde.data import Nothing
from neuralsde.evaluate import style
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.held_out import Origins, Row, of_law, of_model, over, random_walk, table
from neuralsde.models.sequence_sde import Config
from neuralsde.runs.fit import fit
from neuralsde.train.problem import TrainConfig

PHI, NOISE = 0.995, 1.0
DELAY, PULL = 24, 0.055
MEMORY, LEADS = 32, (1, 8, 32)
FLOOR, TRIVIAL = "floor", "random walk"
_BURN_IN = 3_000


@dataclass(frozen=True)
class Size:
    """Series to train on and as many to test on; `fits` of each method; `paths` from about `origins` origins."""

    fits: int = 5
    series: int = 24
    rows: int = 400
    width: int = 32
    steps: int = 600
    batch: int = 128
    paths: int = 50
    origins: int = 100


SMALL = Size(fits=1, series=3, rows=120, width=4, steps=3, batch=8, paths=4, origins=3)
FULL = Size(series=200, rows=1_000, width=64, steps=20_000, batch=512, paths=200, origins=2_000)


def methods(width: int) -> dict[str, Config]:
    """What is compared, by the past that it reads."""
    return {
        "Markov": Config(history=0, width=width),
        "4 rows stacked": Config(history=3, width=width),
        f"{MEMORY + 1} rows stacked": Config(history=MEMORY, width=width),
        "GRU summary": Config(history=0, memory=MEMORY, summary="gru", width=width),
        "attention summary": Config(history=0, memory=MEMORY, summary="attention", width=width),
    }


# -- the processes -----------------------------------------------------------------------------------------------------


def level(rng: np.random.Generator, series: int, rows: int) -> np.ndarray:
    """The level under noise, (series, rows), stationary from its first row."""
    drift, level = rng.standard_normal((rows, series)), rng.standard_normal(series)
    levels = np.empty((rows, series))
    for k in range(rows):
        level = PHI * level + np.sqrt(1 - PHI**2) * drift[k]
        levels[k] = level
    return (levels + NOISE * rng.standard_normal((rows, series))).T


def delayed(rng: np.random.Generator, series: int, rows: int) -> np.ndarray:
    """The delayed process, (series, rows), after a burn-in."""
    x = np.zeros((_BURN_IN + rows, series))
    noise = rng.standard_normal(x.shape)
    for k in range(DELAY, len(x) - 1):
        x[k + 1] = x[k] - PULL * x[k - DELAY] + noise[k]
    return x[_BURN_IN:].T


def response(count: int) -> np.ndarray:
    """ψ (count,): what one unit of noise has become so many rows later; Σ ψ² over the lead is a forecast's variance."""
    psi = np.ones(count)
    for k in range(1, count):
        psi[k] = psi[k - 1] - PULL * (psi[k - 1 - DELAY] if k > DELAY else 0.0)
    return psi


def covariances(process: str, count: int) -> np.ndarray:
    """Stationary autocovariances γ_0 ... γ_(count - 1)."""
    if process == "level":
        gamma = PHI ** np.arange(count)
        gamma[0] += NOISE**2
        return gamma
    psi = response(_BURN_IN + count)
    return np.array([psi[: len(psi) - k] @ psi[k:] for k in range(count)])


# -- what is known beforehand ------------------------------------------------------------------------------------------


def conditional(process: str, past: int, lead: int) -> tuple[np.ndarray, float]:
    """The best forecast from the present and `past` rows before it: weights (past + 1,), the present first; its s.d."""
    gamma = covariances(process, past + lead + 1)
    target = gamma[lead : lead + past + 1]
    weights = np.linalg.solve(toeplitz(gamma[: past + 1]), target)
    return weights, float(np.sqrt(gamma[0] - weights @ target))


def nats(sd: float) -> float:
    """Mean nats of a Gaussian forecast of that s.d. that is right."""
    return float(0.5 * np.log(2 * np.pi * np.e) + np.log(sd))


def kalman(values: np.ndarray, leads: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The exact law of `level` given all rows so far: mean and sd (series, rows, leads), from the stationary prior."""
    mean, variance = np.zeros(len(values)), 1.0
    far = PHI ** np.array(leads, np.float64)
    means, sds = np.empty((*values.shape, len(far))), np.empty((*values.shape, len(far)))
    for k in range(values.shape[1]):
        gain = variance / (variance + NOISE**2)
        mean, variance = mean + gain * (values[:, k] - mean), (1 - gain) * variance
        means[:, k] = mean[:, None] * far
        sds[:, k] = np.sqrt(far**2 * variance + 1 - far**2 + NOISE**2)
        mean, variance = PHI * mean, PHI**2 * variance + 1 - PHI**2
    return means, sds


def exact_delay(values: np.ndarray, leads: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The exact law of `delay` given the last 25 rows: mean and sd (series, rows, leads); NaN where there are fewer."""
    series, rows = values.shape
    past = np.full((series, rows, DELAY + 1 + max(leads)), np.nan)
    for back in range(DELAY + 1):
        past[:, DELAY:, DELAY - back] = values[:, DELAY - back : rows - back]
    for k in range(DELAY + 1, past.shape[2]):
        past[..., k] = past[..., k - 1] - PULL * past[..., k - 1 - DELAY]
    spread = np.sqrt(np.cumsum(np.square(response(max(leads)))))
    return past[..., [DELAY + lead for lead in leads]], np.array([spread[lead - 1] for lead in leads])


def limited(process: str, values: np.ndarray, past: int, leads: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The best forecast from the present and `past` rows before it: mean (series, rows, leads), NaN at first; sd."""
    series, rows = values.shape
    mean, sd = np.full((series, rows, len(leads)), np.nan), np.empty(len(leads))
    for j, lead in enumerate(leads):
        weights, sd[j] = conditional(process, past, lead)
        mean[:, past:, j] = sum(w * values[:, past - back : rows - back] for back, w in enumerate(weights))
    return mean, sd


PROCESSES = {"level": (level, kalman), "delay": (delayed, exact_delay)}


# -- the whole of it ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """Series (series, rows) of one process, to train on and to test on, and where is scored."""

    process: str
    train: np.ndarray
    test: np.ndarray
    origins: Origins

    @classmethod
    def of(cls, process: str, seed: int, size: Size) -> Drawn:
        """The same for every fit: what differs between fits is the start of the weights and the batches."""
        rng, last = np.random.default_rng(seed), size.rows - max(LEADS)
        train, test = (PROCESSES[process][0](rng, size.series, size.rows) for _ in range(2))
        every = max(1, size.series * (last - MEMORY) // size.origins)
        return cls(process, train, test, Origins.of(size.series, MEMORY, last, LEADS, every))

    def known(self) -> dict[str, Row]:
        """Scores of the floor and of the trivial forecast."""
        floor, trivial = PROCESSES[self.process][1](self.test, LEADS), random_walk(self.train, self.test, LEADS)
        return {FLOOR: of_law(*floor, self.test, self.origins), TRIVIAL: of_law(*trivial, self.test, self.origins)}

    def limits(self) -> dict[str, Row]:
        """Scores of the best forecast from the rows that each method reads."""
        laws = {name: limited(self.process, self.test, config.past, LEADS) for name, config in methods(1).items()}
        return {name: of_law(*law, self.test, self.origins) for name, law in laws.items()}

    def fitted(self, seed: int, size: Size) -> dict[str, Row]:
        """Scores of every method, fitted with this seed."""
        training = TrainConfig(
            steps=size.steps, batch_size=size.batch, learning_rate=3e-3, ema=0.99, validate_every=-(-size.steps // 2)
        )
        found = {}
        for name, config in methods(size.width).items():
            run = fit(table(self.train), model=config, training=training, seed=seed, split=Nothing())
            found[name] = of_model(run, self.test, self.origins, n=size.paths, seed=seed)
        return found


@experiment("memory", Size(), FULL)
def reproduce(asked: Asked[Size]) -> Iterator[str]:
    """Run both processes, write memory.json, memory.md and memory.png into `out`; yields lines as they become known.

    seeds: times the size: two seeds are ten fits of each method.
    """
    size = asked.size
    drawn = {process: Drawn.of(process, 1_000 + asked.seed, size) for process in PROCESSES}
    facts = asked.first | {
        "asked": size.fits * asked.seeds,
        "expected nats": {process: expected(process) for process in PROCESSES},
        "known": {process: one.known() for process, one in drawn.items()},
        "limits": {process: one.limits() for process, one in drawn.items()},
        "fits": {process: [] for process in PROCESSES},
    }
    for number in asked.numbers(size.fits):
        for process, one in drawn.items():
            found = one.fitted(number, size)
            facts["fits"][process].append(found)
            yield f"{process}, fit {number}: " + ", ".join(f"{name} {row['nats']:.3f}" for name, row in found.items())
        facts["seconds"] = asked.seconds
        asked.write(facts, page(facts))  # after every fit: a stopped run leaves what it has
        _picture(facts, asked.path())
    yield from page(facts).splitlines()


def expected(process: str) -> dict[str, float]:
    """Nats of the best forecast from what each method reads."""
    return {name: nats(conditional(process, config.past, 1)[1]) for name, config in methods(1).items()}


def page(facts: dict[str, Any]) -> str:
    """The results as markdown."""
    size, count = facts["size"], len(facts["fits"]["level"])
    lines = [
        "# Memory",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. Held-out series; mean over {count} fits of "
        f"{facts['asked']} asked for ± standard error, each with its own start of the weights and batches, "
        f"all on the same {size['series']} series of {size['rows']} rows, {size['steps']} steps, width "
        f"{size['width']}. Nats one row ahead (lower is better), CRPS 1, 8 and 32 rows ahead. Each cell: measured / "
        "floor (the exact law given the whole past) / trivial (a random walk), all on the same rows. *Best with this "
        "past*: the exact law given only the rows that the method reads, on the same rows (in brackets: its mean over "
        f"endless data; the floor's is {_least('level'):.3f} for level and {_least('delay'):.3f} for delay).",
    ]
    for process, fits in facts["fits"].items():
        told = f"x = level + noise, φ = {PHI}" if process == "level" else f"x' = x - {PULL} x({DELAY} rows ago) + noise"
        lines += ["", f"## {process}: {told}", ""]
        lines += ["| | nats | best with this past | " + " | ".join(f"CRPS {h}" for h in LEADS) + " |"]
        lines += ["|---|--:|--:|" + "--:|" * len(LEADS)]
        for name, best in facts["expected nats"][process].items():
            keys = ("nats", *(f"crps {h}" for h in LEADS))
            cells = [_cell(facts["known"][process], fits, name, key) for key in keys]
            limit = facts["limits"][process][name]["nats"]
            lines.append(f"| {name} | {cells[0]} | {limit:.3f} ({best:.3f}) | " + " | ".join(cells[1:]) + " |")
    return "\n".join(lines)


def _cell(known: dict[str, Row], fits: Sequence[dict[str, Row]], name: str, key: str) -> str:
    value, error = over([one[name] for one in fits], key)
    return f"{value:.3f} ± {error:.3f} / {known[FLOOR][key]:.3f} / {known[TRIVIAL][key]:.3f}"


def _least(process: str) -> float:
    """Nats of the best forecast from a past without limit."""
    return nats(conditional(process, 300, 1)[1])


def _picture(facts: dict[str, Any], path: Path) -> None:
    """Nats above the floor, a point a fit, and what each past must at least lose as a bar."""
    fig = style.figure(780, 240)
    for k, (process, fits) in enumerate(facts["fits"].items()):
        ax = fig.add_axes((0.18 + 0.43 * k, 0.2, 0.36, 0.66))
        best, floor = facts["limits"][process], facts["known"][process][FLOOR]["nats"]
        for y, name in enumerate(best):
            above = [one[name]["nats"] - floor for one in fits]
            ax.barh(y, best[name]["nats"] - floor, height=0.6, color=style.BAND_INNER)
            ax.plot(above, [y] * len(above), "o", color=style.ACCENT, markersize=4, alpha=0.7)
        ax.set_yticks(range(len(best)), list(best) if k == 0 else [""] * len(best))
        ax.invert_yaxis()
        ax.set_title(process, fontsize=11, color=style.INK)
        ax.tick_params(length=0, labelsize=10, colors=style.MUTED)
        ax.axvline(0.0, color=style.INK, linewidth=0.8)
        for spine in ax.spines.values():
            spine.set_visible(False)
    told = "nats above the floor: points measured, bars the exact law given that past only"
    fig.text(0.58, 0.02, told, ha="center", fontsize=10)
    style.save(fig, path)

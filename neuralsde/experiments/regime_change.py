"""Rules that change over time: coefficients that read the time since the start against some that do not.

    dx = θ(t) (μ(t) - x) dt + σ(t) dW,     so     x_(k+1) = μ_k + φ_k (x_k - μ_k) + s_k Z      a row a unit of time
    φ = e^-θ,   s² = σ² (1 - e^-2θ) / 2θ

with θ, μ, σ that change at row 100 of 200, all of them or one, that drift slowly, or that stay as they are (the
control). Known beforehand: the exact law at every lead (the floor), and the best Gaussian law of the next row that
reads the present but not the time: with w_k(x) ∝ p(x_k = x) the weight of row k, mean and variance of the mixture of
the rows' laws under w (`Invariant`). What it lacks is what time can be worth. Series go on after the last row of the
training: there a network that reads the time extrapolates.

    neuralsde reproduce regime-change
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from neuralsde.data import Nothing
from neuralsde.evaluate import style
from neuralsde.evaluate.scores import log_density
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.held_out import Origins, Row, each_of_model, of_law, over, random_walk, table
from neuralsde.experiments.seeds import cell
from neuralsde.models.sequence_sde import Config
from neuralsde.runs.fit import fit
from neuralsde.runs.run import Run
from neuralsde.train.problem import TrainConfig

ROWS, CHANGE, LATER, LEADS = 200, 100, 64, (1, 4, 16)
SEGMENTS = {
    "before": (8, CHANGE - 16),
    "at the change": (CHANGE - 16, CHANGE + 4),
    "after": (CHANGE + 4, ROWS - 16),
    "beyond": (ROWS - 1, ROWS + LATER - 16),
}
"""Rows of the origins; forecasts from those before it end before the change."""
FLOOR, TRIVIAL = "floor", "random walk"
_LONGEST = max(LEADS)
Curves = dict[str, dict[str, list[list[float]]]]
"""Nats over the floor by process and method: one list over the rows for each fit."""


@dataclass(frozen=True)
class Size:
    """Series to train on and as many to test on, fits (each on its own series), paths from so many origins."""

    fits: int = 5
    series: int = 48
    width: int = 32
    steps: int = 1_000
    batch: int = 256
    paths: int = 50
    origins: int = 80


SMALL = Size(fits=1, series=3, width=4, steps=3, batch=8, paths=4, origins=3)
FULL = Size(fits=20, series=500, width=64, steps=10_000, batch=512, paths=200, origins=1_000)


def methods(width: int) -> dict[str, Config]:
    """What is compared."""
    return {
        "time-invariant": Config(history=0, width=width),
        "time-invariant, 8 rows of the past": Config(history=8, width=width),
        "time-dependent": Config(history=0, width=width, time_dependent=True),
    }


# -- the processes and their laws --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Process:
    """Coefficients (rows,) of the step from each row to the next: μ, φ and s."""

    level: np.ndarray
    phi: np.ndarray
    sd: np.ndarray

    @classmethod
    def of(cls, rate: np.ndarray, level: np.ndarray, sigma: np.ndarray) -> Process:
        """From θ, μ and σ (rows,)."""
        return cls(level, np.exp(-rate), sigma * np.sqrt(-np.expm1(-2 * rate) / (2 * rate)))

    def draw(self, rng: np.random.Generator, series: int) -> np.ndarray:
        """Series (series, rows) that begin at rest under the first row's rules."""
        mean, variance = self.marginal
        x = np.empty((series, len(self.level)))
        x[:, 0] = mean[0] + np.sqrt(variance[0]) * rng.standard_normal(series)
        for k in range(len(self.level) - 1):
            x[:, k + 1] = self._mean(k, x[:, k]) + self.sd[k] * rng.standard_normal(series)
        return x

    def _mean(self, k: int, x: Any) -> Any:
        return self.level[k] + self.phi[k] * (x - self.level[k])

    @cached_property
    def marginal(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (rows,) of x_k."""
        mean, variance = np.empty(len(self.level)), np.empty(len(self.level))
        mean[0], variance[0] = self.level[0], self.sd[0] ** 2 / (1 - self.phi[0] ** 2)
        for k in range(len(mean) - 1):
            mean[k + 1] = self._mean(k, mean[k])
            variance[k + 1] = self.phi[k] ** 2 * variance[k] + self.sd[k] ** 2
        return mean, variance

    def ahead(self, values: np.ndarray, leads: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The exact law: mean (series, rows, leads) and sd (rows, leads); NaN where the rules are not known so far."""
        rows = len(self.level)
        mean, sd = np.full((*values.shape, len(leads)), np.nan), np.full((rows, len(leads)), np.nan)
        for k in range(rows):
            far, variance = values[:, k], 0.0
            for step in range(min(max(leads), rows - k)):
                far = self._mean(k + step, far)
                variance = self.phi[k + step] ** 2 * variance + self.sd[k + step] ** 2
                if step + 1 in leads:
                    j = list(leads).index(step + 1)
                    mean[:, k, j], sd[k, j] = far, np.sqrt(variance)
        return mean, sd

    def nats(self) -> np.ndarray:
        """Of the exact law, (rows,): ½ log 2πe s²."""
        return 0.5 * np.log(2 * np.pi * np.e) + np.log(self.sd)


def processes() -> dict[str, Process]:
    """θ = .15, μ = 0 and unit variance at rest; then what the name says, at row 100 or slowly."""
    rows = ROWS + LATER
    k, same, late = np.arange(rows), np.ones(rows), np.arange(rows) >= CHANGE
    rate, sigma = 0.15 * same, np.sqrt(0.3) * same
    return {
        "all change": Process.of(np.where(late, 0.5, rate), 3.0 * late, np.where(late, 2.0, 1.0) * sigma),
        "level changes": Process.of(rate, 3.0 * late, sigma),
        "noise changes": Process.of(rate, 0.0 * same, np.where(late, 2.0, 1.0) * sigma),
        "slow drift": Process.of(rate, 3.0 * k / ROWS, 2.0 ** (k / ROWS) * sigma),
        "stationary": Process.of(rate, 0.0 * same, sigma),
    }


@dataclass(frozen=True)
class Invariant:
    """The best Gaussian law of the next row given the present alone, trained on the rows before `ROWS`."""

    process: Process

    @cached_property
    def _law(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Grid of x, and mean and variance there."""
        (mean, variance), rows = self.process.marginal, slice(0, ROWS - 1)
        sd = np.sqrt(variance[rows])
        x = np.linspace((mean[rows] - 6 * sd).min(), (mean[rows] + 6 * sd).max(), 1_201)
        log = -0.5 * np.square((x[:, None] - mean[rows]) / sd) - np.log(sd)
        weight = np.exp(log - log.max(1, keepdims=True))
        weight /= weight.sum(1, keepdims=True)
        level, phi = self.process.level[rows], self.process.phi[rows]
        means = level + phi * (x[:, None] - level)
        centre = (weight * means).sum(1)
        return x, centre, (weight * (np.square(means - centre[:, None]) + np.square(self.process.sd[rows]))).sum(1)

    def nats(self) -> np.ndarray:
        """Mean nats (rows,) of that law at every row, over endless series."""
        x, centre, v = self._law
        mean, variance = self.process.marginal
        z = np.linspace(-5, 5, 201)
        normal = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
        at = mean[:, None] + np.sqrt(variance)[:, None] * z
        level, phi = self.process.level[:, None], self.process.phi[:, None]
        miss = np.square(level + phi * (at - level) - np.interp(at, x, centre)) + np.square(self.process.sd)[:, None]
        spread = np.interp(at, x, v)
        return (0.5 * (np.log(2 * np.pi * spread) + miss / spread)) @ normal


# -- the measurement ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """Series (series, rows) of one process, to train on (the first `ROWS`) and to test on; where is scored."""

    name: str
    train: np.ndarray
    test: np.ndarray
    origins: dict[str, Origins]

    @classmethod
    def of(cls, name: str, seed: int, size: Size) -> Drawn:
        rng, process = np.random.default_rng((seed, list(processes()).index(name))), processes()[name]
        train, test = process.draw(rng, size.series)[:, :ROWS], process.draw(rng, size.series)
        origins = {}
        for segment, (first, last) in SEGMENTS.items():
            every = max(1, size.series * (last - first) // size.origins)
            origins[segment] = Origins.of(size.series, first, last, LEADS, every)
        return cls(name, train, test, origins)

    def known(self) -> dict[str, dict[str, Row]]:
        """Scores by segment of the floor and of the trivial forecast."""
        laws = {
            FLOOR: processes()[self.name].ahead(self.test, LEADS),
            TRIVIAL: random_walk(self.train, self.test, LEADS),
        }
        return {
            name: {part: of_law(*law, self.test, where) for part, where in self.origins.items()}
            for name, law in laws.items()
        }

    def fitted(self, method: str, seed: int, size: Size) -> Run:
        training = TrainConfig(
            steps=size.steps, batch_size=size.batch, learning_rate=5e-3, ema=0.99, validate_every=-(-size.steps // 4)
        )
        return fit(table(self.train), model=methods(size.width)[method], training=training, seed=seed, split=Nothing())

    def scores(self, run: Run, seed: int, size: Size) -> tuple[dict[str, Row], list[float]]:
        """Scores by segment; and nats (rows - 1,) of the step from each row over the floor, mean over the series."""
        series, rows = self.test.shape
        # all in one call: every shape is a program of its own
        every = np.stack(np.meshgrid(np.arange(series), np.arange(rows - 1), indexing="ij"), -1).reshape(-1, 2)
        origins = Origins(every, np.concatenate([at.ahead for at in self.origins.values()]), LEADS)
        each = each_of_model(run, self.test, origins, n=size.paths, seed=seed)
        nats = each.pop("nats").reshape(series, rows - 1)
        ends = np.cumsum([len(at.ahead) for at in self.origins.values()])[:-1]
        found: dict[str, Row] = {part: {"nats": float(nats[:, slice(*at)].mean())} for part, at in SEGMENTS.items()}
        for name, values in each.items():
            for part, some in zip(SEGMENTS, np.split(values, ends), strict=True):
                found[part][name] = float(some.mean())
        mean, sd = (part[..., 0] for part in processes()[self.name].ahead(self.test, (1,)))
        least = -log_density(self.test[:, 1:], mean[:, :-1], sd[:-1])
        return found, (nats - least).mean(0).tolist()


def expected() -> dict[str, dict[str, dict[str, float]]]:
    """Nats by process and segment that endless data and training would give: the floor, and without the time."""
    found = {}
    for name, process in processes().items():
        laws = {FLOOR: process.nats(), "time-invariant": Invariant(process).nats()}
        found[name] = {
            law: {part: float(nats[slice(*rows)].mean()) for part, rows in SEGMENTS.items()}
            for law, nats in laws.items()
        }
    return found


@experiment("regime-change", Size(), FULL)
def reproduce(asked: Asked[Size]) -> Iterator[str]:
    """Fit every method to every process, write regime-change.json, .md and .png into `out`; yields lines as they come.

    seeds: times the fits of the size.
    """
    size = asked.size
    facts = asked.first | {
        "asked": size.fits * asked.seeds,
        "expected nats": expected(),
        "fits": {name: [] for name in processes()},
    }
    curves: Curves = {name: {method: [] for method in methods(1)} for name in processes()}
    for number in asked.numbers(size.fits):
        for name in processes():
            drawn = Drawn.of(name, 1_000 + number, size)
            found = drawn.known()
            for method in methods(1):
                run = drawn.fitted(method, number, size)
                found[method], by_row = drawn.scores(run, number, size)
                curves[name][method].append(by_row)
            facts["fits"][name].append(found)
            yield f"{name}, fit {number}: nats over the floor, after the change: " + ", ".join(
                f"{method} {found[method]['after']['nats'] - found[FLOOR]['after']['nats']:.3f}"
                for method in (TRIVIAL, *methods(1))
            )
        facts["seconds"] = asked.seconds
        asked.write(facts, page(facts))  # after every fit: a stopped run leaves what it has
        _picture(curves, asked.path())
    yield from page(facts).splitlines()


# -- what is written ---------------------------------------------------------------------------------------------------


def page(facts: dict[str, Any]) -> str:
    """The results as markdown."""
    size, count = facts["size"], len(facts["fits"]["stationary"])
    lines = [
        "# Regime change",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. {size['series']} series of {ROWS} rows to train, "
        f"as many that go on for {LATER} more to test; mean over {count} fits of {facts['asked']} asked for, each on "
        f"its own series, ± standard error; {size['steps']:,} steps of training, width {size['width']}. The rules "
        f"change at row {CHANGE} (θ .15 to .5, level 0 to 3, noise times 2: all, or one), or drift (level by 3, noise "
        f"times 2 in {ROWS} rows), or stay. Scored before, at (forecasts that cross it) and after the change, and "
        "beyond the last row of the training.",
        "",
        "Nats: excess over the exact law (floor, 0) one row ahead on the same rows, lower is better; in brackets that "
        "of the best Gaussian law that does not read the time, in theory: no time-invariant Markov model can do better "
        "on the training rows as a whole. CRPS and coverage of the central 80 %: 16 rows ahead. The random walk is the "
        "trivial line.",
        "",
        *_verdict(facts),
    ]
    for name, fits in facts["fits"].items():
        lines += ["", f"## {name}", "", "| nats over the floor | " + " | ".join(SEGMENTS) + " |"]
        lines += ["|---|" + "--:|" * len(SEGMENTS)]
        for method in (TRIVIAL, *methods(1)):
            lines.append(f"| {method} | " + " | ".join(_nats(facts, fits, name, method, s) for s in SEGMENTS) + " |")
        lines += ["", f"| CRPS / coverage, {_LONGEST} ahead | " + " | ".join(SEGMENTS) + " |"]
        lines += ["|---|" + "--:|" * len(SEGMENTS)]
        for method in (FLOOR, TRIVIAL, *methods(1)):
            lines.append(f"| {method} | " + " | ".join(_ahead(fits, method, s) for s in SEGMENTS) + " |")
    return "\n".join(lines)


def excess(fits: Sequence[Any], method: str, segment: str) -> list[float]:
    """Nats of a method over the floor, one a fit."""
    return [one[method][segment]["nats"] - one[FLOOR][segment]["nats"] for one in fits]


def _verdict(facts: dict[str, Any]) -> list[str]:
    """What reading the time gains over not reading it, in nats a row; in brackets the most that it could."""
    lines = [
        "What reading the time gains over not reading it, in nats a row; in brackets what it would with endless data: "
        "all that the best law without the time lacks. Where that is nothing the figure is the price. Beyond the "
        "training a network reads times that it has never seen, and nothing but its shape says what it makes of them.",
        "",
    ]
    lines += ["| gain, nats a row | " + " | ".join(SEGMENTS) + " |", "|---|" + "--:|" * len(SEGMENTS)]
    for name, fits in facts["fits"].items():
        cells = []
        for segment in SEGMENTS:
            without, having = (np.array(excess(fits, m, segment)) for m in ("time-invariant", "time-dependent"))
            theory = facts["expected nats"][name]
            most = theory["time-invariant"][segment] - theory[FLOOR][segment]
            cells.append(f"{cell(without - having)} ({abs(most):.3f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _nats(facts: dict[str, Any], fits: Sequence[Any], name: str, method: str, segment: str) -> str:
    known = facts["expected nats"][name]
    said = f" ({known[method][segment] - known[FLOOR][segment]:.3f})" if method in known else ""
    return cell(excess(fits, method, segment)) + said


def _ahead(fits: Sequence[Any], method: str, segment: str) -> str:
    rows = [one[method][segment] for one in fits]
    crps, error = over(rows, f"crps {_LONGEST}")
    return f"{crps:.3f} ± {error:.3f} / {100 * over(rows, f'coverage {_LONGEST}')[0]:.0f} %"


_COLOURS = {
    "time-invariant": style.INK,
    "time-invariant, 8 rows of the past": style.FAINT,
    "time-dependent": style.ACCENT,
}
_SMOOTH = 5


def _picture(curves: Curves, path: Path) -> None:
    """Excess nats over the rows, mean over fits and over five rows; shaded: beyond the training."""
    fig = style.figure(940, 260)
    for i, (name, by_method) in enumerate(curves.items()):
        ax = fig.add_axes((0.045 + 0.19 * i, 0.16, 0.165, 0.62), facecolor=style.PAPER)
        ax.axvspan(ROWS, ROWS + LATER, color=style.BAND_OUTER, linewidth=0)
        for method, colour in _COLOURS.items():
            above = np.convolve(np.mean(by_method[method], 0), np.ones(_SMOOTH) / _SMOOTH, "valid")
            ax.plot(np.arange(len(above)) + _SMOOTH // 2, above, color=colour, linewidth=1.1, label=method)
        ax.axhline(0.0, color=style.RULE, linewidth=0.8, zorder=0)
        ax.set_ylim(-0.15, 1.0)
        ax.set_title(name, fontsize=10, color=style.INK)
        ax.tick_params(length=0, labelsize=9, colors=style.MUTED)
        for spine in ax.spines.values():
            spine.set_visible(False)
        if i:
            ax.set_yticklabels([])
        else:
            fig.legend(*ax.get_legend_handles_labels(), loc="upper center", ncols=3, frameon=False, fontsize=9)
    fig.text(0.5, 0.015, "row of the series; nats over the exact law", ha="center", fontsize=9, color=style.MUTED)
    style.save(fig, path)

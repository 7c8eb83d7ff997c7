"""Held-out scores of a run beside three baselines fitted on the same training rows.

For every origin and lead: fair CRPS, energy score, coverage and PIT; one step ahead also the negative log-likelihood
in nats, of the rounding interval where data are rounded (THEORY 21). There the last one-step Gaussian is the exact
forecast density; further ahead its mean over a few hundred paths is a kernel estimate that is far too narrow, so no
likelihood is given. Averages carry block-bootstrap intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from neuralsde.data import Encoder, Nothing, Rows, Split, Trajectories
from neuralsde.data.rules import MANY_SERIES, Rule
from neuralsde.data.split import TEST, TRAIN
from neuralsde.errors import InputError
from neuralsde.evaluate import scores as sc
from neuralsde.evaluate.baselines import BASELINES, Pairs, gaussian_samples
from neuralsde.evaluate.bootstrap import length_blocks, stretch_blocks
from neuralsde.evaluate.compare import compare, coverage_rows
from neuralsde.evaluate.content import Coverage, Pit, Score
from neuralsde.tasks.ahead import Ahead, paths_ahead
from neuralsde.tasks.fitted import Fitted
from neuralsde.tasks.forecast import checked_levels, require_paths, steps_of
from neuralsde.tasks.table import scores_table, scores_text
from neuralsde.tasks.widths import followed
from neuralsde.tasks.windows import Windows, carried, find_windows, pairs

MODEL = "neural SDE"
DEFAULT_LEADS = (1, 6, 24)
_MOST_ORIGINS = 400
_FEWEST_BLOCKS = 8


@dataclass(frozen=True)
class Scores:
    """Rows of the score table and of the coverage table, PIT values, how they came about, and the leads in steps."""

    scores: tuple[Score, ...]
    coverage: tuple[Coverage, ...]
    pit: tuple[Pit, ...]
    columns: tuple[str, ...]
    about: str
    leads: tuple[int, ...] = ()

    def table(self) -> pl.DataFrame:
        """One row a metric, column, lead and method."""
        return scores_table(self.scores, self.coverage)

    def __str__(self) -> str:
        return scores_text(self.scores, self.coverage, MODEL, self.about)


def score(
    fitted: Fitted,
    data: Trajectories,
    rule: Rule,
    other: Trajectories | None = None,
    *,
    leads: Sequence[int] | None = None,
    levels: Sequence[float] = (80, 95),
    n: int = 200,
    seed: int = 0,
    stride: int | None = None,
    unseen: np.ndarray | None = None,
) -> Scores:
    """Scores of the rows that `rule` holds out of `data`, or of all rows of `other`.

    leads: whole numbers of typical gaps; 1, 6 and 24 by default, as far as the held-out stretches reach.
    stride: typical gaps between origins; by default as many as give about 400 origins in all.
    unseen: the rows (R,) of the scored table that the model was not fitted on: paths are made as wide as earlier
            forecasts from these should have been (`tasks.widths`), as if each origin were the present. Without it they
            are as fitted.
    """
    percents = checked_levels(levels)
    require_paths(n)
    split = Split.of(data, rule)
    held, marked, where = _held_out(split, other)
    rows = fitted.encoder.encode(held)
    wanted = _leads(leads)
    windows = find_windows(rows, marked, wanted, stride or _stride(rows, marked))
    reached = [j for j in range(len(wanted)) if (windows.target[:, j] >= 0).any()]
    if not reached:
        raise InputError(f"leads {wanted}", f"no held-out stretch is that long ({where})", "shorter leads", "leads=[1]")
    ahead = paths_ahead(fitted, rows, windows.origin, carried(windows.lead), [[s] for s in held], n=n, seed=seed)
    if unseen is not None:
        ahead = ahead.widened(followed(fitted, held, unseen, windows, seed=seed))
    evaluation = _Evaluation(fitted, rows, windows, ahead, _training(fitted, split), percents, n, seed)
    parts = [evaluation.at(j, wanted[j]) for j in reached]
    return Scores(
        scores=tuple(row for part in parts for row in part.scores),
        coverage=tuple(row for part in parts for row in part.coverage),
        pit=tuple(row for part in parts for row in part.pit),
        columns=fitted.encoder.columns,
        about=f"{len(windows.origin)} origins in {where}; {n} paths each"
        + ("" if unseen is None else ", widths that follow"),
        leads=tuple(wanted[j] for j in reached),
    )


def backtest(
    fitted: Fitted,
    data: Trajectories,
    rule: Rule,
    other: Trajectories | None = None,
    *,
    horizon: int | str | None = None,
    stride: int | None = None,
    levels: Sequence[float] = (80, 95),
    n: int = 200,
    seed: int = 0,
    unseen: np.ndarray | None = None,
) -> Scores:
    """`score` at every lead from one step to the horizon, from origins `stride` steps apart."""
    leads = range(1, steps_of(fitted, data.clock, horizon) + 1)
    return score(fitted, data, rule, other, leads=leads, levels=levels, n=n, seed=seed, stride=stride, unseen=unseen)


@dataclass(frozen=True)
class _Training:
    """The training rows: what baselines are fitted on."""

    rows: Rows
    marked: np.ndarray


@dataclass(frozen=True)
class _Lead:
    """The rows of all tables at one lead."""

    scores: tuple[Score, ...]
    coverage: tuple[Coverage, ...]
    pit: tuple[Pit, ...]


@dataclass(frozen=True)
class _Evaluation:
    """What is evaluated at one lead after another: windows, and the paths that were simulated once, to all leads."""

    fitted: Fitted
    rows: Rows
    windows: Windows
    ahead: Ahead
    train: _Training
    levels: tuple[float, ...]
    n: int
    seed: int

    def at(self, j: int, lead: int) -> _Lead:
        """The tables of lead number j, of `lead` typical gaps."""
        encoder = self.fitted.encoder
        there = self.windows.target[:, j] >= 0
        here = Windows(self.windows.origin[there], self.windows.target[there], self.windows.lead[there])
        history = max(self.fitted.history, 1)
        test = pairs(encoder, self.rows, here, j, history)
        samples = np.moveaxis(encoder.decode(self.ahead.states[there, :, j]), 1, 0)
        values = self._values(test, self._baselines(lead, test, history), samples)
        if lead == 1:
            values["nll"][MODEL] = -self._log_density(j, there, test.target)
        else:
            del values["nll"]
        common: dict[str, Any] = {
            "columns": encoder.columns, "lead": _lead_name(self.fitted, lead), "blocks": self._blocks(here)
        }  # fmt: skip
        rows = [row for metric, table in values.items() for row in compare(metric, table, model=MODEL, **common)]
        q = np.array(encoder.resolution)
        shares = {int(level): sc.covered(samples, test.target, level, q) for level in self.levels}
        ranks = sc.pit(samples, test.target, q, seed=self.seed)
        return _Lead(
            tuple(rows),
            coverage_rows(shares, **common),
            tuple(Pit(column, common["lead"], ranks[:, i]) for i, column in enumerate(encoder.columns)),
        )

    def _values(
        self, test: Pairs, base: dict[str, tuple[np.ndarray, np.ndarray]], samples: np.ndarray
    ) -> dict[str, dict[str, np.ndarray]]:
        """Scores of single windows: metric -> method -> (n, d), or (n,) for all columns together."""
        truth = test.target
        spread = np.nanstd(truth, axis=0)
        scale = np.where(spread > 0, spread, 1.0)
        cells = _cells(self.fitted.encoder, truth)
        crps = {MODEL: sc.crps_samples(samples, truth)}
        energy = {MODEL: sc.energy_score(samples, truth, scale)}
        nll: dict[str, np.ndarray] = {}
        for label, (mean, sd) in base.items():
            crps[label] = sc.crps_gaussian(mean, sd, truth)
            nll[label] = -_log_gaussian(truth, cells, mean, sd)
            energy[label] = sc.energy_score(gaussian_samples(mean, sd, self.n, seed=self.seed), truth, scale)
        return {"crps": crps, "nll": nll, "energy": energy}

    def _baselines(self, lead: int, test: Pairs, history: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Mean and s.d. (n, d) of each baseline, fitted on every training pair of this lead."""
        found = find_windows(self.train.rows, self.train.marked, (lead,), 0.0)
        fit = pairs(self.fitted.encoder, self.train.rows, found, 0, history)
        return {baseline.name: baseline.fit(fit).predict(test) for baseline in BASELINES}

    def _log_density(self, j: int, there: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Log forecast density (n, d) of the truth in data units, or probability of its rounding interval."""
        encoder = self.fitted.encoder
        mean, sd = (
            np.moveaxis(part[there, :, j], 1, 0).astype(np.float64) for part in (self.ahead.mean, self.ahead.sd)
        )
        low, high = encoder.interval(truth)
        dof = None if self.fitted.model.dof is None else np.asarray(self.fitted.model.dof, np.float64)
        point = sc.log_density(encoder.encode_values(truth), mean, sd, dof) + encoder.log_slope(truth)
        cell = high > low
        inside = sc.log_probability(np.where(cell, low, 0.0), np.where(cell, high, 1.0), mean, sd, dof)
        return np.where(np.isnan(truth), np.nan, sc.log_mixture(np.where(cell, inside, point)))

    def _blocks(self, windows: Windows) -> np.ndarray:
        """Held-out stretches, shared by all series; shorter blocks, but no shorter than the lead, when they are few."""
        rows, encoder = self.rows, self.fitted.encoder
        series = rows.series[windows.origin]
        if len(rows.ids) > MANY_SERIES:
            return series
        times = rows.origin[series] + rows.time[windows.origin] * encoder.tau
        longest = float(np.nanmax(windows.lead)) * encoder.tau
        blocks = stretch_blocks(times, 2 * longest + 48 * encoder.tau)
        if len(np.unique(blocks)) >= _FEWEST_BLOCKS:
            return blocks
        return length_blocks(times, max((times.max() - times.min()) / 12, longest, encoder.tau))


def _held_out(split: Split, other: Trajectories | None) -> tuple[Trajectories, np.ndarray, str]:
    if other is not None:
        return other, np.ones(other.n_rows, bool), "another table"
    if isinstance(split.rule, Nothing):
        raise InputError("a run that held nothing out", "", "another table to score", "score RUN DATA")
    return split.data, np.concatenate(split.roles) == TEST, split.rule.describe()


def _training(fitted: Fitted, split: Split) -> _Training:
    rows = fitted.encoder.encode(split.fit_data)
    return _Training(rows, np.concatenate(split.fit_roles) == TRAIN)


def _leads(leads: Sequence[int] | None) -> tuple[int, ...]:
    wanted = tuple(sorted(set(DEFAULT_LEADS if leads is None else leads)))
    if not wanted or any(isinstance(lead, bool) or int(lead) != lead or lead < 1 for lead in wanted):
        raise InputError(f"leads {list(wanted)}", "", "whole numbers of steps, at least 1", "leads=[1, 6, 24]")
    return tuple(int(lead) for lead in wanted)


def _stride(rows: Rows, marked: np.ndarray) -> float:
    """Typical gaps between origins so that about `_MOST_ORIGINS` are left."""
    return max(1.0, float(marked.sum() // _MOST_ORIGINS))


def _lead_name(fitted: Fitted, lead: int) -> str:
    clock = fitted.encoder.clock
    if clock.is_calendar:
        return clock.show_duration(lead * fitted.encoder.tau)
    return "1 step" if lead == 1 else f"{lead} steps"


def _cells(encoder: Encoder, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounding intervals in data units; endless below where the support ends, as they are for the model."""
    half = np.array(encoder.resolution) / 2
    low, high = encoder.interval(truth)
    return np.where(low == -np.inf, -np.inf, truth - half), np.where(high == np.inf, np.inf, truth + half)


def _log_gaussian(
    truth: np.ndarray, cells: tuple[np.ndarray, np.ndarray], mean: np.ndarray, sd: np.ndarray
) -> np.ndarray:
    """Log-probability of the cells where they have a width, log density elsewhere, NaN where the truth is missing."""
    low, high = cells
    cell = high > low
    inside = sc.log_probability(np.where(cell, low, 0.0), np.where(cell, high, 1.0), mean, sd)
    return np.where(cell, inside, sc.log_density(truth, mean, sd))

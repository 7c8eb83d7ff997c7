"""A run: a fitted model, its folder, and the verbs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import polars as pl

from neuralsde.data import TRAIN, Layout, Split, Trajectories, future, read
from neuralsde.errors import InputError
from neuralsde.evaluate.diagnostics import Diagnostics
from neuralsde.models.physics import Physics
from neuralsde.models.sequence_sde import SequenceSDE
from neuralsde.runs.folder import POLICY, RunFolder
from neuralsde.runs.generative import FAMILIES, GenerativeRun, load_points
from neuralsde.runs.physics import PhysicsRun, load_physics
from neuralsde.runs.physics.run import NAME as PHYSICS
from neuralsde.runs.plan import Plan
from neuralsde.runs.report import report
from neuralsde.tasks.diagnose import diagnose
from neuralsde.tasks.fitted import Fitted
from neuralsde.tasks.forecast import forecast
from neuralsde.tasks.impute import impute
from neuralsde.tasks.sample import sample
from neuralsde.tasks.score import Scores, backtest, score
from neuralsde.train.weights import load_model


@dataclass(frozen=True)
class Run:
    """What `fit` and `load` return. `data` is the table it was fitted on, when that is at hand."""

    plan: Plan
    model: SequenceSDE
    folder: RunFolder | None
    data: Trajectories | None = None
    metrics: tuple[dict[str, Any], ...] = ()

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    def fitted(self) -> Fitted:
        """Model, encoder and gap law."""
        return self.plan.fitted(self.model)

    @property
    def layout(self) -> Layout:
        """How a table must be laid out to be read for this run: `nsde.data.read(path, layout=run.layout)`."""
        return self.plan.encoder.layout

    @property
    def columns(self) -> tuple[str, ...]:
        """The modelled columns."""
        return self.plan.encoder.columns

    @property
    def typical_gap(self) -> float:
        """One step, in units of the clock (seconds for time stamps)."""
        return self.plan.encoder.tau

    def describe(self) -> str:
        """The run in a few lines."""
        plan, clock = self.plan, self.plan.encoder.clock
        gap = clock.show_duration(plan.encoder.tau)
        return "\n".join([
            f"sequence SDE of {', '.join(self.columns)}: history {plan.config.history}, width {plan.config.width}",
            f"fitted on {plan.rows['transitions']} transitions of {plan.rows['series']} series; held out: "
            f"{plan.rule.describe()}",
            f"one step is {gap}; gaps from {plan.law.shortest:g} to {plan.law.longest:g} steps, {plan.law.substeps} "
            "Euler-Maruyama step each",
        ])  # fmt: skip

    # -- what one does with it ---------------------------------------------------------------------------------------

    def forecast(
        self,
        data: Trajectories | None = None,
        *,
        horizon: int | str | None = None,
        times: Sequence[Any] | None = None,
        levels: Sequence[float] = (80, 95),
        n: int = 200,
        seed: int = 0,
        future: Any = None,
        substeps: int | None = None,
        calibrate: bool = False,
    ) -> pl.DataFrame:
        """What follows each series of `data` (the fitted table by default); see `tasks.forecast.forecast`.

        future:    a path, a frame or Trajectories with the known covariates after the end.
        calibrate: make the bands as wide as recent forecasts should have been (`tasks.widths`): those from the rows
                   that the run was not fitted on, or from the last rows of another table.
        """
        known, table = _future(future, self.layout), self._data(data)
        return forecast(
            self.fitted, table, horizon=horizon, times=times, levels=levels, n=n, seed=seed, future=known,
            substeps=substeps, unseen=self._unseen(table) if calibrate else None,
        )  # fmt: skip

    def sample(
        self,
        y0: Any,
        ts: Any,
        *,
        n: int = 100,
        seed: int = 0,
        context: Any = None,
        substeps: int | None = None,
    ) -> np.ndarray:
        """Paths (n, len(ts), d) from a start, in data units; see `tasks.sample.sample`."""
        return sample(self.fitted, y0, ts, n=n, seed=seed, context=context, substeps=substeps)

    def impute(
        self,
        data: Trajectories | None = None,
        *,
        times: Sequence[Any] | None = None,
        levels: Sequence[float] = (80, 95),
        n: int = 200,
        seed: int = 0,
    ) -> pl.DataFrame:
        """What lies between the observations of `data`; see `tasks.impute.impute`."""
        return impute(self.fitted, self._data(data), times=times, levels=levels, n=n, seed=seed)

    def score(
        self,
        data: Trajectories | None = None,
        *,
        leads: Sequence[int] | None = None,
        levels: Sequence[float] = (80, 95),
        n: int = 200,
        seed: int = 0,
        stride: int | None = None,
        calibrate: bool = False,
    ) -> Scores:
        """Held-out scores beside three baselines: of what `fit` held out, or of all of another table.

        calibrate: of `forecast(calibrate=True)`, as if each origin were the present.
        """
        return score(
            self.fitted, self._fitted_data(), self.plan.rule, self._other(data), leads=leads, levels=levels, n=n,
            seed=seed, stride=stride,
            unseen=self._unseen(data) if calibrate else None,
        )  # fmt: skip

    def backtest(
        self,
        data: Trajectories | None = None,
        *,
        horizon: int | str | None = None,
        stride: int | None = None,
        levels: Sequence[float] = (80, 95),
        n: int = 200,
        seed: int = 0,
        calibrate: bool = False,
    ) -> Scores:
        """Scores of every lead up to the horizon, from a rolling origin."""
        return backtest(
            self.fitted, self._fitted_data(), self.plan.rule, self._other(data), horizon=horizon, stride=stride,
            levels=levels, n=n, seed=seed,
            unseen=self._unseen(data) if calibrate else None,
        )  # fmt: skip

    def diagnose(self, data: Trajectories | None = None, *, part: str = "held-out", seed: int = 0) -> Diagnostics:
        """What the model gets wrong on rows it has not seen, `.warnings` in plain sentences; see `tasks.diagnose`."""
        return diagnose(self.fitted, self._fitted_data(), self.plan.rule, self._other(data), part=part, seed=seed)

    def report(self, *, scores: Scores | None = None, seed: int = 0) -> Path:
        """Write report.html into the run folder; what cannot be shown (no table, nothing held out) is said in it."""
        if self.folder is None:
            raise InputError("a run in memory", "it has no folder to write a report to", "fit(..., out='runs/...')")
        data, missing = None, ""
        try:
            data = self._fitted_data()
            scores = self.score(seed=seed) if scores is None else scores
        except InputError as absent:
            missing = ": ".join(part for part in (absent.got, absent.meaning) if part)
        return report(
            self.plan, self.model, data, self.metrics, scores, self.folder.report_path, seed=seed, folder=self.folder,
            missing=missing,
        )  # fmt: skip

    # -- data --------------------------------------------------------------------------------------------------------

    def _data(self, data: Trajectories | None) -> Trajectories:
        return self._fitted_data() if data is None else data

    def _unseen(self, data: Trajectories | None) -> np.ndarray:
        """The rows (R,) of a table that the run was not fitted on: all of them, of another table than the fitted."""
        other = self._other(data)
        if other is not None:
            return np.ones(other.n_rows, bool)
        return np.concatenate(Split.of(self._fitted_data(), self.plan.rule).roles) != TRAIN

    def _other(self, data: Trajectories | None) -> Trajectories | None:
        """A table that is not the fitted one; None for the fitted one, whose held-out part is meant."""
        return None if data is None or data.fingerprint() == self.plan.fingerprint else data

    def _fitted_data(self) -> Trajectories:
        """The table of the fit: at hand, or read again from where it came from."""
        if self.data is not None:
            return self.data
        source = self.plan.source
        if not source or not Path(source).is_file():
            raise InputError(
                f"a run without its table ({source or 'it was fitted on data from memory'})",
                "baselines and the held-out part come from the table of the fit",
                "that table at its place",
                "to give it: load(folder, data=...)",
            )
        data = read(source, layout=self.layout)
        if data.fingerprint() != self.plan.fingerprint:
            raise InputError(f"the table {source}", "it is no longer the one that the run was fitted on")
        return data


@overload
def load(path: str | Path, *, model: None = None, data: Any = None) -> Any: ...
@overload
def load(path: str | Path, *, model: Physics, data: Trajectories | None = None) -> PhysicsRun: ...
def load(path: str | Path, *, model: Physics | None = None, data: Any = None) -> Run | PhysicsRun | GenerativeRun:
    """The run in a folder: a `Run` of sequences, or a `GenerativeRun` of points or images.

    That of a stated SDE needs its `model=Physics(...)` again, which no folder can hold. data: what it was fitted on.
    Raises InputError for a folder that is not a run, an unfinished run, or broken weights.
    """
    folder = RunFolder.open(path)
    name = folder.config["model"]["name"]
    if name == POLICY:
        raise InputError(
            f"the run {path}", "it is a policy: it acts in an environment, and knows no tables",
            "a run of sequences, points or images", f"neuralsde policy eval {path}, neuralsde export {path}",
        )  # fmt: skip
    if name == PHYSICS:
        return load_physics(folder, model, data)
    if model is not None:
        raise InputError(f"model=Physics(...) for the run {path}", "it is no run of a stated SDE", hint="load(folder)")
    if name in FAMILIES:
        return load_points(folder, data)
    plan = Plan.from_dict(folder.config)
    folder.summary()
    fitted = load_model(folder.weights_path, plan.model())
    lines = folder.metrics_path.read_text().splitlines() if folder.metrics_path.is_file() else []
    return Run(plan, fitted, folder, data, tuple(json.loads(line) for line in lines))


def _future(source: Any, layout: Layout) -> Trajectories | None:
    return source if source is None or isinstance(source, Trajectories) else future(source, layout)

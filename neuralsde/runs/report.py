"""The page of a run: what was fitted, how well it forecasts what it has not seen, and how it came about.

`content_of` gathers it, `evaluate/report.py` sets it. Pictures come from `report_windows.py` (held-out windows, sample
paths) and `report_field.py` (the plane of a two-dimensional state), the record from `report_facts.py`. What cannot be
shown (no table at hand, nothing held out, stretches too short) is said on the page in one sentence, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neuralsde.data import Split, Trajectories
from neuralsde.errors import InputError, RunFailed
from neuralsde.evaluate.content import ReportContent, Score
from neuralsde.evaluate.report import write_report
from neuralsde.models.sequence_sde import SequenceSDE
from neuralsde.runs import report_facts as facts
from neuralsde.runs.folder import RunFolder
from neuralsde.runs.plan import Plan
from neuralsde.runs.report_field import vector_field
from neuralsde.runs.report_windows import Pictures, Scene, draw
from neuralsde.tasks.diagnose import diagnose
from neuralsde.tasks.score import DEFAULT_LEADS, MODEL, Scores

Metrics = Sequence[Mapping[str, Any]]


def report(
    plan: Plan,
    model: SequenceSDE,
    data: Trajectories | None,
    metrics: Metrics,
    scores: Scores | None,
    path: str | Path,
    *,
    seed: int = 0,
    folder: RunFolder | None = None,
    missing: str = "",
) -> Path:
    """Write the page to `path` and return it; see `content_of`."""
    return write_report(content_of(plan, model, data, metrics, scores, seed=seed, folder=folder, missing=missing), path)


def content_of(
    plan: Plan,
    model: SequenceSDE,
    data: Trajectories | None,
    metrics: Metrics,
    scores: Scores | None,
    *,
    seed: int = 0,
    folder: RunFolder | None = None,
    missing: str = "",
) -> ReportContent:
    """What the page shows.

    data:    the table of the fit; without it no window and no path can be drawn.
    scores:  of what was held out; None when there are none, and `missing` says why.
    metrics: the lines of metrics.jsonl.
    folder:  gives the versions, the time and the kept step of the training.
    """
    fitted = plan.fitted(model)
    diagnostics = None
    if data is not None:
        try:
            diagnostics = diagnose(fitted, data, plan.rule, seed=seed)
        except InputError:  # a table without one transition: everything else on the page says so
            diagnostics = None
    split = None if data is None else Split.of(data, plan.rule)
    pictures = Pictures()
    if split is not None:
        scene = Scene.of(fitted, split, _leads(scores))
        try:
            pictures = draw(scene, seed=seed)
        except RunFailed as failure:
            missing = missing or f"{failure.got}: {failure.meaning}"
    return ReportContent(
        title=facts.title(plan),
        summary=facts.summary(plan),
        columns=plan.encoder.columns,
        time_unit=pictures.time_unit,
        model=MODEL,
        kicker="neuralsde · sequence SDE",
        key_figures=facts.key_figures(plan, scores, folder),
        facts=facts.facts(plan, model, split, scores, folder),
        notes=() if data is None else data.notes,
        training=facts.training(metrics, split, folder),
        fans=pictures.fans,
        pit=scores.pit if scores else (),
        coverage=scores.coverage if scores else (),
        scores=_rows(plan, scores),
        paths=pictures.paths,
        field=vector_field(fitted, split, pictures.moment, paths=pictures.plane) if fitted.encoder.dim == 2 else None,
        command=facts.command(plan, folder),
        footer=facts.footer(folder),
        picked="The windows were picked by their place in time, not by how well they went.",
        missing=missing,
        leads=tuple(float(lead) for lead in scores.leads) if scores else (),
        diagnostics=diagnostics,
    )


def _rows(plan: Plan, scores: Scores | None) -> tuple[Score, ...]:
    """The score table; of a single column the energy score is the CRPS again."""
    rows = scores.scores if scores else ()
    return tuple(row for row in rows if row.metric != "energy" or plan.encoder.dim > 1)


def _leads(scores: Scores | None) -> tuple[int, ...]:
    """Leads in steps, the longest first: those of the scores, or the usual ones."""
    return tuple(sorted(scores.leads if scores else DEFAULT_LEADS, reverse=True))

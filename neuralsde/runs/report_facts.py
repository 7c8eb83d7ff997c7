"""The words of a report: its title, the record of data, model, training and versions, the curves of the training.

Everything comes from the plan (config.json), the table and the files of the run; nothing is computed anew.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from neuralsde.data import Nothing, Split, Trajectories
from neuralsde.data.split import TEST, TRAIN, VALIDATION
from neuralsde.evaluate.content import KeyFigure, Training
from neuralsde.models.sequence_sde import SequenceSDE
from neuralsde.runs.folder import RunFolder, versions
from neuralsde.runs.plan import Plan
from neuralsde.runs.report_windows import moment_text
from neuralsde.tasks.score import Scores

_NAMES = 6

# -- the top ------------------------------------------------------------------------------------------------------


def title(plan: Plan) -> str:
    """The columns, or the table when there are too many to name."""
    columns = plan.encoder.columns
    if len(columns) <= 4:
        return _and(columns)
    stem = _stem(plan.source)
    return f"{len(columns)} columns" + (f" of {stem}" if stem else "")


def summary(plan: Plan) -> str:
    stem = _stem(plan.source)
    table = f" of {stem}" if stem else ""
    first = (
        f"A sequence SDE of {_many(plan.rows['series'], 'series', 'series')}{table}, fitted to "
        f"{grouped(plan.rows['transitions'])} transitions in steps of {_length(plan, 1.0)}."
    )
    if isinstance(plan.rule, Nothing):
        return f"{first} Nothing was held out to judge it by."
    return f"{first} Judged on what it has not seen: {plan.rule.describe()}."


def key_figures(plan: Plan, scores: Scores | None, folder: RunFolder | None) -> tuple[KeyFigure, ...]:
    """What the scores do not say by themselves: the time of the training, and its size when there are no scores."""
    done, steps = _done(folder), grouped(plan.train.steps)
    figures = []
    if scores is None:
        figures.append(KeyFigure(grouped(plan.rows["transitions"]), "transitions to learn from"))
    if "seconds" in done:
        about = f"of training: {steps} steps of {plan.train.batch_size} transitions"
        figures.append(KeyFigure(_seconds(done["seconds"]), about))
    return tuple(figures)


def footer(folder: RunFolder | None) -> str:
    used = folder.versions if folder else versions()
    made = f"neuralsde {used.get('neuralsde', '')} with JAX {used.get('jax', '')}"
    when = f" on {folder.created[:10]}" if folder and folder.created else ""
    return f"Fitted by {made}{when}. This file is complete: it needs no connection."


def command(plan: Plan, folder: RunFolder | None) -> str:
    """The command line that fits the same run again; empty for data from memory."""
    if not plan.source or folder is None:
        return ""
    again = folder.path.with_name(f"{folder.path.name}-again")
    source, config, out = (shlex.quote(str(part)) for part in (plan.source, folder.path / "config.json", again))
    return f"neuralsde fit {source} \\\n  --config {config} \\\n  --out {out}"


# -- the record ---------------------------------------------------------------------------------------------------


def facts(
    plan: Plan, model: SequenceSDE, split: Split | None, scores: Scores | None, folder: RunFolder | None
) -> dict[str, dict[str, str]]:
    """Groups of named facts; what is not known is left out."""
    groups = {
        "Data": _data(plan, split),
        "Held out": _held_out(plan, split, scores),
        "Model": _model(plan, model),
        "Training": _training(plan, folder),
        "Versions": _versions(folder),
    }
    return {name: {key: value for key, value in group.items() if value} for name, group in groups.items()}


def _data(plan: Plan, split: Split | None) -> dict[str, str]:
    encoder, data = plan.encoder, split.data if split else None
    ids = f": {_some(s.id for s in data)}" if data is not None and len(data) > 1 else ""
    layout = encoder.layout
    ranges = [_range(name, *bounds) for name, bounds in layout.support.items()]
    steps = [f"{name} {step:.3g}" for name, step in zip(encoder.columns, encoder.resolution, strict=True) if step > 0]
    return {
        "Table": Path(plan.source).name if plan.source else "from memory",
        "Series": f"{grouped(plan.rows['series'])}{ids}",
        "Rows": grouped(plan.rows["rows"]),
        "Time": "" if data is None else _period(data),
        "Columns": _some(encoder.columns),
        "Covariates": _some((*layout.context, *layout.calendar)) or "none",
        "Static": _some(layout.static),
        "Discrete": _some(f"{name}: {', '.join(layout.levels[name])}" for name in layout.discrete),
        "Never outside": _some(ranges),
        "Constant": _some(f"{name} = {value:g}" for name, value in encoder.constants.items()),
        "Missing": "" if data is None else _missing(data),
        "Rounded to": _some(steps),
        "Fingerprint": plan.fingerprint[:12],
    }


def _held_out(plan: Plan, split: Split | None, scores: Scores | None) -> dict[str, str]:
    roles = np.zeros(0, np.int64) if split is None else np.concatenate(split.roles)
    train, validation, test = (grouped(int((roles == role).sum())) for role in (TRAIN, VALIDATION, TEST))
    return {
        "Rule": plan.rule.describe(),
        "Rows": "" if split is None else f"{train} to train, {validation} to validate, {test} held out",
        "Scored on": scores.about if scores else "",
    }


def _model(plan: Plan, model: SequenceSDE) -> dict[str, str]:
    config, law = plan.config, plan.law
    count = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter((model.flow_net, model.diffusion_net), eqx.is_array)))
    past = {0: "the present alone", 1: "the present and the row before it"}
    also = {"covariates": plan.encoder.context_dim, "the time since the start": config.time_dependent}
    reads = past.get(config.history, f"the present and the {config.history} rows before it")
    gaps = [_length(plan, gap) for gap in (law.shortest, law.longest)]
    sizes = ", ".join(f"{s:.3g}" for s in np.atleast_1d(config.input_noise))
    noise = f"{sizes} s.d. on the input, targets {_TARGETS[config.noise_target]}"
    return {
        "Equation": "dx = f dt + g dW, Itô, diagonal noise",
        "f and g read": "; ".join([reads, *(name for name, read in also.items() if read)]),
        "Networks": f"two, of {_many(config.depth, 'layer', 'layers')} of {config.width}; {grouped(count)} parameters",
        "Objective": _OBJECTIVES[config.objective] + ("" if config.flow_loss == "gaussian" else ", log loss"),
        "Regulariser": noise if np.any(config.input_noise) else "",
        "One step": f"{_length(plan, 1.0)}, the typical gap",
        "Gaps fitted": gaps[0] if gaps[0] == gaps[1] else f"{gaps[0]} to {gaps[1]}",
        "A gap takes": _many(law.substeps, "Euler–Maruyama step", "Euler–Maruyama steps"),
    }


_OBJECTIVES = {
    "decoupled": "decoupled: flow, then the likelihood of its residuals",
    "joint": "joint likelihood of flow and diffusion",
}
_TARGETS = {"keep": "as they are", "return": "undo it"}


def _training(plan: Plan, folder: RunFolder | None) -> dict[str, str]:
    train, done = plan.train, _done(folder)
    kept = f"step {grouped(done['best_step'])}" if "best_step" in done else ""
    nats = done.get("best_validation_nats")
    return {
        "Steps": f"{grouped(train.steps)} of {train.batch_size} transitions",
        "Optimiser": f"AdamW, learning rate {train.learning_rate:g}, cosine",
        "Averaging": f"weights, decay {train.ema:g}" if train.ema else "none",
        "Kept": kept + (f", {_signed(nats)} nats on the validation rows" if kept and nats is not None else ""),
        "Time": _seconds(done["seconds"]) if "seconds" in done else "",
        "Seed": str(train.seed),
    }


def _versions(folder: RunFolder | None) -> dict[str, str]:
    used = folder.versions if folder else versions()
    return {name: used[name] for name in ("neuralsde", "python", "jax", "equinox", "optax") if name in used}


# -- the curves ---------------------------------------------------------------------------------------------------


def training(metrics: Sequence[Mapping[str, Any]], split: Split | None, folder: RunFolder | None) -> Training | None:
    """Curves from the lines of metrics.jsonl; None when there are none."""
    if not metrics:
        return None
    checked = [line for line in metrics if "validation" in line]
    done = _done(folder)
    least = min(checked, key=lambda line: line["validation"])["step"] if checked else None
    return Training(
        steps=_floats(line["step"] for line in metrics),
        loss=_floats(line["loss"] for line in metrics),
        validation_steps=_floats(line["step"] for line in checked),
        validation=_floats(line["validation"] for line in checked),
        best_step=done.get("best_step", least),
        rule=_rule(done.get("best_rule", ""), split),
    )


def _rule(rule: str, split: Split | None) -> str:
    text = f"Kept: {rule}." if rule else ""
    if split is None or any(np.any(role[1:] == VALIDATION) for role in split.fit_roles):
        return text
    return f"{text} No row could be spared for validation, so the training rows themselves stood in for it.".strip()


# -- words --------------------------------------------------------------------------------------------------------


def grouped(number: int) -> str:
    """12000 -> 12 000 with a narrow space that does not break."""
    return f"{number:,}".replace(",", "\u202f")


def _done(folder: RunFolder | None) -> dict[str, Any]:
    return folder.summary() if folder is not None and folder.finished else {}


def _stem(source: str) -> str:
    return Path(source).name.split(".")[0] if source else ""


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    every = list(names)
    more = f" and {grouped(len(every) - _NAMES)} more" if len(every) > _NAMES else ""
    return ", ".join(every[:_NAMES]) + more


def _many(count: int, one: str, several: str) -> str:
    return f"{grouped(count)} {one if count == 1 else several}"


def _length(plan: Plan, steps: float) -> str:
    """A number of steps as a length of time."""
    clock, length = plan.encoder.clock, steps * plan.encoder.tau
    return clock.show_duration(length) if clock.is_calendar else f"{length:.4g}"


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


def _range(name: str, low: float, high: float) -> str:
    return f"{name} ≥ {low:g}" if np.isinf(high) else f"{name} {low:g} to {high:g}"


def _period(data: Trajectories) -> str:
    first, last = min(s.times[0] for s in data), max(s.times[-1] for s in data)
    return f"{moment_text(data.clock, first)} to {moment_text(data.clock, last).removeprefix('t = ')}"


def _missing(data: Trajectories) -> str:
    share = np.isnan(np.concatenate([s.values for s in data])).mean(0)
    order = [k for k in np.argsort(-share, kind="stable") if share[k] > 0]
    return _some(f"{data.columns[k]} {_percent(100 * share[k])}" for k in order) or "none"


def _percent(share: float) -> str:
    return f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"


def _signed(number: float) -> str:
    return f"{number:.3f}".replace("-", "−")


def _floats(values: Iterable[float | int]) -> np.ndarray:
    return np.array(list(values), np.float64)

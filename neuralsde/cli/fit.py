"""`neuralsde fit DATA`: a table of sequences, or points and images, become a run folder.

Settings come from three places, the later ones winning: the defaults, the config.json that `--config` names (with
`--resume` that of the run itself), and what is typed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from neuralsde.cli.common import Flag, Names, Ranges, choose, note, option, ranges, told
from neuralsde.cli.entry import function
from neuralsde.cli.heldout import HELP as HELD_OUT
from neuralsde.cli.heldout import rule_of
from neuralsde.cli.points import POINT_MODELS, fit_points, refuse
from neuralsde.cli.settings import parse_settings
from neuralsde.errors import InputError

CALENDAR = "hour-of-day, day-of-week, day-of-year, month-of-year"


def fit(
    data: Annotated[Path | None, option("DATA", "CSV, Parquet, NPZ, NPY; rows of series, points, or images.")] = None,
    /,
    *,
    id: Annotated[str | None, option("COL", "Tells the series apart; without it the table is one.")] = None,
    time: Annotated[str | None, option("COL", "Times, numbers or time stamps; guessed from its name.")] = None,
    values: Annotated[Names, option("COL...", "Columns to model, all numeric ones by default; or an array.")] = (),
    context: Annotated[Names, option("COL...", f"Known covariates: columns, or {CALENDAR}.")] = (),
    positive: Annotated[Names, option("COL...", "Columns that are never negative.")] = (),
    bounded: Annotated[Ranges, option("COL LO HI", "A column that never leaves a range; repeat.")] = (),
    plausible: Annotated[Ranges, option("COL LO HI", "Entries outside count as missing; repeat.")] = (),
    static: Annotated[Names, option("COL...", "Never change within a series: numbers or text.")] = (),
    discrete: Annotated[Names, option("COL...", "A few labels that change, not known ahead.")] = (),
    labels: Annotated[str | None, option("NAME", "Column or array of classes, for a model of points.")] = None,
    model: Annotated[
        str | None, option("NAME", f"sequence-sde by default; of points or images {', '.join(POINT_MODELS)}.")
    ] = None,
    set: Annotated[Names, option("NAME=VALUE...", "Settings of model or training, as width=128.")] = (),
    steps: Annotated[int | None, option("N", "Training steps; 4000 by default.")] = None,
    seed: Annotated[int | None, option("N", "Seed of the random numbers; 0 by default.")] = None,
    held_out: Annotated[str | None, option("RULE", f"Kept for the score: {HELD_OUT}; of points some-points=N.")] = None,
    out: Annotated[Path | None, option("FOLDER", "The run; runs/NAME-OF-THE-TABLE by default.")] = None,
    resume: Annotated[bool, Flag, Parameter(help="Go on with the run in OUT.", show_default=False)] = False,
    config: Annotated[Path | None, option("FILE", "A run's config.json: the same settings again.")] = None,
) -> None:
    """Fit a model to a table of sequences, or to independent points and images.

    One or many series of any length, irregular times, missing values; with
    --model score each row is a point, or DATA an array of images, and "digits"
    names the images that come with the package. Writes a run folder with the
    settings, the metrics, checkpoints and the weights.
    """
    columns = {
        "id": id, "time": time, "values": values or None, "context": context, "positive": positive,
        "bounded": ranges(bounded, "--bounded") or None, "plausible": ranges(plausible, "--plausible") or None,
        "static": static, "discrete": discrete,
    }  # fmt: skip
    saved = saved_settings(config, out if resume else None)
    name = model or saved.get("model", {}).get("name", "sequence-sde")
    choose(name, ("sequence-sde", *POINT_MODELS), "model")
    if name in POINT_MODELS:
        strange = {other: given for other, given in columns.items() if other != "values"}
        refuse(strange, f"it is for sequences, and the model {name} is one of independent points", "no such option")
        return fit_points(
            data, name, saved, values=values, labels=labels, typed=set, steps=steps, seed=seed, held_out=held_out,
            out=out, resume=resume,
        )  # fmt: skip
    refuse({"labels": labels}, f"the model {name} is one of sequences", "--model " + ", ".join(POINT_MODELS))
    if data is not None and str(data) == "digits" and not data.exists():
        raise InputError("digits", f"they are images, and {name} is a model of sequences", "--model score")
    if saved and saved["model"]["name"] in POINT_MODELS:
        raise InputError(f"--config {config}", f"it is of points, and {name} is a model of sequences", "--model score")
    rule = saved_rule(saved) if held_out is None else rule_of(held_out)
    table = told(read(data, {name: given for name, given in columns.items() if given}, saved, own=resume))
    config_of_model, training = settings_of(saved, model, set, steps, seed)
    folder = out or Path("runs") / Path(table.source).name.split(".")[0]
    rule = rule or function("neuralsde.data.rules:auto")(table)
    note([f"modelling {', '.join(table.columns)}; held out for the score: {rule.describe()}"])
    progress = function("neuralsde.train.progress:automatic")()
    run = function("neuralsde.runs:fit")(
        table, model=config_of_model, training=training, seed=training.seed, out=folder, resume=resume, split=rule,
        progress=progress,
    )  # fmt: skip
    note(run.diagnose(part="validation").warnings)
    print(run.describe())
    print(f"the run is in {folder}; next: neuralsde score {folder}, neuralsde report {folder}")


def saved_settings(config: Path | None, running: Path | None) -> dict[str, Any]:
    """The content of the config.json to start from; empty when there is none."""
    path = config or running
    saved = {} if path is None else function("neuralsde.runs.folder:read_config")(path)
    if saved.get("model", {}).get("name") == function("neuralsde.runs.folder:POLICY"):
        raise InputError(f"the run {path}", "it is a policy, which is not fitted to a table",
                         "a run of sequences, points or images", "neuralsde reproduce pusht")  # fmt: skip
    return saved


def saved_rule(saved: dict[str, Any]) -> Any:
    return function("neuralsde.data.rules:rule_from_dict")(saved["split"]) if saved else None


def settings_of(
    saved: dict[str, Any], model: str | None, typed: Names, steps: int | None, seed: int | None
) -> tuple[Any, Any]:
    """The settings of the model and of the training: defaults, then saved ones, then those that were typed."""
    before = dict(saved.get("model", {}))
    name = before.pop("name", "sequence-sde")
    if model not in (None, name):
        name, before = model, {}
    base = function("neuralsde.runs.plan:model_config")(name, before)
    default = function("neuralsde.runs.fit:TRAINING")
    training = replace(default, **saved["train"]) if saved else default
    for_model, for_training = parse_settings(typed, base, training)
    for name, value in (("steps", steps), ("seed", seed)):
        for_training |= {} if value is None else {name: value}
    return replace(base, **for_model), replace(training, **for_training)


def read(data: Path | None, columns: dict[str, Any], saved: dict[str, Any], own: bool) -> Any:
    """The table: laid out as the columns say, or as in the saved run; by default the one that the run was fitted on.

    own: whether the saved run is the one that goes on, so that its first command may be typed again as it was.
    """
    path = data or saved.get("data", {}).get("source")
    if not path:
        raise InputError("no table", expected="neuralsde fit DATA, or --config of a run whose table is still there")
    if columns and saved and not own:
        raise InputError(f"--config and --{next(iter(columns))}", "the config says which columns", "one of the two")
    if columns or not saved:
        return function("neuralsde.data:read")(path, **columns)
    layout = function("neuralsde.data:Layout").from_dict(saved["encoder"]["layout"])
    return function("neuralsde.data:read")(path, layout=layout)

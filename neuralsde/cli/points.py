"""What `fit`, `sample` and `score` do for runs of independent points and images."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuralsde.cli.common import Names, note, told, write
from neuralsde.cli.entry import function
from neuralsde.cli.settings import parse_settings
from neuralsde.errors import InputError

POINT_MODELS = ("score", "flow-matching", "energy")
"""The models of independent points; the names in `runs.generative.FAMILIES`."""
OUTS = (".npz", ".csv", ".parquet", ".png")
"""What samples can be written as."""


def is_of_points(run: Any) -> bool:
    """Whether a run is one of points or images, not of sequences."""
    return isinstance(run, function("neuralsde.runs:GenerativeRun"))


def refuse(given: dict[str, Any], meaning: str, expected: str) -> None:
    """InputError for the first option that was given and does not fit the kind of run or model."""
    for name, value in given.items():
        if value is not None and value != () and value is not False:
            raise InputError(f"--{name.replace('_', '-')}", meaning, expected)


# -- fit ---------------------------------------------------------------------------------------------------------------


def fit_points(
    data: Path | None,
    name: str,
    saved: dict[str, Any],
    *,
    values: Names,
    labels: str | None,
    typed: Names,
    steps: int | None,
    seed: int | None,
    held_out: str | None,
    out: Path | None,
    resume: bool,
) -> None:
    """Points from a file, settings from the defaults, the saved run and what was typed; then fit and say what came."""
    origin = saved.get("data", {})
    path = data or origin.get("source")
    if not path:
        raise InputError("no points", expected="neuralsde fit DATA, or --config of a run whose file is still there")
    opening = function("neuralsde.runs.generative:open_points")
    table = told(opening(path, values or tuple(origin.get("values", ())), labels or origin.get("labels") or None))
    config, network, training = settings_of(name, saved, typed, steps, seed)
    folder = out or Path("runs") / Path(table.source).name.split(".")[0]
    rule = rule_of(held_out, saved)
    what = f"{len(table)} images of {' x '.join(map(str, table.shape))}" if table.is_images else f"{len(table)} points"
    classes = f", {len(table.classes)} classes" if table.classes else ""
    note([f"modelling {what}{classes}; held out for the score: {rule.describe()}"])
    progress = function("neuralsde.train.progress:automatic")()
    run = function("neuralsde.runs:fit")(
        table, model=config, network=network, training=training, seed=training.seed, out=folder, resume=resume,
        split=rule, progress=progress,
    )  # fmt: skip
    print(run.describe())
    picture = f"neuralsde sample {folder} --out samples.{'png' if table.is_images else 'csv'}"
    print(f"the run is in {folder}; next: {picture}, neuralsde score {folder}")


def settings_of(
    name: str, saved: dict[str, Any], typed: Names, steps: int | None, seed: int | None
) -> tuple[Any, Any, Any]:
    """Model, network and training: defaults, then saved ones, then those that were typed."""
    families, backbone = function("neuralsde.runs.generative:families"), function("neuralsde.runs:Backbone")
    before = dict(saved.get("model", {}))
    before = before if before.pop("name", None) == name else {}
    config, network = families.config_of(name, before), backbone(**saved.get("network", {}))
    default = function("neuralsde.runs.generative.fit:TRAINING")
    training = replace(default, **saved["train"]) if saved else default
    for_model, for_network, for_training = parse_settings(typed, families.settings(config), network, training)
    for key, value in (("steps", steps), ("seed", seed)):
        for_training |= {} if value is None else {key: value}
    other = for_network.get("net", network.net) != network.net  # its sizes mean nothing for another kind
    network = replace(backbone() if other else network, **for_network)
    return families.changed(config, for_model), network, replace(training, **for_training)


def rule_of(text: str | None, saved: dict[str, Any]) -> Any:
    """`some-points=0.2` or `some-points=500`; the saved rule, or the default, where nothing is said."""
    rule = function("neuralsde.data:SomePoints")
    if text in (None, "auto"):
        known = dict(saved.get("split", {}))
        return rule(**known) if known.pop("rule", None) == "some-points" else rule()
    name, given, number = str(text).partition("=")
    expected = "some-points=SHARE or some-points=COUNT"
    if name != "some-points":
        raise InputError(f"--held-out {text}", "points know no times and no series", expected)
    try:
        return rule(float(number)) if given else rule()
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"--held-out {text}", f"{number!r} is not a number", expected) from None


# -- sample ------------------------------------------------------------------------------------------------------------


def sample_points(
    run: Any,
    *,
    sampler: str | None,
    nfe: int | None,
    label: str | None,
    guidance: float | None,
    n: int,
    seed: int,
    out: Path | None,
) -> None:
    """Draw points and write them: arrays, a table, or a picture of images."""
    check_points_out(out, len(run.shape) > 1)
    drawn = run.sample(n, sampler=sampler or "dpmpp-2m", nfe=nfe, seed=seed, label=label, guidance=guidance)
    if out is not None and out.suffix.lower() == ".npz":
        function("numpy:savez_compressed")(out, **{"images" if drawn.ndim > 2 else "values": drawn})
    elif out is not None and out.suffix.lower() == ".png":
        function("neuralsde.evaluate.images:image_grid")(drawn, out)
    else:
        write(as_table(run, drawn), out)
        return
    print(f"{len(drawn)} samples in {out}", file=sys.stderr)


def check_points_out(out: Path | None, images: bool) -> None:
    """Refuse a file that could not be written before any work is done."""
    if out is None:
        return
    if out.suffix.lower() not in OUTS:
        raise InputError(f"--out {out}", "its ending names no kind of file for samples", " ".join(OUTS))
    if out.suffix.lower() == ".png" and not images:
        raise InputError(f"--out {out}", "the run is one of points, and only images make a picture", ".csv or .npz")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}", f"there is no folder {out.parent}", hint=f"mkdir -p {out.parent}")


def as_table(run: Any, drawn: Any) -> Any:
    """A row for each sample; pixels of images as p0, p1, ..., row by row."""
    flat = drawn.reshape(len(drawn), -1)
    names = run.columns or tuple(f"p{k}" for k in range(flat.shape[1]))
    return function("polars:DataFrame")({name: flat[:, k] for k, name in enumerate(names)})


# -- score -------------------------------------------------------------------------------------------------------------


def score_points(run: Any, data: Path | None, *, n: int | None, label: str | None, seed: int, out: Path | None) -> None:
    """Nats and bits per dimension of held-out points, or of another file."""
    found = run.score(data, n=n, label=label, seed=seed)
    if out is None:
        print(found)
    else:
        write(found.table(), out)

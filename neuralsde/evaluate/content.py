"""What a report shows, as plain values: a run fills these in, `report.py` sets them on a page.

Times of fans and paths are numbers in `ReportContent.time_unit`, counted from the forecast's start (the past is
negative). Arrays are float64; d is the number of columns. A part left empty becomes a sentence saying so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from neuralsde.evaluate.bootstrap import Estimate
from neuralsde.evaluate.diagnostics import Diagnostics
from neuralsde.evaluate.scores import Floats

Real = float | int


@dataclass(frozen=True)
class Metric:
    """A score that the tables know by name; `better` is always "lower"."""

    title: str
    about: str
    in_data_units: bool = False


METRICS = {
    "crps": Metric(
        "CRPS",
        "The distance between a forecast distribution and what happened, in the data’s own units; the absolute error "
        "when the forecast is a single number.",
        in_data_units=True,
    ),
    "nll": Metric(
        "Negative log-likelihood",
        "Nats per value: minus the log-probability that the forecast gave to what happened, of the rounding interval "
        "where the data are rounded. A difference of 0.1 is a probability ratio of 1.1 for every value. One step "
        "ahead, where the model states its density; further ahead it only has samples.",
    ),
    "energy": Metric(
        "Energy score",
        "The CRPS of all columns together: it also judges how they move together. Each column is divided by its "
        "standard deviation first.",
    ),
}


@dataclass(frozen=True)
class KeyFigure:
    """One large number at the top of the page, and what it means."""

    value: str
    label: str


@dataclass(frozen=True)
class Training:
    """Curves over steps: loss `(k,)` at `steps (k,)`, held-out `validation (m,)` at `validation_steps (m,)`.

    `best_step` is the checkpoint that the rule kept; `rule` says the rule in words.
    """

    steps: Floats
    loss: Floats
    validation_steps: Floats
    validation: Floats
    best_step: int | None = None
    rule: str = ""


@dataclass(frozen=True)
class Fan:
    """One held-out window: past `(p, d)` at `past_times (p,)`, and truth, mean `(k, d)` at `times (k,)`.

    `bands` maps a level in percent to its lower and upper ends, each `(k, d)`. Missing entries are NaN.
    """

    label: str
    past_times: Floats
    past: Floats
    times: Floats
    truth: Floats
    mean: Floats
    bands: dict[int, tuple[Floats, Floats]]


@dataclass(frozen=True)
class Pit:
    """PIT values `(n,)` of one column at one lead; NaN ones are left out."""

    column: str
    lead: str
    values: Floats


@dataclass(frozen=True)
class Coverage:
    """Share of the truth inside the central band of `level` percent, with its interval; shares in [0, 1]."""

    column: str
    lead: str
    level: int
    value: Real
    low: Real
    high: Real


@dataclass(frozen=True)
class Score:
    """One method's average score, lower is better, with its interval.

    `metric` is a key of `METRICS`; `column` is "" for a score over all columns. `gain` is the paired difference
    (this method minus the model; positive: the model is better), None for the model itself.
    """

    metric: str
    column: str
    lead: str
    method: str
    value: Real
    low: Real
    high: Real
    gain: Estimate | None = None


@dataclass(frozen=True)
class Paths:
    """n sampled paths `values (n, k, d)` at `times (k,)`, with what happened `truth (k, d)` if known."""

    label: str
    times: Floats
    values: Floats
    truth: Floats | None = None


@dataclass(frozen=True)
class VectorField:
    """A two-dimensional state: drift `(b, a, 2)` and diffusion `(b, a, 2)` on the grid `x (a,)`, `y (b,)`.

    Both in data units, per `time_unit` and per its square root. `paths (n, k, 2)` are drawn on top, `data (m, 2)`
    below, when given; `about` says what was held fixed.
    """

    x: Floats
    y: Floats
    drift: Floats
    diffusion: Floats
    paths: Floats | None = None
    data: Floats | None = None
    time_unit: str = "unit of time"
    about: str = ""


@dataclass(frozen=True)
class ReportContent:
    """Everything on the page. `model` is the name of the method that the scores put first (bold when best).

    `picked` says how the windows of the fans were chosen; `missing` why there is nothing held out to show. `leads` are
    the leads of the scores in steps, in the order in which they come.
    """

    title: str
    summary: str
    columns: tuple[str, ...]
    time_unit: str = "steps"
    units: dict[str, str] = field(default_factory=dict)
    model: str = "neural SDE"
    kicker: str = "neuralsde"
    key_figures: tuple[KeyFigure, ...] = ()
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    training: Training | None = None
    fans: tuple[Fan, ...] = ()
    pit: tuple[Pit, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    scores: tuple[Score, ...] = ()
    paths: tuple[Paths, ...] = ()
    field: VectorField | None = None
    command: str = ""
    footer: str = ""
    picked: str = ""
    missing: str = ""
    leads: tuple[float, ...] = ()
    diagnostics: Diagnostics | None = None

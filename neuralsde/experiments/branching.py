"""The fork of the paper (arXiv 2501.18871, section 4.1 and appendix E.1): a case whose answer one can see.

Fifty identical trajectories go straight on and then turn up by 30°, fifty turn down; speed 0.1, 101 points, the kink at
step 45. Nothing in them is random, so all that a sequence SDE samples is the choice. Fitted through the public API on
the present alone (density 1, so one step a point), with the paper's noise of s.d. 0.1 on the input, in two ways:

    keep     the paper's target, the velocity of the clean path;   what is lost stays lost,
    return   that velocity and the way back to the clean path;     the paper's denoiser (α = 1) inside the flow.

`perfect_fit` samples what each loss would give if a network could minimise it exactly.
How the settings were chosen is in docs/decisions/0004-the-fork.md.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from neuralsde.data import Encoder, Nothing, Split, Trajectories, from_arrays
from neuralsde.errors import InputError
from neuralsde.evaluate.style import ACCENT, BAND_INNER, FAINT, INK, PAPER, axes, figure, save
from neuralsde.models.sequence_sde import Config
from neuralsde.runs.fit import fit
from neuralsde.runs.folder import check_new, versions
from neuralsde.runs.report_field import coefficients, to_data
from neuralsde.runs.run import Run
from neuralsde.train.files import write_atomic
from neuralsde.train.problem import TrainConfig
from neuralsde.train.progress import Reporter

NoiseTarget = Literal["return", "keep"]
TARGETS: tuple[NoiseTarget, ...] = ("return", "keep")
"""The first is the default."""

SPEED, ANGLE, KINK, STEPS, COPIES = 0.1, np.pi / 6, 45, 100, 50
FORK_STEPS = 10
"""The fork region: from step 45 to step 55 a path makes up its mind."""

NOISE = 0.1
NETWORK = Config(history=0, width=64, depth=3)
TRAINING = TrainConfig(steps=8_000, batch_size=256, learning_rate=3e-3)
SPLIT = Nothing()
PATHS, DRAWN = 1_000, 120
NEAR = 0.15


def demonstrations() -> np.ndarray:
    """The two branches (2, 101, 2), the upper one first."""
    ahead = np.tile([SPEED, 0.0], (KINK, 1))
    turned = [SPEED * np.array([np.cos(ANGLE), side * np.sin(ANGLE)]) for side in (1, -1)]
    velocity = [np.concatenate([ahead, np.tile(turn, (STEPS - KINK, 1))]) for turn in turned]
    return np.stack([np.concatenate([np.zeros((1, 2)), np.cumsum(v, axis=0)]) for v in velocity])


def table() -> Trajectories:
    """The hundred trajectories, one point a unit of time; first those that turn up."""
    return from_arrays(np.arange(STEPS + 1.0), list(np.repeat(demonstrations(), COPIES, axis=0)), columns=["x", "y"])


def config(data: Trajectories, target: NoiseTarget) -> Config:
    """The model: its noise is NOISE in the data's own units, so another share of each column's s.d."""
    sd = Encoder.fit(Split.of(data, SPLIT).train_data).sd
    return replace(NETWORK, input_noise=tuple(NOISE / each for each in sd), noise_target=target)


# -- what is measured --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """What 1,000 sampled paths do.

    up:         share that ends above the axis.
    near:       share that stays within 0.15 of the demonstrated lines from the kink to the end.
    near_after: the same, from the end of the fork region.
    end, end_90: median and 90 % quantile of the distance to the end point of the own branch at the last step.
    """

    up: float
    near: float
    near_after: float
    end: float
    end_90: float


ASKED = {
    "up": (0.35, 0.65),
    "near": (0.5, 1.0),
    "near_after": (0.5, 1.0),
}
"""The marks: from, to."""

_HEADS = {
    "up": "upper branch",
    "near": "near the lines",
    "near_after": "after the fork",
    "end": "end, median",
    "end_90": "end, 90 %",
}
_LEGEND = (
    f"near the lines: paths that stay within {NEAR:g} of a demonstrated line from the kink (step {KINK}) to the end; "
    f"after the fork: from step {KINK + FORK_STEPS}; end: distance to the end point of the own branch at step {STEPS}"
)


def distance(points: np.ndarray) -> np.ndarray:
    """Distance (...) of points (..., 2) to the nearest demonstrated line."""
    up, down = demonstrations()
    starts, ends = np.stack([up[0], up[KINK], down[KINK]]), np.stack([up[KINK], up[-1], down[-1]])
    along = ends - starts
    share = ((points[..., None, :] - starts) * along).sum(-1) / (along**2).sum(-1)
    foot = starts + np.clip(share, 0.0, 1.0)[..., None] * along
    return np.linalg.norm(points[..., None, :] - foot, axis=-1).min(-1)


def measure(paths: np.ndarray) -> Figures:
    """The figures of paths (n, 101, 2)."""
    near = distance(paths[:, KINK:]) < NEAR
    up = paths[:, -1, 1] > 0
    ends = demonstrations()[np.where(up, 0, 1), -1]
    miss = np.linalg.norm(paths[:, -1] - ends, axis=-1)
    figures = (up.mean(), near.all(1).mean(), near[:, FORK_STEPS:].all(1).mean(), *np.quantile(miss, [0.5, 0.9]))
    return Figures(*(round(float(value), 4) for value in figures))


def meets(figures: Figures) -> bool:
    """Whether all marks are met."""
    return all(low <= getattr(figures, name) <= high for name, (low, high) in ASKED.items())


def perfect_fit(target: NoiseTarget, *, n: int = PATHS, seed: int = 0) -> np.ndarray:
    """Paths (n, 101, 2) of the exact minimisers of the two losses.

    Seen from a noisy input x̃, a clean point x_j has the weight w_j ∝ exp(-|x̃ - x_j|² / 2 s²). The flow is the mean of
    the targets under w, the variance of the diffusion that of the flow's residuals at the clean points.
    """
    lines = demonstrations()
    x, velocity = (part.reshape(-1, 2) for part in (lines[:, :-1], np.diff(lines, axis=1)))
    rng = np.random.default_rng(seed)

    def posterior_mean(of: np.ndarray, at: np.ndarray) -> np.ndarray:
        log = (at @ x.T - 0.5 * (x**2).sum(1)) / NOISE**2  # -|x̃ - x_j|² / 2 s², but for a constant of each x̃
        weight = np.exp(log - log.max(1, keepdims=True))
        return weight @ of / weight.sum(1, keepdims=True)

    def flow(means: np.ndarray, at: np.ndarray) -> np.ndarray:
        return means[:, 2:4] + (means[:, :2] - at if target == "return" else 0.0)

    known = np.concatenate([x, velocity], axis=1)
    residual = velocity - flow(posterior_mean(known, x), x)
    known = np.concatenate([known, residual**2], axis=1)
    states = [np.zeros((n, 2))]
    for _ in range(STEPS):
        now = states[-1]
        means = posterior_mean(known, now)
        states.append(now + flow(means, now) + np.sqrt(means[:, 4:]) * rng.normal(size=now.shape))
    return np.stack(states, axis=1)


# -- the experiment ----------------------------------------------------------------------------------------------------


def reproduce(
    *, out: Path, seed: int = 0, seeds: int = 1, training: TrainConfig = TRAINING, progress: Reporter | None = None
) -> Iterator[str]:
    """Fit and sample with both targets, and say what came of it, line by line.

    seeds: how many, from `seed` on.

    Into the new folder `out` go the runs, pictures of the first two (`branching` and `branching-keep`, .svg and .png),
    `branching.json` (all figures, settings, versions) and `branching.md` (the table). Raises InputError when there is
    something in `out` already.
    """
    if seeds < 1:
        raise InputError(f"seeds={seeds}", "nothing to fit", "at least 1")
    check_new(out)
    data = table()
    limits: dict[NoiseTarget, Figures] = {target: measure(perfect_fit(target, seed=seed)) for target in TARGETS}
    outcomes = []
    yield f"the fork at density 1: {len(data)} trajectories, {PATHS} sampled paths from the start"
    for each, target in itertools.product(range(seed, seed + seeds), TARGETS):
        path = out / f"{target}-{each}"
        run = fit(
            data, model=config(data, target), seed=each, out=path, split=SPLIT, training=training, progress=progress
        )
        paths = run.sample(np.zeros(2), np.arange(STEPS + 1.0), n=PATHS, seed=each)
        outcomes.append(Outcome(target, each, measure(paths), _seconds(run)))
        if each == seed:
            drawn, name = picture(run, paths[:DRAWN]), "branching" if target == TARGETS[0] else f"branching-{target}"
            save(drawn, out / f"{name}.svg")
            save(drawn, out / f"{name}.png")
        yield f"seed {each}, {target}: fitted in {outcomes[-1].seconds:.0f} s, in {path}"
    record = _record(config(data, TARGETS[0]), training, limits, outcomes)
    write_atomic(out / "branching.json", (json.dumps(record, indent=1) + "\n").encode())
    rows = _rows(limits, outcomes)
    write_atomic(out / "branching.md", _page(rows, record).encode())
    yield from _aligned(rows)
    yield _LEGEND
    yield f"picture: {out / 'branching.svg'}; table: {out / 'branching.md'}; figures: {out / 'branching.json'}"


@dataclass(frozen=True)
class Outcome:
    """One fit: how it was made, what its paths do, and how long it took."""

    target: NoiseTarget
    seed: int
    figures: Figures
    seconds: float


def picture(run: Run, paths: np.ndarray) -> Figure:
    """The drift as streamlines over the size of the diffusion (darker: noisier), near the demonstrated lines (dotted),
    and sampled paths; the fork once more in large.
    """
    fig = figure(640, 401)
    ax = axes(fig, left=44, right=14, top=8, bottom=42, grid="none")
    ax.grid(visible=False)
    _draw(ax, run, paths, _FRAME, density=(1.5, 1.1), reach=1.0)
    ax.plot(*paths[:, -1].T, "o", color=ACCENT, markersize=3, alpha=0.4, markeredgewidth=0)
    ax.xaxis.set_major_locator(MultipleLocator(2))
    ax.set_xlabel(run.columns[0])
    ax.set_ylabel(run.columns[1])
    (left, right), (low, high) = _FORK
    inset = ax.inset_axes((0.0, 1.12, 4.0, 1.9), transform=ax.transData, xticks=[], yticks=[], facecolor=PAPER)
    inset.spines[:].set(color=FAINT, linewidth=0.8)
    _draw(inset, run, paths[:, KINK - 6 : KINK + 2 * FORK_STEPS], _FORK, density=(0.9, 0.7), reach=9.0)
    ax.plot([left, right, right, left, left], [low, low, high, high, low], color=FAINT, linewidth=0.8)
    ax.plot([[0.0, 4.0], [left, right]], [[1.12, 1.12], [high, high]], color=FAINT, linewidth=0.8)
    return fig


_FRAME = ((-0.5, 10.1), (-3.2, 3.2))
_FORK = ((4.2, 5.4), (-0.285, 0.285))
_NOISIEST = 0.07  # where the shading ends


def _draw(
    ax: Axes, run: Run, paths: np.ndarray, box: Sequence[tuple[float, float]], *, density: Any, reach: float
) -> None:
    """Field, demonstrations and paths in a box; the field up to the distance `reach` from the demonstrations."""
    x, y = (np.linspace(low, high, count) for (low, high), count in zip(box, (141, 86), strict=True))
    states = np.stack(np.meshgrid(x, y), axis=-1)
    encoder = run.fitted.encoder
    z = encoder.encode_values(states)
    flow, sigma = coefficients(run.model, z.reshape(-1, 2), np.zeros(0), 0.0)
    drift, diffusion = to_data(encoder, z, flow.reshape(z.shape), sigma.reshape(z.shape))
    size, away = np.linalg.norm(diffusion, axis=-1), distance(states)
    tints = [to_rgba(BAND_INNER, share) for share in np.linspace(0, 1, 16)]
    ax.contourf(x, y, size, levels=np.linspace(0, _NOISIEST, 17), colors=tints, extend="max")
    ax.contourf(x, y, away, levels=[reach, 99.0], colors=[PAPER])  # a cover has a smoother edge than a mask
    along, up = (np.ma.masked_array(part, away > reach) for part in np.moveaxis(drift, -1, 0))
    ax.streamplot(x, y, along, up, color=FAINT, linewidth=0.7, density=density, arrowsize=0.7, arrowstyle="-|>")
    ax.plot(paths[..., 0].T, paths[..., 1].T, color=ACCENT, linewidth=0.8, alpha=0.25)
    for line in demonstrations():
        ax.plot(*line.T, color=INK, linewidth=1.0, dashes=(1, 2.4))
    ax.set_xlim(*box[0])
    ax.set_ylim(*box[1])


def _seconds(run: Run) -> float:
    return 0.0 if run.folder is None else run.folder.summary()["seconds"]


# -- what is written ---------------------------------------------------------------------------------------------------


def _record(
    model: Config, training: TrainConfig, limits: Mapping[NoiseTarget, Figures], outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    settings = {
        "model": {name: value for name, value in asdict(model).items() if name != "noise_target"},
        "training": {name: value for name, value in training.to_dict().items() if name != "seed"},
        "noise in data units": NOISE,
        "held out": SPLIT.describe(),
        "paths": PATHS,
        "near": NEAR,
    }
    return {
        "experiment": "branching",
        "source": "arXiv 2501.18871, section 4.1 and appendix E.1; density 1",
        "asked": {name: list(bounds) for name, bounds in ASKED.items()},
        "perfect fit": {target: asdict(figures) for target, figures in limits.items()},
        "measured": [{**asdict(outcome), "meets": meets(outcome.figures)} for outcome in outcomes],
        "settings": settings,
        "versions": versions(),
    }


def _rows(limits: Mapping[NoiseTarget, Figures], outcomes: Sequence[Outcome]) -> list[list[str]]:
    """The table, its head first: asked, what a perfect fit gives, measured."""
    names = [field.name for field in fields(Figures)]
    rows = [["", *(_HEADS[name] for name in names), "marks"], ["asked", *map(_asked, names), ""]]
    for target, figures in limits.items():
        rows.append([f"{target}, perfect fit", *_cells(figures), ""])
    for one in sorted(outcomes, key=lambda one: TARGETS.index(one.target)):
        verdict = "met" if meets(one.figures) else "not met"
        rows.append([f"{one.target}, seed {one.seed}", *_cells(one.figures), verdict])
    return rows


def _asked(name: str) -> str:
    if name not in ASKED:
        return ""
    low, high = (100 * bound for bound in ASKED[name])
    return f"{low:g}-{high:g} %" if high < 100 else f"at least {low:g} %"


def _cells(figures: Figures) -> list[str]:
    return [f"{100 * v:.1f} %" if name in ASKED else f"{v:.2f}" for name, v in asdict(figures).items()]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def _page(rows: Sequence[Sequence[str]], record: Mapping[str, Any]) -> str:
    head, *body = rows
    model, training = record["settings"]["model"], record["settings"]["training"]
    seeds = [one["seed"] for one in record["measured"]]
    command = f"neuralsde reproduce branching --seed {min(seeds)} --seeds {len(set(seeds))}"
    lines = [
        "# The fork",
        "",
        f"Written by `{command}`. The fork of the paper (arXiv 2501.18871, section 4.1 and appendix E.1) at density 1: "
        "fifty identical trajectories turn up, fifty turn down. The paper shows that its paths take both branches and "
        "gives no numbers; the marks are this project's own.",
        "",
        "`keep` is the paper's target, the velocity of the clean path; `return`, the default here, adds the way back "
        f"to it, the paper's denoiser inside the flow. Noise on the input: s.d. {NOISE:g} in the units of the data. A "
        "perfect fit is sampled from the exact minimisers of the two losses.",
        "",
        "| " + " | ".join(head) + " |",
        "|---|" + "--:|" * (len(head) - 1),
        *("| " + " | ".join(row) + " |" for row in body),
        "",
        f"Shares of paths; {_LEGEND}.",
        "",
        f"Every row: {PATHS:,} paths from the start. Flow and diffusion: {model['depth']} layers of {model['width']}, "
        f"{training['steps']:,} steps of {training['batch_size']} transitions, learning rate "
        f"{training['learning_rate']:g}.",
    ]
    return "\n".join(lines) + "\n"

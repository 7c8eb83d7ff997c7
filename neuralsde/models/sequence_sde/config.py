"""The options of a sequence SDE: what it reads, what it is made of, what it is trained on.

Which of them for which data: docs/options.md. Some exclude each other, because together they would not be the law of
anything; these are refused here, in one line, before any work is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from neuralsde.errors import InputError, closest

Objective = Literal["decoupled", "joint"]
FlowLoss = Literal["gaussian", "mse", "log", "student"]
DiffusionLoss = Literal["likelihood", "square", "log-regression"]
NoiseShape = Literal["diagonal", "low-rank", "full"]
Tails = Literal["gaussian", "student"]
Law = Literal["euler", "local-linear"]
Interpolation = Literal["none", "chord", "bridge"]
Denoiser = Literal["none", "consistent", "fixed", "state", "calibrated"]
NoiseScale = Literal["constant", "random"]
NoiseTarget = Literal["keep", "return"]
Summary = Literal["gru", "attention"]
PastUnits = Literal["sd", "walk"]
Backbone = Literal["separate", "shared"]
Network = Literal["mlp", "residual"]
TuneScore = Literal["crps", "energy"]


@dataclass(frozen=True)
class Config:
    """Options of a sequence SDE.

    **What it reads.**
    history:      rows of the past that the coefficients read beside the present, h >= 0.
    lags:         single rows further back that they read too: 24 and 23 for the same hour of the day before and the
                  one after it.
    memory:       rows of the past that a learned summary reads, 0 for none; a summary is context: it stays as it is
                  inside a gap.
    summary:      the network of that summary: "gru" or "attention", both over irregular gaps.
    level:        whether they read the present state itself; without it only how it got there. For series that wander
                  without a level to return to, as exchange rates do.
    past_units:   the past is read as differences from the present, in units of each column's s.d. ("sd") or of what a
                  walk moves in that time ("walk", with the size of the last moves): where one step is a small part of
                  the s.d. only the latter shows a network how volatile the present is.
    time_dependent: whether the coefficients also read the time since the start of a series.
    confined:     whether the networks see a state outside the range of the training data as at its edge, so that no
                  slope learnt inside can carry a path away outside.

    **What it is made of.**
    width, depth: hidden units and layers of each network.
    network:      "mlp", or "residual": `depth` residual blocks of two layers each, which may be many.
    backbone:     "separate" networks for flow, diffusion and denoiser, or heads on one "shared" one.
    noise:        "diagonal"; "low-rank" plus diagonal, `rank` common factors; "full", a Cholesky factor.
    tails:        "gaussian", or "student": every gap runs on a random clock, so that a step has Student's law.
    law:          law of a gap in the likelihood: "euler" in `substeps` steps, its moments propagated from step to step
                  when there are several, or "local-linear", exact for a linear drift and constant noise.
    substeps:     Euler-Maruyama steps a gap, in the likelihood and in sampling.

    **What it is trained on.**
    objective:    "decoupled" or "joint".
    flow_loss:    of q = r² Δ / v, v the running residual variance: "gaussian" q/2; "log" ½ log(q + log_delta), eq. 14
                  and 23 of the paper, robust but not consistent for skewed residuals (THEORY 16); "student", robust and
                  smooth; "mse" the velocity's squared error, not weighted by its gap.
    diffusion_loss: "likelihood" of the residuals with the flow held; "square" (eq. 15); "log-regression" (the released
                  code's, which learns about 0.7 of the s.d.).
    reach:        longest transition in rows: each one spans 1 to `reach` rows, in one step of the law.
    input_noise:  s.d. of the noise on the input in training, in units of each column's s.d.: one number, or one for
                  each column (noise of one size s in data units: s over each column's s.d.); a regulariser.
    noise_scale:  "constant", or "random": uniform between 0 and that for every transition.
    noise_target: "keep" the velocity of the clean path, as the paper does, or "return" to it: the target then also
                  undoes the noise, which makes the flow attract to the data from outside.
    interpolation: where between two rows the flow is trained: "none", at the first; on the "chord" (the paper's), or on
                  a Brownian "bridge" between them (THEORY 17 and 18).
    denoiser:     what is added to the drift: "none"; on the chord its "consistent" partner ½ GGᵀ score + ½ ∇·GGᵀ
                  (THEORY 17), which makes it the drift of the data's SDE; or a stabiliser, which changes the law:
                  "fixed", "state" (½ GGᵀ score), each times `strength`, or "calibrated", a fixed one whose strength is
                  the best on validation paths.
    strength:     of a stabiliser. Of a fixed one 1 means: by the time the data move by one `denoiser_noise`, a small
                  deviation has decayed by the factor e. It is a number without a unit (docs/options.md).
    denoiser_noise: s.d. s of the noise that the denoiser learns to undo; as `input_noise`.

    **Fine-tuning through the simulation.**
    tune_steps:   steps of training on simulated paths after the likelihood; 0 for none.
    tune_horizon, tune_paths, tune_score: rows ahead, paths for each start, "crps" of each entry or "energy" of rows.
    """

    history: int = 3
    lags: tuple[int, ...] = ()
    memory: int = 0
    summary: Summary = "gru"
    level: bool = True
    past_units: PastUnits = "sd"
    time_dependent: bool = False
    confined: bool = True

    width: int = 64
    depth: int = 2
    network: Network = "mlp"
    backbone: Backbone = "separate"
    noise: NoiseShape = "diagonal"
    rank: int = 2
    tails: Tails = "gaussian"
    law: Law = "euler"
    substeps: int = 1

    objective: Objective = "decoupled"
    flow_loss: FlowLoss = "gaussian"
    log_delta: float = 1e-3
    diffusion_loss: DiffusionLoss = "likelihood"
    reach: int = 1
    input_noise: float | tuple[float, ...] = 0.0
    noise_scale: NoiseScale = "constant"
    noise_target: NoiseTarget = "keep"
    interpolation: Interpolation = "none"
    denoiser: Denoiser = "none"
    strength: float = 1.0
    denoiser_noise: float | tuple[float, ...] = 0.1

    tune_steps: int = 0
    tune_horizon: int = 12
    tune_paths: int = 8
    tune_score: TuneScore = "crps"

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            _one_of(name, getattr(self, name), get_args(known))
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value}", "", f"a whole number, at least {least}")
        for name in ("log_delta", "strength"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise InputError(f"{name}={value}", "", "a positive number")
        if any(isinstance(lag, bool) or not isinstance(lag, int) or lag < 1 for lag in self.lags):
            raise InputError(f"lags={self.lags}", "", "whole numbers of rows, at least 1")
        for name, sign in (("input_noise", "0 or a positive number"), ("denoiser_noise", "a positive number")):
            _noise(name, getattr(self, name), sign)
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        for contradicts, names, meaning, hint in _CONTRADICTIONS:
            if contradicts(self):
                raise InputError(", ".join(f"{n}={getattr(self, n)!r}" for n in names), meaning, hint=hint)

    @property
    def past(self) -> int:
        """Rows before the present that a window holds."""
        return max(self.history, self.memory, *self.lags)

    def sizes(self, columns: int) -> Config:
        """Itself, after checking what is given for each column against their number."""
        for name in ("input_noise", "denoiser_noise"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != columns:
                raise InputError(f"{name}={value}", f"there are {columns} columns", f"one number, or {columns}")
        return self


_CHOICES = {
    "past_units": PastUnits,
    "objective": Objective,
    "flow_loss": FlowLoss,
    "diffusion_loss": DiffusionLoss,
    "noise": NoiseShape,
    "tails": Tails,
    "law": Law,
    "interpolation": Interpolation,
    "denoiser": Denoiser,
    "noise_scale": NoiseScale,
    "noise_target": NoiseTarget,
    "summary": Summary,
    "network": Network,
    "backbone": Backbone,
    "tune_score": TuneScore,
}
_LEAST = {
    "history": 0, "memory": 0, "width": 1, "depth": 0, "rank": 1, "substeps": 1, "reach": 1, "tune_steps": 0,
    "tune_horizon": 1, "tune_paths": 2,
}  # fmt: skip


def _not_one_step(c: Config) -> bool:
    return c.substeps > 1 or c.law != "euler"


_ON_RESIDUALS = ("square", "log-regression")
_CONTRADICTIONS: tuple[tuple[Callable[[Config], bool], tuple[str, ...], str, str], ...] = (
    (
        lambda c: c.denoiser == "consistent" and c.interpolation != "chord",
        ("denoiser", "interpolation"),
        "there the flow is the drift already, and its consistent partner is zero",
        "interpolation='chord', or denoiser='none'",
    ),
    (
        lambda c: c.interpolation != "none" and _not_one_step(c),
        ("interpolation", "law", "substeps"),
        "between the rows the flow is trained on velocities, not on the law of several steps",
        "substeps=1 and law='euler', or interpolation='none'",
    ),
    (
        lambda c: c.objective == "joint" and c.interpolation != "none",
        ("objective", "interpolation"),
        "the joint likelihood is that of whole gaps",
        "objective='decoupled', or interpolation='none'",
    ),
    (
        lambda c: c.objective == "joint" and c.diffusion_loss in _ON_RESIDUALS,
        ("objective", "diffusion_loss"),
        "a joint objective is a likelihood",
        "diffusion_loss='likelihood'",
    ),
    (
        lambda c: c.noise != "diagonal" and c.diffusion_loss in _ON_RESIDUALS,
        ("diffusion_loss", "noise"),
        "a regression on the size of each residual says nothing about correlations",
        "diffusion_loss='likelihood'",
    ),
    (
        lambda c: c.tails == "student" and c.diffusion_loss in _ON_RESIDUALS,
        ("diffusion_loss", "tails"),
        "a regression on the size of each residual says nothing about tails",
        "diffusion_loss='likelihood'",
    ),
    (
        lambda c: c.tails == "student" and _not_one_step(c),
        ("tails", "law", "substeps"),
        "the likelihood of several steps is worked out for Gaussian ones",
        "substeps=1 and law='euler', or tails='gaussian'",
    ),
    (
        lambda c: c.law == "local-linear" and c.substeps == 1,
        ("law", "substeps"),
        "its coefficients are those of the process itself, which one Euler-Maruyama step a gap does not sample",
        "substeps=8",
    ),
)
"""What cannot be meant together: (whether it is, the options to name, why, what to try)."""


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name}={value!r}", "", " or ".join(known), closest(str(value), known))


def _noise(name: str, value: Any, expected: str) -> None:
    sizes = value if isinstance(value, tuple) else (value,)
    least = 0 if expected.startswith("0") else np.nextafter(0, 1)
    if not sizes or not all(isinstance(s, int | float) and least <= s < np.inf for s in sizes):
        raise InputError(f"{name}={value}", "", f"{expected}, or one for each column")

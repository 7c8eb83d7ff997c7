"""The losses: what each asks of the network, what it leaves in it, and which samplers that serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

from neuralsde.experiments.densities import network
from neuralsde.models import energy, flow, flow_matching, score

Holds = Literal["score", "levels", "velocity", "energy"]
SAMPLERS = ("SDE", "ODE", "Langevin", "HMC")
SET = "eight gaussians"
STEP = 0.07
"""Of HMC, in s.d. of the data: a component of this law has .1."""
FEW = 8
"""Evaluations at which straight lines show."""
SINGLE = ("contrastive divergence", "persistent CD", "noise-contrastive")
WHY = {
    "no energy": "no density to accept a proposal by",
    "no score": "its velocity has no score in it (THEORY 26)",
    "dear": "its density is an ODE solve, and so is each of its gradients",
    "one level": "knows no noised data, so nothing to follow in t",
}
MARKS = dict(zip(WHY.values(), "abcd", strict=True))


@dataclass(frozen=True)
class Size:
    """`losses`: all for (); `exact`: the exact score too; `cheap` steps of a `batch`; where one is many evaluations, of
    a `small_batch`: `chained` ones if they walk, `dear` ones if they solve an ODE.
    """

    losses: tuple[str, ...] = ()
    exact: bool = True
    seeds: int = 2
    data: int = 20_000
    held: int = 400
    samples: int = 2_500
    width: int = 64
    depth: int = 3
    cheap: int = 5_000
    chained: int = 1_500
    dear: int = 500
    batch: int = 256
    small_batch: int = 128
    nfe: int = 64
    langevin: int = 240
    solve: int = 24
    chains: int = 1_000
    temperatures: int = 48
    grid: int = 400


SMALL = Size(
    losses=("persistent CD",), exact=False, seeds=2, data=100, held=10, samples=32, width=8, depth=1,
    cheap=3, chained=2, dear=2, batch=8, small_batch=8, nfe=4, langevin=20, solve=2, chains=16, temperatures=4, grid=20,
)  # fmt: skip
FULL = Size(
    seeds=5,
    data=100_000,
    held=10_000,
    samples=20_000,
    width=256,
    cheap=40_000,
    chained=20_000,
    dear=20_000,
    batch=1_024,
)


class Way(NamedTuple):
    """A loss: what it needs, and what it leaves in the network. steps: see `Size`. rate: of Adam, at its highest."""

    holds: Holds
    make: Callable[[Size, Any], Any]
    loss: Callable[..., Any]
    steps: Literal["cheap", "chained", "dear"] = "cheap"
    rate: float = 2e-3
    keeps_chains: bool = False


def _scored(size: Size, key: Any, **options: Any) -> score.ScoreModel:
    return score.ScoreModel(score.Config(**options), network(size, key))


def _matched(size: Size, key: Any, **options: Any) -> flow_matching.FlowMatching:
    return flow_matching.FlowMatching(flow_matching.Config(**options), network(size, key))


def _energetic(size: Size, key: Any, **options: Any) -> energy.EnergyModel:
    config = energy.Config(chain=energy.Langevin(8, 3e-3), chains=2 * size.small_batch, decay=1e-4)
    return energy.EnergyModel(replace(config, **options), network(size, key))


def _flowing(size: Size, key: Any) -> flow.Flow:
    return flow.Flow(flow.Config(steps=8), network(size, key))


WAYS: dict[str, Way] = {
    "denoising": Way("score", _scored, score.loss),
    "denoising, likelihood weights": Way("score", partial(_scored, weighting="likelihood"), score.loss),
    "denoising, EDM weights": Way("score", partial(_scored, weighting="edm"), score.loss),
    "sliced score matching": Way("score", partial(_scored, objective="sliced"), score.loss),
    "implicit score matching": Way("score", partial(_scored, objective="implicit"), score.loss),
    "flow matching": Way("score", _matched, flow_matching.loss),
    "denoising, energy": Way("levels", _energetic, energy.loss),
    "flow matching, OT pairs": Way("velocity", partial(_matched, coupling="ot", group=16), flow_matching.loss),
    "maximum likelihood flow": Way("velocity", _flowing, flow.loss, "dear", 1e-3),
    "contrastive divergence": Way("energy", partial(_energetic, objective="cd"), energy.loss, "chained"),
    "persistent CD": Way(
        "energy", partial(_energetic, objective="pcd", decay=0.1, fresh=0.1), energy.loss, "chained", 1e-3, True
    ),
    "noise-contrastive": Way("energy", partial(_energetic, objective="nce"), energy.loss),
}


def refusal(holds: Holds, sampler: str) -> str | None:
    """Why a pair is not valid, or None."""
    if holds == "energy":
        return WHY["one level"] if sampler in ("SDE", "ODE") else None
    if holds == "velocity" and sampler != "ODE":
        return WHY["dear"] if sampler == "HMC" else WHY["no score"]
    return WHY["no energy"] if holds == "score" and sampler == "HMC" else None

"""`neuralsde reproduce trio`: fit by every loss, sample in every valid way, write the page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.planar import Training, Trial, law, pick, train, w2_floor
from neuralsde.experiments.seeds import cell
from neuralsde.experiments.trio.measure import known, measured
from neuralsde.experiments.trio.page import page, picture, verdicts
from neuralsde.experiments.trio.ways import FULL, SET, WAYS, Size, Way
from neuralsde.models import energy


@experiment("trio", Size(), FULL)
def reproduce(asked: Asked[Size]) -> Iterator[str]:
    """Fit and sample everything, write trio.json, .md and .png into `out`; yields lines as they become known.

    seeds: times the size: two seeds are twice the models of each loss.
    Losses that the same command has left in `out` are kept: a run that was stopped goes on.
    """
    size = asked.size
    planar, numbers = law(SET), asked.numbers(size.seeds)
    trials = [Trial.of(planar, number, size.data, size.held, size.samples) for number in numbers]
    facts = asked.first | (asked.before() or _known(trials, size))
    before = facts.get("seconds", 0)
    data = jnp.stack([one.data for one in trials])
    for name in size.losses or tuple(WAYS):
        if name in facts["losses"]:
            continue
        way, start = WAYS[name], time.monotonic()
        models = fitted(way, data, size, asked.seed)
        facts["training seconds"][name] = round(time.monotonic() - start, 1)
        rows = facts["losses"][name] = []
        for k, trial in enumerate(trials):
            found, points = measured(pick(models, k), way, trial, size)
            rows.append(found)
            facts["points"].setdefault(name, points)
        nats = [f"{key} {cell([row[key] for row in rows])}" for key in ("nats", "nats by E") if key in rows[0]]
        w2 = [f"{by} {cell([row['w2'][by] for row in rows])}" for by in rows[0]["w2"]]
        yield f"{name}: " + ", ".join(nats + w2)
        facts["seconds"] = before + asked.seconds
        facts["verdicts"] = verdicts(facts)
        asked.write(facts, page(facts))  # after every loss: a stopped run leaves what it has
    picture(facts["points"], asked.path())
    yield from page(facts).splitlines()


def _known(trials: list[Trial], size: Size) -> dict[str, Any]:
    """What is there before any model: floors, baselines, and the exact score under every sampler."""
    least = w2_floor(trials[0].law, size.samples)
    facts: dict[str, Any] = {
        "floor of w2": {"mean": least.mean, "quantile": least.quantile, "pairs": least.pairs},
        "known": [{key: value._asdict() for key, value in one.known().items()} for one in trials],
        "exact score": [], "losses": {}, "training seconds": {}, "points": {},
    }  # fmt: skip
    for trial in trials if size.exact else ():
        found, points = known(trial, size)
        facts["exact score"].append(found)
        facts["points"].setdefault("exact score", points)
    return facts


def fitted(way: Way, data: Float[Array, "seeds n 2"], size: Size, seed: int) -> Any:
    """Models of all seeds by one loss."""
    steps = {"cheap": size.cheap, "chained": size.chained, "dear": size.dear}[way.steps]
    how = Training(steps, size.batch if way.steps == "cheap" else size.small_batch, way.rate)
    make = partial(way.make, size)
    aux = partial(_chains, make) if way.keeps_chains else None
    return jax.block_until_ready(train(make, way.loss, data, how, seed=seed, aux=aux))


def _chains(make: Callable[[Any], Any], key: Any) -> Any:
    return energy.first_aux(make(key).config, (2,), key=key)

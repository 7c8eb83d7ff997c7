"""All methods on one table: fitted on what comes before the test part, scored on the same windows.

The GRU has as many parameters as the sequence SDE and as many seconds to train, and never less than a given time, so
that a quick fit of the one does not starve the other. What the statistics package finds
is read from a file (`peers.py`): it does not belong to the package's own environment. Every other forecast is scored
twice: as it was fitted, and with the width that its own earlier forecasts should have had (`law.followed`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuralsde.experiments.forecast import baselines
from neuralsde.experiments.forecast.case import Case
from neuralsde.experiments.forecast.gru import Tracks, deepar, hidden_size
from neuralsde.experiments.forecast.gru import parameters as size_of
from neuralsde.experiments.forecast.gru_fit import GRUSettings, fit_gru
from neuralsde.experiments.forecast.law import Forecast, Marks, followed, marks
from neuralsde.experiments.forecast.ours import Settings, fit_ours, parameters, sequence_sde
from neuralsde.train.progress import Reporter

OURS, DEEPAR = "sequence SDE", "GRU"
SIMPLE: Mapping[str, Callable[..., Forecast]] = {
    "persistence": baselines.persistence,
    "climatology": baselines.climatology,
    "VAR": baselines.var,
}
METHODS = (*SIMPLE, DEEPAR, OURS)


@dataclass(frozen=True)
class Outcome:
    """Scores of single windows by method, as fitted and with widths that follow what earlier forecasts missed; seconds
    to fit by method, parameters of the two networks, and the table.
    """

    case: Case
    marks: Mapping[str, Marks]
    followed: Mapping[str, Marks]
    seconds: Mapping[str, float]
    parameters: Mapping[str, int]


def evaluate(
    case: Case,
    settings: Settings,
    gru: GRUSettings,
    *,
    seeds: Sequence[int],
    paths: int,
    least: float = 0.0,
    earlier_paths: int = 64,
    progress: Reporter | None = None,
) -> Iterator[str | Outcome]:
    """Lines that say what is being done, and at the end the outcome; scores of the networks are means over seeds.

    least: seconds that the GRU is given at least. earlier_paths: of forecasts that only tell how wide to be.
    """
    earlier = case.earlier()
    pairs: dict[str, list[tuple[Marks, Marks]]] = {name: [] for name in METHODS}

    def note(name: str, make: Callable[[Case, int], Forecast]) -> None:
        now, before = make(case, paths), make(earlier, earlier_paths)
        pairs[name].append((marks(now, case), marks(followed(now, case, before, earlier), case)))

    for name, make in SIMPLE.items():
        note(name, lambda each, n, make=make: make(each, n=n, seed=seeds[0]))
    seconds, sizes = {OURS: 0.0, DEEPAR: 0.0}, {}
    tracks = Tracks.of(case, season=gru.season, length=gru.length, burn=gru.burn)
    for seed in seeds:
        began = time.monotonic()
        run = fit_ours(case, settings, seed=seed, progress=progress)
        took = time.monotonic() - began
        note(OURS, lambda each, n, run=run, seed=seed: sequence_sde(run, each, n=n, seed=seed))
        sizes[OURS] = parameters(run)
        c = tracks.track.context.shape[1]
        hidden = hidden_size(case.truth.shape[2], c, sizes[OURS])
        fitted = fit_gru(tracks, gru, hidden=hidden, seconds=max(took, least), seed=seed)
        note(
            DEEPAR,
            lambda each, n, model=fitted.model, seed=seed: deepar(model, tracks, each, warm=gru.length, n=n, seed=seed),
        )
        sizes[DEEPAR] = size_of(case.truth.shape[2], c, hidden)
        seconds = {OURS: seconds[OURS] + took / len(seeds), DEEPAR: seconds[DEEPAR] + fitted.seconds / len(seeds)}
        yield f"{case.spec.title}, seed {seed}: sequence SDE fitted in {took:.0f} s, GRU in {fitted.seconds:.0f} s"
    fitted_as, following = ({name: together([pair[k] for pair in pairs[name]]) for name in METHODS} for k in (0, 1))
    yield Outcome(case, fitted_as, following, seconds, sizes)


def together(several: Sequence[Marks]) -> Marks:
    """Means over seeds of the scores of each window."""
    first = several[0]
    return Marks(
        np.mean([one.crps for one in several], axis=0),
        np.mean([one.energy for one in several], axis=0),
        {level: np.mean([one.coverage[level] for one in several], axis=0) for level in first.coverage},
    )

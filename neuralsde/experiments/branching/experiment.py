"""The experiment: every method at both densities, several seeds, beside perfect paths and exact minimisers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from neuralsde.evaluate.style import save
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.branching import exact, generative, ours
from neuralsde.experiments.branching.exact import Settings
from neuralsde.experiments.branching.fork import DENSITIES, DURATION, Figures, demonstrations, measure, meets
from neuralsde.experiments.branching.page import page
from neuralsde.experiments.branching.picture import Panel, field, grid
from neuralsde.runs.run import Run
from neuralsde.train.problem import TrainConfig
from neuralsde.train.progress import Reporter

NAME = "branching"
HEADLINE = "flow + diffusion + denoiser"
PARTS = {
    "flow": ours.FLOW,
    "flow + diffusion": ours.DIFFUSION,
    HEADLINE: ours.ALL,
    "the same, whole way back at every point": ours.PAPER,
}
"""Of one fit of the sequence SDE."""

NOISES = {"": 0.0, ", noise on the input": ours.INPUT_NOISE}
"""Of the generators, by what their name says of it: as in the paper, as far as that tells, and as the sequence SDE."""

IDEAL = {
    "exact minimisers": Settings(ours.INPUT_NOISE, ours.DENOISER_NOISE, ours.NETWORK.strength),
    "exact minimisers, noise .1, whole way back at every point": Settings(0.1, 0.1, 1.0, "step"),
}


@dataclass(frozen=True)
class Size:
    """Fits of each method, their steps and batch; sampled paths, and those of a generator at density 10."""

    fits: int = 3
    steps: int = 32_000
    batch: int = 64
    rate: float = 3e-3
    generator_steps: int = 8_000
    levels: int = 50
    paths: int = 1_000
    generated: int = 128
    width: int = 64
    depth: int = 4

    @property
    def training(self) -> TrainConfig:
        """Of the sequence SDE."""
        return TrainConfig(steps=self.steps, batch_size=self.batch, learning_rate=self.rate)


SMALL = Size(1, 300, 128, 1e-2, 300, 10, 100, 50, 16, 2)
FULL = Size(5, 100_000, 512, 1e-3, 100_000, 50, 1_000, 1_000, 128, 5)
DRAWN = 100


@experiment(NAME, Size(), FULL)
def reproduce(asked: Asked[Size]) -> Iterator[str]:
    """Fit and sample everything; write branching.json, .md and .png, and branching-field-*.png; yields lines.

    seeds: times the size: two seeds are six fits of each method at the default size.
    """
    size = asked.size
    facts = asked.first | {"densities": {}}
    panels: dict[str, dict[str, Panel]] = {}
    for density in DENSITIES:
        found: dict[str, list[Figures]] = {}
        facts["densities"][str(density)] = {"reference": references(density, size, asked.seed), "found": {}}
        panel = panels[f"density {density}"] = {}
        for name, figures, drawn in _methods(density, size, asked.seed, size.fits * asked.seeds, asked.progress):
            found[name] = figures
            facts["densities"][str(density)]["found"][name] = [{**asdict(f), "meets": meets(f)} for f in figures]
            if name in (*PARTS, *generative.KINDS):
                panel[name] = drawn
            shares = ", ".join(f"{100 * f.up:.0f}/{100 * f.down:.0f}" for f in figures)
            yield f"density {density}, {name}: {shares} % up/down, energy {_mean(figures, 'energy'):.3f}"
        headline = panel[HEADLINE]
        assert headline.run is not None
        save(field(headline.run, headline.paths), asked.path(f"-field-{density}.png"))
    facts["seconds"] = asked.seconds
    save(grid(panels), asked.path())
    text = page(facts)
    asked.write(facts, text)
    yield from text.splitlines()


def references(density: int, size: Size, seed: int) -> dict[str, dict[str, float]]:
    """Figures of paths that need no training: the trivial straight line, and the exact minimisers of the losses."""
    straight = np.stack([np.linspace(0.0, 10.0, DURATION * density + 1), np.zeros(DURATION * density + 1)], axis=1)
    few = size.paths if density == 1 else max(size.paths // 4, 2)
    paths = {name: exact.sampled(settings, density, n=few, seed=seed) for name, settings in IDEAL.items()}
    return {name: asdict(measure(found)) for name, found in {"straight on": straight[None], **paths}.items()}


def _methods(
    density: int, size: Size, seed: int, fits: int, progress: Reporter | None
) -> Iterator[tuple[str, list[Figures], Panel]]:
    """Every method at a density: its name, figures by seed, and a panel of the first seed."""
    network = replace(ours.NETWORK, width=size.width, depth=size.depth)
    runs = [
        ours.fitted(density, network, size.training, seed=seed + k, out=None, progress=progress) for k in range(fits)
    ]
    for name, parts in PARTS.items():
        paths = [ours.sampled(run, density, parts, n=size.paths, seed=seed + k) for k, run in enumerate(runs)]
        yield name, [measure(each) for each in paths], Panel(paths[0][:DRAWN], _shown(runs[0], parts), parts)
    n = size.paths if density == 1 else size.generated
    for words, noise in NOISES.items():
        training = generative.Training(
            size.generator_steps, size.batch, size.rate, size.width, size.depth, noise
        )  # fmt: skip
        for kind in generative.KINDS:
            models = generative.fitted(kind, demonstrations(density), training, seed=seed, seeds=fits)
            paths = generative.paths(models, DURATION * density, n=n, steps=size.levels, seed=seed)
            yield kind + words, [measure(each) for each in paths], Panel(paths[0][:DRAWN])


def _shown(run: Run, parts: ours.Parts) -> Run | None:
    """The run whose field is drawn behind the paths: not where the denoiser is taken in another way than it says."""
    return None if parts.per_point else run


def _mean(figures: Sequence[Figures], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in figures]))

"""What both image experiments do: fit, draw, judge, score; one seed at a time, each kept as soon as it is known.

A training that is stopped goes on where it was when the same command is given again: its run folder lies beside the
results until they are written, and `fit` resumes it bit for bit.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neuralsde.data.images import Points, Scale, SomePoints
from neuralsde.data.split import TEST, TRAIN, VALIDATION
from neuralsde.experiments.asked import Asked
from neuralsde.experiments.images.classifier import fit_classifier
from neuralsde.experiments.images.judge import Judge, gaussian_images
from neuralsde.experiments.images.page import curve_lines, page, picture
from neuralsde.runs.fit import fit
from neuralsde.runs.folder import RunFolder, begun
from neuralsde.runs.generative import Backbone, GenerativeRun
from neuralsde.sampling.registry import sampler_named
from neuralsde.train.problem import TrainConfig
from neuralsde.train.progress import Reporter

OTHERS = ("guided", "unlabelled")
"""Ways to draw from a network that knows classes, which are told beside what is judged."""


@dataclass(frozen=True)
class Size:
    """steps of batch images with width, depth and rank; drawn images, of which `compared` are in a distance; scored
    for their bits along so many steps of the flow; steps of the classifier; budgets of the curve of evaluations.
    """

    steps: int
    batch: int
    width: int
    depth: int
    rank: int
    drawn: int
    compared: int
    scored: int
    flow_steps: int
    classifier: int
    budgets: tuple[int, ...] = ()
    net: str = "patches"


@dataclass(frozen=True)
class Case:
    """An experiment: its images with labels, how many are held out, how they are drawn, what is to be said.

    guidance: 0: the network never sees a label. Otherwise it is told of classes: what is judged are images of a class
    that was drawn by its share; beside them the same guided with this weight.
    """

    name: str
    title: str
    images: Callable[[], Points]
    held_out: int
    patch: int
    rate: float
    sampler: str
    nfe: int
    guidance: float = 0.0
    curve: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """What all seeds share: the parts of the images and the judge."""

    data: Points
    roles: np.ndarray
    scale: Scale
    judge: Judge

    @classmethod
    def of(cls, case: Case, data: Points, size: Size, seed: int) -> Known:
        """Split, scale, classifier; real against real is measured among held-out images where there are enough."""
        roles = SomePoints(case.held_out).roles(len(data))
        train, checked, held = (data.rows(roles == role) for role in (TRAIN, VALIDATION, TEST))
        scale = Scale.fit(train)
        assert train.labels is not None
        assert checked.labels is not None
        classifier = fit_classifier(
            scale.encode(train.values), train.labels, (scale.encode(checked.values), checked.labels),
            steps=size.classifier, seed=seed,
        )  # fmt: skip
        pool = held if len(held) >= 4 * size.compared else data
        return cls(data, roles, scale, Judge(classifier, scale, train, held, pool, size.compared, seed))

    def part(self, role: int) -> Points:
        return self.data.rows(self.roles == role)


def study(case: Case, asked: Asked[Size]) -> Iterator[str]:
    """Run a case and write NAME.json, NAME.md and NAME.png; yields lines as they become known."""
    out, seed, size, progress = asked.out, asked.seed, asked.size, asked.progress
    data = case.images()
    run = fitted(case, data, size, seed, out, progress)
    known = Known.of(case, data, size, seed)
    judge, train = known.judge, known.part(TRAIN)
    trivial = gaussian_images(known.scale, train.values, size.drawn, seed)
    facts = asked.first | {
        "sampler": case.sampler,
        "nfe": case.nfe,
        "guidance": case.guidance,
        "network": run.describe().splitlines()[1].split(";")[0].capitalize(),
        "real": {
            "frechet": judge.floor.mean, "frechet 95": judge.floor.quantile, "sure": judge.sure_of_real,
            "shares_off": shares_of_real(known, size.drawn, seed), "accuracy": judge.accuracy,
        },
        "trivial": judge.facts(trivial).to_dict(),
        "remarks": list(case.remarks),
        "runs": [],
    }  # fmt: skip
    yield f"classifier: right on {100 * judge.accuracy:.1f} % of held-out images; floor {judge.floor.mean:.3f}"
    for number in asked.numbers(1):
        run = run if number == seed else fitted(case, data, size, number, out, progress)
        drawn, found = judged(case, run, known, size, number)
        found |= {**likelihood(run, size, number), **trained(run)}
        facts["runs"].append(found)
        yield f"seed {number}: {told(found, judge.floor.mean)}, {found['bits']:.4f} bits per dimension"
        for name in OTHERS:
            if name in found:
                yield f"seed {number}, {name}: {told(found[name], judge.floor.mean)}"
        if number == seed and size.budgets:
            yield from curve(facts, case, run, judge, size)
        facts["seconds"] = asked.seconds
        asked.write(facts, page(case.title, facts))
        picture(drawn, known.part(TEST).values, asked.path(), facts.get("curve"), judge.floor.mean)
        shutil.rmtree(run_folder(case, out, number))
    yield from page(case.title, facts).splitlines()


def fitted(case: Case, data: Points, size: Size, seed: int, out: Path, progress: Reporter | None) -> GenerativeRun:
    """The run of one seed, in a folder of `out`; goes on with one that was stopped."""
    folder = run_folder(case, out, seed)
    data = data if case.guidance else replace(data, labels=None, classes=())
    training = TrainConfig(
        steps=size.steps, batch_size=size.batch, learning_rate=case.rate, seed=seed,
        ema=0.999 if size.steps > 2_000 else 0.99, validate_every=max(1, size.steps // 8),
        log_every=max(1, size.steps // 40), save_seconds=60.0,
    )  # fmt: skip
    network = Backbone(size.net, width=size.width, depth=size.depth, patch=case.patch, rank=size.rank)
    return fit(
        data, model="score", network=network, training=training, seed=seed, split=SomePoints(case.held_out),
        out=folder, resume=begun(folder), progress=progress,
    )  # fmt: skip


def run_folder(case: Case, out: Path, seed: int) -> Path:
    """Where the run of one seed lies until its results are written."""
    return out / f"{case.name}-run-{seed}"


def judged(case: Case, run: GenerativeRun, known: Known, size: Size, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Drawn images and what the judge says of them: a class by its share and an image of it, where classes are known.

    Then also of the same `guided`, and of images that are drawn as if no class were known (`unlabelled`).
    """
    plain = run.sample(size.drawn, sampler=case.sampler, nfe=case.nfe, seed=seed)
    if not case.guidance:
        return plain, known.judge.facts(plain).to_dict()
    drawn, guided = (by_class(case, run, known, size, seed, weight) for weight in (1.0, case.guidance))
    others = {"guided": guided, "unlabelled": plain}
    return drawn, {
        **known.judge.facts(drawn).to_dict(),
        **{name: known.judge.facts(others[name]).to_dict() for name in OTHERS},
    }


def by_class(case: Case, run: GenerativeRun, known: Known, size: Size, seed: int, guidance: float) -> np.ndarray:
    """Images of each class, as many as its share of the training images says; in random order."""
    labels = known.part(TRAIN).labels
    assert labels is not None
    counts = shared_out(np.bincount(labels), size.drawn)
    drawn = [
        run.sample(
            max(counts), sampler=case.sampler, nfe=case.nfe, seed=1_000 * seed + k, label=name, guidance=guidance
        )[:count]
        for k, (name, count) in enumerate(zip(run.plan.classes, counts, strict=True))
    ]  # every class draws as many, which is one program
    return np.random.default_rng(seed).permutation(np.concatenate(drawn))


def shared_out(weights: np.ndarray, n: int) -> list[int]:
    """Whole numbers that sum to n, as near to the weights as can be (largest remainders)."""
    exact = n * weights / weights.sum()
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact)[: n - counts.sum()]] += 1
    return counts.tolist()


def told(found: dict[str, float], floor: float) -> str:
    """What a judge found, in a line."""
    return (
        f"Fréchet distance {found['frechet'] / floor:.2f} times the floor, sure of {100 * found['sure']:.1f} %, "
        f"shares off by {100 * found['shares_off']:.1f} points"
    )


def likelihood(run: GenerativeRun, size: Size, seed: int) -> dict[str, Any]:
    """Bits per dimension of held-out images, and of two simple laws."""
    found = run.score(n=size.scored, seed=seed, steps=size.flow_steps)
    simple = {name: (one.mean, one.standard_error) for name, one in found.baselines.items()}
    return {"bits": found.bits.mean, "bits error": found.bits.standard_error, "bits nfe": found.nfe, "simple": simple}


def trained(run: GenerativeRun) -> dict[str, Any]:
    """How long the training took, in all sessions, its best step, and the validation losses on the way."""
    assert run.folder is not None
    summary = RunFolder.open(run.folder.path).summary()
    losses = [round(row["validation"], 4) for row in run.metrics if row.get("validation") is not None]
    return {"train seconds": summary["seconds"], "best step": summary["best_step"], "validation": losses}


def shares_of_real(known: Known, n: int, seed: int) -> float:
    """The largest difference of a class share that n real images show by chance: mean over 20 draws."""
    rng, shares = np.random.default_rng(seed), known.judge.shares
    return float(np.mean([np.abs(rng.multinomial(n, shares) / n - shares).max() for _ in range(20)]))


def curve(facts: dict[str, Any], case: Case, run: GenerativeRun, judge: Judge, size: Size) -> Iterator[str]:
    """The Fréchet distance of every sampler of the case at every budget."""
    facts["curve"] = {}
    for name in case.curve:
        found: dict[str, float] = {}
        for nfe in size.budgets:
            if nfe >= sampler_named(name).cost:
                found[str(nfe)] = judge.frechet(run.sample(size.compared, sampler=name, nfe=nfe, seed=1_000))
        facts["curve"][name] = found
        told = ", ".join(f"{value / judge.floor.mean:.2f} at {nfe}" for nfe, value in found.items())
        yield f"{name}: Fréchet distance over real against real {told}"
    facts["more"] = curve_lines(facts["curve"], judge.floor.mean, size.budgets)

"""A fitted diffusion model: its folder, samples in data units, and the likelihood of held-out points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neuralsde.data.embedded import digits
from neuralsde.data.images import Points, points
from neuralsde.data.read_points import read_points
from neuralsde.data.split import TEST, TRAIN
from neuralsde.errors import InputError, closest
from neuralsde.noising import Predictor, classifier_free
from neuralsde.runs.folder import RunFolder
from neuralsde.runs.generative.likelihood import STEPS, PointScores, score_points
from neuralsde.runs.generative.plan import Plan
from neuralsde.sampling.draw import draw
from neuralsde.sampling.loop import Sampler
from neuralsde.sampling.registry import sampler_named

DIGITS = "digits"
"""The name by which the embedded images are asked for."""
NFE = 20
"""Evaluations of the network for a sample, unless said otherwise."""
_BATCH = 256
"""Samples drawn together: a program for each batch size, and its memory."""


@dataclass(frozen=True)
class GenerativeRun:
    """What `fit(points, model="score")` returns. `data` is what it was fitted on, when that is at hand."""

    plan: Plan
    model: Any
    folder: RunFolder | None
    data: Points | None = None
    metrics: tuple[dict[str, Any], ...] = ()

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one point, in data units as in the model."""
        return self.plan.scale.shape

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of a table; x0, x1, ... for arrays (n, d); empty for images."""
        if self.plan.columns or len(self.shape) > 1:
            return self.plan.columns
        return tuple(f"x{k}" for k in range(self.plan.scale.size))

    def describe(self) -> str:
        """The run in a few lines."""
        plan, net = self.plan, self.plan.network
        what = "images" if len(self.shape) > 1 else "points"
        size = " x ".join(map(str, self.shape))
        whole = "whole numbers, spread over their cells" if plan.scale.quantised else "taken as they are"
        known = f"; told of {len(plan.classes)} classes" if plan.classes else ""
        patch = f", {net.patch} x {net.patch} pixels each, rank {net.rank}" if net.patch else ""
        return "\n".join([
            f"{plan.family} of {what} of {size}, {whole}{known}",
            f"network: {net.net}, width {net.width}, depth {net.depth}{patch}; {plan.train.steps} steps of "
            f"{plan.train.batch_size}",
            f"fitted on {plan.count} points; held out: {plan.rule.describe()}",
        ])  # fmt: skip

    def predictor(self, label: Any = None, guidance: float | None = None) -> Predictor:
        """Score, noise, x_0 and velocity in standardised units: what samplers and likelihoods take.

        label: a class, for a run told of them. guidance: classifier-free, 1 for none. Raises InputError for a label or
        guidance of a run without classes, and for an energy of a single noise level.
        """
        if label is None:
            if guidance is not None:
                told = "a label to be guided to" if self.plan.classes else "a run that was fitted with labels"
                raise InputError(f"guidance={guidance:g} without a label", self._unlabelled(), told)
            return self.model.predictor()
        conditional = self.model.predictor(jnp.asarray(self._class(label)))
        if guidance is None or guidance == 1:
            return conditional
        return classifier_free(conditional, self.model.predictor(), weight=guidance)

    # -- what one does with it ---------------------------------------------------------------------------------------

    def sample(
        self,
        n: int = 100,
        *,
        sampler: str | Sampler = "dpmpp-2m",
        nfe: int | None = None,
        seed: int = 0,
        label: Any = None,
        guidance: float | None = None,
    ) -> np.ndarray:
        """N points (n, *shape) in data units; whole numbers where the data are.

        sampler: a name of `sampling.registry.SAMPLERS`, or a `sampling.Sampler` with options of its own.
        nfe:     evaluations of the network for each point, at most; 20 by default, none for adaptive samplers.
        label, guidance: as of `predictor`.
        Raises InputError for a name that is none and a budget of less than a step, RunFailed for a state that is not
        finite, with its step and time.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise InputError(f"n={n!r}", "nothing to draw", "a whole number of at least 1")
        chosen = sampler_named(sampler) if isinstance(sampler, str) else sampler
        if chosen.adaptive and nfe is not None:
            raise InputError(f"nfe={nfe}", f"{sampler} chooses its steps itself", "no budget", "a fixed sampler")
        nfe = NFE if nfe is None and not chosen.adaptive else nfe
        predictor, size, key = self.predictor(label, guidance), min(n, _BATCH), jax.random.key(seed)
        parts = [
            draw(predictor, self.shape, size, sampler=chosen, nfe=nfe, key=jax.random.fold_in(key, k)).x
            for k in range(-(-n // size))
        ]
        return self.plan.scale.decode(np.concatenate([np.asarray(part) for part in parts])[:n])

    def score(
        self, data: Any = None, *, n: int | None = None, label: Any = None, seed: int = 0, steps: int = STEPS
    ) -> PointScores:
        """Nats and bits per dimension of what `fit` held out, or of all points of another file or array.

        n: the first so many points, all by default. label: under the law of a class. seed: of the spread over cells and
        of the probes. steps: along the probability flow, four evaluations each.
        Raises InputError for points of another shape and models without a probability flow.
        """
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
            raise InputError(f"n={n!r}", "nothing to score", "a whole number of at least 1")
        given = self.held_out() if data is None else self.read(data)
        what = f"{'held-out ' if data is None else ''}{'images' if given.is_images else 'points'}"
        return score_points(
            self.predictor(label), self.plan.scale, given.values[:n], self._training_values(), seed=seed, steps=steps,
            what=what,
        )  # fmt: skip

    def report(self, **_: Any) -> Path:
        """Not for points: InputError."""
        raise InputError(
            f"a report of the {self.plan.family} run {self.folder.path if self.folder else 'in memory'}",
            "reports are for sequences", hint="neuralsde sample RUN --out samples.png, or neuralsde score RUN",
        )  # fmt: skip

    # -- data --------------------------------------------------------------------------------------------------------

    def held_out(self) -> Points:
        """The points that `fit` kept for the score."""
        data = self._fitted_data()
        return data.rows(self.plan.rule.roles(len(data)) == TEST)

    def read(self, source: Any) -> Points:
        """Points of another file or array, laid out as those of the fit."""
        if isinstance(source, str | Path):
            alone = str(source).lower().endswith(".npy")  # no names in it
            found = open_points(source, () if alone else self.plan.columns or self.plan.values)
        else:
            found = source if isinstance(source, Points) else points(source)
        return self.plan.scale.require(found)

    def _fitted_data(self) -> Points:
        if self.data is not None:
            return self.data
        source = self.plan.source
        if not source or not (source == DIGITS or Path(source).is_file()):
            raise InputError(
                f"a run without its points ({source or 'it was fitted on data from memory'})",
                "what was held out is drawn from them",
                "that file at its place",
                "to give them: load(folder, data=...)",
            )
        data = open_points(source, self.plan.values, self.plan.labels or None)
        if data.fingerprint() != self.plan.fingerprint:
            raise InputError(f"the file {source}", "it no longer holds the points that the run was fitted on")
        return data

    def _training_values(self) -> np.ndarray | None:
        """What trained, for the simple laws; None where it is no longer at hand."""
        try:
            known = self._fitted_data()
        except InputError:
            return None
        return known.values[self.plan.rule.roles(len(known)) == TRAIN]

    def _class(self, label: Any) -> int:
        """The number of a class from its name."""
        classes = self.plan.classes
        if not classes:
            raise InputError(f"the label {label}", self._unlabelled(), "a run that was fitted with labels")
        if str(label) not in classes:
            raise InputError(f"the label {label}", "there is no such class", hint=closest(str(label), classes))
        return classes.index(str(label))

    def _unlabelled(self) -> str:
        return "" if self.plan.classes else "the run knows no classes, so there is nothing to be guided by"


def open_points(source: str | Path, values: tuple[str, ...] = (), labels: str | None = None) -> Points:
    """Points from a file, or "digits" for the embedded ones where there is no file of that name."""
    if str(source) == DIGITS and not Path(source).exists():
        return digits(labels=labels is not None)
    return read_points(source, values, labels)

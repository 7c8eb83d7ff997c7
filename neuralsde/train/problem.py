"""What is trained and how: a `Problem` (model, loss, data, validation) under a `TrainConfig` (steps, rates, rhythm).

The loss is a minibatch average, `loss(model, batch, aux, *, key) -> (scalar, (metrics, aux))`: `metrics` is a dict of
scalars to be logged, `aux` a small pytree of running statistics (for example a running residual scale) that the
next step receives. `sample_batch(data, key) -> batch` runs inside the compiled step, so a batch is a pure
function of (seed, step) and never visits the host. `validate(model)` is called on the host with the EMA weights and
must be deterministic: with a random validation score a resumed run would choose other best weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import equinox as eqx
import jax

from neuralsde.errors import InputError

PyTree = Any


@dataclass(frozen=True)
class Problem:
    """A model to be trained, and everything that its training reads.

    model:        an equinox Module, initialised.
    loss:         `(model, batch, aux, *, key) -> (scalar, (metrics: dict[str, scalar], aux))`; traced.
    sample_batch: `(data, key) -> batch`; traced, every shape fixed.
    data:         pytree of arrays; moved to the device once.
    validate:     `(model) -> float`, lower is better; deterministic, called on the host. Or a mapping with that as
                  `validation` and other numbers, which go into the same line of metrics.jsonl.
    aux:          the first value of the running statistics, a pytree of arrays or numbers.
    trainable:    equinox filter (function of a leaf, or pytree of booleans): which leaves are trained; the
                  others are constants of the compiled step.
    remarks:      `(model) -> sentences` on what looks wrong; asked at each validation, with the same weights. They go
                  into the line of metrics.jsonl, and to whoever is told of the progress, each once.
    """

    model: Any
    loss: Callable[..., tuple[Any, tuple[dict[str, Any], PyTree]]]
    sample_batch: Callable[[PyTree, Any], PyTree]
    data: PyTree
    validate: Callable[[Any], Any]
    aux: PyTree = ()
    trainable: PyTree = eqx.is_inexact_array
    remarks: Callable[[Any], Sequence[str]] | None = None

    def split(self) -> tuple[PyTree, PyTree]:
        """(trained arrays, everything else), as `equinox.partition`."""
        return eqx.partition(self.model, self.trainable)

    @cached_property
    def objective(self) -> Callable[[PyTree, PyTree, PyTree, Any], tuple[Any, tuple[dict[str, Any], PyTree]]]:
        """`(trained arrays, aux, data, key) -> (loss, (metrics, new aux))` of the batch and the noise of `key`.

        Jitted, so that the first state, which asks for the names of the metrics, and the steps share one trace.
        """
        static = self.split()[1]

        def objective(params: PyTree, aux: PyTree, data: PyTree, key: Any) -> Any:
            batch_key, loss_key = jax.random.split(key)
            return self.loss(eqx.combine(params, static), self.sample_batch(data, batch_key), aux, key=loss_key)

        return jax.jit(objective, inline=True)


@dataclass(frozen=True)
class TrainConfig:
    """How to train. The optimiser is AdamW with the gradient clipped by its global norm.

    steps:          optimiser steps in all, at least 1.
    batch_size:     read by whoever builds `sample_batch`; kept here because a run remembers it.
    learning_rate:  peak rate; linear warm-up over `warmup` steps, then a cosine down to `final_rate` times the peak.
    warmup:         steps; None means 5 % of the steps, 500 at most.
    weight_decay:   decoupled, on arrays of two or more axes only (biases and scales are left alone).
    clip:           largest global gradient norm; None turns clipping off.
    ema:            decay of the averaged weights, reached after a warm-up (`step.ema_decay`); 0 turns averaging off.
    seed:           with the step number it fixes every batch and every noise.
    log_every:      steps per line of metrics.jsonl (means over these steps).
    validate_every: steps between validations of the EMA weights; the last step is always validated.
    save_seconds:   seconds between checkpoints. Time and not steps, because the state is a pure function of the step:
                    when it is saved changes nothing but what a kill can cost.

    Raises InputError for values without a meaning.
    """

    steps: int = 5_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    warmup: int | None = None
    final_rate: float = 0.01
    weight_decay: float = 0.0
    clip: float | None = 1.0
    ema: float = 0.999
    seed: int = 0
    log_every: int = 50
    validate_every: int = 250
    save_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "validate_every"):
            _require(self, name, _is_int(getattr(self, name), 1), "a whole number of at least 1")
        _require(self, "seed", _is_int(self.seed, 0) and self.seed < 2**63, "a whole number from 0 to 2^63 - 1")
        _require(self, "warmup", self.warmup is None or _is_int(self.warmup, 0), "a whole number of steps, or none")
        _require(self, "learning_rate", 0 < self.learning_rate < math.inf, "a positive number")
        _require(self, "final_rate", 0 <= self.final_rate <= 1, "a fraction of the learning rate, from 0 to 1")
        _require(self, "weight_decay", 0 <= self.weight_decay < math.inf, "zero or a positive number")
        _require(self, "clip", self.clip is None or 0 < self.clip < math.inf, "a positive number, or none")
        _require(self, "ema", 0 <= self.ema < 1, "a decay from 0 up to, but not including, 1")
        _require(self, "save_seconds", self.save_seconds >= 0, "zero or a positive number of seconds")

    @property
    def warmup_steps(self) -> int:
        """Steps of linear warm-up after the default has been filled in."""
        return min(500, self.steps // 20) if self.warmup is None else self.warmup

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def _is_int(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _require(config: TrainConfig, name: str, good: bool, expected: str) -> None:
    if not good:
        raise InputError(f"{name}={getattr(config, name)!r}", expected=expected)

"""The plan of a run: everything that fixes it, as plain JSON, before the first step.

`config.json` holds it: model and settings, training options, where the data came from and their fingerprint, the rule
of the split, the encoder with all scales, the law of the gaps. A resumed run must have the same plan; a loaded one is
rebuilt from it, so no file but the weights is needed to use a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import jax
import numpy as np

from neuralsde.data import Encoder, Rows, Split, Trajectories
from neuralsde.data.rules import Rule, rule_from_dict
from neuralsde.data.split import TRAIN, VALIDATION
from neuralsde.data.windows import random_walk, starts, travel_time
from neuralsde.errors import InputError, closest
from neuralsde.models.sequence_sde import Config, SequenceSDE
from neuralsde.tasks.fitted import Fitted, GapLaw
from neuralsde.train.problem import TrainConfig

MODELS = {"sequence-sde": Config}


@dataclass(frozen=True)
class Plan:
    """What `config.json` says, as values. `walk` to `bounds` are constants of the model."""

    config: Config
    train: TrainConfig
    rule: Rule
    encoder: Encoder
    law: GapLaw
    walk: tuple[float, ...]
    time_scale: float
    travel: float
    bounds: tuple[tuple[float, ...], tuple[float, ...]] | None
    source: str
    fingerprint: str
    rows: dict[str, int]

    def model(self) -> SequenceSDE:
        """The model before training."""
        d, c = self.encoder.dim, self.encoder.context_dim
        key = jax.random.key(self.train.seed)
        bounds = None if self.bounds is None else np.array(self.bounds)
        return SequenceSDE(
            self.config, d, c, walk=np.array(self.walk), bounds=bounds, time_scale=self.time_scale, travel=self.travel,
            key=key,
        )  # fmt: skip

    def fitted(self, model: SequenceSDE) -> Fitted:
        return Fitted(model, self.encoder, self.law)

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": {"name": "sequence-sde", **asdict(self.config)},
            "train": asdict(self.train),
            "split": self.rule.to_dict(),
            "data": {"source": self.source, "fingerprint": self.fingerprint, **self.rows},
            "law": self.law.to_dict(),
            "walk": list(self.walk),
            "time_scale": self.time_scale,
            "travel": self.travel,
            "bounds": self.bounds,
            "encoder": self.encoder.to_dict(),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Plan:
        model = dict(saved["model"])
        data = dict(saved["data"])
        return cls(
            config=model_config(model.pop("name"), model),
            train=TrainConfig(**saved["train"]),
            rule=rule_from_dict(saved["split"]),
            encoder=Encoder.from_dict(saved["encoder"]),
            law=GapLaw(**saved["law"]),
            walk=tuple(saved["walk"]),
            time_scale=saved["time_scale"],
            travel=saved.get("travel", 1.0),
            bounds=None if saved.get("bounds") is None else (tuple(saved["bounds"][0]), tuple(saved["bounds"][1])),
            source=data.pop("source"),
            fingerprint=data.pop("fingerprint"),
            rows=data,
        )


@dataclass(frozen=True)
class Prepared:
    """A plan and what training reads: encoded fit rows, the role of each, the starts that train and validate."""

    plan: Plan
    split: Split
    rows: Rows
    roles: np.ndarray
    train_starts: np.ndarray
    validation_starts: np.ndarray

    @property
    def train_rows(self) -> np.ndarray:
        """Which rows train (R,)."""
        return self.roles == TRAIN


def prepare(data: Trajectories, config: Config, train: TrainConfig, rule: Rule | None) -> Prepared:
    """Split, scales, gap law: all that is learnt from the data before training."""
    split = Split.of(data, rule)
    encoder = Encoder.fit(split.train_data)
    rows = encoder.encode(split.fit_data)
    roles = np.concatenate(split.fit_roles)
    train_starts, validation_starts = (starts(rows, roles == role) for role in (TRAIN, VALIDATION))
    if len(train_starts) == 0:
        raise InputError("no transition to train on", "no observed row follows another one", "longer series")
    config.sizes(encoder.dim)
    size = np.broadcast_to(np.asarray(config.denoiser_noise, np.float64), encoder.dim)
    plan = Plan(
        config=config,
        train=train,
        rule=split.rule,
        encoder=encoder,
        law=GapLaw.of(rows, train_starts, config.substeps),
        walk=tuple(random_walk(rows, train_starts).tolist()),
        time_scale=float(max(rows.time.max(), 1.0)),
        bounds=_bounds(rows, roles == TRAIN, config),
        travel=1.0 if config.denoiser == "none" else travel_time(rows, train_starts, size),
        source=data.source,
        fingerprint=data.fingerprint(),
        rows={"series": len(data), "rows": data.n_rows, "transitions": len(train_starts)},
    )
    return Prepared(plan, split, rows, roles, train_starts, validation_starts)


def _bounds(rows: Rows, train: np.ndarray, config: Config) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The range of each training column in model units, wider by a tenth of it and by 3 s.d. of noise on the input."""
    seen = rows.observed & train[:, None]
    low, high = np.where(seen, rows.value, np.inf).min(0), np.where(seen, rows.value, -np.inf).max(0)
    low, high = np.where(seen.any(0), low, -1.0), np.where(seen.any(0), high, 1.0)
    noise = [config.input_noise] + ([config.denoiser_noise] if config.denoiser != "none" else [])
    room = np.maximum(0.1 * (high - low), 3 * np.max([np.broadcast_to(s, low.shape) for s in noise], axis=0))
    return tuple((low - room).tolist()), tuple((high + room).tolist())


def model_config(name: str, settings: Mapping[str, Any]) -> Config:
    """The settings of the model called `name`; unknown names are refused with the nearest known one."""
    if name not in MODELS:
        raise InputError(f"the model '{name}'", "there is none of that name", hint=closest(name, MODELS))
    known = {field.name for field in fields(MODELS[name])}
    for setting in settings:
        if setting not in known:
            raise InputError(f"the setting '{setting}' of {name}", "there is none", hint=closest(setting, known))
    # JSON knows no tuples
    known_types: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    return MODELS[name](**known_types)

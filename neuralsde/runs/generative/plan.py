"""The plan of a run on points: everything that fixes it, as plain JSON, before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax

from neuralsde.data.images import Points, Scale, SomePoints
from neuralsde.data.split import TRAIN, VALIDATION
from neuralsde.runs.generative.backbone import Backbone
from neuralsde.runs.generative.families import FAMILIES, Config, config_of, family_of, plain
from neuralsde.train.problem import TrainConfig


@dataclass(frozen=True)
class Plan:
    """What `config.json` says, as values. classes: the names of the labels, empty without; network: resolved."""

    config: Config
    network: Backbone
    train: TrainConfig
    rule: SomePoints
    scale: Scale
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[str, ...]
    labels: str
    source: str
    fingerprint: str
    count: int

    @property
    def family(self) -> str:
        """The name of the model."""
        return family_of(self.config)

    def model(self) -> Any:
        """The model before training."""
        key = jax.random.key(self.train.seed)
        net = self.network.build(self.scale.shape, len(self.classes), key=key)
        return FAMILIES[self.family].module(self.config, net)

    def to_dict(self) -> dict[str, Any]:
        data = {"source": self.source, "fingerprint": self.fingerprint, "points": self.count}
        names = {"columns": list(self.columns), "values": list(self.values), "labels": self.labels}
        return {
            "model": {"name": self.family, **plain(self.config)},
            "network": asdict(self.network),
            "train": asdict(self.train),
            "split": self.rule.to_dict(),
            "data": {**data, **names, "classes": list(self.classes)},
            "scale": self.scale.to_dict(),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Plan:
        model, data = dict(saved["model"]), saved["data"]
        rule = {name: value for name, value in saved["split"].items() if name != "rule"}
        return cls(
            config=config_of(model.pop("name"), model),
            network=Backbone(**saved["network"]),
            train=TrainConfig(**saved["train"]),
            rule=SomePoints(**rule),
            scale=Scale.from_dict(saved["scale"]),
            classes=tuple(data["classes"]),
            columns=tuple(data["columns"]),
            values=tuple(data["values"]),
            labels=data["labels"],
            source=data["source"],
            fingerprint=data["fingerprint"],
            count=data["points"],
        )


@dataclass(frozen=True)
class Prepared:
    """A plan and what training reads: the points that train, and those that choose the checkpoint."""

    plan: Plan
    training: Points
    validation: Points


def prepare(data: Points, config: Config, network: Backbone, train: TrainConfig, rule: SomePoints | None) -> Prepared:
    """Split and scale: all that is learnt from the data before training."""
    rule = rule or SomePoints()
    roles = rule.roles(len(data))
    training, validation = (data.rows(roles == role) for role in (TRAIN, VALIDATION))
    classes = data.classes if FAMILIES[family_of(config)].labels else ()
    plan = Plan(
        config=config,
        network=network.resolved(data.shape),
        train=train,
        rule=rule,
        scale=Scale.fit(training),
        classes=classes,
        columns=data.columns,
        values=data.named,
        labels=data.label_name,
        source=data.source,
        fingerprint=data.fingerprint(),
        count=len(data),
    )
    return Prepared(plan, training, validation)

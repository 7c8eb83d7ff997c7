"""The families of diffusion models by name: their settings, module and loss, and the settings as plain values.

A schedule stands on a command line by its name ("edm"), in JSON with its numbers ({"name": "edm", "sigma1": 40.0});
everything else in a `Config` is plain already, or a frozen dataclass of plain values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Key

from neuralsde.errors import InputError, closest
from neuralsde.models import energy, flow_matching, score
from neuralsde.noising import EDM, SCHEDULES, Schedule

Config = score.Config | flow_matching.Config | energy.Config
IMAGES = score.Config(schedule=EDM(0.002, 40.0), kind="edm", weighting="edm", log_mean=-0.5)
"""Noise levels for standardised data: those of Karras et al. 2022 for data of s.d. 1 in the place of ½."""


@dataclass(frozen=True)
class Family:
    """What `fit` needs of a kind of model. default: its settings; labels: whether it can be told of classes."""

    default: Any
    module: Callable[[Any, Any], Any]
    loss: Callable[..., Any]
    labels: bool = True


FAMILIES: dict[str, Family] = {
    "score": Family(IMAGES, score.ScoreModel, score.loss),
    "flow-matching": Family(flow_matching.Config(), flow_matching.FlowMatching, flow_matching.loss),
    "energy": Family(energy.Config(matching=IMAGES), energy.EnergyModel, energy.loss, labels=False),
}


def family_of(config: Config) -> str:
    """The name of the family that a config belongs to."""
    return next(name for name, family in FAMILIES.items() if type(config) is type(family.default))


def first_aux(config: Config, shape: tuple[int, ...], *, key: Key[Array, ""]) -> Any:
    """What the loss carries from step to step, before the first."""
    return energy.first_aux(config, shape, key=key) if isinstance(config, energy.Config) else ()


# -- settings as plain values ------------------------------------------------------------------------------------------


def plain(config: Any) -> dict[str, Any]:
    """A config as JSON values."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def config_of(name: str, settings: Mapping[str, Any]) -> Any:
    """The config of a family with plain settings, as `plain` wrote them, over its defaults; others are refused."""
    if name not in FAMILIES:
        raise InputError(f"the model '{name}'", "there is none of that name", hint=closest(name, FAMILIES))
    return _merged(FAMILIES[name].default, settings, name)


def settings(config: Config) -> Any:
    """The settings that one types, as a dataclass of plain values: those inside others too, the schedule by name."""
    found = dict(_leaves(config))
    kinds = [(name, type(value), dataclasses.field(default=value)) for name, value in found.items()]
    return dataclasses.make_dataclass("Settings", kinds, frozen=True)()


def changed(config: Any, typed: Mapping[str, Any]) -> Any:
    """The config with some of its `settings` changed, wherever they stand in it."""
    ours: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Schedule):
            ours |= {field.name: _schedule_from(typed[field.name])} if field.name in typed else {}
        elif dataclasses.is_dataclass(value):
            inner = {name: new for name, new in typed.items() if name not in _own(config)}
            ours[field.name] = changed(value, inner)
        elif field.name in typed:
            ours[field.name] = typed[field.name]
    return dataclasses.replace(config, **ours)


def _own(config: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(config)}


def _leaves(config: Any) -> list[tuple[str, Any]]:
    """(name, plain value) of every setting; an outer one hides an inner one of the same name."""
    outer, inner = [], []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Schedule):
            outer.append((field.name, schedule_name(value)))
        elif dataclasses.is_dataclass(value):
            inner += _leaves(value)
        else:
            outer.append((field.name, value))
    taken = {name for name, _ in outer}
    return outer + [(name, value) for name, value in inner if name not in taken]


def _plain(value: Any) -> Any:
    if isinstance(value, Schedule):
        return {"name": schedule_name(value)} | {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return plain(value) if dataclasses.is_dataclass(value) else value


def _merged(default: Any, saved: Mapping[str, Any], name: str) -> Any:
    known, given = _own(default), {}
    for setting, value in saved.items():
        if setting not in known:
            raise InputError(f"the setting '{setting}' of {name}", "there is none", hint=closest(setting, known))
        before = getattr(default, setting)
        if isinstance(before, Schedule):
            value = _schedule_from(value)
        elif dataclasses.is_dataclass(before):
            value = _merged(before, value, f"{name}.{setting}")
        given[setting] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(default, **given)


def schedule_name(schedule: Schedule) -> str:
    """As in `noising.SCHEDULES`."""
    return next(name for name, kind in SCHEDULES.items() if type(schedule) is kind)


def _schedule_from(saved: str | Mapping[str, Any]) -> Schedule:
    given = {"name": saved} if isinstance(saved, str) else dict(saved)
    name = str(given.pop("name"))
    if name not in SCHEDULES:
        raise InputError(f"the schedule '{name}'", "there is none of that name", hint=closest(name, SCHEDULES))
    return SCHEDULES[name](**given)

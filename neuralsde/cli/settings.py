"""`--set NAME=VALUE`: a field of a settings dataclass, read as the kind of value that stands there by default."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from neuralsde.errors import InputError, closest

TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse_settings(given: Iterable[str], *defaults: Any) -> tuple[dict[str, Any], ...]:
    """For each of the dataclass instances `defaults` the {name: value} of the `NAME=VALUE` texts that are its fields.

    Raises `InputError` for a text without "=", a name that is no field, and a value of another kind.
    """
    owners = {field.name: k for k, default in enumerate(defaults) for field in dataclasses.fields(default)}
    kinds = {field.name: str(field.type) for default in defaults for field in dataclasses.fields(default)}
    found: tuple[dict[str, Any], ...] = tuple({} for _ in defaults)
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text}", "there is no '=' in it", "NAME=VALUE")
        name = name.strip().replace("-", "_")
        if name not in owners:
            raise InputError(f"--set {text}", f"'{name}' is not a setting", hint=closest(name, owners))
        k = owners[name]
        read = _whole_numbers if "tuple[int" in kinds[name] else _numbers if "tuple" in kinds[name] else _value
        found[k][name] = read(text, value.strip(), getattr(defaults[k], name))
    return found


def _numbers(text: str, value: str, default: Any) -> float | tuple[float, ...]:
    """One number, or several with commas between: one for each column."""
    try:
        first, *more = (float(part) for part in value.split(","))
    except ValueError:
        raise InputError(f"--set {text}", f"'{value}' is of another kind", "a number, or several: 0.1,0.2") from None
    return (first, *more) if more else first


def _whole_numbers(text: str, value: str, default: Any) -> tuple[int, ...]:
    """None or several whole numbers, with commas between."""
    try:
        return tuple(int(part) for part in value.split(",") if part and value.lower() != "none")
    except ValueError:
        raise InputError(f"--set {text}", f"'{value}' is of another kind", "whole numbers: 23,24") from None


def _value(text: str, value: str, default: Any) -> Any:
    """The text as a value of the default's kind; "none" where the default is None stays None."""
    if default is None and value.lower() == "none":
        return None
    kind = float if default is None else type(default)
    try:
        return TRUTH[value.lower()] if kind is bool else kind(value)
    except (ValueError, KeyError):
        expected = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, kind.__name__)
        raise InputError(f"--set {text}", f"'{value}' is of another kind", expected) from None

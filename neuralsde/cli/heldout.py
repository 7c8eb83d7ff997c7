"""The names of the held-out rules: `--held-out last-part=0.2`.

Each rule is a value of `neuralsde.data.rules`; what is here is only how one types it.
"""

from __future__ import annotations

from typing import Any

from neuralsde.cli.entry import function
from neuralsde.errors import InputError, closest

# typed name -> (rule, how its number is read, what the number means)
RULES = {
    "last-part": ("neuralsde.data.rules:LastPart", float, "share of each series' time"),
    "some-series": ("neuralsde.data.rules:SomeSeries", float, "share of the series"),
    "last-days-of-month": ("neuralsde.data.rules:LastDaysOfMonth", int, "days"),
}
HELP = "auto (last-part, or some-series when there are more than 20), or " + ", ".join(f"{name}=N" for name in RULES)


def rule_of(text: str) -> Any:
    """The rule for `NAME` or `NAME=NUMBER`; None for `auto`, which leaves the choice to the data."""
    if text == "auto":
        return None
    name, given, number = text.partition("=")
    if name not in RULES:
        raise InputError(f"--held-out {text}", "there is no rule of that name", hint=closest(name, ("auto", *RULES)))
    target, read, meaning = RULES[name]
    rule = function(target)
    if not given:
        return rule()
    try:
        return rule(read(number))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"--held-out {text}", f"{number!r} is not a number", f"{name}=N with N: {meaning}") from None

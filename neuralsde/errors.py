"""What went wrong, in four parts: what was given, what that means, what was expected, what to try.

`InputError` is the caller's mistake (command line: exit status 2), `RunFailed` is a computation that broke
(exit status 1). `str(error)` is the full text, one part a line; `error.line` is the same in one line, which is
what the command line prints. `closest` finds the name that a misspelt one probably meant; `extra` names the optional
extra that an absent package comes with.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

INTERRUPTED = 130
"""The exit status of a command that was stopped by Ctrl-C or SIGTERM, as of a shell."""


class NeuralSDEError(Exception):
    """Base of every error that this package raises on purpose.

    got:      what was given, with its name and shape or value.
    meaning:  what that means; may be empty when `got` says it all.
    expected: what would have been right.
    hint:     what to try next.
    """

    exit_status = 1

    def __init__(self, got: str, meaning: str = "", expected: str = "", hint: str = "") -> None:
        self.got, self.meaning, self.expected, self.hint = got, meaning, expected, hint
        super().__init__(got, meaning, expected, hint)

    def _parts(self) -> list[str]:
        lead = "" if self.hint.startswith("did you mean") else "try "
        labelled = (("", self.got), ("", self.meaning), ("expected ", self.expected), (lead, self.hint))
        return [label + text for label, text in labelled if text]

    @property
    def line(self) -> str:
        """The whole message in one line."""
        return "; ".join(self._parts())

    def __str__(self) -> str:
        return "\n  ".join(self._parts())


class InputError(NeuralSDEError, ValueError):
    """The input cannot be used as it is."""

    exit_status = 2


class RunFailed(NeuralSDEError, RuntimeError):
    """A computation broke: a state that is not finite, a step control that gave up."""


def closest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` for the known name nearest to `name`, or the list of known names when none is near."""
    known = list(known)
    folded = {candidate.lower(): candidate for candidate in reversed(known)}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{folded[near[0]]}'?"
    return "one of: " + ", ".join(known) if known else ""


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Around the import of an optional package: `InputError` that names the extra when the package is absent.

    name: of the extra; what: the thing that needs it, the subject of the message.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"{what} needs the extra '{name}'", f"the package {error.name!r} is not installed",
                         hint=f"pip install 'neuralsde[{name}]'") from None  # fmt: skip

"""Parse a command, run it, and turn every ending into an exit status and one line.

    0    done
    1    the run failed: `RunFailed`, the file system, or a fault of this program
    2    misuse: `InputError`, or an option that is not one; nothing half-written is left behind
    130  stopped by Ctrl-C; the line says how to go on

`NEURALSDE_TRACEBACK=1` shows the traceback instead of the line.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence

from cyclopts import App
from cyclopts.exceptions import CycloptsError, UnknownCommandError

from neuralsde import __version__
from neuralsde.cli.entry import COMMANDS
from neuralsde.errors import INTERRUPTED, NeuralSDEError

app = App(name="neuralsde", version=__version__, help_format="plaintext", group_parameters="Options")
for _name, _ in COMMANDS:
    app.command(f"neuralsde.cli.{_name}:{_name}", name=_name)


def run(tokens: Sequence[str]) -> int:
    """Execute one command; the exit status."""
    try:
        app(tokens, exit_on_error=False, print_error=False, verbose=False, result_action="return_value")
        sys.stdout.flush()
    except BaseException as error:
        if os.environ.get("NEURALSDE_TRACEBACK") or isinstance(error, SystemExit):
            raise
        line, status = ending(error)
        if line:
            print(f"neuralsde: {line}", file=sys.stderr)
        return status
    return 0


def ending(error: BaseException) -> tuple[str, int]:
    """The line and the exit status for what stopped a command."""
    match error:
        case NeuralSDEError():
            return one_line(error.line), error.exit_status
        case CycloptsError():
            return misuse(error), 2
        case KeyboardInterrupt():
            return "stopped before there was anything to save", INTERRUPTED
        case BrokenPipeError():  # `| head` has read enough; flushing at exit must not complain once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return "", 0
        case OSError() if error.strerror:
            return f"{error.strerror}: {error.filename}" if error.filename else error.strerror, 1
    what = f"{type(error).__name__}: {one_line(str(error))}"
    return f"a fault of this program, {what}; NEURALSDE_TRACEBACK=1 shows where", 1


def misuse(error: CycloptsError) -> str:
    """What the parser found, in one line, and where the options are listed."""
    command = " ".join(["neuralsde", *(error.command_chain or ())])
    if isinstance(error, UnknownCommandError) and error.unused_tokens:
        given, names = error.unused_tokens[0], _names(error.command_chain or ())
        near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
        said = f"no command '{given}'; " + (f"did you mean '{near[0]}'?" if near else "one of: " + ", ".join(names))
    else:
        error.verbose = False  # the verbose form is for developers: it tells where the function stands
        said = one_line(str(error)).rstrip(".")
    return f"{said}; see {command} --help"


def _names(chain: Sequence[str]) -> list[str]:
    """The commands that may follow these."""
    if not chain:
        return [name for name, _ in COMMANDS]
    found = app
    for name in chain:
        found = found[name]
    return [name for name in found if not name.startswith("-")]


def one_line(text: str, limit: int = 600) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."

"""The command line: one thin file per command, each the same function as in Python.

    entry     the list of commands, settings that must precede JAX, `main`
    app       parses (cyclopts), and turns every ending into an exit status and one line
    common    options that commands share, tables in and out

A command's file holds its options and names the function that does the work as "module:function"; JAX is loaded
when that function is called, so that every `--help` answers at once.
"""

from __future__ import annotations

from neuralsde.cli.entry import main

__all__ = ["main"]

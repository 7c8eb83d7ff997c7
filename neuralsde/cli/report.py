"""`neuralsde report RUN`: the run's page, written again."""

from __future__ import annotations

from neuralsde.cli.common import RunPath, load


def report(run: RunPath, /) -> None:
    """Write report.html into the run folder, one file that opens offline, and print where it is."""
    print(load(run).report())

"""What is asked of an experiment, the same of all of them: where the results go, which seeds, how large.

    @experiment("memory", Size(), FULL)
    def reproduce(asked: Asked[Size]) -> Iterator[str]: ...

is then called as `reproduce(out=folder, seed=0, seeds=1, full=False, progress=None, size=None)`, and with what options
of its own it has. It yields lines as they become known, and writes NAME.json, NAME.md and NAME.png.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from neuralsde.experiments.results import on_file, opening, write_results
from neuralsde.train.progress import Reporter

S = TypeVar("S")


@dataclass(frozen=True)
class Asked(Generic[S]):
    """Of an experiment.

    out:    the folder of the results. seed: the first. seeds: times the size. size: a dataclass of the experiment.
    first:  the facts that every result opens with (`results.opening`).
    began:  `time.monotonic()` at the beginning.
    """

    name: str
    out: Path
    seed: int
    seeds: int
    size: S
    progress: Reporter | None
    first: dict[str, Any]
    began: float

    @classmethod
    def of(
        cls, name: str, size: S, *, out: Path, seed: int = 0, seeds: int = 1, full: bool = False,
        progress: Reporter | None = None,
    ) -> Asked[S]:  # fmt: skip
        """Now. full: whether that is the large size. Raises InputError when there is nothing to run."""
        first = opening(name, seed=seed, seeds=seeds, full=full, size=size)
        return cls(name, out, seed, seeds, size, progress, first, time.monotonic())

    def numbers(self, count: int) -> range:
        """The seeds of `count` fits at the default `seeds`, from the first on."""
        return range(self.seed, self.seed + count * self.seeds)

    @property
    def seconds(self) -> int:
        """Since the beginning."""
        return round(time.monotonic() - self.began)

    def before(self, first: dict[str, Any] | None = None) -> dict[str, Any]:
        """What the same command, at the same size, has left in `out`: it is made part by part; {} if nothing.

        first: the opening of the results where it is not that of `self`.
        """
        return on_file(first or self.first, self.out)

    def path(self, ending: str = ".png") -> Path:
        """A file beside the results, its folder made."""
        self.out.mkdir(parents=True, exist_ok=True)
        return self.out / f"{self.name}{ending}"

    def write(self, facts: dict[str, Any], page: str) -> None:
        """NAME.json and NAME.md."""
        write_results(self.name, facts, page, self.out)


def experiment(name: str, size: S, full: S) -> Callable[[Callable[..., Iterator[str]]], Callable[..., Iterator[str]]]:
    """Makes a function of `Asked` into what `neuralsde reproduce NAME` calls; `full` is the size of `--full`."""
    usual, large = size, full

    def of(run: Callable[..., Iterator[str]]) -> Callable[..., Iterator[str]]:
        @functools.wraps(run)
        def reproduce(
            *,
            out: Path,
            seed: int = 0,
            seeds: int = 1,
            full: bool = False,
            progress: Reporter | None = None,
            size: S | None = None,
            **options: Any,
        ) -> Iterator[str]:
            chosen = size or (large if full else usual)
            asked = Asked.of(name, chosen, out=out, seed=seed, seeds=seeds, full=full, progress=progress)
            return run(asked, **options)

        del reproduce.__wrapped__  # `help` is to show what it is called with
        return reproduce

    return of

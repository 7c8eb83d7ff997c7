"""One solve and its gradient, here and in the libraries that people use today: `make bench`.

The problems are those of peers/problem.py; all contestants run in one process, in turn, on the same weights. A time is
the median after the first call; a ratio is against the scan written by hand in the same round, with its middle half.
The first call holds the compilation. Results: results/solve.json, results/solve.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `benchmarks` is a folder, not an installed package

import diffrax
import jax
import torch

from benchmarks.peers import diffrax_, ours, torch_
from benchmarks.peers.problem import PROBLEMS, Problem
from benchmarks.record import against, record, rounds, table
from neuralsde import sde

Pair = tuple[Callable[[], Any], Callable[[], Any]]
ITO, STRATONOVICH = sde.Ito(), sde.Stratonovich()
HAND = "scan by hand"


def euler(problem: Problem) -> dict[str, Pair]:
    """Euler-Maruyama everywhere."""
    ours_ = lambda gradient: ours.calls(ours.neuralsde(problem, sde.EulerMaruyama(), gradient, ITO), problem)  # noqa: E731
    tree = diffrax_.loss_of(problem, diffrax.Euler(), "tree", diffrax.RecursiveCheckpointAdjoint())
    unsafe = diffrax_.loss_of(problem, diffrax.Euler(), "unsafe", diffrax.DirectAdjoint())
    return {
        HAND: ours.calls(ours.by_hand(problem, checkpoint=False), problem),
        HAND + ", checkpointed": ours.calls(ours.by_hand(problem, checkpoint=True), problem),
        "neuralsde, Checkpointed()": ours_(sde.Checkpointed()),
        "neuralsde, Backprop()": ours_(sde.Backprop()),
        "diffrax, VirtualBrownianTree": ours.calls(tree, problem),
        "diffrax, UnsafeBrownianPath": (ours.calls(unsafe, problem)[0], _nothing),
        "torchsde, BrownianInterval": torch_.with_torchsde(problem, "ito", method="euler"),
        "loop by hand in torch": torch_.by_hand(problem),
    }


def reversible_heun(problem: Problem) -> dict[str, Pair]:
    """Reversible Heun and its constant-memory gradient."""
    method = sde.ReversibleHeun()
    theirs = {"method": "reversible_heun", "adjoint_method": "adjoint_reversible_heun"}
    tree = diffrax_.loss_of(problem, diffrax.ReversibleHeun(), "tree", diffrax.RecursiveCheckpointAdjoint())
    mode = lambda gradient: ours.calls(ours.neuralsde(problem, method, gradient, STRATONOVICH), problem)  # noqa: E731
    return {
        "neuralsde, reversible Heun, Reversible()": mode(sde.Reversible()),
        "neuralsde, reversible Heun, Backprop()": mode(sde.Backprop()),
        "diffrax, reversible Heun, tree": ours.calls(tree, problem),
        "torchsde, reversible Heun and its adjoint": torch_.with_torchsde(problem, "stratonovich", **theirs),
    }


def _nothing() -> None:
    """In the place of a gradient that the peer refuses."""


def measure(problem: Problem, repeats: int) -> dict[str, Any]:
    """Both directions of every contestant."""
    pairs = euler(problem) | reversible_heun(problem)
    found: dict[str, Any] = {}
    for index, direction in enumerate(("forward", "gradient")):
        calls = {name: pair[index] for name, pair in pairs.items() if pair[index] is not _nothing}
        times, first = rounds(calls, repeats, budget_s=6.0)
        rows = against(times, HAND)
        found[direction] = {name: {**row, "first_call_s": round(first[name], 2)} for name, row in rows.items()}
    return found


def tables(found: dict[str, Any]) -> str:
    """One table a problem."""
    parts = []
    for problem, directions in found.items():
        rows = []
        for name in directions["forward"]:
            cells = [name]
            for direction in ("forward", "gradient"):
                row = directions[direction].get(name)
                spread = f"{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})" if row else "refused"
                cells += [f"{row['ms']:.1f}" if row else "-", spread, f"{row['first_call_s']:.1f}" if row else "-"]
            rows.append(cells)
        head = [
            "",
            "forward ms",
            "ratio to the scan",
            "first call s",
            "gradient ms",
            "ratio to the scan",
            "first call s",
        ]
        parts.append(f"**{problem}**\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--small", action="store_true", help="the first problem only, three repeats")
    options = parser.parse_args()
    problems, repeats = (PROBLEMS[:1], 3) if options.small else (PROBLEMS, options.repeats)
    device = jax.devices()[0]
    head = (
        "Euler-Maruyama unless said; milliseconds, and the ratio to the hand-written scan of the same round "
        f"(median, middle half). {device.device_kind}, {torch.get_num_threads()} threads, float32."
    )
    found: dict[str, Any] = {}
    for problem in problems:  # written after each, for the whole takes ten minutes
        found[problem.name] = measure(problem, repeats)
        record("solve", {"device": device.device_kind, "problems": found}, head + "\n\n" + tables(found))


if __name__ == "__main__":
    main()

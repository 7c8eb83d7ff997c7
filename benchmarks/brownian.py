"""Where the noise comes from: increments of one path, in order, in order and back, and at random; against plain draws.

n cells of a batch of scalar motions, float32. "direct" is one `jax.random.normal` a cell in a loop, with the key folded
in; "block" draws all n at once, which keeps them all. torchsde's BrownianInterval answers the same questions.
Results: results/brownian.json, results/brownian.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `benchmarks` is a folder, not an installed package

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torchsde
from jax import lax

from benchmarks.record import against, record, rounds, table
from neuralsde import sde

CELLS, BATCHES = (10, 100, 1000), (1, 2560, 32768)
DIRECT = "direct draws"


def orders(n: int) -> dict[str, np.ndarray]:
    """The cells that are asked for, one after the other."""
    forward = np.arange(n)
    return {
        "sequential": forward,
        "there and back": np.concatenate([forward, forward[::-1]]),
        "random": np.random.default_rng(0).permutation(n),
    }


def draws(increment: Callable[[Any, Any], Any], order: np.ndarray, batch: int) -> Callable[[], Any]:
    """The sum of the increments asked for, in one loop, as a call."""

    def total(key: Any) -> Any:
        return lax.scan(lambda c, i: (c + increment(key, i), None), jnp.zeros(batch), jnp.asarray(order))[0]

    run, key = jax.jit(total), jax.random.key(0)
    return lambda: jax.block_until_ready(run(key))


def with_torchsde(order: np.ndarray, n: int, batch: int) -> Callable[[], Any]:
    ts = np.linspace(0.0, 1.0, n + 1)

    def call() -> None:
        motion = torchsde.BrownianInterval(t0=0.0, t1=1.0, size=(batch,))
        for i in order:
            motion(float(ts[i]), float(ts[i + 1]))

    return call


def same_bits(n: int, batch: int) -> bool:
    """Whether asking again, in the other order and in another program, gives the same normals (over unit cells)."""
    path = sde.BrownianGrid(jax.random.key(0), jnp.arange(n + 1.0))
    once = path.increments((batch,), jnp.float32)
    again = lax.map(lambda i: path.increment(i, (batch,), jnp.float32), jnp.arange(n)[::-1])[::-1]
    return bool((once == again).all())


def measure(repeats: int, cells: tuple[int, ...], batches: tuple[int, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for n in cells:
        ts = jnp.linspace(0.0, 1.0, n + 1)
        root = float(np.sqrt(1 / n))
        for batch in batches:
            direct = lambda key, i, b=batch, r=root: r * jax.random.normal(jax.random.fold_in(key, i), (b,))  # noqa: E731
            ours = lambda key, i, b=batch, t=ts: sde.BrownianGrid(key, t).increment(i, (b,), jnp.float32)  # noqa: E731
            for pattern, order in orders(n).items():
                calls = {
                    DIRECT: draws(direct, np.arange(n), batch),
                    "neuralsde": draws(ours, order, batch),
                    "torchsde": with_torchsde(order, n, batch),
                }
                times, _ = rounds(calls, repeats, budget_s=3.0)
                found[f"{n} cells, batch {batch}, {pattern}"] = against(times, DIRECT)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    sizes = ((10, 100), (1, 2560)) if options.small else (CELLS, BATCHES)
    found = measure(3 if options.small else options.repeats, *sizes)
    bits = same_bits(1000, 256)
    rows = [
        [case] + [f"{row[name]['ms']:.3f} ({row[name]['ratio']:.2f})" for name in (DIRECT, "neuralsde", "torchsde")]
        for case, row in found.items()
    ]
    text = "Median milliseconds (median ratio, round by round, to direct draws of the n cells).\n\n"
    text += table(["", DIRECT, "neuralsde", "torchsde"], rows)
    text += f"\n\nAsked again in the other order and in another program: {'the same bits' if bits else 'OTHER BITS'}."
    record("brownian", {"cases": found, "same_bits": bits, "threads": torch.get_num_threads()}, text)


if __name__ == "__main__":
    main()

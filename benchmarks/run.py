"""One solve and its gradient, here and in the libraries that people use today: `make bench`.

The problem is the same everywhere: batch 256, state 8, drift and diffusion each an MLP of width 64 with tanh,
100 Euler steps, float32, the loss the mean square of the last state. Times are the median of several calls after
compilation. Results go to benchmarks/results.json, and as a table to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import torch
import torchsde

from neuralsde import sde

BATCH, STATE, WIDTH, STEPS = 256, 8, 64, 100
HERE = Path(__file__).parent


def weights(seed: int) -> list[np.ndarray]:
    """Two layers, drawn once and given to every library."""
    rng = np.random.default_rng(seed)
    sizes = ((STATE, WIDTH), (WIDTH, STATE))
    return [(rng.normal(size=size) / np.sqrt(size[0])).astype(np.float32) for size in sizes]


def milliseconds(call: Callable[[], Any], repeats: int) -> float:
    call()  # compiles
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return median(times)


def pair(loss: Callable[..., Any], *inputs: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A compiled loss and a compiled gradient as calls without arguments that wait for their result."""
    forward, gradient = jax.jit(loss), jax.jit(jax.grad(loss))
    return lambda: jax.block_until_ready(forward(*inputs)), lambda: jax.block_until_ready(gradient(*inputs))


def drift(t: Any, y: Any, args: Any) -> Any:
    return jnp.tanh(y @ args[0][0]) @ args[0][1]


def diffusion(t: Any, y: Any, args: Any) -> Any:
    return 0.5 * jax.nn.sigmoid(jnp.tanh(y @ args[1][0]) @ args[1][1])


def with_neuralsde(y0: np.ndarray, layers: Any, gradient: sde.Gradient) -> tuple[Callable[[], Any], Callable[[], Any]]:
    process, ts = sde.SDE(drift, diffusion, noise=sde.Diagonal()), jnp.linspace(0.0, 1.0, STEPS + 1)

    def last(y: Any, key: Any, args: Any) -> Any:
        return sde.simulate(process, y, ts, key=key, method=sde.EulerMaruyama(), gradient=gradient, args=args).ys[-1]

    def loss(args: Any, keys: Any) -> Any:
        return jnp.mean(jax.vmap(last, in_axes=(0, 0, None))(y0, keys, args) ** 2)

    return pair(loss, layers, jax.random.split(jax.random.key(0), BATCH))


def with_diffrax(y0: np.ndarray, layers: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    def last(y: Any, key: Any, args: Any) -> Any:
        tree = diffrax.VirtualBrownianTree(0.0, 1.0, tol=0.5 / STEPS, shape=(STATE,), key=key)
        noise = diffrax.ControlTerm(lambda t, y, a: lineax.DiagonalLinearOperator(diffusion(t, y, a)), tree)
        terms = diffrax.MultiTerm(diffrax.ODETerm(drift), noise)
        solution = diffrax.diffeqsolve(terms, diffrax.Euler(), 0.0, 1.0, 1.0 / STEPS, y, args=args)
        return solution.ys[-1]  # type: ignore[index]

    def loss(args: Any, keys: Any) -> Any:
        return jnp.mean(jax.vmap(last, in_axes=(0, 0, None))(y0, keys, args) ** 2)

    return pair(loss, layers, jax.random.split(jax.random.key(0), BATCH))


class Torch(torch.nn.Module):
    """The same process for torchsde."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, layers: Any) -> None:
        super().__init__()
        self.layers = torch.nn.ParameterList([torch.tensor(w) for net in layers for w in net])

    def f(self, t: Any, y: torch.Tensor) -> torch.Tensor:
        return torch.tanh(y @ self.layers[0]) @ self.layers[1]

    def g(self, t: Any, y: torch.Tensor) -> torch.Tensor:
        return 0.5 * torch.sigmoid(torch.tanh(y @ self.layers[2]) @ self.layers[3])


def with_torchsde(y0: np.ndarray, layers: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    process, start, ts = Torch(layers), torch.tensor(y0), torch.tensor([0.0, 1.0])

    def loss() -> torch.Tensor:
        return (torchsde.sdeint(process, start, ts, method="euler", dt=1.0 / STEPS)[-1] ** 2).mean()

    def forward() -> None:
        with torch.no_grad():
            loss()

    def gradient() -> None:
        process.zero_grad()
        loss().backward()

    return forward, gradient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    y0 = np.random.default_rng(0).normal(size=(BATCH, STATE)).astype(np.float32)
    layers = [weights(1), weights(2)]
    rows = {
        "neuralsde, gradient checkpointed per step": with_neuralsde(y0, layers, sde.Checkpointed()),
        "neuralsde, plain backpropagation": with_neuralsde(y0, layers, sde.Backprop()),
        f"diffrax {version('diffrax')}, Euler, VirtualBrownianTree": with_diffrax(y0, layers),
        f"torchsde {version('torchsde')}, Euler, BrownianInterval": with_torchsde(y0, layers),
    }
    measured = {
        name: {"forward_ms": milliseconds(forward, repeats), "gradient_ms": milliseconds(gradient, repeats)}
        for name, (forward, gradient) in rows.items()
    }
    facts = {"machine": platform.machine(), "cores": torch.get_num_threads(), "jax": jax.__version__}
    (HERE / "results.json").write_text(json.dumps({"facts": facts, "one solve": measured}, indent=2) + "\n")
    lines = [f"| {name} | {ms['forward_ms']:.0f} | {ms['gradient_ms']:.0f} |" for name, ms in measured.items()]
    head = f"One solve of {STEPS} Euler steps, batch {BATCH}, state {STATE}; milliseconds on {facts['cores']} cores."
    table = "\n".join([head, "", "| | forward | gradient |", "|---|---|---|", *lines])
    (HERE / "RESULTS.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()

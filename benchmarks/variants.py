"""What makes a solve fast, one change at a time: noise, unrolling, fused networks, checkpoints, gradients in blocks.

Every row is the hand-written scan of peers/ours.py with one thing changed; ratios are against the scan with JAX's own
normals, in the same round. What helped is in the package; the rest is written down here so that nobody tries it twice.
Results: results/variants.json, results/variants.md.
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
from jax import lax

from benchmarks.peers.problem import PROBLEMS, Problem, diffusion, drift
from benchmarks.record import against, record, rounds, table
from neuralsde.sde.brownian.normals import normals

Draw = Callable[[Any, Any, tuple[int, ...]], Any]
BASE = "normal(fold_in(key, i)), plain backprop"
BLOCK = 10


def folded(key: Any, i: Any, shape: tuple[int, ...]) -> Any:
    return jax.random.normal(jax.random.fold_in(key, i), shape)


def counted(key: Any, i: Any, shape: tuple[int, ...]) -> Any:
    return normals(key, i, shape, jnp.float32)


def uniform_pairs(key: Any, i: Any, shape: tuple[int, ...]) -> Any:
    """Box-Muller: two normals from two uniforms, joined."""
    half = (*shape[:-1], shape[-1] // 2)
    u, v = (0.5 * (1 + lax.erf(counted(jax.random.fold_in(key, k), i, half) / jnp.sqrt(2.0))) for k in (0, 1))
    r = jnp.sqrt(-2 * jnp.log(jnp.clip(u, 1e-7)))
    return jnp.concatenate([r * jnp.cos(2 * jnp.pi * v), r * jnp.sin(2 * jnp.pi * v)], -1)


def separate(y: Any, weights: Any) -> Any:
    return drift(0.0, y, weights), diffusion(0.0, y, weights)


def fused(y: Any, weights: Any) -> Any:
    """Both networks' first layers as one product."""
    A, B, C, D = weights
    a, b = jnp.split(jnp.tanh(y @ jnp.concatenate([A, C], axis=1)), 2, axis=-1)
    return a @ B, 0.5 * jax.nn.sigmoid(b @ D)


def scan(
    problem: Problem, draw: Draw = folded, coefficients: Any = separate, unroll: int = 1, checkpoint: bool = False
):
    """The loss by one scan, with noise drawn at every step."""
    y0, h = jnp.asarray(problem.start()), 1.0 / problem.steps

    def loss(weights: Any, key: Any) -> Any:
        def step(y: Any, i: Any) -> tuple[Any, None]:
            f, g = coefficients(y, weights)
            return y + f * h + g * jnp.sqrt(h) * draw(key, i, y.shape), None

        step = jax.checkpoint(step, prevent_cse=False) if checkpoint else step
        return jnp.mean(lax.scan(step, y0, jnp.arange(problem.steps), unroll=unroll)[0] ** 2)

    return loss


def in_blocks(problem: Problem, draw: Draw):
    """The loss with the noise of several steps drawn at once."""
    y0, h = jnp.asarray(problem.start()), 1.0 / problem.steps

    def loss(weights: Any, key: Any) -> Any:
        def block(y: Any, i: Any) -> tuple[Any, None]:
            def step(y: Any, z: Any) -> tuple[Any, None]:
                f, g = separate(y, weights)
                return y + f * h + g * jnp.sqrt(h) * z, None

            return lax.scan(step, y, draw(key, i, (BLOCK, *y.shape)))[0], None

        return jnp.mean(lax.scan(block, y0, jnp.arange(problem.steps // BLOCK))[0] ** 2)

    return loss


def gradient_in_blocks(problem: Problem, draw: Draw) -> Callable[[Any, Any], Any]:
    """The gradient by hand: adjoints step by step through y alone, then weight gradients of BLOCK steps at once."""
    y0, h, n = jnp.asarray(problem.start()), 1.0 / problem.steps, problem.steps

    def step(weights: Any, y: Any, i: Any, key: Any) -> Any:
        f, g = separate(y, weights)
        return y + f * h + g * jnp.sqrt(h) * draw(key, i, y.shape)

    def gradient(weights: Any, key: Any) -> Any:
        last, ys = lax.scan(lambda y, i: (step(weights, y, i, key), y), y0, jnp.arange(n))

        def back(ct: Any, at: Any) -> tuple[Any, Any]:
            y, i = at
            return jax.vjp(lambda y: step(weights, y, i, key), y)[1](ct)[0], ct

        _, cts = lax.scan(back, 2 * last / last.size, (ys, jnp.arange(n)), reverse=True)
        parts = jax.tree.map(lambda x: x.reshape(n // BLOCK, BLOCK, *x.shape[1:]), (ys, cts, jnp.arange(n)))

        def add(total: Any, part: Any) -> tuple[Any, None]:
            y, ct, i = part
            together = lambda w: jax.vmap(lambda y, i: step(w, y, i, key))(y, i)  # noqa: E731
            return jax.tree.map(jnp.add, total, jax.vjp(together, weights)[1](ct)[0]), None

        return lax.scan(add, jax.tree.map(jnp.zeros_like, weights), parts)[0]

    return gradient


def programs(problem: Problem) -> tuple[dict[str, Any], dict[str, Any]]:
    """Losses, and gradients."""
    losses = {
        BASE: scan(problem),
        "noise by counter": scan(problem, counted),
        "noise by counter, Box-Muller": scan(problem, uniform_pairs),
        f"JAX's normals, {BLOCK} steps at once": in_blocks(problem, folded),
        f"noise by counter, {BLOCK} steps at once": in_blocks(problem, counted),
        "noise by counter, unrolled 4": scan(problem, counted, unroll=4),
        "noise by counter, networks fused": scan(problem, counted, fused),
    }
    kept = (BASE, "noise by counter", "noise by counter, unrolled 4", "noise by counter, networks fused")
    gradients = {name: jax.grad(losses[name]) for name in kept}
    gradients["JAX's normals, checkpoint a step"] = jax.grad(scan(problem, checkpoint=True))
    gradients["noise by counter, checkpoint a step"] = jax.grad(scan(problem, counted, checkpoint=True))
    gradients[f"noise by counter, weight gradients of {BLOCK} steps at once"] = gradient_in_blocks(problem, counted)
    return losses, gradients


def call(program: Any, *inputs: Any) -> Callable[[], Any]:
    run = jax.jit(program)
    return lambda: jax.block_until_ready(run(*inputs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    parts = []
    for problem in PROBLEMS[:1] if options.small else PROBLEMS[:3]:
        weights, key = tuple(jnp.asarray(w) for w in problem.weights()), jax.random.key(0)
        found[problem.name] = {}
        for direction, made in zip(("forward", "gradient"), programs(problem), strict=True):
            calls = {name: call(program, weights, key) for name, program in made.items()}
            rows = against(rounds(calls, 3 if options.small else options.repeats, budget_s=5.0)[0], BASE)
            found[problem.name][direction] = rows
            body = [
                [name, f"{r['ms']:.1f}", f"{r['ratio']:.2f} ({r['ratio_low']:.2f}-{r['ratio_high']:.2f})"]
                for name, r in rows.items()
            ]
            parts.append(f"**{problem.name}, {direction}**\n\n{table(['', 'ms', 'ratio'], body)}")
    record("variants", {"device": jax.devices()[0].device_kind, "problems": found}, "\n\n".join(parts))


if __name__ == "__main__":
    main()

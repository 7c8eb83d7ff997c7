"""Gradients: exactness, order against closed forms, limits of reversibility, memory, time. About eight minutes.

    python benchmarks/gradients.py [--small] [--part exact order limits stiff memory time]

Parts: `exact`, against plain reverse mode on the same path at five step sizes (the protocol of Kidger et al. 2021, own
version); `order`, against the derivative of the solution in closed form, down to 1e-6 (the three examples of Li
et al. 2020, ten entries each); `limits` and `stiff`, where going back loses the path; `memory`, temporary bytes of the
compiled gradient where only the end is saved; `time`, against plain reverse mode. Nearly all of it is compiling: every
number of steps is a program of its own, so step sizes are few and far apart.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import io
import itertools
import json
import math
import time as clock
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from record import RESULTS, against, record, rounds, table

from neuralsde import sde
from neuralsde.sde.exact import GBM, LiExample2, LiExample3
from neuralsde.sde.gradients import Backprop, Checkpointed, ContinuousAdjoint, Gradient, Reversible
from neuralsde.sde.methods import SRIW1, DriftImplicitEuler, EulerMaruyama, Heun, Milstein
from neuralsde.sde.methods.base import Method
from neuralsde.sde.methods.reversible_heun import ReversibleHeun
from neuralsde.sde.methods.reversible_pair import ReversiblePair

KEY = jax.random.key(2026)
PAIR = ReversiblePair(Heun())
Loss = Callable[..., jax.Array]


def name(method: Method, gradient: Gradient) -> str:
    """For the tables: what is not a default, without the module's name."""
    given = [f"{f.name}={getattr(gradient, f.name)!r}" for f in dataclasses.fields(gradient)]  # type: ignore[arg-type]
    shown = [text for text in given if not text.endswith(("=None", "=False", "=inf"))]
    base = f"ReversiblePair({type(method.base).__name__}())" if isinstance(method, ReversiblePair) else None
    return f"{base or type(method).__name__ + '()'}, {type(gradient).__name__}({', '.join(shown)})"


def gradient_of(loss: Loss) -> Any:
    """Compiled; method, mode and steps are static."""
    return jax.jit(jax.grad(loss), static_argnums=(1, 2, 3))


def relative(one: Any, other: Any) -> float:
    """L1 distance over all entries, relative to the larger."""
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (one, other))
    return float(np.abs(a - b).sum() / max(np.abs(a).sum(), np.abs(b).sum()))


def perceptron(weights: Any, y: jax.Array, final: Callable[[Any], Any]) -> jax.Array:
    """One hidden layer with LipSwish."""
    (w1, b1), (w2, b2) = weights
    return final(0.909 * jax.nn.silu(y @ w1 + b1) @ w2 + b2)


def layers(key: jax.Array, sizes: tuple[int, ...], dtype: Any) -> Any:
    """Uniform weights, as torch draws them."""
    made = []
    for a, b in itertools.pairwise(sizes):
        key, one, two = jax.random.split(key, 3)
        bound = a**-0.5
        made.append(
            (
                jax.random.uniform(one, (a, b), dtype, -bound, bound),
                jax.random.uniform(two, (b,), dtype, -bound, bound),
            )
        )
    return made


# exact ----------------------------------------------------------------------------------------------------------------


def general_loss(p: Any, method: Method, gradient: Gradient, steps: int) -> jax.Array:
    """32 paths of 32 entries with 16 Brownian motions, hidden width 8, T = 1."""
    calculus = sde.Stratonovich() if sde.Stratonovich in method.calculus else sde.Ito()
    process = sde.SDE(
        lambda t, y, args: perceptron(p["f"], y, jnp.tanh),
        lambda t, y, args: perceptron(p["g"], y, jnp.tanh).reshape(32, 16),
        sde.General(16),
        calculus,
    )
    ts = jnp.array([0.0, 1.0])

    def one(y: jax.Array, key: jax.Array) -> jax.Array:
        return sde.simulate(process, y, ts, key=key, method=method, gradient=gradient, substeps=steps).ys[-1]

    return jax.vmap(one)(p["y0"], jax.random.split(KEY, 32)).sum()


def exact(small: bool) -> dict[str, Any]:
    """Relative L1 distance from plain reverse mode, in float64."""
    grad = gradient_of(general_loss)
    one, two, three = jax.random.split(KEY, 3)
    p = {
        "f": layers(one, (32, 8, 32), jnp.float64),
        "g": layers(two, (32, 8, 32 * 16), jnp.float64),
        "y0": jax.random.normal(three, (32, 32)),
    }
    sizes = (1, 16) if small else (1, 16, 256)
    rows: list[tuple[Method, Gradient]] = [
        (Heun(), ContinuousAdjoint()),
        (EulerMaruyama(), ContinuousAdjoint()),
        (ReversibleHeun(), Reversible()),
        (PAIR, Reversible()),
        (EulerMaruyama(), Checkpointed(segments="sqrt")),
        (Heun(), Checkpointed(segments=16)),
    ]
    plain = functools.cache(lambda method, n: grad(p, method, Backprop(), n))
    found = {name(m, g): [relative(grad(p, m, g, n), plain(m, n)) for n in sizes] for m, g in rows}
    head = ["method and mode (float64)", *(f"h = 1/{n}" for n in sizes)]
    text = table(head, [[key, *(f"{e:.1e}" for e in errors)] for key, errors in found.items()])
    return {"steps": sizes, "rows": found, "table": text}


# order ----------------------------------------------------------------------------------------------------------------


def examples(p: Any) -> tuple[Any, Any, Any]:
    """The three examples with parameters in (0, 1), from unbounded ones."""
    s = jax.tree.map(jax.nn.sigmoid, p)
    return GBM(s["alpha"], s["beta"]), LiExample2(s["p"]), LiExample3(s["a"], s["b"])


def examples_loss(p: Any, method: Method, gradient: Gradient, steps: int, keys: jax.Array) -> jax.Array:
    """All three as one process of 3 · 10 entries, each with its own Brownian motion; the sum of y_1 over everything."""
    parts = [law.process() for law in examples(p)]
    process = sde.SDE(
        lambda t, y, args: jnp.stack([part.drift(t, y[i], args) for i, part in enumerate(parts)]),
        lambda t, y, args: jnp.stack([part.diffusion(t, y[i], args) for i, part in enumerate(parts)]),
        sde.Diagonal("separable"),
    )
    process = process if sde.Ito in method.calculus else process.to(sde.Stratonovich())
    ts, y0 = jnp.array([0.0, 1.0]), jnp.full((3, 10), 0.5)

    def one(key: jax.Array) -> jax.Array:
        return sde.simulate(process, y0, ts, key=key, method=method, gradient=gradient, substeps=steps).ys[-1]

    return jax.vmap(one)(keys).sum()


def ends(keys: jax.Array, steps: int) -> jax.Array:
    """Where the Brownian motions of those solves end, (paths, 3, 10)."""
    ts = jnp.array([0.0, 1.0])
    return jax.vmap(lambda k: sde.BrownianGrid(k, ts, steps).increments((3, 10), jnp.float64).sum(0))(keys)


def examples_exact(p: Any, W: jax.Array) -> jax.Array:
    """The same from the closed forms, given where the path ends, (3, 10)."""
    return sum((law.solution(0.5, 1.0, w).sum() for law, w in zip(examples(p), W, strict=True)), jnp.zeros(()))


def order(small: bool) -> dict[str, Any]:
    """Root mean square error over paths, relative to the size of the gradient, per example; one path at a time."""
    keys = jax.random.split(KEY, 8 if small else 32)
    draws = jax.random.split(jax.random.key(1), 5)
    p = {k: jax.random.normal(d, (10,)) for k, d in zip(("alpha", "beta", "p", "a", "b"), draws, strict=True)}
    sizes = [2**k for k in ((2, 4) if small else (2, 4, 6, 8, 10))]
    rows: list[tuple[Method, Gradient]] = [
        (Heun(), ContinuousAdjoint()),
        (Milstein(), ContinuousAdjoint()),
        (ReversibleHeun(), Reversible()),
        (SRIW1(), Checkpointed()),
    ]
    of = {"1": ("alpha", "beta"), "2": ("p",), "3": ("a", "b")}

    @functools.partial(jax.jit, static_argnums=(1, 2, 3))
    def each(p: Any, method: Method, gradient: Gradient, steps: int) -> Any:
        return jax.vmap(lambda k: jax.grad(examples_loss)(p, method, gradient, steps, k[None]))(keys)

    exactly = jax.jit(jax.vmap(jax.grad(examples_exact), in_axes=(None, 0)))
    truths = [exactly(p, jax.jit(ends, static_argnums=1)(keys, n)) for n in sizes]
    found: dict[str, Any] = {}
    for m, g in rows:
        errors: dict[str, list[float]] = {k: [] for k in of}
        for n, exact in zip(sizes, truths, strict=True):
            mine = each(p, m, g, n)
            for k, leaves in of.items():
                a, b = (np.concatenate([tree[leaf] for leaf in leaves], axis=1) for tree in (mine, exact))
                errors[k].append(float(np.sqrt(((a - b) ** 2).mean() / (b**2).mean())))
        for k, list_ in errors.items():
            slope = -np.polyfit(np.log(sizes[len(sizes) // 2 :]), np.log(list_[len(sizes) // 2 :]), 1)[0]
            found[f"{name(m, g)}, example {k}"] = {"errors": list_, "order": round(float(slope), 3)}
    head = ["method and mode", *(f"h = 1/{n}" for n in sizes), "order, finer half"]
    body = [[k, *(f"{e:.1e}" for e in r["errors"]), f"{r['order']:.2f}"] for k, r in found.items()]
    return {"steps": sizes, "rows": found, "table": table(head, body)}


# limits ---------------------------------------------------------------------------------------------------------------


def decay(p: Any, method: Method) -> sde.SDE:
    """The process dX = -λ (X + ¼ sin X) dt + .1 dW in the calculus of the method."""
    return sde.SDE(
        lambda t, y, args: -p["rate"] * (y + 0.25 * jnp.sin(y)),
        lambda t, y, args: 0.1 * jnp.ones_like(y),
        sde.Diagonal("additive"),
        sde.Stratonovich() if sde.Stratonovich in method.calculus else sde.Ito(),
    )


def decay_loss(p: Any, method: Method, gradient: Gradient, steps: int) -> jax.Array:
    """Of `decay` over time T, eight entries."""
    process = decay(p, method)
    ts = jnp.stack([0 * p["T"], p["T"]])
    ys = sde.simulate(process, p["y0"], ts, key=KEY, method=method, gradient=gradient, substeps=steps).ys
    return jnp.sin(ys[-1]).sum()


def decay_gradient(p: Any, method: Method, gradient: Gradient, steps: int) -> Any:
    """With respect to the rate and the start; T is given."""
    wanted = {k: p[k] for k in ("rate", "y0")}
    return jax.grad(lambda q: decay_loss({**q, "T": p["T"]}, method, gradient, steps))(wanted)


def limits(small: bool) -> dict[str, Any]:
    """Gradient error of the reversible modes with the guard taken away, and what the guard says."""
    run = jax.jit(decay_gradient, static_argnums=(1, 2, 3))
    steps = 200 if small else 2000
    found: dict[str, Any] = {}
    cases: list[tuple[Method, Gradient]] = [
        (ReversibleHeun(), Reversible(tolerance=math.inf)),
        (PAIR, Reversible(segments=1, tolerance=math.inf)),
        (PAIR, Reversible(tolerance=math.inf)),
    ]
    for bits, dtype in ((64, jnp.float64), (32, jnp.float32)):
        for m, free in cases:
            assert isinstance(free, Reversible)
            guarded = Reversible(segments=free.segments)
            label = f"{name(m, guarded)}, float{bits}"
            found[label] = []
            for strength in (5.0, 10.0, 20.0):
                p = {"rate": jnp.asarray(1.0, dtype), "y0": jnp.linspace(-1, 1, 8).astype(dtype)}
                p["T"] = jnp.asarray(strength, dtype)
                error = relative(run(p, m, free, steps), run(p, m, Backprop(), steps))
                told = bool(np.isnan(np.asarray(run(p, m, guarded, steps)["rate"])))
                found[label].append({"contraction_time": strength, "error": error, "refused": told})
    head = ["method and mode", *(f"contraction · T = {s}" for s in (5, 10, 20))]
    body = [[k, *(f"{r['error']:.0e}" + (", NaN" if r["refused"] else "") for r in v)] for k, v in found.items()]
    return {"steps": steps, "rows": found, "table": table(head, body)}


def stiff(small: bool) -> dict[str, Any]:
    """The same with λh from .1 to 10, 64 steps: largest state at the end, and gradient error where that is bounded."""
    run = jax.jit(decay_gradient, static_argnums=(1, 2, 3))
    steps = 64
    rows: list[tuple[Method, Gradient]] = [
        (ReversibleHeun(), Reversible()),
        (PAIR, Reversible()),
        (PAIR, Reversible(segments=steps)),
        (Heun(), Checkpointed()),
        (DriftImplicitEuler(), Checkpointed()),
    ]
    strengths = (0.1, 1.0, 10.0) if small else (0.1, 0.3, 1.0, 3.0, 10.0)
    end = jax.jit(lambda p, m: _end(p, m, steps), static_argnums=1)
    found: dict[str, Any] = {}
    for m, g in rows:
        found[name(m, g)] = []
        for strength in strengths:
            p = {"rate": jnp.asarray(steps * strength), "y0": jnp.linspace(-1.0, 1.0, 8), "T": jnp.asarray(1.0)}
            mine, exact = run(p, m, g, steps), run(p, m, Backprop(), steps)
            # sin(1e20) is no number of float64: an error of its derivative would say nothing.
            largest = float(end(p, m))
            error = relative(mine, exact) if largest < 1e3 else None
            found[name(m, g)].append({"rate_h": strength, "largest": largest, "error": error})
    head = ["method and mode", *(f"λh = {s:g}" for s in strengths)]
    body = [[k, *(_bounded(r) for r in v)] for k, v in found.items()]
    return {"steps": steps, "rows": found, "table": table(head, body)}


def _bounded(row: dict[str, Any]) -> str:
    if row["error"] is None:
        return f"{row['largest']:.0e}, lost"
    return f"{row['largest']:.2f}; " + ("NaN" if math.isnan(row["error"]) else f"{row['error']:.0e}")


def _end(p: Any, method: Method, steps: int) -> jax.Array:
    process = decay(p, method)
    ts = jnp.array([0.0, 1.0])
    return jnp.abs(sde.simulate(process, p["y0"], ts, key=KEY, method=method, substeps=steps).ys[-1]).max()


# memory and time ------------------------------------------------------------------------------------------------------


def network_loss(p: Any, method: Method, gradient: Gradient, steps: int) -> jax.Array:
    """256 paths of 8 entries, two networks of width 64, diagonal noise; only the end is saved."""
    calculus = sde.Stratonovich() if sde.Stratonovich in method.calculus else sde.Ito()
    process = sde.SDE(
        lambda t, y, args: perceptron(p["f"], y, jnp.tanh),
        lambda t, y, args: 0.2 * perceptron(p["g"], y, jnp.tanh),
        sde.Diagonal(),
        calculus,
    )
    ts = jnp.array([0.0, 1.0])

    def one(y: jax.Array, key: jax.Array) -> jax.Array:
        return sde.simulate(process, y, ts, key=key, method=method, gradient=gradient, substeps=steps).ys[-1]

    return (jax.vmap(one)(p["y0"], jax.random.split(KEY, 256)) ** 2).sum()


def network() -> Any:
    one, two, three = jax.random.split(KEY, 3)
    sizes = (8, 64, 8)
    y0 = jax.random.normal(three, (256, 8), jnp.float32)
    return {"f": layers(one, sizes, jnp.float32), "g": layers(two, sizes, jnp.float32), "y0": y0}


MODES: list[tuple[Method, Gradient]] = [
    (EulerMaruyama(), Backprop()),
    (EulerMaruyama(), Checkpointed()),
    (EulerMaruyama(), Checkpointed(segments="sqrt")),
    (EulerMaruyama(), Checkpointed(segments=16)),
    (EulerMaruyama(), ContinuousAdjoint()),
    (Heun(), ContinuousAdjoint()),
    (ReversibleHeun(), Reversible()),
    (PAIR, Reversible()),
]


def memory(small: bool) -> dict[str, Any]:
    """Temporary bytes that XLA reserves; nothing is run."""
    grad, p = gradient_of(network_loss), network()
    sizes = (64, 1024) if small else (64, 4096, 65_536)
    found = {
        name(m, g): [grad.lower(p, m, g, n).compile().memory_analysis().temp_size_in_bytes for n in sizes]
        for m, g in MODES
    }
    head = ["method and mode", *(f"{n:,} steps" for n in sizes), "last / first"]
    body = [[k, *(f"{b / 1e6:,.2f} MB" for b in v), f"{v[-1] / v[0]:.3f}"] for k, v in found.items()]
    return {"steps": sizes, "rows": found, "table": table(head, body)}


def time(small: bool) -> dict[str, Any]:
    """100 steps; each method against its own plain reverse mode, in turn."""
    grad, p = gradient_of(network_loss), network()
    found: dict[str, Any] = {}
    groups: dict[Method, list[Gradient]] = {
        ReversibleHeun(): [Backprop(), Checkpointed(), Reversible()],
        PAIR: [Backprop(), Reversible()],
        Heun(): [Backprop(), Checkpointed(), ContinuousAdjoint()],
    }
    for m, modes in groups.items():
        calls = {name(m, g): lambda m=m, g=g: jax.block_until_ready(grad(p, m, g, 100)) for g in modes}
        times, _ = rounds(calls, 3 if small else 9, budget_s=4.0)
        found.update(against(times, name(m, modes[0])))
    head = ["method and mode", "ms", "ratio to plain reverse mode", "middle half"]
    body = [
        [k, f"{r['ms']:.1f}", f"{r['ratio']:.2f}", f"{r['ratio_low']:.2f} to {r['ratio_high']:.2f}"]
        for k, r in found.items()
    ]
    return {"rows": found, "table": table(head, body)}


PARTS: dict[str, tuple[str, Callable[[bool], dict[str, Any]], bool]] = {
    "exact": ("Relative L1 distance from plain reverse mode, general noise", exact, True),
    "order": ("Error against the derivative of the closed form (examples of Li et al. 2020)", order, True),
    "limits": ("Limits of reversibility: error without the guard; NaN where the guard speaks", limits, True),
    "stiff": ("Stiff decay: largest state after 64 steps; gradient error", stiff, True),
    "memory": ("Temporary memory of the compiled gradient, end only, 256 paths, float32", memory, False),
    "time": ("Time of the gradient, 100 steps, 256 paths, float32", time, False),
}


def main() -> None:
    """Run the parts that are asked for; the others keep their last result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a quick pass, not recorded")
    parser.add_argument("--part", nargs="*", default=list(PARTS), choices=list(PARTS))
    options = parser.parse_args()
    kept = RESULTS / "gradients.json"
    parts = {}
    if kept.is_file() and not options.small:
        parts = {k: v for k, v in json.loads(kept.read_text(encoding="utf-8"))["parts"].items() if k in PARTS}
    for part in options.part:
        title, run, double = PARTS[part]
        began = clock.perf_counter()
        with jax.enable_x64(double):
            found = run(options.small)
        found["seconds"] = round(clock.perf_counter() - began, 1)
        print(f"\n### {title}\n\n{found['table']}\n\n{found['seconds']} s", flush=True)
        parts[part] = found
        if not options.small:  # after every part: what is done stays, whatever ends the rest
            text = "\n\n".join(f"### {PARTS[k][0]}\n\n{parts[k]['table']}" for k in PARTS if k in parts)
            with contextlib.redirect_stdout(io.StringIO()):
                record("gradients", {"parts": parts}, text)


if __name__ == "__main__":
    main()

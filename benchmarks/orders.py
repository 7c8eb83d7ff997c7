"""Measured orders of every method on every kind of noise that it takes, beside the declared ones (THEORY 10, 11).

    python benchmarks/orders.py            # about ten minutes on one core; writes results/orders.json and .md
    python benchmarks/orders.py --small    # a few minutes: fewer paths, coarser steps; writes nothing
    python benchmarks/orders.py --only mc  # measures one part again

Strong: one fine path merged to coarser cells, float64. Weak: exact moments on affine problems, Fourier modes on a
circle, and one non-linear problem by Monte Carlo, where the solve and the closed form share their path and a slope is
fitted only to errors above five standard errors. Declared orders are lower bounds: a row passes when it measures no
less than declared - .1, and every declaration wants one problem where no more than declared + .1 is seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array
from record import RESULTS, record, table

from neuralsde import sde
from neuralsde.sde.exact import LiExample2
from neuralsde.sde.methods import (
    METHODS,
    ExponentialEuler,
    FullTruncationEuler,
    Method,
    MilsteinArea,
    ReversibleHeun,
    ShARK,
    TamedEuler,
)
from neuralsde.sde.methods.measure import (
    at_end,
    circle_errors,
    coarsen,
    draw_paths,
    moment_errors,
    slope,
    solve,
    strong_errors,
)
from neuralsde.sde.methods.problems import Y0, Problem, affine_problems, circle_problems, strong_problems

EXACT = 1e-11
Row = dict[str, Any]


def spellings(problem: Problem) -> list[tuple[Method, sde.SDE]]:
    """Every method that takes the problem, with the process in its calculus (Ito where it takes both)."""
    found = []
    for known in METHODS:
        if known is FullTruncationEuler and not problem.positive:
            continue
        method = ExponentialEuler((-0.9, -0.5)) if known is ExponentialEuler else known()
        process = problem.process.to(known.calculus[0]() if len(known.calculus) == 1 else sde.Ito())
        if method.takes(process.noise, process.calculus):
            found.append((method, process))
    return found


def row(kind: str, problem: str, method: Method, declared: float | None, h: Any, errors: Any) -> Row:
    exact = bool(np.max(errors) < EXACT)
    measured = None if exact else round(slope(h, errors), 3)
    low = exact or declared is None or (measured is not None and measured >= declared - 0.1)
    close = measured is not None and declared is not None and abs(measured - declared) <= 0.1
    name = type(method).__name__
    print(f"{kind:7s}{problem:22s}{name:20s} declared {declared} measured {measured}", flush=True)
    return {
        "kind": kind,
        "problem": problem,
        "method": name,
        "declared": declared,
        "measured": "exact" if exact else measured,
        "h": [float(x) for x in h],
        "errors": [float(x) for x in errors],
        "passes": bool(low),
        "saturates": close,
    }


def strong(small: bool, only: str | None = None) -> list[Row]:
    steps, paths = ((8, 16, 32, 64), 128) if small else ((16, 32, 64, 128), 500)
    rows = []
    for name, problem in strong_problems().items():
        if only not in (None, name):
            continue
        finest = steps[-1] if problem.truth else 16 * steps[-1]
        fine = draw_paths(jax.random.key(1), problem.process, (2,), finest, 1.0, paths)
        if problem.truth:
            truth = at_end(problem.truth, fine)
        else:
            best = ShARK() if problem.process.noise.depends == "additive" else MilsteinArea()
            truth = solve(best, problem.process, Y0, fine)
        levels = [coarsen(fine, finest // n) for n in steps]
        for method, process in spellings(problem):
            h, errors = strong_errors(method, process, Y0, levels, truth)
            rows.append(row("strong", name, method, method.strong_order(process.noise), h, errors))
    return rows


def weak() -> list[Row]:
    rows = []
    for name, problem in affine_problems().items():
        for method, process in spellings(problem):
            if isinstance(method, TamedEuler):
                continue  # its step is not affine
            h, errors = moment_errors(method, process, Y0)
            rows.append(row("weak", name, method, method.weak_order(process.noise), h, errors))
    for name, problem in circle_problems().items():
        for method, process in spellings(problem):
            if isinstance(method, ExponentialEuler | MilsteinArea | ReversibleHeun):
                continue  # a linear part is not periodic, an area wants a vector, a carry is more than the state
            h, errors = circle_errors(method, process)
            rows.append(row("weak", name, method, method.weak_order(process.noise), h, errors))
    return rows


def monte_carlo(small: bool) -> list[Row]:
    """E sin y and E cos y with solution and solve on the same paths, in chunks that fit into a cache."""
    chunks, steps = (8, (2, 4, 8)) if small else (100, (4, 8, 16))
    bounded, growth = LiExample2(0.4), sde.GBM(0.5, 0.3)
    rows = []
    for name, law, truth in (
        ("bounded", bounded, lambda y0, W: bounded.solution(y0, 1.0, W)),
        ("growth", growth, lambda y0, W: growth.solution(y0, 1.0, W)),
    ):
        for method, process in spellings(Problem(name, law.process(), None, positive=law is growth)):
            if isinstance(method, MilsteinArea) or (law is growth) != isinstance(method, FullTruncationEuler):
                continue
            if isinstance(method, ExponentialEuler):
                method = ExponentialEuler(-0.9)
            found = [_moments(method, process, truth, n, chunks) for n in steps]
            means = np.abs([mean for mean, _ in found])
            clear = means > 5 * np.asarray([error for _, error in found])
            declared = method.weak_order(process.noise)
            for j, what in enumerate(("E sin y", "E cos y")):
                keep = clear[:, j]
                if keep.sum() < 3:
                    print(f"mc     {name} {type(method).__name__} {what}: not resolved, {means[:, j]}", flush=True)
                    rows.append(_unresolved(f"{name}, {what}", method, declared, steps, means[:, j]))
                    continue
                h = 1.0 / np.asarray(steps)[keep]
                rows.append(row("mc", f"{name}, {what}", method, declared, h, means[keep, j]))
    return rows


def _unresolved(problem: str, method: Method, declared: float, steps: Any, errors: Any) -> Row:
    return {
        "kind": "mc",
        "problem": problem,
        "method": type(method).__name__,
        "declared": declared,
        "measured": "not resolved",
        "h": [1.0 / n for n in steps],
        "errors": [float(x) for x in errors],
        "passes": True,
        "saturates": False,
    }


@eqx.filter_jit
def _sums(method: Method, process: sde.SDE, truth: Callable[..., Array], n: int, chunks: int) -> Array:
    """(2, 2): sums over the paths of d and d², for d of sin y and of cos y; 10,000 paths a chunk."""
    size = 10_000
    y0 = jnp.asarray(1.0, jnp.float64)

    def one(key: Array) -> Array:
        path = sde.BrownianGrid(key, jnp.asarray([0.0, 1.0]), n)

        def step(carry: Any, i: Array) -> Any:
            inner, W = carry
            cell = path.cell(i, (), jnp.float64, method.needs)
            return (method.step(process, inner, cell, None), W + cell.W), None

        start = (method.init(process, jnp.zeros_like(y0), y0, None), jnp.zeros_like(y0))
        (end, W), _ = lax.scan(step, start, jnp.arange(n))
        found, exact = method.state(end), truth(y0, W)
        return jnp.stack([jnp.sin(found) - jnp.sin(exact), jnp.cos(found) - jnp.cos(exact)])

    def chunk(total: Array, i: Array) -> Any:
        d = jax.vmap(one)(jax.random.split(jax.random.fold_in(jax.random.key(n), i), size))
        return total + jnp.stack([d.sum(0), (d**2).sum(0)]), None

    return lax.scan(chunk, jnp.zeros((2, 2)), jnp.arange(chunks))[0] / (chunks * size)


def _moments(method: Method, process: sde.SDE, truth: Any, n: int, chunks: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of d, and their standard errors."""
    first, second = np.asarray(_sums(method, process, truth, n, chunks))
    return first, np.sqrt((second - first**2) / (10_000 * chunks))


def page(rows: list[Row]) -> str:
    """One table for strong and one for weak orders: a method a line, a problem a column."""
    parts = []
    titles = {
        "strong": "Strong orders",
        "weak": "Weak orders, without sampling noise",
        "mc": "Weak orders, Monte Carlo",
    }
    for kind, title in titles.items():
        chosen = [r for r in rows if r["kind"] == kind]
        problems = list(dict.fromkeys(r["problem"] for r in chosen))
        lines = []
        for method in dict.fromkeys(r["method"] for r in chosen):
            cells = {r["problem"]: r for r in chosen if r["method"] == method}
            lines.append([method, *(_entry(cells.get(p)) for p in problems)])
        parts += [f"**{title}**, measured (declared)", "", table(["", *problems], lines), ""]
    failed = [f"{r['method']} on {r['problem']} ({r['kind']})" for r in rows if not r["passes"]]
    loose = unsaturated(rows)
    parts.append("Below declared - .1: " + (", ".join(failed) or "none") + ".")
    parts.append("Declared orders that no problem shows to be sharp (± .1): " + (", ".join(loose) or "none") + ".")
    return "\n".join(parts)


def _entry(found: Row | None) -> str:
    if found is None:
        return ""
    measured = found["measured"]
    shown = measured if isinstance(measured, str) else f"{measured:.2f}"
    declared = found["declared"]
    return f"{shown} ({'none' if declared is None else f'{declared:g}'})" + ("" if found["passes"] else " **low**")


def unsaturated(rows: list[Row]) -> list[str]:
    """Declarations (method, strong or weak, order) without a problem that measures them within .1."""
    claims: dict[tuple[str, str, float], bool] = {}
    for r in rows:
        if r["declared"] is not None:
            claim = (r["method"], "strong" if r["kind"] == "strong" else "weak", r["declared"])
            claims[claim] = claims.get(claim, False) or r["saturates"]
    return [f"{method} {kind} {order:g}" for (method, kind, order), seen in claims.items() if not seen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a quick pass; prints, writes nothing")
    parser.add_argument("--only", choices=["strong", "weak", "mc"], help="measure one part again, keep the others")
    parser.add_argument("--problem", help="of the strong orders, measure this one again")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    only = "strong" if options.problem else options.only
    parts = {
        "strong": lambda: strong(options.small, options.problem),
        "weak": weak,
        "mc": lambda: monte_carlo(options.small),
    }
    rows = [r for name, part in parts.items() if only in (None, name) for r in part()]
    if options.small:
        print(page(rows))
        return
    if only:
        kept = json.loads((RESULTS / "orders.json").read_text())["rows"]
        fresh = {(r["kind"], r["problem"]) for r in rows}
        whole = {only} if not options.problem else set()
        rows = [r for r in kept if r["kind"] not in whole and (r["kind"], r["problem"]) not in fresh] + rows
    record("orders", {"rows": rows}, page(rows))


if __name__ == "__main__":
    main()

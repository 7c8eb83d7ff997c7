"""Samplers of diffusion models beside those of diffusers and azula: the same score, the same grid, the same starts.

    .venv-bench/bin/python benchmarks/samplers.py            # some minutes; writes results/samplers.json and .md
    .venv-bench/bin/python benchmarks/samplers.py --small    # the smallest case of each part; writes nothing

Error. The exact score of eight Gaussians, in PyTorch and in JAX, float64 starts, one grid of times: the distance of
both samplers' end points from the end of the exact flow at equal numbers of evaluations, and from each other.
diffusers' own grids are of 1,000 discrete levels; `peers/samplers_torch.py` says how its levels are made to be this
grid. Stochastic samplers get the same normals. "float32 tables" is diffusers as it is made; "float64 tables" has the
rounding of its tables taken away, so that what is left is the method.

Time. One network ε̂(x, log SNR) with the same weights, two hidden layers of 128, in 2 and in 64 dimensions, float32:
wall time of a whole draw of 1, 256 and 4,096 samples in 20 evaluations. Ours is `draw` as users call it, its grid
included, compiled before; and `draw` on a grid made once, as a loop would call it. The peers are their schedulers in
the loop of their documentation, under `torch.inference_mode`. All take turns.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `benchmarks` is a folder, not an installed package

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.peers.samplers_torch import AZULA, DIFFUSERS, MLP, PARTS, Grid, MixtureNoise
from benchmarks.record import against, record, rounds, table
from neuralsde.experiments.samplers import law
from neuralsde.experiments.samplers.measure import ends
from neuralsde.experiments.samplers.rows import Row
from neuralsde.noising import Predictor, Spacing
from neuralsde.sampling import DDIM, DDPM, DPMSolver, DPMSolverPP, EDMHeun, Sampler, UniPC, draw
from neuralsde.sde.brownian import normals

OURS: dict[str, tuple[Sampler, Spacing]] = {
    "DDIM": (DDIM(), "log-snr"),
    "DDPM ancestral": (DDPM(), "uniform"),
    "DPM-Solver-2": (DPMSolver(2), "log-snr"),
    "DPM-Solver-3": (DPMSolver(3), "log-snr"),
    "DPM-Solver++(2M)": (DPMSolverPP(), "log-snr"),
    "DPM-Solver++(2M), EDM": (DPMSolverPP(), "edm"),
    "SDE-DPM-Solver++(2M)": (DPMSolverPP(eta=1.0), "log-snr"),
    "UniPC": (UniPC(2), "log-snr"),
    "Heun": (EDMHeun(), "edm"),
}
NFE = (12, 24, 48, 96)
POINTS, TIMED_NFE, ASKED = 1_000, 20, 3
TIMED = ("DDIM", "DDPM ancestral", "DPM-Solver++(2M)", "UniPC")
DIMS, BATCHES, WIDTH = (2, 64), (1, 256, 4_096), 128


def grid_of(ts: Any) -> Grid:
    """With α and σ to the last digit, also where 1 - α² would lose them."""
    alpha, sigma = law.SCHEDULE.alpha(ts), law.SCHEDULE.sigma(ts)
    return Grid(*(np.array(part, np.float64) for part in (ts, alpha, sigma)))


def refined(ts: Any, parts: int) -> Any:
    """Every gap cut into equal parts of log SNR: a stage of ours is a level of theirs."""
    if parts == 1:
        return ts
    clock = np.asarray(law.SCHEDULE.log_snr(ts))
    cut = np.interp(np.arange((len(ts) - 1) * parts + 1) / parts, np.arange(len(ts)), clock)
    return law.SCHEDULE.time_at(jnp.asarray(cut)).at[::parts].set(ts)


# -- error -----------------------------------------------------------------------------------------------------------


def error_of(name: str, nfe: int, x: Any, wanted: np.ndarray) -> dict[str, Any]:
    """Median distances at so many evaluations: of each to the exact flow, and of the peers to ours."""
    sampler, spacing = OURS[name]
    ts = law.grid(sampler.steps_for(nfe), spacing)
    key, row = jax.random.key(1), Row(name, sampler, spacing)
    end, _ = ends(law.exact(), row, len(ts) - 1, x, key=key, longest=max(NFE), block=len(x))
    keys = jax.random.split(key, len(x))
    noise = None
    if sampler.stochastic:
        draws = jax.vmap(lambda i: jax.vmap(lambda key: normals(key, i, x.shape[1:], x.dtype))(keys))
        noise = torch.from_numpy(np.array(draws(jnp.arange(len(ts) - 1))))
    net, start = network(), torch.from_numpy(np.array(x))
    grid, found = grid_of(refined(ts, PARTS.get(name, 1))), {"steps": len(ts) - 1, "ours": off(end, wanted)}
    makes = {"diffusers, float32 tables": partial(DIFFUSERS[name].sampler, grid, net)}
    makes["diffusers, float64 tables"] = partial(DIFFUSERS[name].sampler, grid, net, exact_tables=True)
    if name in AZULA and noise is None:
        makes["azula"] = partial(AZULA[name], grid, net)
    for peer, make in makes.items():
        theirs = make()(start, *(() if noise is None else (noise,))).double().numpy()
        found[peer] = {"error": off(theirs, wanted), "from ours": off(theirs, end), "most": worst(theirs, end)}
    return found


def off(a: np.ndarray, b: np.ndarray) -> float:
    """Median distance."""
    return float(np.median(np.linalg.norm(a - b, axis=1)))


def worst(a: np.ndarray, b: np.ndarray) -> float:
    """Largest distance."""
    return float(np.linalg.norm(a - b, axis=1).max())


def network() -> MixtureNoise:
    """The exact ε̂ in PyTorch."""
    mixture = law.law()
    parts = (np.array(part, np.float64) for part in (mixture.means, mixture.weights))

    def kernel(t: float) -> tuple[float, float]:
        return float(law.SCHEDULE.alpha(t)), float(law.SCHEDULE.sigma(t))

    return MixtureNoise(*parts, sd=float(mixture.sds[0]), kernel=kernel)


def errors(names: tuple[str, ...], budgets: tuple[int, ...], points: int) -> dict[str, Any]:
    with jax.enable_x64(True):
        x = law.starts(points, key=jax.random.key(0))
        wanted = np.asarray(law.reference(x, 3_000))
        return {name: {nfe: error_of(name, nfe, x, wanted) for nfe in budgets} for name in names}


# -- time ------------------------------------------------------------------------------------------------------------


class Network(eqx.Module):
    """ε̂ from x and log SNR by two hidden layers."""

    layers: list[tuple[Any, Any]]

    def __call__(self, x: Any, t: Any) -> Any:
        y = jnp.concatenate([x, clock(t)[None].astype(x.dtype)])
        for W, b in self.layers[:-1]:
            y = jax.nn.silu(W @ y + b)
        W, b = self.layers[-1]
        return W @ y + b


def clock(t: Any) -> Any:
    """What the network sees of the time."""
    return 0.1 * law.SCHEDULE.log_snr(t)


def weights(d: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng, sizes = np.random.default_rng(d), (d + 1, WIDTH, WIDTH, d)
    return [
        ((rng.standard_normal((n, m)) / np.sqrt(m)).astype(np.float32), 0.1 * rng.standard_normal(n).astype(np.float32))
        for m, n in itertools.pairwise(sizes)
    ]


def calls(name: str, d: int, batch: int) -> dict[str, Callable[[], Any]]:
    """One whole draw by each, from the same starts; checked to be the same network, and where nothing is drawn the same
    end points.
    """
    sampler, spacing = OURS[name]
    layers = weights(d)
    predictor = Predictor(Network([(jnp.asarray(W), jnp.asarray(b)) for W, b in layers]), "noise", law.SCHEDULE)
    x = jax.random.normal(jax.random.key(2), (batch, d))
    ts = sampler.times(law.SCHEDULE, sampler.steps_for(TIMED_NFE), spacing)
    seen = {float(t): float(clock(t)) for t in np.asarray(ts, np.float64)}
    grid, start = grid_of(np.asarray(ts, np.float64)), torch.from_numpy(np.array(x))
    net = MLP(layers, seen.__getitem__)

    def mine() -> Any:
        key = jax.random.key(0)
        drawn = draw(predictor, (d,), batch, sampler=sampler, key=key, nfe=TIMED_NFE, x=x, spacing=spacing)
        return drawn.x.block_until_ready()

    def again() -> Any:
        key = jax.random.key(0)
        return draw(predictor, (d,), batch, sampler=sampler, key=key, ts=ts, x=x).x.block_until_ready()

    found: dict[str, Callable[[], Any]] = {"neuralsde": mine, "grid given": again}
    found["diffusers"] = partial(DIFFUSERS[name].sampler(grid, net), start)
    if name in AZULA:
        found["azula"] = partial(AZULA[name](grid, net), start)
    if not sampler.stochastic:
        apart = np.abs(np.asarray(found["diffusers"]()) - np.asarray(mine())).max()
        assert apart < 2e-2, f"{name} of diffusers ends {apart} from ours"
    return found


def times(
    names: tuple[str, ...], dims: tuple[int, ...], batches: tuple[int, ...], repeats: int
) -> Iterator[dict[str, Any]]:
    for d, batch, name in itertools.product(dims, batches, names):
        spent, _ = rounds(calls(name, d, batch), repeats, budget_s=1.5)
        yield {
            "dimension": d, "batch": batch, "sampler": name, "times": against(spent, "neuralsde"),
            "to_given": against(spent, "grid given")["diffusers"],
        }  # fmt: skip


# -- page ------------------------------------------------------------------------------------------------------------


def page(found: dict[str, Any]) -> str:
    return "\n\n".join([_head(found), "## Error at equal evaluations", _errors(found["errors"]), "## Time",
                        _times(found["times"])])  # fmt: skip


def _head(found: dict[str, Any]) -> str:
    to_draw = [row["times"]["diffusers"]["ratio"] for row in found["times"]]
    to_given = [row["to_given"]["ratio"] for row in found["times"]]
    names = [f"{row['sampler']} in {row['dimension']}-d at {row['batch']}" for row in found["times"]]
    told = []
    for what, ratios in (("`draw`", to_draw), ("`draw` on a grid made once", to_given)):
        slow = "".join(f"; {name}: {ratio:.1f}" for name, ratio in zip(names, ratios, strict=True) if ratio < ASKED)
        fast = sum(ratio >= ASKED for ratio in ratios)
        told.append(f"{what} is so in {fast} of {len(ratios)} cases, the median {np.median(ratios):.1f} times{slow}.")
    apart = max(
        row["diffusers, float64 tables"]["from ours"] / row["ours"]
        for by in found["errors"].values()
        for row in by.values()
    )
    return (
        "# Samplers beside diffusers and azula\n\n"
        f"Same score, same grid, same starts, one process on {found['cores']} core(s), {torch.get_num_threads()} "
        "PyTorch threads, float32 for the times. `peers/samplers_torch.py` says how diffusers' discrete levels are "
        "made to be the grid.\n\n"
        f"Asked: at least {ASKED} times as fast as diffusers for small networks. Measured: {' '.join(told)}\n\n"
        "Asked: equal error at equal evaluations. Measured: with float64 tables the end points of diffusers lie from "
        f"ours by at most {apart:.1g} of ours from the exact flow (median over points, worst sampler and budget)."
    )


def _errors(errors: dict[str, Any]) -> str:
    head = ["sampler", "NFE", "steps", "ours", "diffusers", "diffusers, float64 tables", "azula",
            "diffusers from ours", "float64 tables from ours", "azula from ours"]  # fmt: skip
    rows = []
    for name, by in errors.items():
        for nfe, row in by.items():
            peers = [row.get(peer) for peer in ("diffusers, float32 tables", "diffusers, float64 tables", "azula")]
            rows.append([
                name, str(nfe), str(row["steps"]), f"{row['ours']:.2e}",
                *(f"{peer['error']:.2e}" if peer else "" for peer in peers),
                *(f"{peer['from ours']:.1e} (at most {peer['most']:.1e})" if peer else "" for peer in peers),
            ])  # fmt: skip
    told = (
        "Median distance of the end points from those of the exact flow, and of the peers' from ours. Where noise is "
        "drawn (DDPM, SDE-DPM-Solver++) the distance from the flow is no error, and the distance from ours, on the "
        "same normals, is what counts. azula's second-order method in x_0 is another one than 2M, so its distance from "
        "ours is of the size of the error itself."
    )
    return told + "\n\n" + table(head, rows)


def _times(times: list[dict[str, Any]]) -> str:
    head = ["d", "batch", "sampler", "draw ms", "diffusers ms", f"diffusers / draw (asked >= {ASKED})",
            "draw on a given grid ms", "diffusers / that", "azula ms", "azula / draw"]  # fmt: skip
    rows = []
    for row in times:
        spent = row["times"]
        peer = spent.get("azula")
        rows.append([
            str(row["dimension"]), str(row["batch"]), row["sampler"], f"{spent['neuralsde']['ms']:.2f}",
            f"{spent['diffusers']['ms']:.2f}", _ratio(spent["diffusers"]), f"{spent['grid given']['ms']:.2f}",
            _ratio(row["to_given"]), *([f"{peer['ms']:.2f}", _ratio(peer)] if peer else ["", ""]),
        ])  # fmt: skip
    told = (
        f"A whole draw in {TIMED_NFE} evaluations of a network of 2 x {WIDTH}: medians over rounds in which all take "
        "turns; a ratio is that of the same round, median and middle half."
    )
    return told + "\n\n" + table(head, rows)


def _ratio(one: dict[str, float]) -> str:
    return f"**{one['ratio']:.1f}** ({one['ratio_low']:.1f}-{one['ratio_high']:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="rounds of each case")
    parser.add_argument("--small", action="store_true", help="the smallest case of each part; writes nothing")
    options = parser.parse_args()
    found: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "times": []}
    if options.small:
        names = ("DPM-Solver++(2M)", "SDE-DPM-Solver++(2M)")
        found["errors"] = errors(names, (12,), 50)
        found["times"] = list(times(names, (2,), (1,), 3))
        print(page(found))
        return
    found["errors"] = errors(tuple(OURS), NFE, POINTS)
    for case in times(TIMED, DIMS, BATCHES, options.repeats):
        found["times"].append(case)
        record("samplers", found, page(found))  # after every case: a stopped run leaves what it has


if __name__ == "__main__":
    main()

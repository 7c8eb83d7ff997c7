"""A plan of a policy: ours beside diffusers' schedulers that drive an equal network in PyTorch.

    taskset -c 0 .venv-bench/bin/python benchmarks/policies.py     # three minutes; writes results/policies.json and .md
    .venv-bench/bin/python benchmarks/policies.py --small          # a few calls of one case; writes nothing

One call at batch 1, from NumPy pixels to NumPy pixels, on one core: two observations of nine keypoints and the agent,
plans of eight actions of which four are executed, residual networks of width 256 with three blocks (the SDE has two,
flow and diffusion, and one evaluation is both). Weights are those before training: time does not depend on them. What a
policy is worth at each budget is the sweep's business (`neuralsde reproduce pusht`). All take turns, call by call.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `benchmarks` is a folder, not an installed package

import jax
import numpy as np
import torch

from benchmarks.peers.policy_torch import ChunkNet, Peer, schedulers
from benchmarks.record import record, table
from neuralsde.data.pusht import ACTIONS, features, normaliser
from neuralsde.experiments.pusht.lines import LINES, config
from neuralsde.robot.plan_law import Execution
from neuralsde.robot.policy import Policy, Setting, build
from neuralsde.robot.sde_plan import Facts

WIDTH, BLOCKS, N_OBS, HORIZON, EXECUTE = 256, 3, 2, 8, 4
PLANS = (4, 8, 16, 32, 100, 400)
"""Evaluations a plan."""
OURS = ("sde", "ddim", "ddpm", "flow-matching")
ASKED_MS = 1.0
TITLE = "A plan of a policy: ours beside diffusers' schedulers that drive an equal network in PyTorch."


def ours(line: str, evaluations: int) -> Callable[[np.ndarray], Any]:
    """`act` of an untrained policy."""
    told, kind = LINES[line], "keypoints"
    chosen = config(told.name, kind, n_obs=N_OBS, horizon=HORIZON, width=WIDTH, blocks=BLOCKS)
    size = features(kind)
    setting = Setting(size, 2, normaliser(kind), ACTIONS, Facts((0.1, 0.1), (0.1,) * (size + 2)))
    how = Execution(execute=EXECUTE, steps=evaluations / EXECUTE, sampler=told.sampler)
    policy = Policy(chosen, setting, build(chosen, setting, key=jax.random.key(0)), how)
    last, seeds = np.full((1, 2), 256, np.float32), np.zeros(1, np.uint32)
    return lambda histories: policy.act(histories, last, seeds)


def peer(name: str, evaluations: int) -> Callable[[np.ndarray], Any]:
    """The same of diffusers and PyTorch."""
    torch.manual_seed(0)
    net = ChunkNet(2 * HORIZON, N_OBS * features("keypoints"), WIDTH, BLOCKS)
    return Peer(net, schedulers()[name], evaluations, HORIZON, EXECUTE).act


def timed(evaluations: int, calls: int) -> dict[str, dict[str, float]]:
    """p50 and p99 in milliseconds of each, in turn."""
    cases = {f"ours, {LINES[line].title}": ours(line, evaluations) for line in OURS}
    cases |= {f"diffusers, {name}": peer(name, evaluations) for name in schedulers() if evaluations <= 100}
    rng = np.random.default_rng(0)
    spent: dict[str, list[float]] = {name: [] for name in cases}
    for k in range(calls + 10):
        histories = rng.uniform(20, 490, (1, N_OBS, features("keypoints"))).astype(np.float32)
        for name, call in cases.items():
            began = time.perf_counter()
            call(histories)
            if k >= 10:
                spent[name].append(1e3 * (time.perf_counter() - began))
    quantiles = {name: np.percentile(times, (50, 99)) for name, times in spent.items()}
    return {name: {"p50": round(float(a), 3), "p99": round(float(b), 3)} for name, (a, b) in quantiles.items()}


def page(found: dict[str, Any]) -> str:
    """As markdown."""
    head = ["evaluations a plan", "executed action", "method", "p50 ms", "p99 ms", "p50 of diffusers' DDIM / this"]
    rows = []
    for evaluations, cases in found["cases"].items():
        reference = cases.get("diffusers, DDIM")
        for name, got in cases.items():
            ratio = f"{reference['p50'] / got['p50']:.1f}" if reference else ""
            per = int(evaluations) / EXECUTE
            rows.append([evaluations, f"{per:g}", name, f"{got['p50']:.2f}", f"{got['p99']:.2f}", ratio])
    few = [cases[f"ours, {LINES['sde'].title}"]["p99"] for k, cases in found["cases"].items() if int(k) <= 2 * EXECUTE]
    told = (
        f"{TITLE}\n\nOne call at batch 1 on {found['cores']} core(s), NumPy to NumPy; written by "
        f"`benchmarks/policies.py`, {found['calls']} calls of each, in turn (a tenth of them from 100 evaluations on). "
        f"Asked: p99 below {ASKED_MS:g} ms for the SDE at 1 and 2 evaluations an executed action: measured "
        f"{' and '.join(f'{ms:.2f}' for ms in few)} ms."
    )
    return told + "\n\n" + table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--small", action="store_true", help="a few calls of one case; writes nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    calls = 5 if options.small else options.calls
    found: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "calls": calls, "cases": {}}
    for evaluations in PLANS[:1] if options.small else PLANS:
        found["cases"][str(evaluations)] = timed(evaluations, calls if evaluations < 100 else max(5, calls // 10))
    if options.small:
        print(page(found))
        return
    record("policies", found, page(found))


if __name__ == "__main__":
    main()

"""How long a policy takes to answer: NumPy to NumPy, one environment, as a control loop asks it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuralsde.robot.plan_law import Execution
from neuralsde.robot.policy import Policy
from neuralsde.robot.train import load_policy

_WARM = 30


@dataclass(frozen=True)
class Latency:
    """p50, p99: milliseconds of one call of `act` at batch 1; calls: how many were timed; cores: that it could use."""

    p50: float
    p99: float
    calls: int
    cores: int


def latency(policy: Policy, calls: int = 1_000, *, seed: int = 0) -> Latency:
    """Timed calls one after the other, each with a history and a seed of its own, after the program is compiled."""
    rng, shape = np.random.default_rng(seed), policy.setting.shape(policy.config)
    raw = rng.uniform(-0.9, 0.9, (_WARM + calls, 1, shape.n_obs, shape.observation))
    histories = policy.setting.observations.decode(raw).astype(np.float32)
    last = policy.setting.actions.decode(rng.uniform(-0.9, 0.9, (_WARM + calls, 1, shape.action))).astype(np.float32)
    seeds, spent = np.arange(_WARM + calls, dtype=np.uint32), np.empty(_WARM + calls)
    for k in range(_WARM + calls):
        began = time.perf_counter()
        policy.act(histories[k], last[k], seeds[k : k + 1])
        spent[k] = time.perf_counter() - began
    p50, p99 = 1e3 * np.percentile(spent[_WARM:], (50, 99))
    return Latency(float(p50), float(p99), calls, _cores())


def latencies_on_one_core(asked: Sequence[tuple[Path, Execution, int]]) -> list[Latency]:
    """`latency` of policies in run folders, asked like this, so many calls each: in a process of its own
    that is held to one core where the system can.

    A script that calls this needs the usual `if __name__ == "__main__"`.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_pin) as pool:
        return pool.submit(_timed, list(asked)).result()


def _timed(asked: list[tuple[Path, Execution, int]]) -> list[Latency]:
    return [latency(load_policy(folder, how), calls) for folder, how, calls in asked]


def _pin() -> None:
    """To the last core; before XLA makes its threads, which inherit it."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

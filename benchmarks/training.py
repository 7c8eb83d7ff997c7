"""One step of `fit` beside the step that one writes by hand, in JAX and in eager PyTorch: same model, same batch.

    .venv-bench/bin/python benchmarks/training.py            # a few minutes; writes results/training.json and .md
    .venv-bench/bin/python benchmarks/training.py --small    # the smallest problem, briefly; writes nothing

`fit`'s step is timed in the real loop (`train`), with all that it does besides: windows cut from the table, draws of
rows, averaged weights, tallies of the metrics, checks for numbers that are not finite, lines in metrics.jsonl, Ctrl-C
answered four times a second. What is done every 250 steps whatever the loop is (validation on up to 20,000 transitions,
remarks on the diffusion) is timed apart; checkpoints (one in ten seconds) are left out. The others take their turns
inside the loop's reporter, a block of steps each, so whatever else the machine does hits all alike. The loop by hand
has two forms: one cuts windows from the table in the step, as the library does; the other, and PyTorch, made all inputs
of the networks before the first step, which takes several times the memory of the table. Before a time counts, all must
have the same number of weights and the same losses, step for step, from the same weights.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `benchmarks` is a folder, not an installed package

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.peers import training_jax, training_torch
from benchmarks.record import against, record, table
from neuralsde.data import from_arrays
from neuralsde.models.sequence_sde import Config, SequenceSDE
from neuralsde.runs.fit import problem_of
from neuralsde.runs.plan import prepare
from neuralsde.train.loop import train
from neuralsde.train.problem import Problem, TrainConfig
from neuralsde.train.step import initial_state, make_advance

OURS, HAND, CUT = "neuralsde, its loop", "JAX by hand, scan", "JAX by hand, scan, windows cut"
PYTHON, TORCH = "JAX by hand, a call a step", "PyTorch, eager"
BLOCK, TORCH_BLOCK, CHECKED = 250, 50, 100
SERIES, ROWS = 40, 500


@dataclass(frozen=True)
class Size:
    """d columns, two networks of `depth` layers of `width`, so many transitions a batch."""

    d: int
    width: int
    depth: int
    batch: int

    @property
    def name(self) -> str:
        return f"{self.d} columns, {self.depth} x {self.width}, batch {self.batch}"

    def problem(self, config: TrainConfig) -> Problem:
        """A table of coupled, irregular series, and a model with no weight at zero."""
        rng = np.random.default_rng(0)
        gaps = rng.uniform(0.5, 1.5, (SERIES, ROWS, 1))
        mix = np.eye(self.d) + 0.3 * rng.standard_normal((self.d, self.d)) / np.sqrt(self.d)
        x = np.zeros((SERIES, ROWS, self.d))
        for k in range(1, ROWS):
            x[:, k] = np.exp(-0.1 * gaps[:, k]) * x[:, k - 1] + rng.standard_normal((SERIES, self.d)) @ mix
        data = from_arrays(list(np.cumsum(gaps[..., 0], 1)), list(x))
        model = Config(width=self.width, depth=self.depth)
        problem = problem_of(prepare(data, model, replace(config, batch_size=self.batch), None))
        params, rest = eqx.partition(problem.model, eqx.is_inexact_array)
        moved = jax.tree.map(lambda p: p + jnp.asarray(0.03 * rng.standard_normal(p.shape), p.dtype), params)
        start: SequenceSDE = eqx.combine(moved, rest)
        walk, bounds = problem.model.walk, problem.model.bounds
        return replace(problem, model=eqx.tree_at(lambda m: (m.walk, m.bounds), start, (walk, bounds)))


SIZES = (Size(4, 32, 1, 128), Size(16, 32, 1, 128), Size(4, 64, 2, 512), Size(16, 64, 2, 512))


# -- the same model, by hand -------------------------------------------------------------------------------------------


def weights(model: SequenceSDE) -> dict[str, Any]:
    """Plain arrays."""

    def of(net: Any) -> dict[str, Any]:
        hidden = [(layer.weight, layer.bias) for layer in net.hidden]
        return {"A": net.linear.weight, "b": net.linear.bias, "hidden": hidden, "out": net.out.weight}

    return {"flow": of(model.flow_net), "diffusion": of(model.diffusion_net)}


def cut(model: SequenceSDE, data: Any, rows: Any) -> training_jax.Data:
    """The networks' inputs at some of the training rows, from the table."""
    windows, start = data
    found = jax.vmap(lambda row: windows.transition(row, model.config.past))(start[rows])
    x = jax.vmap(model.read)(found.window)
    return training_jax.Data(x, found.window.value[:, -1], found.target, found.dt[:, None], jnp.asarray(model.walk))


def by_hand(problem: Problem, config: TrainConfig) -> tuple[training_jax.Loop, training_jax.Loop]:
    """With all inputs made once, before the first step; and with those of a batch made in the step."""
    model, count = problem.model, len(problem.data[1])
    prepared = cut(model, problem.data, jnp.arange(count))
    start = weights(model), problem.aux.variance
    return (
        training_jax.Loop(*start, prepared, training_jax.ready, config, count),
        training_jax.Loop(*start, problem.data, partial(cut, model), config, count),
    )


def count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def check(problem: Problem, config: TrainConfig, hand: training_jax.Loop, eager: training_torch.Loop) -> dict[str, Any]:
    """Number of weights, and the losses of the first steps; raises when they are not the same for all."""
    constants = problem.model.walk.size + problem.model.bounds.size
    sizes = {OURS: count(problem.split()[0]) - constants, HAND: count(hand.first[0]), TORCH: eager.parameters}
    assert len(set(sizes.values())) == 1, f"not the same number of weights: {sizes}"
    whole = replace(config, log_every=config.steps)  # a tally of all steps
    advance, state, found = make_advance(problem, whole), initial_state(problem, whole), []
    total = 0.0
    for step in range(1, CHECKED + 1):
        state = advance(state, problem.data, step).state
        found.append(float(state.tally.sums["loss"]) - total)
        total = float(state.tally.sums["loss"])
    rows = [np.asarray(hand.rows(i)) for i in range(CHECKED)]
    losses = {OURS: found, HAND: hand.scanned(CHECKED), TORCH: eager.stepped(CHECKED, rows)}
    hand.reset()
    assert losses[HAND] == hand.stepped(CHECKED) or np.allclose(losses[HAND], hand.stepped(CHECKED), rtol=1e-4)
    hand.reset()
    for name in (OURS, TORCH):
        # the first is the same formula, the others are also the same gradient, clipping, Adam and learning rate
        assert np.isclose(losses[name][0], losses[HAND][0], rtol=1e-5), (name, losses[name][0], losses[HAND][0])
        off = np.abs(np.array(losses[name]) - losses[HAND]).max()
        assert off < 2e-3, f"{name} leaves the path of the others by {off}"
    shown = {name: [path[0], path[-1]] for name, path in losses.items()}
    return {"parameters": sizes[OURS], "losses": shown, "path": losses[HAND]}


# -- the clock ---------------------------------------------------------------------------------------------------------


@dataclass
class Turns:
    """A reporter that times blocks of the loop it is told of, and lets the others have their turn in between."""

    others: Mapping[str, Callable[[], float]]
    times: dict[str, list[float]] = field(default_factory=dict)
    apart: list[float] = field(default_factory=list)
    spent: float = 0.0
    began: float | None = None

    def start(self, done: int, total: int) -> None: ...
    def note(self, text: str) -> None: ...
    def finish(self) -> None: ...

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """After every event of the loop."""
        now = time.perf_counter()
        if step % BLOCK:
            return
        if self.began is not None:  # the first block compiles
            self.times.setdefault(OURS, []).append(1e3 * (now - self.began - self.spent) / BLOCK)
            self.apart.append(1e3 * self.spent / BLOCK)
            for name, turn in self.others.items():
                self.times.setdefault(name, []).append(turn())
        self.spent, self.began = 0.0, time.perf_counter()

    def timed(self, part: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same call, whose time is counted apart."""

        def call(model: Any) -> Any:
            began = time.perf_counter()
            found = part(model)
            self.spent += time.perf_counter() - began
            return found

        return call


def turn(call: Callable[[int], Any], steps: int) -> Callable[[], float]:
    """Milliseconds a step, of a block."""

    def one() -> float:
        began = time.perf_counter()
        call(steps)
        return 1e3 * (time.perf_counter() - began) / steps

    return one


def measure(size: Size, blocks: int) -> dict[str, Any]:
    """All on one problem, in turns."""
    config = TrainConfig(
        steps=BLOCK * (blocks + 1), batch_size=size.batch, validate_every=BLOCK, save_seconds=float("inf")
    )
    problem = size.problem(config)
    hand, hand_cut = by_hand(problem, config)
    schedule = training_jax.rate(config.steps, config.warmup_steps)
    rates = np.asarray(schedule(jnp.arange(config.steps))).tolist()
    eager = training_torch.Loop(weights(problem.model), problem.aux.variance, hand.data, size.batch, rates.__getitem__)
    checked = check(problem, config, hand, eager)
    assert np.allclose(hand_cut.scanned(BLOCK)[:CHECKED], checked.pop("path"), atol=2e-3)
    turns = Turns({
        HAND: turn(hand.scanned, BLOCK), CUT: turn(hand_cut.scanned, BLOCK), PYTHON: turn(hand.stepped, BLOCK),
        TORCH: turn(eager.stepped, TORCH_BLOCK),
    })  # fmt: skip
    problem = replace(problem, validate=turns.timed(problem.validate), remarks=turns.timed(problem.remarks or list))
    with tempfile.TemporaryDirectory() as folder:
        train(problem, config, Path(folder), progress=turns)
    rows = against(turns.times, HAND)
    same = against(turns.times, CUT)[OURS]
    torch_share = sorted(a / b for a, b in zip(turns.times[TORCH], turns.times[OURS], strict=True))
    return {
        **checked,
        "steps": rows,
        "to_cut": same,
        "validation_ms": round(sorted(turns.apart)[len(turns.apart) // 2], 4),
        "torch_to_ours": round(torch_share[len(torch_share) // 2], 2),
    }


def page(found: dict[str, Any], head: str) -> str:
    rows = []
    for name, one in found.items():
        step = one["steps"]
        ratios = [
            f"**{to['ratio']:.2f}** ({to['ratio_low']:.2f}-{to['ratio_high']:.2f})"
            for to in (one["to_cut"], step[OURS])
        ]
        rows.append([
            name, str(one["parameters"]), f"{step[OURS]['ms']:.3f}", f"{step[CUT]['ms']:.3f}", ratios[0],
            f"{step[HAND]['ms']:.3f}", ratios[1], f"{step[PYTHON]['ms']:.3f}", f"{step[TORCH]['ms']:.3f}",
            f"{one['torch_to_ours']:.1f}", f"{one['validation_ms']:.3f}",
        ])  # fmt: skip
    titles = ["", "weights", "neuralsde ms", "by hand, windows cut in the step, ms", "ratio (asked <= 1.15)"]
    titles += [
        "by hand, all inputs made before, ms",
        "ratio",
        "the same, a call a step, ms",
        "PyTorch, inputs made before, ms",
    ]
    titles += ["PyTorch / neuralsde", "validation, ms a step"]
    return head + "\n\n" + table(titles, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=15, help="blocks of 250 steps (PyTorch: 50)")
    parser.add_argument("--small", action="store_true", help="the first problem, three blocks; writes nothing")
    options = parser.parse_args()
    sizes, blocks = (SIZES[:1], 3) if options.small else (SIZES, options.blocks)
    head = (
        "Milliseconds a training step: medians over blocks that take turns in one process; a ratio is that to the "
        "hand-written scan on its left in the same round, median and middle half. "
        f"{jax.devices()[0].device_kind}, "
        f"{len(cores())} cores, {torch.get_num_threads()} PyTorch threads, float32."
    )
    found: dict[str, Any] = {}
    for size in sizes:
        found[size.name] = measure(size, blocks)
        if options.small:
            print(page(found, head))
        else:
            record("training", {"cores": len(cores()), "problems": found}, page(found, head))


def cores() -> set[int]:
    """The cores that this process may use."""
    return os.sched_getaffinity(0)


if __name__ == "__main__":
    main()

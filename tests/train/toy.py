"""A toy problem, and a server of real training processes that get killed.

The problem: y = sin(2 x1) cos(x2) + noise, a small network, loss with noise of its own and a running statistic.
As a script: reads one JSON request a line, forks a process that trains in the given folder, and prints its exit status.
The imports are made once and JAX's backend is not started before the fork, so a process costs tenths of a second.

A request `{"folder": ..., "kill": {"event": "os.rename", "of": "tmp$", "count": 3}}` kills the process with SIGKILL at
the third audit event of that name (https://docs.python.org/3/library/audit_events.html) about a path that matches: so
it dies in the middle of a save. With `"tear": true` it leaves half a line in metrics.jsonl first.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from neuralsde.errors import NeuralSDEError
from neuralsde.train.loop import Result, train
from neuralsde.train.problem import Problem, TrainConfig
from neuralsde.train.weights import save_model

CONFIG = TrainConfig(
    steps=400,
    batch_size=64,
    learning_rate=1e-2,
    ema=0.98,
    weight_decay=1e-3,
    log_every=20,
    validate_every=40,
    save_seconds=0.0,
)


def problem(seed: int = 0, batch_size: int = CONFIG.batch_size) -> Problem:
    """The toy problem; `seed` makes data and first weights."""
    numbers = np.random.default_rng(seed)
    x = numbers.normal(size=(500, 2)).astype(np.float32)
    y = (np.sin(2 * x[:, 0]) * np.cos(x[:, 1]) + 0.1 * numbers.normal(size=500)).astype(np.float32)
    held_out = (x[:100], y[:100])

    def sample_batch(data: Any, key: Any) -> Any:
        rows = jax.random.randint(key, (batch_size,), 0, data[0].shape[0])
        return data[0][rows], data[1][rows]

    def loss(model: Any, batch: Any, aux: Any, *, key: Any) -> Any:
        x, y = batch
        error = jax.vmap(model)(x + 0.05 * jax.random.normal(key, x.shape))[:, 0] - y
        mse = jnp.mean(error**2)
        scale = 0.9 * aux["scale"] + 0.1 * jax.lax.stop_gradient(jnp.sqrt(mse))
        return mse / (0.1 + aux["scale"]), ({"mse": mse}, {"scale": scale})

    @eqx.filter_jit
    def validate(model: Any) -> Any:
        return jnp.mean((jax.vmap(model)(held_out[0])[:, 0] - held_out[1]) ** 2)

    # first weights from numpy: JAX's would cost each of the processes half a second of tracing
    model = eqx.filter_eval_shape(lambda: eqx.nn.MLP(2, 1, 16, 2, key=jax.random.key(0)))
    model = jax.tree.map(
        lambda leaf: jnp.asarray(numbers.normal(size=leaf.shape, scale=0.3), leaf.dtype) if _is_slot(leaf) else leaf,
        model,
    )
    return Problem(model, loss, sample_batch, (x[100:], y[100:]), validate, aux={"scale": 1.0})


def _is_slot(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def keep(result: Result, path: Path) -> None:
    """Everything that must be equal bit for bit, in one file."""
    save_model(path, {"model": result.model, "state": result.state, "best": np.asarray(result.best_step)})


def _run(request: dict[str, Any]) -> int:
    folder = Path(request["folder"])
    if "kill" in request:
        _die_at(folder, request.get("tear", False), **request["kill"])
    try:
        config = dataclasses.replace(CONFIG, save_seconds=request.get("save_seconds", 0.0))
        result = train(problem(), config, folder, resume=True)
    except NeuralSDEError as error:
        (folder / "message.txt").write_text(str(error))
        return error.exit_status
    keep(result, folder / "end.safetensors")
    (folder / "message.txt").write_text("nothing to do" if result.nothing_to_do else "done")
    return 0


def _die_at(folder: Path, tear: bool, event: str, of: str, count: int) -> None:
    left = count

    def hook(name: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if name != event or not re.search(of, str(args[0])):
            return
        left -= 1
        if left == 0:
            if tear:
                descriptor = os.open(folder / "metrics.jsonl", os.O_WRONLY | os.O_APPEND)
                os.write(descriptor, b'{"step": 99, "lo')
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _serve() -> None:
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            os._exit(_run(json.loads(line)))
        _answer(process)
        _answer(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve()

"""The training step of a sequence SDE as one would write it by hand in JAX for one set of options.

A step draws rows, takes the gradient and calls optax; no weights are averaged, no metrics tallied, no numbers checked
for being finite. The inputs of the networks lie ready in one array (several times the size of the table)
or are cut from the table as the library does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

SIGMA_RANGE, DECAY = 7.0, 0.99
CLIP, RATE, FINAL = 1.0, 1e-3, 0.01


class Data(NamedTuple):
    """Inputs (n, features), where it starts and ends (n, d), and how long it takes (n, 1); walk (d,)."""

    x: Any
    start: Any
    end: Any
    dt: Any
    walk: Any


def network(p: Any, x: Any) -> Any:
    y = x @ p["A"].T + p["b"]
    for W, b in p["hidden"]:
        x = jax.nn.silu(x @ W.T + b)
    return y + x @ p["out"].T


def loss(params: Any, variance: Any, batch: Data) -> tuple[Any, Any]:
    """Decoupled: the flow's squared residual by its running variance, the nats with the flow held."""
    move, dt = batch.end - batch.start, batch.dt
    flow = network(params["flow"], batch.x)
    squared = (move / dt - flow) ** 2 * dt
    sd = batch.walk * jnp.exp(SIGMA_RANGE * jnp.tanh(network(params["diffusion"], batch.x) / SIGMA_RANGE))
    scale = sd * jnp.sqrt(dt)
    left = (move - jax.lax.stop_gradient(flow) * dt) / scale
    nats = 0.5 * left**2 + jnp.log(scale) + 0.5 * jnp.log(2 * jnp.pi)
    after = DECAY * variance + (1 - DECAY) * jax.lax.stop_gradient(squared.mean(0))
    return (0.5 * squared / variance + nats).mean(), after


def ready(data: Data, rows: Any) -> Data:
    """Rows of what was prepared."""
    return Data(*(part[rows] for part in data[:-1]), walk=data.walk)


def rate(steps: int, warmup: int) -> Callable[[Any], Any]:
    def at(i: Any) -> Any:
        fall = FINAL + (1 - FINAL) * 0.5 * (1 + jnp.cos(jnp.pi * (i - warmup) / (steps - warmup)))
        return RATE * jnp.where(i < warmup, (i + 1) / warmup, fall)

    return at


class Loop:
    """`scanned`: that many steps in one program. `stepped`: one program a step, called from Python."""

    def __init__(
        self, params: Any, variance: Any, data: Any, of_rows: Callable[[Any, Any], Data], config: Any, rows: int
    ) -> None:
        self.optimiser = optax.chain(
            optax.clip_by_global_norm(CLIP), optax.adam(rate(config.steps, config.warmup_steps))
        )
        self.data, self.of_rows, self.key = data, of_rows, jax.random.key(config.seed)
        self.batch, self.count = config.batch_size, rows
        self.first = (params, self.optimiser.init(params), variance, jnp.zeros((), jnp.int32))
        self.reset()

    def reset(self) -> None:
        """Back to the start."""
        self.carry = jax.tree.map(jnp.copy, self.first)

    def rows(self, i: Any) -> Any:
        """The batch of step i: the library's rows."""
        key = jax.random.split(jax.random.fold_in(self.key, i))[0]
        return jax.random.randint(key, (self.batch,), 0, self.count)

    def _step(self, carry: Any, data: Any) -> tuple[Any, Any]:
        params, state, variance, i = carry
        batch = self.of_rows(data, self.rows(i))
        (value, variance), slope = jax.value_and_grad(loss, has_aux=True)(params, variance, batch)
        change, state = self.optimiser.update(slope, state)
        return (optax.apply_updates(params, change), state, variance, i + 1), value

    @partial(jax.jit, static_argnums=(0, 3), donate_argnums=1)
    def _scanned(self, carry: Any, data: Any, count: int) -> tuple[Any, Any]:
        return jax.lax.scan(lambda c, _: self._step(c, data), carry, None, length=count)

    @partial(jax.jit, static_argnums=0, donate_argnums=1)
    def _single(self, carry: Any, data: Any) -> tuple[Any, Any]:
        return self._step(carry, data)

    def scanned(self, count: int, each: int = 50) -> list[float]:
        """Losses of `count` more steps, `each` of them a program."""
        found = []
        for _ in range(count // each):
            self.carry, losses = self._scanned(self.carry, self.data, each)
            found += losses.tolist()  # waits, and is what a log line would need
        return found

    def stepped(self, count: int, each: int = 50) -> list[float]:
        """Losses, fetched every `each` steps, so that the program runs ahead of Python in between."""
        found, pending = [], []
        for _ in range(count):
            self.carry, value = self._single(self.carry, self.data)
            pending.append(value)
            if len(pending) == each:
                found += [float(v) for v in jax.device_get(pending)]
                pending = []
        return found + [float(v) for v in jax.device_get(pending)]

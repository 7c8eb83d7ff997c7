"""One optimiser step, and many of them inside one compiled program.

Step i (from 0): k = fold_in(key(seed), i), (k_batch, k_loss) = split(k), batch = sample_batch(data, k_batch),
gradient of loss(., batch, aux, key=k_loss), AdamW (Loshchilov & Hutter 2019) with rate r(i), then
ema <- d(i) ema + (1 - d(i)) params.   The steps run in a while loop whose bounds are traced: how many steps one call
makes never changes the program, so never the bits. The rates, the seed and the number of steps are inputs of the
program too: another `--steps` or `--seed` reuses the compiled one. The loop leaves at the first loss or gradient that
is not finite. Sums of metrics that are due for a line of the log are set aside in the program, so that a line costs no
call: for small networks a call costs as much as some ten steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from neuralsde.train.problem import Problem, TrainConfig
from neuralsde.train.state import PyTree, Tally, TrainState, copied

LINES = 64
"""Most lines of the log that one call may come by."""
_OWN_METRICS = ("loss", "grad_norm", "learning_rate")


class Lines(NamedTuple):
    """Sums set aside: `rows` hold those of each metric, by the order of names, and their count; `used` of them."""

    rows: Float[Array, "lines metrics+1"]
    used: Int[Array, ""]

    def means(self, names: Sequence[str]) -> list[dict[str, float]]:
        """Of each line, by name."""
        done = np.asarray(self.rows, np.float64)[: int(self.used)]
        return [dict(zip(sorted(names), (row[:-1] / max(row[-1], 1.0)).tolist(), strict=True)) for row in done]


class Advanced(NamedTuple):
    """What a call came to."""

    state: TrainState
    lines: Lines


Advance = Callable[[TrainState, PyTree, int], Advanced]
"""`advance(state, data, stop)`: the state after `stop` steps, and what was due on the way; the input is given away."""


class Hyper(NamedTuple):
    """The numbers of a `TrainConfig` that the compiled step reads, as traced scalars."""

    key: Key[Array, ""]
    last: Int[Array, ""]
    log_every: Int[Array, ""]
    steps: Float[Array, ""]
    warmup: Float[Array, ""]
    learning_rate: Float[Array, ""]
    final_rate: Float[Array, ""]
    weight_decay: Float[Array, ""]
    clip: Float[Array, ""]
    ema: Float[Array, ""]

    @staticmethod
    def of(config: TrainConfig) -> Hyper:
        """The traced numbers of `config`; no clipping is an infinite norm."""
        numbers = (
            config.steps,
            config.warmup_steps,
            config.learning_rate,
            config.final_rate,
            config.weight_decay,
            math.inf if config.clip is None else config.clip,
            config.ema,
        )
        whole = (jnp.asarray(number, jnp.int32) for number in (config.steps, config.log_every))
        return Hyper(jax.random.key(config.seed), *whole, *(jnp.asarray(number, jnp.float32) for number in numbers))


def learning_rate(step: Int[Array, ""], hyper: Hyper) -> Float[Array, ""]:
    """r(i) = peak min(1, (i+1)/warmup) during warm-up, then peak (f + (1-f) (1 + cos(pi x))/2), x from 0 to 1."""
    i = step.astype(jnp.float32)
    rise = jnp.minimum(1.0, (i + 1) / jnp.maximum(hyper.warmup, 1.0))
    x = jnp.clip((i - hyper.warmup) / jnp.maximum(hyper.steps - hyper.warmup, 1.0), 0.0, 1.0)
    fall = hyper.final_rate + (1 - hyper.final_rate) * 0.5 * (1 + jnp.cos(jnp.pi * x))
    return hyper.learning_rate * jnp.where(i < hyper.warmup, rise, fall)


def ema_decay(step: Int[Array, ""], ema: Float[Array, ""]) -> Float[Array, ""]:
    """d(i) = min(ema, (1+i)/(10+i)).

    The window of the average grows with the run (about i/9 steps) until it reaches 1/(1-ema). What is left of the
    random start after i steps is 1/C(i+9, 9), 1e-7 after twenty, so no division by 1 - ema^i is needed.
    """
    i = step.astype(jnp.float32)
    return jnp.minimum(ema, (1 + i) / (10 + i))


def optimiser(hyper: Hyper) -> optax.GradientTransformation:
    """AdamW's direction; the learning rate is applied by the step."""
    return optax.chain(
        optax.scale_by_adam(),
        optax.add_decayed_weights(hyper.weight_decay, mask=_matrices),
    )


def _matrices(params: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def initial_state(problem: Problem, config: TrainConfig) -> TrainState:
    """The state before the first step, in buffers of its own."""
    params, hyper = problem.split()[0], Hyper.of(config)

    @jax.jit  # one program in place of a small one for every array
    def build(params: PyTree, aux: PyTree, data: PyTree) -> TrainState:
        aux = jax.tree.map(lambda leaf: jnp.array(leaf, leaf.dtype), aux)  # a number loses its weak type
        _, (metrics, _) = jax.eval_shape(problem.objective, params, aux, data, hyper.key)  # only their names are used
        zero, count = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
        return TrainState(
            step=count,
            params=copied(params),
            opt_state=optimiser(hyper).init(params),
            ema=copied(params),
            aux=aux,
            tally=Tally(dict.fromkeys((*metrics, *_OWN_METRICS), zero), count),
        )

    return build(params, problem.aux, problem.data)


def make_advance(problem: Problem, config: TrainConfig) -> Advance:
    """The compiled loop of steps for this problem, with the numbers of `config`."""
    compiled, hyper = compiled_steps(problem), Hyper.of(config)

    def advance(state: TrainState, data: PyTree, stop: int) -> Advanced:
        return compiled(state, data, hyper, jnp.asarray(stop, jnp.int32))

    return advance


def compiled_steps(problem: Problem) -> Callable[[TrainState, PyTree, Hyper, Int[Array, ""]], Advanced]:
    """One program for every `TrainConfig`; the state is given away."""

    def steps(state: TrainState, data: PyTree, hyper: Hyper, stop: Int[Array, ""]) -> Advanced:
        def unfinished(carry: tuple[Advanced, Array]) -> Array:
            return (carry[0].state.step < stop) & carry[1]

        def body(carry: tuple[Advanced, Array]) -> tuple[Advanced, Array]:
            state, finite = _step(problem, hyper, data, carry[0].state)
            return _set_aside(state, carry[0].lines, hyper, finite), finite

        rows = jnp.zeros((LINES + 1, len(state.tally.sums) + 1), jnp.float32)
        begin = Advanced(state, Lines(rows, jnp.zeros((), jnp.int32)))
        return jax.lax.while_loop(unfinished, body, (begin, jnp.asarray(True)))[0]

    return jax.jit(steps, donate_argnums=0)


def _step(problem: Problem, hyper: Hyper, data: PyTree, state: TrainState) -> tuple[TrainState, Array]:
    """The state after one more step, and whether the loss and the gradient were finite."""
    key = jax.random.fold_in(hyper.key, state.step)
    evaluate = jax.value_and_grad(problem.objective, has_aux=True)
    (value, (metrics, aux)), gradient = evaluate(state.params, state.aux, data, key)
    norm = optax.tree.norm(gradient)
    gradient = jax.tree.map(lambda g: g * jnp.minimum(1.0, hyper.clip / norm).astype(g.dtype), gradient)
    direction, opt_state = optimiser(hyper).update(gradient, state.opt_state, state.params)
    rate, decay = learning_rate(state.step, hyper), ema_decay(state.step, hyper.ema)
    params = jax.tree.map(lambda p, u: p - rate.astype(p.dtype) * u.astype(p.dtype), state.params, direction)
    ema = jax.tree.map(lambda e, p: (decay * e + (1 - decay) * p).astype(e.dtype), state.ema, params)
    seen = {**metrics, "loss": value, "grad_norm": norm, "learning_rate": rate}
    sums = {name: total + jnp.asarray(seen[name], jnp.float32) for name, total in state.tally.sums.items()}
    new = TrainState(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        ema=ema,
        aux=jax.tree.map(lambda old, new: jnp.asarray(new, old.dtype), state.aux, aux),
        tally=Tally(sums, state.tally.count + 1),
    )
    return new, jnp.isfinite(value) & jnp.isfinite(norm)


def _set_aside(state: TrainState, lines: Lines, hyper: Hyper, finite: Array) -> Advanced:
    """Where a line is due the tally goes to the lines and begins again; one that is not finite stays where it is."""
    due = finite & ((state.step % hyper.log_every == 0) | (state.step == hyper.last))
    tally = state.tally
    row = jnp.stack([*(tally.sums[name] for name in sorted(tally.sums)), tally.count.astype(jnp.float32)])
    rows = jax.lax.dynamic_update_index_in_dim(lines.rows, row, lines.used, 0)
    cleared = jax.tree.map(lambda leaf: jnp.where(due, jnp.zeros_like(leaf), leaf), tally)
    state = TrainState(state.step, state.params, state.opt_state, state.ema, state.aux, cleared)
    return Advanced(state, Lines(rows, lines.used + due))

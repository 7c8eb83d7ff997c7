"""Generative models of the next point: DDIM and rectified flow on the network of the sequence SDE.

A move u = x_{k+1} - x_k, standardised by column, is generated from a normal draw ε given the present x_k. With a noise
level t from 0 (data) to 1, m(z, t, x_k) the network and N steps from 1 down:

    DDIM            z_t = α u + σ ε,      m ≈ ε,      z_s = α_s (z_t - σ_t m) / α_t + σ_s m        (Song et al. 2021)
    rectified flow  z_t = (1 - t) u + t ε, m ≈ ε - u, z_s = z_t - (t - s) m                        (Liu et al. 2023)

DDIM's α and σ are those of `noising.VP`. Both are trained by squared error and sampled deterministically given ε. The
paper does not say how its baselines are conditioned on the point before; here the network reads it beside z and t. All
seeds are one program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.nets import MLP
from neuralsde.noising import VP, CondOT, Predictor, Schedule
from neuralsde.noising import Kind as Meaning
from neuralsde.sampling import DDIM, Euler, Sampler, sample

Kind = Literal["DDIM", "rectified flow"]
KINDS: tuple[Kind, ...] = ("DDIM", "rectified flow")
_WAVES = 3


class Method(NamedTuple):
    """The noise, what the network's value means, the sampler, and the level below which the data are predicted."""

    schedule: Schedule
    meaning: Meaning
    sampler: Sampler
    last: float


METHODS: dict[Kind, Method] = {
    "DDIM": Method(VP(), "noise", DDIM(), 1e-3),
    "rectified flow": Method(CondOT(), "velocity", Euler(), 0.0),
}


class NextPoint(eqx.Module):
    """A generator of moves: `net` of (z, waves of t, x), all standardised, and the scales of moves and states."""

    net: MLP
    kind: Kind = eqx.field(static=True)
    move: tuple[np.ndarray, np.ndarray]
    state: tuple[np.ndarray, np.ndarray]

    def predicted(self, z: Float[Array, " d"], t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """m(z, t, x), of the noise (DDIM) or of the velocity (rectified flow)."""
        phase = jnp.pi * t * 2.0 ** jnp.arange(_WAVES)
        return self.net(jnp.concatenate([z, jnp.sin(phase), jnp.cos(phase), x]))


@dataclass(frozen=True)
class Training:
    """Steps of Adam on batches of moves; `noise` s.d. on x_k in training, in units of the data."""

    steps: int
    batch: int
    rate: float
    width: int
    depth: int
    noise: float = 0.0


def fitted(kind: Kind, lines: np.ndarray, training: Training, *, seed: int, seeds: int) -> NextPoint:
    """Generators with a leading axis (seeds,) on every weight, from the moves along `lines` (branches, T, 2)."""
    moves, states = np.diff(lines, axis=1).reshape(-1, 2), lines[:, :-1].reshape(-1, 2)
    move, state = ((part.mean(0), _spread(part)) for part in (moves, states))
    keys = jax.random.split(jax.random.key(seed), seeds)
    size = 2 * _WAVES + 4

    def fresh(key: Key[Array, ""]) -> NextPoint:
        return NextPoint(MLP(size, 2, width=training.width, depth=training.depth, key=key), kind, move, state)

    noise = jnp.asarray(training.noise / state[1], jnp.float32)
    data = (
        jnp.asarray((moves - move[0]) / move[1], jnp.float32),
        jnp.asarray((states - state[0]) / state[1], jnp.float32),
    )
    nets = _train(eqx.filter_vmap(fresh)(keys).net, fresh(keys[0]), data, noise, keys, training)
    return NextPoint(nets, kind, move, state)


@eqx.filter_jit
def _train(
    nets: Any, like: NextPoint, data: tuple[Array, Array], noise: Array, keys: Key[Array, " n"], training: Training
) -> Any:
    steps = training.steps
    rates = optax.warmup_cosine_decay_schedule(0.0, training.rate, max(steps // 20, 1), max(steps, 2))
    optimiser, averaged = optax.adam(rates), max(steps // 4, 1)

    def loss(net: Any, key: Key[Array, ""]) -> Array:
        model = eqx.tree_at(lambda m: m.net, like, net)
        rows, levels, normals, moved = jax.random.split(key, 4)
        row = jax.random.randint(rows, (training.batch,), 0, len(data[0]))
        u, x = data[0][row], data[1][row]
        t = jax.random.uniform(levels, (training.batch,))
        eps = jax.random.normal(normals, u.shape)
        x = x + noise * jax.random.normal(moved, x.shape)

        def error(u: Array, t: Array, eps: Array, x: Array) -> Array:
            return squared_error(model.kind, lambda z, t: model.predicted(z, t, x), u, t, eps)

        return jax.vmap(error)(u, t, eps, x).mean()

    def one(net: Any, key: Key[Array, ""]) -> Any:
        def step(carry: Any, i: Array) -> tuple[Any, None]:
            net, state, mean = carry
            change, state = optimiser.update(jax.grad(loss)(net, jax.random.fold_in(key, i)), state)
            net = optax.apply_updates(net, change)
            share = jnp.where(i >= steps - averaged, 1.0 / averaged, 0.0)
            return (net, state, jax.tree.map(lambda m, p: m + share * p, mean, net)), None

        begin = (net, optimiser.init(net), jax.tree.map(jnp.zeros_like, net))
        return lax.scan(step, begin, jnp.arange(steps))[0][2]

    return jax.vmap(one)(nets, keys)


Predict = Callable[[Array, Array], Array]
"""m(z, t) given the present."""


def squared_error(kind: Kind, predict: Predict, u: Array, share: Array, eps: Array) -> Float[Array, ""]:
    """Of the prediction for the move u with the noise eps, at a level the given share of the way up."""
    schedule, meaning, _, last = METHODS[kind]
    t = last + (1 - last) * share
    z = schedule.alpha(t) * u + schedule.sigma(t) * eps
    wanted = eps if meaning == "noise" else schedule.alpha_rate(t) * u + schedule.sigma_rate(t) * eps
    return jnp.square(predict(z, t) - wanted).mean()


def generated(kind: Kind, predict: Predict, z: Float[Array, " d"], steps: int) -> Float[Array, " d"]:
    """The standardised move that the normal draw z becomes in so many steps."""
    schedule, meaning, sampler, last = METHODS[kind]
    return sample(Predictor(predict, meaning, schedule), z, jnp.linspace(1.0, last, steps + 1), sampler=sampler).x


def paths(models: NextPoint, points: int, *, n: int, steps: int, seed: int) -> np.ndarray:
    """Paths (seeds, n, points + 1, 2) from (0, 0) of generators with a leading axis (seeds,); `steps` a move."""
    keys = jax.random.split(jax.random.key(seed), (_seeds(models), n))
    return np.asarray(_paths(models.net, models, keys, points, steps), np.float64)


@eqx.filter_jit
def _paths(nets: MLP, like: NextPoint, keys: Array, points: int, steps: int) -> Array:
    (shift, spread), (mean, sd) = like.move, like.state

    def path(model: NextPoint, key: Key[Array, ""]) -> Array:
        def point(x: Array, k: Array) -> tuple[Array, Array]:
            z = jax.random.normal(jax.random.fold_in(key, k), x.shape)
            known = (x - mean) / sd
            u = generated(model.kind, lambda z, t: model.predicted(z, t, known), z, steps)
            x = x + shift + spread * u
            return x, x

        start = jnp.zeros(2)
        return jnp.concatenate([start[None], lax.scan(point, start, jnp.arange(points))[1]])

    def of_seed(net: MLP, keys: Array) -> Array:
        return jax.vmap(lambda key: path(eqx.tree_at(lambda m: m.net, like, net), key))(keys)

    return jax.vmap(of_seed)(nets, keys)


def _spread(part: np.ndarray) -> np.ndarray:
    """S.d. of each column; next to nothing for one that does not vary."""
    return np.maximum(part.std(0), 1e-9)


def _seeds(models: NextPoint) -> int:
    return models.net.linear.weight.shape[0]

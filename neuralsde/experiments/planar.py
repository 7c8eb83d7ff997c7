"""Laws of the plane with a known density, and many small generative models of them trained in one program.

    eight gaussians   Σ w_k N(μ_k, .3²), w ∝ 1 ... 8 on a circle of radius 4
    moons             two half circles of radius 1 with noise of s.d. .1: 256 Gaussians along each
    checkerboard      uniform on the 8 dark unit squares of [-2, 2]²: density 1/8

Every set is centred and divided by one scale, so that models see it with s.d. 1; results are in the units above.
Training: Adam with a warm-up and a cosine, the mean weights of the last quarter, `vmap` over seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.scipy.special import logsumexp
from jax.scipy.stats import multivariate_normal
from jaxtyping import Array, Float, Key

from neuralsde.evaluate.distances import Floor, floor, sliced_w2, twice
from neuralsde.nets import TimeMLP
from neuralsde.noising import Mixture, eight_gaussians

SETS = ("eight gaussians", "moons", "checkerboard")
_ARC = 256


class Planar(NamedTuple):
    """A law of the plane. centre (2,) and scale: what a model's units are; `log_density` in the law's own."""

    name: str
    sample: Callable[[int, Any], Array]
    log_density: Callable[[Array], Array]
    centre: Array
    scale: float
    mixture: Mixture | None

    def inward(self, x: Any) -> Array:
        """In the model's units."""
        return (jnp.asarray(x) - self.centre) / self.scale

    def outward(self, z: Any) -> Array:
        """Back in the law's own units."""
        return jnp.asarray(z) * self.scale + self.centre

    def own_nats(self, log_density: Any) -> np.ndarray:
        """Minus log densities, from the model's units to the law's own."""
        return 2 * np.log(self.scale) - np.asarray(log_density, np.float64)


def law(name: str) -> Planar:
    """The law of that name in `SETS`."""
    if name == "checkerboard":
        return Planar(name, _squares, _squares_density, jnp.zeros(2), float(np.sqrt(16 / 12)), None)
    mixture = eight_gaussians() if name == "eight gaussians" else _moons()
    centre, cov = mixture.moments()
    scale = float(jnp.sqrt(jnp.trace(cov) / 2))
    return Planar(name, lambda n, key: mixture.sample(n, key=key), mixture.log_density, centre, scale, mixture)


def _moons() -> Mixture:
    angle = jnp.pi * (jnp.arange(_ARC) + 0.5) / _ARC
    upper = jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)
    lower = jnp.stack([1 - jnp.cos(angle), 0.5 - jnp.sin(angle)], 1)
    return Mixture(jnp.ones(2 * _ARC), jnp.concatenate([upper, lower]), 0.1)


def _squares(n: int, key: Key[Array, ""]) -> Float[Array, "n 2"]:
    where, inside = jax.random.split(key)
    cell = jax.random.randint(where, (n,), 0, 8)
    row, column = cell // 2, 2 * (cell % 2) + (cell // 2) % 2
    return jnp.stack([column, row], 1) - 2.0 + jax.random.uniform(inside, (n, 2))


def _squares_density(x: Float[Array, 2]) -> Float[Array, ""]:
    cell = jnp.floor(x)
    dark = ((cell[0] + cell[1]) % 2 == 0) & (jnp.abs(x) <= 2).all()
    return jnp.where(dark, -jnp.log(8.0), -jnp.inf)


_WAVES = (1.5, 3.0, 6.0)


class Waves(eqx.Module):
    """net(x, c) -> (2,) from x, sin(f x), cos(f x), f = 1.5, 3, 6: narrow wells in few steps (Tancik et al. 2020).

    The same for every model. It grows at most linearly, so an energy of the sum of its outputs can be normalised.
    """

    inner: TimeMLP

    def __init__(self, width: int, depth: int, *, key: Key[Array, ""]) -> None:
        self.inner = TimeMLP((2 + 4 * len(_WAVES),), width=width, depth=depth, key=key)

    def __call__(self, x: Float[Array, 2], c: Any) -> Float[Array, 2]:
        angle = jnp.concatenate([f * x for f in _WAVES])
        return self.inner(jnp.concatenate([x, jnp.sin(angle), jnp.cos(angle)]), c)[:2]


class Training(NamedTuple):
    """How long, and how much at a time."""

    steps: int
    batch: int
    rate: float = 3e-3


def train(
    make: Callable[[Any], Any], loss: Callable[..., Any], data: Array, how: Training, *, seed: int, aux: Any = None
) -> Any:
    """Models with a leading axis (seeds,) on every array.

    make: key -> model. loss: as `neuralsde.train` takes it. data: (seeds, n, 2) in the model's units.
    aux:  key -> the running state of the loss; None where it has none.
    """
    keys = jax.random.split(jax.random.key(seed), len(data))
    return _train(make, loss, aux, data, keys, how)


@eqx.filter_jit
def _train(make: Any, loss: Any, aux: Any, data: Array, keys: Key[Array, " seeds"], how: Training) -> Any:
    warm = max(how.steps // 20, 1)
    schedule = optax.warmup_cosine_decay_schedule(0.0, how.rate, warm, max(how.steps, warm + 1))
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    averaged = max(how.steps // 4, 1)

    def one(data: Array, key: Array) -> Any:
        first, second, key = jax.random.split(key, 3)
        params, static = eqx.partition(make(first), eqx.is_inexact_array)

        def step(carry: Any, i: Array) -> tuple[Any, None]:
            params, state, aux, mean = carry
            pick, noise = jax.random.split(jax.random.fold_in(key, i))
            batch = data[jax.random.randint(pick, (how.batch,), 0, len(data))]

            def value(params: Any) -> Any:
                return loss(eqx.combine(params, static), batch, aux, key=noise)

            slope, (_, aux) = jax.grad(value, has_aux=True)(params)
            change, state = optimiser.update(slope, state)
            params = optax.apply_updates(params, change)
            share = jnp.where(i >= how.steps - averaged, 1.0 / averaged, 0.0)
            return (params, state, aux, jax.tree.map(lambda m, p: m + share * p, mean, params)), None

        running = () if aux is None else aux(second)
        begin = (params, optimiser.init(params), running, jax.tree.map(jnp.zeros_like, params))
        return eqx.combine(lax.scan(step, begin, jnp.arange(how.steps))[0][3], static)

    return eqx.filter_vmap(one)(data, keys)


def pick(models: Any, k: int) -> Any:
    """The model of seed k."""
    return jax.tree.map(lambda leaf: leaf[k] if eqx.is_array(leaf) else leaf, models)


class Kernel(NamedTuple):
    """A Gaussian kernel density: points (n, 2), one bandwidth, chosen on points that it was not made from."""

    points: Array
    width: float

    def log_density(self, x: Float[Array, "m 2"]) -> Float[Array, " m"]:
        """At points (m, 2)."""
        return _kernel_density(self.points, jnp.asarray([self.width]), x)[0]

    def sample(self, n: int, key: Key[Array, ""]) -> Float[Array, "n 2"]:
        """Points drawn again, each with noise."""
        which, noise = jax.random.split(key)
        rows = jax.random.randint(which, (n,), 0, len(self.points))
        return self.points[rows] + self.width * jax.random.normal(noise, (n, 2))


def kernel(points: Float[Array, "n 2"], *, folds: int = 5, tried: int = 16) -> Kernel:
    """The bandwidth of least cross-validated nats among `tried`, from 1 % to 100 % of the s.d. (points of s.d. 1).

    One fold is left out at a time, and the rest explain it.
    """
    widths = jnp.geomspace(0.01, 1.0, tried)
    size = len(points) // folds
    nats = np.zeros(tried)
    for k in range(folds):
        held = points[k * size : (k + 1) * size][:500]
        rest = jnp.concatenate([points[: k * size], points[(k + 1) * size :]])
        nats -= np.asarray(_kernel_density(rest, widths, held).mean(1))
    return Kernel(points, float(widths[int(nats.argmin())]))


@jax.jit
def _kernel_density(points: Array, widths: Array, x: Array) -> Array:
    """Log densities (len(widths), m)."""

    def at(y: Array) -> Array:
        far = jnp.square(points - y).sum(1)
        return jax.vmap(lambda h: logsumexp(-0.5 * far / h**2) - 2 * jnp.log(h))(widths)

    return lax.map(at, x, batch_size=50).T - jnp.log(len(points)) - jnp.log(2 * jnp.pi)


class Gaussian(NamedTuple):
    """The trivial model: the moments of the data."""

    mean: Array
    cov: Array

    @classmethod
    def of(cls, data: Float[Array, "n 2"]) -> Gaussian:
        """Moments of the points."""
        return cls(data.mean(0), jnp.cov(data, rowvar=False))

    def log_density(self, x: Float[Array, "m 2"]) -> Float[Array, " m"]:
        """At points (m, 2)."""
        return jnp.asarray(multivariate_normal.logpdf(x, self.mean, self.cov))

    def sample(self, n: int, key: Key[Array, ""]) -> Float[Array, "n 2"]:
        """Draws."""
        return jax.random.multivariate_normal(key, self.mean, self.cov, (n,))


class Score(NamedTuple):
    """Held-out nats a point and sliced W2 to real points, in the units of the law."""

    nats: float
    w2: float


@dataclass(frozen=True)
class Trial:
    """One seed: training data (n, 2) in the model's units; held-out and real points in the law's."""

    law: Planar
    data: Array
    held: Array
    real: Array
    key: Array

    @classmethod
    def of(cls, planar: Planar, seed: int, n: int, held: int, real: int) -> Trial:
        """Independent draws of the law by the seed."""
        keys = jax.random.split(jax.random.key(seed), 4)
        first, second, third = (planar.sample(m, key) for m, key in zip((n, held, real), keys[:3], strict=True))
        return cls(planar, planar.inward(first), second, third, keys[3])

    def w2(self, x: Any) -> float:
        """Of points (m, 2) in the model's units."""
        return distance(self.law.outward(x), self.real)

    def nats(self, log_density: Any) -> float:
        """From log densities of the held-out points in the model's units."""
        return float(self.law.own_nats(log_density).mean())

    def inner(self) -> Array:
        """The held-out points in the model's units."""
        return self.law.inward(self.held)

    def baseline(self, model: Kernel | Gaussian) -> Score:
        """Of a model that has both, with as many samples as there are real points."""
        return Score(self.nats(model.log_density(self.inner())), self.w2(model.sample(len(self.real), self.key)))

    def known(self) -> dict[str, Score]:
        """The law itself (a second sample of it), the kernel density and the Gaussian."""
        nats = float(-jax.vmap(self.law.log_density)(self.held).mean())
        again = self.law.sample(len(self.real), self.key)
        return {
            "the law itself": Score(nats, distance(again, self.real)),
            "kernel density": self.baseline(kernel(self.data)),
            "Gaussian": self.baseline(Gaussian.of(self.data)),
        }


def packed(x: Any, n: int = 600) -> str:
    """The first n points (m, 2) in hundredths, as text: what a picture needs, small enough for a file of results."""
    return " ".join(str(int(v)) for v in np.round(100 * np.asarray(x)[:n]).ravel())


def unpacked(text: str) -> np.ndarray:
    """The points of `packed`."""
    return np.array(text.split(), np.float64).reshape(-1, 2) / 100


def distance(x: Any, y: Any) -> float:
    """Sliced W2 along the same 64 directions every time."""
    return sliced_w2(x, y, key=jax.random.key(0), projections=64)


def w2_floor(planar: Planar, n: int, *, pairs: int = 30) -> Floor:
    """Of real against real, n points each."""
    return floor(twice(lambda key: planar.sample(n, key)), distance, key=jax.random.key(1), pairs=pairs)

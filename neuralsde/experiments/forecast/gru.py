"""A recurrent forecaster in the manner of DeepAR (Salinas et al. 2020), for several columns at once.

    h_t = GRU(h_{t-1}, u_t),     y_{t+1} | h_t ~ independent Student t:  m_t + s_t T(nu),
    m_t = y_t + walk * a(h_t),   s_t = walk * exp(b(h_t)),   nu = 2.1 + exp(c), one for each column.

u_t holds the present, the last change, the value that stands one season before the target, which entries were seen, and
the calendar of the target. Values are standardised and changes are in units of `walk`, the s.d. of a training step: the
original's scaling by the mean of a window would not do for columns that pass through zero. The mean starts from the
present, which the original leaves to the network: without it the forecaster is lost on rates that only wander.
Paths are drawn step by step from the one-step law, each draw fed back.
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import gammaln
from jaxtyping import Array, Bool, Float, Int, Key

from neuralsde.experiments.forecast.case import Case
from neuralsde.experiments.forecast.law import Forecast

LEAST_DOF = 2.1
"""Above 2 a variance exists."""
_LOG_SCALE = 5.0
_CHUNK = 16_384


class StudentLaw(eqx.Module):
    """Independent Student t: location, scale and degrees of freedom (d,)."""

    location: Float[Array, " d"]
    scale: Float[Array, " d"]
    dof: Float[Array, " d"]

    def log_density(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """Each column's own."""
        z, nu = (x - self.location) / self.scale, self.dof
        constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * jnp.log(nu * jnp.pi) - jnp.log(self.scale)
        return constant - 0.5 * (nu + 1) * jnp.log1p(z**2 / nu)

    def sample(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        """One draw, without rejection: T = √(ν (U^(-2/ν) - 1)) cos 2πV (Bailey 1994)."""
        u, v = jax.random.uniform(key, (2, *self.location.shape), self.location.dtype)
        # 1 - u is in (0, 1]
        radius = jnp.sqrt(self.dof * jnp.expm1(-2 / self.dof * jnp.log1p(-u)))
        return self.location + self.scale * radius * jnp.cos(2 * jnp.pi * v)


class Sight(eqx.Module):
    """What is known at a moment: present and previous values, the one a season before the target, which were seen (d,),
    and the covariates (c,) of the target.
    """

    present: Float[Array, " d"]
    before: Float[Array, " d"]
    season: Float[Array, " d"]
    seen: Bool[Array, " d"]
    ahead: Float[Array, " c"]


class GRU(eqx.Module):
    """Cell and head. `walk` (d,): s.d. of a training step, in standardised units. A constant."""

    cell: eqx.nn.GRUCell
    head: eqx.nn.Linear
    log_dof: Float[Array, " d"]
    walk: np.ndarray

    def __init__(self, walk: np.ndarray, c: int, hidden: int, *, key: Key[Array, ""]) -> None:
        d, (cell, head) = len(walk), jax.random.split(key)
        self.cell = eqx.nn.GRUCell(input_size(d, c), hidden, key=cell)
        # zero: the forecast starts as a random walk
        self.head = jax.tree.map(jnp.zeros_like, eqx.nn.Linear(hidden, 2 * d, key=head))
        self.log_dof = jnp.full(d, 2.0)
        self.walk = np.asarray(walk, np.float32)

    def start(self) -> Float[Array, " hidden"]:
        return jnp.zeros(self.cell.hidden_size)

    def __call__(self, state: Float[Array, " hidden"], sight: Sight) -> tuple[Float[Array, " hidden"], StudentLaw]:
        """The next state, and the law of the next value."""
        walk = lax.stop_gradient(jnp.asarray(self.walk))
        change, season = (sight.present - sight.before) / walk, (sight.season - sight.present) / walk
        parts = [
            sight.present,
            jnp.tanh(change / 4),
            jnp.tanh(season / 16),
            sight.seen.astype(change.dtype),
            sight.ahead,
        ]
        state = self.cell(jnp.concatenate(parts), state)
        move, log_scale = jnp.split(self.head(state), 2)
        scale = walk * jnp.exp(_LOG_SCALE * jnp.tanh(log_scale / _LOG_SCALE))
        return state, StudentLaw(sight.present + walk * move, scale, LEAST_DOF + jnp.exp(self.log_dof))


def input_size(d: int, c: int) -> int:
    return 4 * d + c


def parameters(d: int, c: int, hidden: int) -> int:
    """Trained numbers of a GRU."""
    return 3 * hidden * (input_size(d, c) + hidden) + 4 * hidden + 2 * d * (hidden + 1) + d


def hidden_size(d: int, c: int, wanted: int) -> int:
    """The state whose number of parameters comes nearest to `wanted`."""
    return min(range(4, 513), key=lambda hidden: abs(parameters(d, c, hidden) - wanted))


# -- the table as it sees it -------------------------------------------------------------------------------------------


class Track(eqx.Module):
    """All series one after the other on the grid: last values, what was observed, covariates of each time."""

    value: Float[Array, "T d"]
    seen: Bool[Array, "T d"]
    context: Float[Array, "T c"]

    def sight(self, t: Int[Array, ""], season: int) -> Sight:
        """At place t; the caller keeps t - season and t + 1 inside one series."""
        v = self.value
        return Sight(v[t], v[t - 1], v[t + 1 - season], self.seen[t], self.context[t + 1])


@dataclass(frozen=True)
class Tracks:
    """A case in standardised units. first (S,): where each series begins; season: steps in a season, at least 1.

    train, validation (n,): where windows of `length` places begin, whose targets after the first `burn` lie in that
    part: all of them to draw from, and those that tile the validation part.
    """

    track: Track
    first: np.ndarray
    season: int
    walk: np.ndarray
    train: np.ndarray
    validation: np.ndarray

    @classmethod
    def of(cls, case: Case, *, season: int, length: int, burn: int, share: float = 0.1) -> Tracks:
        """The last `share` of what comes before the test is for validation, as in `data.split`."""
        encoder, clock = case.encoder, case.data.clock
        pieces: list[tuple[np.ndarray, ...]] = []
        at = 0
        for grid in case.grids:
            raw = encoder.encode_values(grid.values)
            known = ~np.isnan(raw)
            last = np.maximum.accumulate(np.where(known, np.arange(len(raw))[:, None], -1), axis=0)
            value = np.where(last >= 0, np.take_along_axis(raw, np.maximum(last, 0), axis=0), 0.0)
            cut = grid.test - round(share * grid.test)
            train = at + np.arange(season, cut - length)
            validation = at + np.arange(cut - 1 - burn, grid.test - length, length - burn)
            squares = np.diff(value[:cut], axis=0) ** 2
            context = clock.features(grid.times, case.data.calendar)
            pieces.append((value, known, context, squares, train, validation, np.array([at])))
            at += len(raw)
        value, known, context, squares, train, validation, first = map(np.concatenate, zip(*pieces, strict=True))
        track = Track(jnp.asarray(value, jnp.float32), jnp.asarray(known), jnp.asarray(context, jnp.float32))
        return cls(track, first, season, np.sqrt(squares.mean(0)) + 1e-6, train, validation)


# -- paths -------------------------------------------------------------------------------------------------------------


def deepar(model: GRU, tracks: Tracks, case: Case, *, warm: int, n: int, seed: int) -> Forecast:
    """Paths (n of them) from every origin, after a warm-up over `warm` places of its past."""
    places = tracks.first[case.series] + case.at
    key, horizons = jax.random.key(seed), case.spec.horizons
    batch = max(1, min(len(places), _CHUNK // n))
    parts = []
    for begin in range(0, len(places), batch):
        # filled up with the last origin, so that one compiled program serves all
        index = np.minimum(np.arange(begin, begin + batch), len(places) - 1)
        drawn = _paths(model, tracks.track, jnp.asarray(places[index]), jnp.asarray(index), key, tracks.season, warm, n,
                       horizons)  # fmt: skip
        parts.append(np.asarray(drawn)[: len(places) - begin])
    return Forecast.of_states(np.moveaxis(np.concatenate(parts).astype(np.float64), 1, 0), case)


@eqx.filter_jit
def _paths(
    model: GRU, track: Track, place: Array, number: Array, key: Key[Array, ""], season: int, warm: int, n: int,
    horizons: tuple[int, ...],
) -> Float[Array, "b n q d"]:  # fmt: skip
    def one(t: Array, i: Array) -> Array:
        state = lax.fori_loop(1, warm, lambda k, h: model(h, track.sight(t - warm + k, season))[0], model.start())
        # the present is the first step of the path: its law is that of the first draw
        recent = track.value[t - season + jnp.arange(season + 1)]
        keys = jax.vmap(lambda j: jax.random.fold_in(jax.random.fold_in(key, i), j))(jnp.arange(n))
        return jax.vmap(lambda k: path(model, state, recent, track, t, k))(keys)

    def path(model: GRU, state: Array, recent: Array, track: Track, t: Array, key: Key[Array, ""]) -> Array:
        def step(carry: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], Array]:
            state, recent = carry
            seen = jnp.where(k == 0, track.seen[t], True)
            sight = Sight(recent[-1], recent[-2], recent[1], seen, track.context[t + k + 1])
            state, law = model(state, sight)
            y = law.sample(jax.random.fold_in(key, k))
            return (state, jnp.concatenate([recent[1:], y[None]])), y

        drawn = lax.scan(step, (state, recent), jnp.arange(max(horizons)))[1]
        return drawn[jnp.array(horizons) - 1]

    return jax.vmap(one)(place, number)

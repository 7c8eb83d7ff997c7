"""The sequence neural SDE: coefficients, their one-step law, and the process inside a gap (arXiv 2501.18871).

    dx = (f(w) + a(w)) dt + G(w) dW   (Ito),   w = (x, past, summary of the past, context),   G = [diag(g), U]

f is the flow. a is what a denoiser adds: nothing, or with the score s(w) of the data at the noise level of the denoiser

    consistent      a = ½ G Gᵀ s + ½ ∇·(G Gᵀ)      turns the velocity learnt on a chord into the drift (THEORY 17)
    fixed           a = c (n² / T) s,              n the denoiser's noise, T the time in which the data move by it
    state           a = c ½ G Gᵀ s                 (the paper's appendix I)

The last two are stabilisers: they change the law, and the likelihood is that without them. Their pull on a thin set of
data is stiff, so a step h takes a (1 - e^(-ρ h)) / ρ, ρ the rate at which a falls along itself: a deviation decays as
it does in continuous time, and no step overshoots. Inside a gap past, summary and context stay as they are. A channel
last seen a time ago counts from there: its span is the gap plus its age.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Key

from neuralsde.models.sequence_sde.config import Config
from neuralsde.models.sequence_sde.law import StepLaw, spread
from neuralsde.models.sequence_sde.memory import SUMMARIES, Attention, Recurrent
from neuralsde.models.sequence_sde.transition import Drift, Noise, local_linear, one_step, several_steps
from neuralsde.models.sequence_sde.window import Window, feature_size
from neuralsde.nets import MLP, ResidualMLP, ResidualTrunk
from neuralsde.sde import SDE, Diagonal, General, Ito
from neuralsde.sde.reversal import covariance_divergence

LOG_SIGMA_RANGE = 7.0
"""Diffusion stays within a factor e^±7 of the random walk's, so neither collapses nor overflows in float32."""
FEWEST_DOF, FIRST_DOF = 2.1, 10.0
"""Student's law keeps a variance; before training it is nearly Gaussian."""
_FIRST_FACTOR = 0.2
"""Size of the common factors before training, in units of the walk: at zero their likelihood has no slope."""


class Transition(eqx.Module):
    """One observed gap: what was known before it, how long it took, and what was seen at its end.

    target (d,) with anything where `seen` (d,) is False.
    """

    window: Window
    dt: Float[Array, ""]
    target: Float[Array, " d"]
    seen: Bool[Array, " d"]


class InGap(eqx.Module):
    """The arguments of `SequenceSDE.process`: what stays as it is inside a gap.

    stretch: (d,) 1, or more for a channel that has to catch up: (gap + age) / gap.
    clock:   (d,) the value of Student's random clock in this gap; 1 for a Gaussian model.
    step:    length of the steps that will be taken, for a stabiliser; None for the process in continuous time.
    """

    window: Window
    stretch: Float[Array, " d"]
    clock: Float[Array, " d"]
    step: Float[Array, ""] | None = None

    @property
    def span(self) -> Float[Array, " d"] | None:
        """The step as each channel counts it."""
        return None if self.step is None else self.step * self.stretch


class SequenceSDE(eqx.Module):
    """Networks over a `Window`; everything in model units.

    walk (d,):  s.d. per √time of a random walk fitted to the data: the diffusion before training. A constant.
    bounds (2, d): range of the training data, with room for noise on the input; constants, None without a range.
    first_loading (d, r): common factors before training, in units of `walk`; a constant.
    strength:   c of a stabiliser; set once, after training, where it is calibrated.
    time_scale: what "one" means for a time-dependent model: the longest series.
    travel:     model time in which the data move by one s.d. of the denoiser's noise.
    """

    flow_net: MLP | ResidualMLP
    diffusion_net: MLP | ResidualMLP
    denoiser_net: MLP | ResidualMLP | None
    trunk: eqx.nn.MLP | ResidualTrunk | None
    memory_net: Recurrent | Attention | None
    tail: Array | None
    walk: np.ndarray
    bounds: np.ndarray | None
    first_loading: Array | None
    strength: np.ndarray | Array | None
    time_scale: float | None = eqx.field(static=True)
    travel: float = eqx.field(static=True)
    config: Config = eqx.field(static=True)

    def __init__(
        self,
        config: Config,
        d: int,
        c: int,
        *,
        walk: np.ndarray,
        bounds: np.ndarray | None = None,
        time_scale: float = 1.0,
        travel: float = 1.0,
        key: Key[Array, ""],
    ) -> None:
        config.sizes(d)
        flow_key, diffusion_key = jax.random.split(key)
        denoiser_key, trunk_key, memory_key, factor_key = (jax.random.fold_in(key, k) for k in range(4))
        size = feature_size(
            d, c, config.history, config.time_dependent, len(config.lags), level=config.level,
            in_walks=config.past_units == "walk",
        )  # fmt: skip
        size += config.width if config.memory else 0
        shared = config.backbone == "shared"
        self.memory_net = SUMMARIES[config.summary](d, config.width, key=memory_key) if config.memory else None
        self.trunk = _trunk(size, config, trunk_key) if shared else None
        size += config.width if shared else 0
        self.flow_net = _head(size, d, config, flow_key)
        self.diffusion_net = _head(size, _noise_size(config, d), config, diffusion_key)
        has_denoiser = config.denoiser != "none"
        self.denoiser_net = _head(size, d, config, denoiser_key) if has_denoiser else None
        self.tail = None
        if config.tails == "student":
            self.tail = jnp.full(d if config.noise == "diagonal" else 1, np.log(FIRST_DOF - FEWEST_DOF), jnp.float32)
        self.walk = np.asarray(walk, np.float32)
        # without a level there is no slope in it to run away on, and its differences must not be cut
        confined = config.confined and config.level
        self.bounds = None if bounds is None or not confined else np.asarray(bounds, np.float32)
        self.first_loading = _first_loading(config, d, factor_key)
        self.strength = np.float32(_first_strength(config)) * np.ones((), np.float32) if has_denoiser else None
        self.time_scale = time_scale if config.time_dependent else None
        self.travel = travel
        self.config = config

    @property
    def dim(self) -> int:
        """Number d of channels."""
        return len(self.walk)

    # -- coefficients ------------------------------------------------------------------------------------------------

    def recall(self, window: Window) -> Window:
        """The window with the summary of its past, so that it is made once and not by every network."""
        if self.memory_net is None or window.summary is not None:
            return window
        summary = self.memory_net(self._confined(window).last(self.config.memory + 1), self._past_walk)
        return Window(window.value, window.age, window.lag, window.time, window.context, summary)

    def _confined(self, window: Window) -> Window:
        return window if self.bounds is None else window.within(*lax.stop_gradient(jnp.asarray(self.bounds)))

    def read(self, window: Window) -> Float[Array, " inputs"]:
        """What the networks see of a window."""
        config = self.config
        features = self._confined(window).features(
            config.history, self.time_scale, config.lags, level=config.level, walk=self._past_walk
        )
        summary = self.recall(window).summary
        x = features if summary is None else jnp.concatenate([features, summary])
        return x if self.trunk is None else jnp.concatenate([x, self.trunk(x)])

    @property
    def _past_walk(self) -> Float[Array, " d"] | None:
        """The unit of the past, where it is the walk."""
        return lax.stop_gradient(jnp.asarray(self.walk)) if self.config.past_units == "walk" else None

    def flow(self, window: Window) -> Float[Array, " d"]:
        """f, in model units per unit of model time."""
        return self.flow_net(self.read(window))

    def noise(self, window: Window) -> tuple[Float[Array, " d"], Float[Array, "d r"]]:
        """G = [diag(sd), loading] in model units per square root of model time; r = 0 when channels share no noise."""
        raw, d = self.diffusion_net(self.read(window)), self.dim
        walk = lax.stop_gradient(jnp.asarray(self.walk))  # an array like the weights to every filter, but a constant
        sd = walk * jnp.exp(LOG_SIGMA_RANGE * jnp.tanh(raw[:d] / LOG_SIGMA_RANGE))
        if self.config.noise == "diagonal":
            return sd, jnp.zeros((d, 0), sd.dtype)
        if self.config.noise == "low-rank":
            first = lax.stop_gradient(jnp.asarray(self.first_loading))
            return sd, walk[:, None] * (first + raw[d:].reshape(d, self.config.rank))
        below = jnp.zeros((d, d), sd.dtype).at[np.tril_indices(d, -1)].set(raw[d:])
        return jnp.zeros_like(sd), walk[:, None] * below + jnp.diag(sd)

    def diffusion(self, window: Window) -> Float[Array, " d"]:
        """The marginal scale √(G Gᵀ)_ii > 0 of each channel, in model units per square root of model time."""
        return spread(*self.noise(window))

    @property
    def dof(self) -> Float[Array, " d"] | None:
        """Degrees of freedom of Student's law for each channel; None for a Gaussian model."""
        return None if self.tail is None else jnp.broadcast_to(FEWEST_DOF + jnp.exp(self.tail), (self.dim,))

    def score(self, window: Window) -> Float[Array, " d"]:
        """∇ log of the data's density, smoothed by the denoiser's noise, at the present; pooled over time."""
        return -self.predicted_noise(window) / self._denoiser_noise

    def predicted_noise(self, window: Window) -> Float[Array, " d"]:
        """What the denoiser takes for noise in the present, in units of its s.d."""
        assert self.denoiser_net is not None
        return self.denoiser_net(self.read(window))

    @property
    def _denoiser_noise(self) -> Float[Array, " d"]:
        return jnp.broadcast_to(jnp.asarray(self.config.denoiser_noise, jnp.float32), (self.dim,))

    # -- drifts ------------------------------------------------------------------------------------------------------

    def dynamics(self, window: Window) -> Float[Array, " d"]:
        """The drift of the data's SDE: the flow, with its consistent partner on a chord. The likelihood's drift."""
        if self.config.denoiser != "consistent":
            return self.flow(window)
        process, y = self._noise_process(), window.present
        G = self._matrix(window)
        pull = _squared(G, self.score(window))
        return self.flow(window) + 0.5 * (pull + covariance_divergence(process, 0.0, y, window))

    def drift(self, window: Window, step: Float[Array, " d"] | None = None) -> Float[Array, " d"]:
        """What is sampled: the dynamics and the stabiliser, if there is one.

        step: (d,) the time over which this drift will be taken; the limit of short steps without it.
        """
        if self.config.denoiser in ("none", "consistent"):
            return self.dynamics(window)
        window = self.recall(window)
        pull = self._stabiliser(window)
        if step is not None:
            _, along = jax.jvp(lambda y: self._stabiliser(window.moved(y)), (window.present,), (pull,))
            rate = -(pull @ along) / jnp.maximum(pull @ pull, jnp.finfo(pull.dtype).tiny)
            pull = pull * _share_of_decay(lax.stop_gradient(rate) * step)
        return self.dynamics(window) + pull

    def _stabiliser(self, window: Window) -> Float[Array, " d"]:
        strength = lax.stop_gradient(jnp.asarray(self.strength))
        if self.config.denoiser == "state":
            return strength * 0.5 * _squared(self._matrix(window), self.score(window))
        return -strength * self._denoiser_noise / self.travel * self.predicted_noise(window)

    # -- laws --------------------------------------------------------------------------------------------------------

    def step(self, window: Window, span: Float[Array, " d"]) -> StepLaw:
        """The law of one Euler-Maruyama step, over a time `span` (d,) of each channel's own: what is sampled."""
        return one_step(self.drift(window, span), self.noise(window), window, span, self.dof)

    def transition(self, window: Window, dt: Float[Array, ""]) -> StepLaw:
        """The law of the state a gap `dt` later, as the likelihood has it."""
        window = self.recall(window)
        return self.law(window, dt + window.staleness, self.dynamics, self.noise)

    def law(self, window: Window, span: Float[Array, " d"], drift: Drift, noise: Noise) -> StepLaw:
        """The fitted law over `span` with this drift and noise: the model's own, or some of it held."""
        config = self.config
        if config.law == "local-linear":
            return local_linear(drift, noise, window, span)
        if config.substeps > 1:
            return several_steps(drift, noise, window, span, config.substeps)
        return one_step(drift(window), noise(window), window, span, self.dof)

    def held(self) -> SequenceSDE:
        """The same model, all its weights constants to a gradient."""
        arrays, rest = eqx.partition(self, eqx.is_inexact_array)
        return eqx.combine(lax.stop_gradient(arrays), rest)

    # -- process -----------------------------------------------------------------------------------------------------

    def process(self) -> SDE:
        """The SDE inside a gap, for `sde.simulate`, with `args = InGap(window, stretch, clock)`."""
        return SDE(
            lambda t, y, args: self.drift(args.window.moved(y), args.span) * args.stretch,
            lambda t, y, args: _scaled(self._matrix(args.window.moved(y)), jnp.sqrt(args.stretch * args.clock)),
            noise=self._noise_kind,
            calculus=Ito(),
        )

    @property
    def _noise_kind(self) -> Diagonal | General:
        shape = {"diagonal": 0, "low-rank": self.dim + self.config.rank, "full": self.dim}[self.config.noise]
        return General(shape) if shape else Diagonal()

    def _noise_process(self) -> SDE:
        """The noise alone, with the window as its arguments."""
        return SDE(
            lambda t, y, window: jnp.zeros_like(y),
            lambda t, y, window: self._matrix(window.moved(y)),
            noise=self._noise_kind,
            calculus=Ito(),
        )

    def _matrix(self, window: Window) -> Array:
        """G: (d,) when it is diagonal, else (d, m)."""
        sd, loading = self.noise(window)
        if self.config.noise == "diagonal":
            return sd
        return loading if self.config.noise == "full" else jnp.concatenate([jnp.diag(sd), loading], axis=1)


def _squared(G: Array, v: Float[Array, " d"]) -> Float[Array, " d"]:
    """G Gᵀ v."""
    return jnp.square(G) * v if G.ndim == 1 else G @ (G.T @ v)


def _share_of_decay(x: Array) -> Array:
    """(1 - e^-x) / x, 1 at zero."""
    some = jnp.where(x > 0, x, 1.0)
    return jnp.where(x > 0, -jnp.expm1(-some) / some, 1.0)


def _scaled(G: Array, factor: Float[Array, " d"]) -> Array:
    return G * factor if G.ndim == 1 else G * factor[:, None]


def _noise_size(config: Config, d: int) -> int:
    return d + {"diagonal": 0, "low-rank": d * config.rank, "full": d * (d - 1) // 2}[config.noise]


def _first_loading(config: Config, d: int, key: Key[Array, ""]) -> Array | None:
    if config.noise != "low-rank":
        return None
    return _FIRST_FACTOR * jax.random.normal(key, (d, config.rank), jnp.float32)


def _first_strength(config: Config) -> float:
    """A calibrated stabiliser is off until its strength is known."""
    return 0.0 if config.denoiser == "calibrated" else config.strength


def _head(size: int, out: int, config: Config, key: Key[Array, ""]) -> MLP | ResidualMLP:
    """One coefficient's network, or on a shared trunk a linear map."""
    if config.network == "residual" and config.backbone == "separate":
        return ResidualMLP(size, out, width=config.width, blocks=config.depth, key=key)
    return MLP(size, out, width=config.width, depth=0 if config.backbone == "shared" else config.depth, key=key)


def _trunk(size: int, config: Config, key: Key[Array, ""]) -> eqx.nn.MLP | ResidualTrunk:
    if config.network == "residual":
        return ResidualTrunk(size, width=config.width, blocks=config.depth, key=key)
    depth = max(config.depth - 1, 0)
    return eqx.nn.MLP(
        size, config.width, config.width, depth, activation=jax.nn.silu, final_activation=jax.nn.silu, key=key
    )

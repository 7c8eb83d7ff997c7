"""A plan as a path: a sequence SDE over actions, rolled forward in physical time from what is being done now.

    x_0 = a_(t-1),   dx = f(x, c_k) ds + G(x, c_k) dW,  s in [k, k + 1]   ->   x_(k+1) = a_(t+k)

c_k = (observations up to t, k / H): what had been seen when the plan was made, and how far into it. `jointly` the state
holds the observation as well, as in the paper: x = (o, a). Training is on single transitions of demonstrated plans, by
the losses of `models.sequence_sde` with all their options, never on a simulation.

Several steps an action are Euler-Maruyama steps of length 1/m; they refine a policy that was fitted with as many
(`substeps`), and bend the law of one that was fitted with one, by order 1/m. An `anytime` policy is told how long a
step is, and is fitted to steps of every length h on Brownian bridges between demonstrated actions, with its own noise G
of a whole action, w = h / (1 - s):

    x_s = x_0 + s (x_1 - x_0) + sqrt(s (1 - s)) G z',      x_(s+h) = x_s + w (x_1 - x_s) + sqrt(w (1 - s - h)) G z

Noise on the input (`input_noise`) is there at the start of an action, and the bridge begins where it has led: within an
action it would have to be undone by steps too short for it, or would blur the bridge's pull.

One step draws from one Gaussian; where that is the law of the next action many steps draw from the same, and where it
is not they may find its several ways. One evaluation for m actions holds the coefficients for m units of time:
x_(k+j) = x_k + j f + G (W_(k+j) - W_k), one step, read off m times.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from neuralsde.errors import InputError
from neuralsde.models import sequence_sde
from neuralsde.models.sequence_sde import Running, SequenceSDE, StepLaw, Transition
from neuralsde.models.sequence_sde.law import random_clock, shaped
from neuralsde.models.sequence_sde.objective import noise_on_input
from neuralsde.models.sequence_sde.window import Window
from neuralsde.robot.plan_law import Execution, PlanLaw, Planned, Shape
from neuralsde.robot.plans import Batch

OPTIONS = sequence_sde.Config(history=0, network="residual", flow_loss="mse", input_noise=0.02)
"""Of the first Push-T policy: mean-square flow, likelihood of the frozen flow's residuals, noise on the action."""
_ROOM = 0.1
_MOST_PARTS = 128.0
"""Steps an action, up to which an anytime policy is fitted."""


@dataclass(frozen=True)
class Facts:
    """What is learnt from the demonstrations before training: how far actions, and observations and actions, move from
    one row to the next (root mean square, model units).
    """

    walk: tuple[float, ...]
    walk_joint: tuple[float, ...]


@dataclass(frozen=True)
class SDE:
    """Options of a policy that is a stochastic process.

    options: of the sequence SDE; its `width` and `depth` are those of the policy. joint: observation and action both.
    anytime: fitted to steps of every length, so that `steps` refines.
    """

    options: sequence_sde.Config = field(default=OPTIONS)
    joint: bool = False
    anytime: bool = False

    def __post_init__(self) -> None:
        if self.options.past:
            raise InputError(
                f"a sequence SDE that reads {self.options.past} rows of the past",
                "a policy is given its past as observations",
                "history=0, lags=(), memory=0",
                "a larger n_obs",
            )
        if self.anytime and self.options.interpolation != "none":
            raise InputError(
                f"anytime=True with interpolation={self.options.interpolation!r}",
                "an anytime policy is fitted on bridges of its own",
                "interpolation='none'",
            )
        if self.anytime and (self.options.flow_loss == "mse" or self.options.reach > 1):
            raise InputError(
                f"anytime=True with flow_loss={self.options.flow_loss!r} and reach={self.options.reach}",
                "the velocities of short steps are all noise, and would outweigh the others",
                "a flow loss that is weighted by the time of a step, and reach=1",
                "flow_loss='gaussian'",
            )

    def build(self, shape: Shape, width: int, blocks: int, facts: Facts, *, key: Key[Array, ""]) -> SdePlan:
        options = replace(self.options, width=width, depth=blocks)
        walk = np.array(facts.walk_joint if self.joint else facts.walk)
        noise = max(np.max(options.input_noise), 0.0 if options.denoiser == "none" else np.max(options.denoiser_noise))
        edge = (1 + max(_ROOM, 3 * float(noise))) * np.ones(len(walk))
        options.sizes(len(walk))
        # of an anytime policy the noise on the input is this module's business (`part_of`)
        fitted = replace(options, input_noise=0.0) if self.anytime else options
        model = SequenceSDE(
            fitted, len(walk), shape.context + (3 if self.anytime else 1), walk=walk, bounds=np.stack([-edge, edge]),
            travel=float(np.sqrt(np.mean(np.square(np.asarray(options.denoiser_noise) / walk)))), key=key,
        )  # fmt: skip
        return SdePlan(shape, model, self.joint, self.anytime, options)


class SdePlan(PlanLaw):
    """A `SequenceSDE` whose context is (history, offset in the plan). options: those that were asked for."""

    shape: Shape = eqx.field(static=True)
    sde: SequenceSDE
    joint: bool = eqx.field(static=True)
    anytime: bool = eqx.field(static=True, default=False)
    options: sequence_sde.Config = eqx.field(static=True, default=OPTIONS)

    # -- training ----------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch, aux: Any, *, key: Key[Array, ""]) -> tuple[Array, tuple[dict[str, Array], Any]]:
        offset_key, key = jax.random.split(key)
        transitions = jax.vmap(self.transition)(batch, jax.random.split(offset_key, len(batch.action)))
        return sequence_sde.loss(self.sde, transitions, aux, key=key)

    def part_of(self, whole: Transition, moment: Batch, offset: Int[Array, ""], key: Key[Array, ""]) -> Transition:
        """A transition over one action, or half of the time over the part 1/m of it, on a bridge."""
        length, where, near, far, astray = jax.random.split(key, 5)
        m = jnp.round(_MOST_PARTS ** jnp.maximum(0.0, 2 * jax.random.uniform(length) - 1))
        h = 1 / m
        s = jnp.floor(m * jax.random.uniform(where)) * h
        off = noise_on_input(self.options, whole.target, key=astray)
        start = whole.window.present + off
        end = whole.target + (off if self.sde.config.noise_target == "keep" else 0.0)
        sd, loading = lax.stop_gradient(self.sde.noise(whole.window))

        def noise(key: Key[Array, ""]) -> Float[Array, " d"]:
            return shaped(sd, loading, jax.random.normal(key, (len(sd) + loading.shape[1],)))

        x = start + s * (end - start) + jnp.sqrt(s * (1 - s)) * noise(near)
        way, left = h / (1 - s), jnp.maximum(1 - s - h, 0.0)
        wander = jnp.sqrt(way * left) * noise(far)
        window = self.window(x, moment.history, offset, s, h)
        return Transition(window, h, x + way * (end - x) + wander, whole.seen)

    def transition(self, moment: Batch, key: Key[Array, ""]) -> Transition:
        """One transition of a demonstrated plan, at a random offset, over 1 to `reach` actions."""
        where, how_long, part = jax.random.split(key, 3)
        offset = jax.random.randint(where, (), 0, self.shape.horizon)
        most = jnp.minimum(self.sde.config.reach, self.shape.horizon - offset)
        span = jax.random.randint(how_long, (), 1, most + 1)
        states = jnp.concatenate([moment.action[None], moment.plan])
        if self.joint:
            observed = jnp.concatenate([moment.history[-1:], moment.future])
            states = jnp.concatenate([observed, states], axis=1)
        end = offset + span
        seen: Bool[Array, " d"] = jnp.broadcast_to(moment.seen[end - 1], states.shape[1:])
        window = self.window(states[offset], moment.history, offset)
        whole = Transition(window, span.astype(states.dtype), states[end], seen)
        return self.part_of(whole, moment, offset, part) if self.anytime else whole

    def first_aux(self) -> Running:
        return Running.first(jnp.asarray(self.sde.walk))

    def window(
        self, x: Float[Array, " d"], history: Float[Array, "n_obs f"], offset: Any, s: Any = 0.0, h: Any = 1.0
    ) -> Window:
        """What the networks read: the state, what was seen, how many actions into the plan.

        And of an anytime policy how far into the action, and how long a step is asked for.
        """
        told = [offset / self.shape.horizon]
        if self.anytime:
            told += [s, jnp.log(h) / np.log(_MOST_PARTS)]
        zero = jnp.zeros_like(x)
        context = jnp.concatenate([history.ravel(), jnp.stack([jnp.asarray(part, x.dtype) for part in told])])
        return Window(x[None], zero[None], zero[:1], zero[0], context)

    # -- planning ----------------------------------------------------------------------------------------------------

    def plan(
        self, history: Float[Array, "n_obs f"], action: Float[Array, " a"], how: Execution, *, key: Key[Array, ""]
    ) -> Planned:
        """The path from `action` over `how.execute` units of time."""
        rate, count = how.rate, _Counting(self.sde)
        substeps, hold = rate.numerator, rate.denominator
        shared = self.sde.config.noise != "diagonal"

        def refined(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], Array]:
            """One action in several steps."""
            clock = random_clock(self.sde.dof, shared, key, i * substeps, carry[0])

            def substep(carry: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], None]:
                (x, spent), before = carry, count.calls
                s, h = (k - i * substeps) / substeps, 1 / substeps
                law = count.step(self.window(x, history, i, s, h), h).on(clock)
                return (_draw(law, key, k, how.noise), spent + count.calls - before), None

            carry, _ = lax.scan(substep, carry, i * substeps + jnp.arange(substeps))
            return carry, carry[0][None]

        def held(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], Array]:
            """Several actions in one step."""
            (x, spent), before = carry, count.calls
            law = count.step(self.window(x, history, i * hold), 1.0)
            draws = jax.vmap(lambda k: _draw(law, key, k, how.noise))(i * hold + jnp.arange(hold))
            path = x + jnp.cumsum(draws - x, axis=0)
            return (path[-1], spent + count.calls - before), path

        start = jnp.concatenate([history[-1], action]) if self.joint else action
        blocks = -(-how.execute // hold)
        step = refined if substeps > 1 else held
        (_, spent), paths = lax.scan(step, (start, jnp.zeros((), jnp.int32)), jnp.arange(blocks))
        return Planned(paths.reshape(-1, len(start))[: how.execute, -self.shape.action :], spent)


class _Counting:
    """Counts the evaluations of a model while a program is traced."""

    def __init__(self, model: SequenceSDE) -> None:
        self.model, self.calls = model, 0

    def step(self, window: Window, span: Array | float) -> StepLaw:
        self.calls += 1
        return self.model.step(window, jnp.full_like(window.present, span))


def _draw(law: StepLaw, key: Key[Array, ""], index: Array, noise: float) -> Float[Array, " d"]:
    return law.mean + noise * (law.sample(key, index) - law.mean) if noise else law.mean

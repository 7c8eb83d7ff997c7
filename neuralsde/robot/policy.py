"""A policy: what was seen and what is being done, to what is done next; in pixels and NumPy on both sides.

    histories (b, n_obs, f), actions (b, a), key  ->  (b, execute, a)            one compiled call

A control loop has no time for a Python framework: the weights lie on the device already, the call is one program for
each batch size, its inputs are packed into one array, and a key is two numbers. Scaling, random numbers, networks and
clipping are all inside. Every environment of a batch draws its own numbers, by its place or by a key of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt32

from neuralsde.data.pusht import Normaliser
from neuralsde.errors import InputError, closest
from neuralsde.models import sequence_sde
from neuralsde.robot.baselines import Cloning, Diffusion, FlowMatching, Mixture
from neuralsde.robot.plan_law import Execution, PlanLaw, Shape
from neuralsde.robot.sde_plan import SDE, Facts
from neuralsde.robot.seeing import Encoder, Seeing
from neuralsde.runs.generative import families
from neuralsde.sde.brownian import subkey

Method = SDE | Cloning | Mixture | Diffusion | FlowMatching
METHODS: dict[str, type[Any]] = {
    "sde": SDE,
    "cloning": Cloning,
    "mixture": Mixture,
    "diffusion": Diffusion,
    "flow-matching": FlowMatching,
}
"""By the names that a command line uses."""
KINDS = ("keypoints", "pose", "image")


@dataclass(frozen=True)
class Config:
    """What is learnt.

    method:  a value of one of `METHODS`, with its options.
    kind:    what is observed: one of `KINDS`.
    n_obs:   observations that are read, the present one included.
    horizon: actions in a plan.
    width, blocks: of the residual network, the same for every method.
    observation_noise: s.d. of noise on the observations in training, in units of half their range; a regulariser.
    mirror:  learn from the mirror image of every demonstration too (`data.pusht.mirrored`).
    encoder: of images; None for a policy of numbers, the usual one for a policy of images that names none.
    """

    method: Method = field(default=SDE())
    kind: str = "keypoints"
    n_obs: int = 2
    horizon: int = 8
    width: int = 256
    blocks: int = 3
    observation_noise: float = 0.0
    mirror: bool = False
    encoder: Encoder | None = None

    def __post_init__(self) -> None:
        for name, least in (("n_obs", 1), ("horizon", 1), ("width", 1), ("blocks", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r}", expected=f"a whole number, at least {least}")
        if self.kind not in KINDS:
            raise InputError(f"kind={self.kind!r} of a policy", expected=" or ".join(KINDS))
        if not 0 <= self.observation_noise < np.inf:
            raise InputError(f"observation_noise={self.observation_noise!r}", expected="0 or a positive number")
        if self.kind == "image" and self.encoder is None:
            object.__setattr__(self, "encoder", Encoder())
        if self.encoder is not None:
            self._check(self.encoder)

    def _check(self, encoder: Encoder) -> None:
        """What an encoder cannot be joined with."""
        if self.kind != "image":
            raise InputError(f"an encoder of images for kind={self.kind!r}", expected="kind='image', or no encoder")
        if encoder.told:
            return
        if self.observation_noise:
            raise InputError("observation_noise with plans from images", "there is no place for it",
                             "observation_noise=0", "the encoder's shift")  # fmt: skip
        if isinstance(self.method, SDE) and self.method.joint:
            raise InputError("joint=True with plans from images", "what is found in them changes as the encoder learns",
                             "joint=False", "plans_from='keypoints'")  # fmt: skip

    @property
    def name(self) -> str:
        """Of the method."""
        return next(name for name, kind in METHODS.items() if type(self.method) is kind)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for `config_of`."""
        ours = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("method", "encoder")}
        ours |= {} if self.encoder is None else {"encoder": asdict(self.encoder)}
        return {"method": self.name, "settings": _plain(self.method), **ours}


def config_of(saved: Mapping[str, Any]) -> Config:
    """The config that `to_dict` wrote. Raises InputError for a method or a setting that there is none of."""
    given = dict(saved)
    name, settings = given.pop("method"), dict(given.pop("settings", {}))
    if name not in METHODS:
        raise InputError(f"the policy '{name}'", "there is none of that name", hint=closest(str(name), METHODS))
    if "options" in settings:
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["options"].items()}
        settings["options"] = _OPTIONS[name](options)
    try:
        if given.get("encoder") is not None:
            given["encoder"] = Encoder(**given["encoder"])
        return Config(method=METHODS[name](**settings), **given)
    except TypeError as error:
        raise InputError(f"a policy with settings {sorted(settings)} and {sorted(given)}", str(error)) from error


_OPTIONS: dict[str, Any] = {
    "sde": lambda options: sequence_sde.Config(**options),
    "diffusion": lambda options: families.config_of("score", options),
    "flow-matching": lambda options: families.config_of("flow-matching", options),
}


def _plain(settings: Any) -> dict[str, Any]:
    def value(given: Any) -> Any:
        if isinstance(given, sequence_sde.Config):
            return asdict(given)
        return families.plain(given) if is_dataclass(given) else given

    return {f.name: value(getattr(settings, f.name)) for f in fields(settings)}


@dataclass(frozen=True)
class Setting:
    """Where a policy acts: how many numbers an observation and an action have, their units, and how far they move."""

    observation: int
    action: int
    observations: Normaliser
    actions: Normaliser
    facts: Facts

    def shape(self, config: Config) -> Shape:
        return Shape(self.observation, config.n_obs, self.action, config.horizon)

    def to_dict(self) -> dict[str, Any]:
        return {
            "observation": self.observation,
            "action": self.action,
            "observations": self.observations.to_dict(),
            "actions": self.actions.to_dict(),
            "facts": {name: list(value) for name, value in asdict(self.facts).items()},
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Setting:
        facts = Facts(*(tuple(saved["facts"][name]) for name in ("walk", "walk_joint")))
        seen, done = (Normaliser.from_dict(saved[name]) for name in ("observations", "actions"))
        return cls(saved["observation"], saved["action"], seen, done, facts)


def build(config: Config, setting: Setting, *, key: Key[Array, ""]) -> PlanLaw:
    """The law before training."""
    shape, encoder = setting.shape(config), config.encoder
    if encoder is None:
        return config.method.build(shape, config.width, config.blocks, setting.facts, key=key)
    inner = replace(shape, observation=encoder.features)
    law = config.method.build(inner, config.width, config.blocks, setting.facts, key=key)
    return Seeing.of(encoder, shape, law, key=jax.random.fold_in(key, 1))


class Policy:
    """A fitted law of plans, where it acts, and how it is asked; `executing` gives the same one asked otherwise."""

    def __init__(self, config: Config, setting: Setting, law: PlanLaw, how: Execution | None = None) -> None:
        self.config, self.setting, self.law = config, setting, law
        self.how = how or Execution(execute=config.horizon)
        law.check(self.how)
        arrays, static = eqx.partition(law, eqx.is_array)
        # a list is flattened faster at every call than a tree of modules
        self._weights, tree = jax.tree.flatten(arrays)
        self._program = jax.jit(
            lambda weights, packed: _act(self, eqx.combine(tree.unflatten(weights), static), packed)
        )
        self._evaluations: Array | None = None
        self._siblings: dict[Execution, Policy] = {self.how: self}

    @property
    def n_obs(self) -> int:
        return self.config.n_obs

    @property
    def kind(self) -> str:
        return self.config.kind

    def executing(self, **changes: Any) -> Policy:
        """The same policy under another `Execution`: `executing(execute=4, steps=2, noise=0.75)`."""
        how = replace(self.how, **changes)
        if how not in self._siblings:  # asked like this before: the same one, and its compiled program
            self._siblings[how] = Policy(self.config, self.setting, self.law, how)
            self._siblings[how]._siblings = self._siblings
        return self._siblings[how]

    def act(self, histories: np.ndarray, last: np.ndarray, seeds: Any) -> np.ndarray:
        """The next `execute` actions (b, execute, a) of b environments, in pixels, float32.

        histories: (b, n_obs, f) raw observations, the newest last. last: (b, a) the last commanded actions; where there
        is none yet, the agent's positions. seeds: (b,) uint32, one for each, so that its plan does not depend on the
        others; or a whole number or a JAX key for all, each environment then draws by its place in the batch.
        Raises InputError for shapes that do not fit.
        """
        shape = self._checked(histories, last)
        b = len(last)
        packed = np.empty((b, shape.context + shape.action + 3), np.uint32)
        numbers = packed.view(np.float32)
        numbers[:, : shape.context] = histories.reshape(b, -1)
        numbers[:, shape.context : -3] = last
        packed[:, -3:-1] = data = _key_data(seeds, b)
        packed[:, -1] = np.arange(b) if data.ndim == 1 else 0
        planned, self._evaluations = self._program(self._weights, packed)
        return np.asarray(planned)

    @property
    def evaluations(self) -> int:
        """Evaluations of the last plan, as the program counted them; before the first one that of a plan of zeros."""
        if self._evaluations is None:
            shape = self.setting.shape(self.config)
            self.act(np.zeros((1, shape.n_obs, shape.observation), np.float32), np.zeros((1, shape.action)), 0)
        return int(np.max(np.asarray(self._evaluations)))

    @property
    def evaluations_per_action(self) -> float:
        """By executed action."""
        return self.evaluations / self.how.execute

    def _checked(self, histories: np.ndarray, last: np.ndarray) -> Shape:
        shape = self.setting.shape(self.config)
        wanted = (len(last), shape.n_obs, shape.observation), (len(last), shape.action)
        if (histories.shape, last.shape) != wanted:
            raise InputError(
                f"histories {histories.shape} and actions {last.shape}",
                expected=f"(b, {shape.n_obs}, {shape.observation}) and (b, {shape.action}), a row for each environment",
            )
        return shape


def acting(
    setting: Setting,
    law: PlanLaw,
    how: Execution,
    histories: Float[Array, "b n_obs f"],
    last: Float[Array, "b a"],
    keys: UInt32[Array, "b two"],
    places: UInt32[Array, " b"],
) -> tuple[Float[Array, "b execute a"], Int[Array, " b"]]:
    """The program of `Policy.act`, traced: actions in pixels and evaluations. Row i draws by (keys[i], places[i])."""

    def one(history: Array, last: Array, key: Array, place: Array) -> tuple[Array, Array]:
        key = subkey(jax.random.wrap_key_data(key, impl="threefry2x32"), place.astype(jnp.int32), 0)
        seen, done = setting.observations.encode(history), setting.actions.encode(last)
        planned = law.plan(seen, done, how, key=key)
        return setting.actions.decode(jnp.clip(planned.actions, -1.0, 1.0)), planned.evaluations

    return jax.vmap(one)(histories, last, keys, places)


def _act(policy: Policy, law: PlanLaw, packed: UInt32[Array, "b n"]) -> tuple[Float[Array, "b execute a"], Array]:
    """`acting` on rows of history and action as bits, two numbers of a key, and the place."""
    numbers, shape = jax.lax.bitcast_convert_type(packed[:, :-3], jnp.float32), law.shape
    histories = numbers[:, : shape.context].reshape(len(packed), shape.n_obs, -1)
    rest = numbers[:, shape.context :], packed[:, -3:-1], packed[:, -1]
    return acting(policy.setting, law, policy.how, histories, *rest)


def _key_data(seeds: Any, b: int) -> UInt32[np.ndarray, "*b two"]:
    """Two numbers for all environments, or two for each: what `jax.random.key` makes of a seed."""
    if isinstance(seeds, int | np.integer):
        return np.array([int(seeds) >> 32 & 0xFFFFFFFF, int(seeds) & 0xFFFFFFFF], np.uint32)
    if isinstance(seeds, jax.Array) and jnp.issubdtype(seeds.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(seeds))
    seeds = np.asarray(seeds)
    if seeds.dtype != np.uint32 or seeds.shape != (b,):
        raise InputError(f"seeds {seeds.dtype} of shape {seeds.shape}", "", f"uint32 ({b},), a whole number, or a key")
    return np.stack([np.zeros_like(seeds), seeds], axis=1)

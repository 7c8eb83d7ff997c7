"""Policies against closed forms: an SDE whose law is known, baselines whose network is still zero, and exact reloads.

A new network is zero, so a new SDE policy is a random walk of known size, a new diffusion policy the exact one of
N(0, data_sd²), a new flow the identity. A linear drift gives (1 - λ h)^n by Euler's method.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from scipy import stats

from neuralsde.data.pusht import ACTIONS, Demonstrations, normaliser
from neuralsde.errors import InputError
from neuralsde.models import sequence_sde
from neuralsde.robot.baselines import Cloning, Diffusion, FlowMatching, Mixture
from neuralsde.robot.baselines.mixture import MixturePlan
from neuralsde.robot.plan_law import Execution, PlanLaw, Shape
from neuralsde.robot.plans import Batch
from neuralsde.robot.policy import Config, Policy, Setting, build, config_of
from neuralsde.robot.rollout import Actor
from neuralsde.robot.sde_plan import OPTIONS, SDE, Facts, SdePlan
from neuralsde.robot.train import load_policy, save_policy, train_policy
from neuralsde.runs.folder import RunFolder
from neuralsde.sampling import DDIM
from neuralsde.train.problem import TrainConfig

H, WALK, PULL = 4, 0.1, 0.3
SMALL: dict[str, Any] = {"kind": "pose", "n_obs": 2, "horizon": H, "width": 4, "blocks": 1}
SETTING = Setting(6, 2, normaliser("pose"), ACTIONS, Facts((WALK, WALK), (WALK,) * 8))
HISTORY = np.full((2, 6), 256.0, np.float32)


@functools.cache
def new(method: Any) -> tuple[Config, PlanLaw]:
    config = Config(method=method, **SMALL)
    return config, build(config, SETTING, key=jax.random.key(0))


def plans(law: PlanLaw, how: Execution, n: int, at: float = 0.0) -> tuple[np.ndarray, np.ndarray, int]:
    """So many plans (n, execute, 2) from one moment, one without noise, and the evaluations of one."""

    @jax.jit
    def draw(keys: Array) -> tuple[Array, Array, Array]:
        asked = jnp.zeros((2, 6)), jnp.full(2, at)
        found = jax.vmap(lambda k: law.plan(*asked, how, key=k))(keys)
        quiet = law.plan(*asked, dataclasses.replace(how, noise=0.0), key=keys[0])
        return found.actions, quiet.actions, found.evaluations

    actions, quiet, evaluations = draw(jax.random.split(jax.random.key(1), n))
    return np.asarray(actions), np.asarray(quiet), int(evaluations[0])


# -- the SDE -----------------------------------------------------------------------------------------------------------


def pulled(joint: bool = False) -> SdePlan:
    """A policy whose flow is -λ x, with the diffusion of a new one."""
    _, law = new(SDE(joint=joint))
    assert isinstance(law, SdePlan)
    d = law.sde.dim
    slope = law.sde.flow_net.linear.weight.at[:d, :d].set(-PULL * jnp.eye(d))
    return eqx.tree_at(lambda law: law.sde.flow_net.linear.weight, law, slope)


@pytest.mark.parametrize(("steps", "spent"), [(1, 4), (3, 12), (0.5, 2)])
def test_a_plan_is_the_euler_maruyama_path_of_the_sde(steps: float, spent: int):
    """Mean and variance of every action of a linear SDE, and the path without noise, by the recursion of the method."""
    law, n, x0 = pulled(), 4_000, 0.5
    m, hold = max(1, round(steps)), max(1, round(1 / steps))
    mean, variance, means, variances = x0, 0.0, [], []
    first = mean, variance
    for k in range(H):
        for _ in range(m if hold == 1 else 0):
            mean, variance = mean * (1 - PULL / m), variance * (1 - PULL / m) ** 2 + WALK**2 / m
        if hold > 1:  # the slope at the start of a block is held: x_(k+j) = x_k (1 - λ j) + noise
            first, j = (mean, variance) if k % hold == 0 else first, k % hold + 1
            mean, variance = first[0] * (1 - PULL * j), first[1] * (1 - PULL * j) ** 2 + WALK**2 * j
        means.append(mean)
        variances.append(variance)
    found, quiet, evaluations = plans(law, Execution(H, steps), n, x0)
    assert evaluations == spent
    z = (found.mean((0, 2)) - means) / np.sqrt(np.array(variances) / (2 * n))
    assert np.abs(z).max() < 4
    np.testing.assert_allclose(found.var(0).mean(1), variances, rtol=5 / np.sqrt(n))
    np.testing.assert_allclose(quiet, np.repeat(np.array(means)[:, None], 2, 1), rtol=1e-5)


def test_a_joint_policy_moves_observation_and_action_together():
    law = pulled(joint=True)
    _, quiet, _ = plans(law, Execution(H), 1, 0.5)
    np.testing.assert_allclose(quiet[:, 0], 0.5 * (1 - PULL) ** np.arange(1, H + 1), rtol=1e-5)


def moments(b: int) -> Batch:
    """States that tell their own number."""
    rng = np.random.default_rng(0)
    plan = jnp.broadcast_to(1.0 + jnp.arange(H)[None, :, None], (b, H, 2))
    future = jnp.broadcast_to(10.0 + 1.0 + jnp.arange(H)[None, :, None], (b, H, 6))
    seen = jnp.asarray(np.arange(H)[None] < rng.integers(1, H + 1, b)[:, None])
    return Batch(jnp.full((b, 2, 6), 10.0), jnp.zeros((b, 2)), plan, future, seen)


def test_transitions_of_a_plan_have_the_right_ends_spans_and_offsets():
    options = dataclasses.replace(OPTIONS, reach=2)
    _, law = new(SDE(options=options, joint=True))
    assert isinstance(law, SdePlan)
    b = 64
    found = jax.jit(jax.vmap(law.transition))(moments(b), jax.random.split(jax.random.key(0), b))
    start, end = found.window.value[:, 0], found.target
    offset = np.asarray(found.window.context[:, -1]) * H
    np.testing.assert_allclose(start[:, 6:], np.repeat(offset[:, None], 2, 1))
    np.testing.assert_allclose(start[:, :6], 10.0 + np.repeat(offset[:, None], 6, 1))
    np.testing.assert_allclose(end - start, np.repeat(np.asarray(found.dt)[:, None], 8, 1))
    reached = (offset + np.asarray(found.dt)).astype(int) - 1
    np.testing.assert_array_equal(found.seen[:, 0], np.asarray(moments(b).seen)[np.arange(b), reached])
    assert set(offset.tolist()) == {0.0, 1.0, 2.0, 3.0}
    assert set(np.asarray(found.dt).tolist()) == {1.0, 2.0}


@pytest.mark.parametrize("target", ["keep", "return"])
def test_an_anytime_policy_learns_from_parts_of_bridges(target: Literal["keep", "return"]):
    """Half of the transitions are whole actions; the others end on a Brownian bridge, between the right times.

    Noise on the start of an action goes on to its end, or is gone by then.
    """
    noisy = dataclasses.replace(OPTIONS, flow_loss="gaussian", input_noise=0.3, noise_target=target)
    method = SDE(options=noisy, anytime=True)
    _, law = new(method)
    assert isinstance(law, SdePlan)
    n = 4_000
    still = dataclasses.replace(moments(n), seen=jnp.ones((n, H), bool))
    found = jax.jit(jax.vmap(law.transition))(still, jax.random.split(jax.random.key(3), n))
    clock, s = np.asarray(found.window.context[:, -3:-1]).T * np.array([[H], [1]])
    h = 128.0 ** np.asarray(found.window.context[:, -1])
    parts = np.round(1 / h)
    np.testing.assert_allclose(h, found.dt, rtol=1e-4)
    np.testing.assert_allclose(1 / h, parts, rtol=1e-4)
    assert abs((parts == 1).mean() - 0.5) < 4 * 0.5 / np.sqrt(n) + 0.05  # also parts that round to one
    assert parts.max() > 100
    np.testing.assert_allclose(clock, np.round(clock), atol=1e-5)
    for at, x in ((s, found.window.value[:, 0]), (s + h, found.target)):  # from offset k to k + 1 actions move by one
        off = np.asarray(x) - (clock + at)[:, None]
        left = 0.3 * (1.0 if target == "keep" else np.round(1 - at, 6))
        variance = np.maximum(WALK**2 * at * (1 - at), 0) + left**2
        np.testing.assert_allclose(off[variance < 1e-6], 0.0, atol=1e-2)
        z = off[variance >= 1e-6] / np.sqrt(variance[variance >= 1e-6])[:, None]
        assert abs(z.mean()) < 4 / np.sqrt(z.size)
        assert abs(z.var() - 1) < 4 * np.sqrt(2 / z.size)
    if target == "keep":
        moved = np.asarray(found.target - found.window.value[:, 0])[parts == 1]
        np.testing.assert_allclose(moved, 1.0, atol=1e-5)
    assert plans(law, Execution(H, 3), 1)[2] == 3 * H
    for wrong, words in (({}, "flow_loss='mse'"), ({"flow_loss": "gaussian", "interpolation": "chord"}, "'chord'")):
        with pytest.raises(InputError, match=f"anytime=True with .*{words}"):
            SDE(options=dataclasses.replace(OPTIONS, **wrong), anytime=True)


# -- baselines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [False, True])
def test_a_chunk_knows_the_last_action_where_it_is_told(told: bool):
    """Of a network with every weight moved; by name, with and without, as a saved policy has it."""
    method = FlowMatching(last_action=told)
    config, law = new(method)
    assert config_of(json.loads(json.dumps(config.to_dict()))) == config
    moved = jax.tree.map(lambda a: a + 0.3 if eqx.is_inexact_array(a) else a, law)
    apart = plans(moved, Execution(1, 1), 1, 0.5)[0] - plans(moved, Execution(1, 1), 1, 0.0)[0]
    assert bool(np.abs(apart).max() > 1e-4) == told


def test_a_new_diffusion_policy_samples_its_prior_guess_and_a_new_flow_its_noise():
    """DDIM on N(0, c²) multiplies by (α_s α_t c² + σ_s σ_t) / (α_t² c² + σ_t²) a step."""
    _, law = new(Diffusion())
    found, quiet, evaluations = plans(law, Execution(H, 8), 3_000)
    assert np.abs(quiet).max() < 1e-6
    assert evaluations == 32
    schedule, c = Diffusion().options.schedule, Diffusion().options.data_sd
    ts = DDIM().times(schedule, 32)
    a, s = np.asarray(schedule.alpha(ts), float), np.asarray(schedule.sigma(ts), float)
    factors = (a[1:] * a[:-1] * c**2 + s[1:] * s[:-1]) / (a[:-1] ** 2 * c**2 + s[:-1] ** 2)
    assert found.std() == pytest.approx(factors.prod(), rel=4 / np.sqrt(2 * found.size))
    _, law = new(FlowMatching(sampler="heun"))
    found, _, evaluations = plans(law, Execution(3, 1), 3_000)
    assert (found.shape, evaluations) == ((3_000, 3, 2), 2)
    assert found.std() == pytest.approx(1.0, rel=4 / np.sqrt(2 * found.size))


def test_the_mixture_has_the_density_that_it_says_and_draws_from_it():
    _, law = new(Mixture(components=3))
    assert isinstance(law, MixturePlan)
    rng = np.random.default_rng(0)
    law = jax.tree.map(lambda a: jnp.asarray(a + 0.1 * rng.normal(size=a.shape), jnp.float32), law)
    history, plan, seen = jnp.zeros((2, 6)), jnp.full((H, 2), 0.2), np.array([True, True, False, False])
    parts, nats = jax.jit(lambda law, seen: (law.parts(history), law.log_density(history, plan, seen)))(law, seen)
    each = stats.norm.logpdf(plan, np.asarray(parts.mean), np.asarray(parts.sd))[:, seen].sum((1, 2))
    wanted = np.log((np.exp(np.asarray(parts.log_weight)) * np.exp(each)).sum())
    assert float(nats) == pytest.approx(wanted, rel=1e-4)
    assert np.exp(np.asarray(parts.log_weight)).sum() == pytest.approx(1, rel=1e-5)
    found, _, evaluations = plans(law, Execution(H), 4_000)
    mean = np.einsum("k,kha->ha", np.exp(np.asarray(parts.log_weight)), np.asarray(parts.mean))
    assert np.abs(found.mean(0) - mean).max() < 4.5 * found.std() / np.sqrt(4_000)
    assert evaluations == 1


# -- acting ------------------------------------------------------------------------------------------------------------


def test_acting_is_the_plan_in_pixels_alone_or_in_company():
    config, law = new(SDE())
    actor: Actor = Policy(config, SETTING, law, Execution(2))
    histories, last = np.stack([HISTORY] * 3), np.array([[100, 200], [256, 256], [511, 1]], np.float32)
    seeds = np.array([5, 6, 7], np.uint32)
    together = actor.act(histories, last, seeds)
    assert (together.shape, together.dtype) == ((3, 2, 2), np.float32)
    for i in range(3):
        alone = actor.act(histories[i : i + 1], last[i : i + 1], seeds[i : i + 1])
        np.testing.assert_allclose(alone[0], together[i], atol=1e-3)
    assert together.min() >= 0
    assert together.max() <= 512
    assert np.abs(together[:2] - last[:2, None]).max() < 6 * WALK * 256
    policy = Policy(config, SETTING, law, Execution(2))
    np.testing.assert_array_equal(policy.act(histories, last, 3), policy.act(histories, last, jax.random.key(3)))
    assert (policy.evaluations, policy.evaluations_per_action) == (2, 1.0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"histories": np.zeros((1, 1, 6))}, r"\(b, 2, 6\)"),
        ({"last": np.zeros((2, 2))}, r"\(b, 2\)"),
        ({"seeds": np.zeros(3, np.uint32)}, "uint32"),
        ({"seeds": np.zeros(1)}, "uint32"),
    ],
)
def test_what_cannot_be_acted_on_is_refused(wrong: dict[str, Any], says: str):
    config, law = new(Cloning())
    given: dict[str, Any] = {"histories": HISTORY[None], "last": np.zeros((1, 2)), "seeds": 0, **wrong}
    with pytest.raises(InputError, match=says) as error:
        Policy(config, SETTING, law).act(**given)
    assert "\n" not in error.value.line


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Config(kind="sound"),
        lambda: Config(n_obs=0),
        lambda: Config(observation_noise=-1.0),
        lambda: Execution(execute=0),
        lambda: Execution(steps=0.7),
        lambda: Execution(steps=0),
        lambda: Execution(sampler="eulr"),
        lambda: Policy(*_parts(Cloning()), Execution(H + 1)),
        lambda: SDE(options=sequence_sde.Config(history=1)),
        lambda: FlowMatching(options=dataclasses.replace(FlowMatching().options, coupling="ot")),
        lambda: Mixture(components=0),
        lambda: config_of({"method": "clone"}),
        lambda: config_of({"method": "cloning", "wide": 3}),
        lambda: plans(new(Diffusion(sampler="ddpm"))[1], Execution(noise=0.0, execute=1), 1),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused_in_one_line(wrong: Any):
    with pytest.raises(InputError) as error:
        wrong()
    assert "\n" not in error.value.line


def _parts(method: Any) -> tuple[Config, Setting, PlanLaw]:
    config, law = new(method)
    return config, SETTING, law


def test_fractions_and_whole_numbers_of_evaluations():
    rates = {1: 8, 2: 16, 100: 800, 0.5: 4, 1 / 3: 3, 0.25: 2, 0.125: 1}
    assert {steps: Execution(8, steps).budget for steps in rates} == rates


# -- training ----------------------------------------------------------------------------------------------------------

METHODS = [SDE(options=dataclasses.replace(OPTIONS, tails="student", input_noise=(0.1, 0.2))), Cloning(), Mixture(3)]
METHODS += [Diffusion(sampler="ddpm"), FlowMatching()]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_settings_come_back_from_json(method: Any):
    config = Config(method=method, **SMALL)
    assert config_of(json.loads(json.dumps(config.to_dict()))) == config


def drifting(c: np.ndarray, noise: float, episodes: int = 12, steps: int = 60) -> Demonstrations:
    """An agent at its target, which moves by c and some noise a step, whatever the block does; px."""
    rng = np.random.default_rng(0)
    moves = c + noise * rng.normal(size=(episodes, steps, 2))
    actions = (200 + rng.uniform(-50, 50, (episodes, 1, 2)) + np.cumsum(moves, 1)).reshape(-1, 2)
    state = np.concatenate([actions - np.tile(moves.reshape(-1, 2), 1), rng.uniform(100, 400, (len(actions), 3))], 1)
    return Demonstrations(state, actions, steps * (1 + np.arange(episodes)))


def test_a_policy_learns_how_actions_move_and_how_much_of_it_is_chance(tmp_path: Path):
    """Trained, saved and loaded; the flow is the mean move, the diffusion its s.d."""
    c, noise = np.array([1.5, -1.0]), 2.0
    training = TrainConfig(steps=400, batch_size=64, learning_rate=3e-3, ema=0.98, validate_every=200, log_every=100)
    config = Config(**{**SMALL, "blocks": 0})
    policy = train_policy(drifting(c, noise), config, training, tmp_path / "run")
    histories, last = np.stack([HISTORY] * 512), np.full((512, 2), 220.0, np.float32)
    once = policy.executing(execute=1).act(histories, last, 0)
    moves = once[:, 0] - 220.0
    assert np.abs(moves.mean(0) - c).max() < 0.6
    np.testing.assert_allclose(moves.std(0), noise, rtol=0.25)
    again = load_policy(tmp_path / "run", Execution(1))
    np.testing.assert_array_equal(again.act(histories, last, 0), once)
    copied = load_policy(save_policy(policy, tmp_path / "copy").path)
    finished = train_policy(drifting(c, noise), config, training, tmp_path / "run", resume=True)
    for other in (copied, finished):
        assert (other.config, other.setting) == (policy.config, policy.setting)
        for ours, theirs in zip(jax.tree.leaves(other.law), jax.tree.leaves(policy.law), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_run_of_another_kind_is_no_policy(tmp_path: Path):
    folder = RunFolder.create(tmp_path / "run", {"model": {"name": "sequence-sde"}})
    with pytest.raises(InputError, match="not that of a policy"):
        load_policy(folder.path)


def test_what_lies_past_the_end_of_an_episode_is_no_lesson():
    """Nor for the SDE, whose transitions say what was seen (above). A new clone plans zeros: its error is that plan."""
    batch, laws = moments(8), [new(method)[1] for method in (Cloning(), Mixture(2))]
    plan = np.asarray(batch.plan)[np.asarray(batch.seen)]
    moved = eqx.tree_at(lambda b: b.plan, batch, jnp.where(batch.seen[..., None], batch.plan, 77.0))
    losses = jax.jit(lambda batch: [law.loss(batch, (), key=jax.random.key(0))[0] for law in laws])
    found = losses(batch)
    assert float(found[0]) == pytest.approx(np.square(plan).mean(), rel=1e-5)
    np.testing.assert_allclose(found, losses(moved), rtol=1e-6)


def test_shapes_of_a_law():
    shape = Shape(6, 2, 2, H)
    assert (shape.context, shape.plan) == (12, 8)

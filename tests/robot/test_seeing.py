"""Policies of images: what is gathered and moved, which loss reaches which weights, scenes drawn by the simulator."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.data.pusht import Demonstrations, image_features, mirrored, normaliser, observations
from neuralsde.errors import InputError
from neuralsde.robot.baselines import Cloning
from neuralsde.robot.environment import PushT
from neuralsde.robot.plan_law import Execution
from neuralsde.robot.policy import Config, config_of
from neuralsde.robot.sde_plan import SDE
from neuralsde.robot.seeing import Encoder, Seeing, misplaced, told
from neuralsde.robot.sights import Album, Sights, shifted
from neuralsde.robot.starts import CHOICES, starts
from neuralsde.robot.train import load_policy, prepare, problem_of, train_policy
from neuralsde.train.problem import TrainConfig

EYES = Encoder(images=8, channels=8, blocks=1, shift=2)
SMALL: dict[str, Any] = {"kind": "image", "n_obs": 2, "horizon": 3, "width": 4, "blocks": 0, "mirror": True}
TRAINING = TrainConfig(steps=120, batch_size=16, learning_rate=1e-2, ema=0.9, validate_every=120, log_every=120)


@cache
def scenes(episodes: int = 6, steps: int = 12) -> Demonstrations:
    """Blocks and agents anywhere, as the simulator draws them; actions are where the agent stands."""
    env, states, images = PushT("image"), [], []
    for start in starts(CHOICES, episodes * steps):
        env.place(start)
        states.append(env.state)
        images.append(env.picture())
    state = np.array(states)
    return Demonstrations(state, state[:, :2].copy(), steps * np.arange(1, episodes + 1), images=np.array(images))


def test_pictures_of_rows_past_the_last_are_those_in_the_mirror_and_shifts_move_points():
    demos = scenes()
    album = prepare(demos, Config(Cloning(), encoder=EYES, **SMALL), TRAINING).plans
    assert isinstance(album, Album)
    n, t = len(demos), jnp.array([3, len(demos) + 3])
    found = album.take(t, 2, 3)
    both = np.stack([demos.images[3], mirrored(demos).images[3]])  # type: ignore[index]
    np.testing.assert_array_equal(found.images[:, 0], both)
    truth = np.stack([observations(one, "keypoints", np.array([3]))[0] for one in (demos, mirrored(demos))])
    np.testing.assert_allclose(found.moments.history[:, -1], normaliser("keypoints").encode(truth), atol=1e-6)
    assert np.asarray(told(found)).shape == (2, 1, 9, 2)
    assert album.images.dtype == np.uint8
    assert len(album.images) == n
    dots = np.zeros((16, 1, 96, 96, 3), np.uint8)
    dots[:, :, 40, 60] = 255
    moved, by = shifted(jnp.asarray(dots), 5, key=jax.random.key(0))
    _, _, y, x, _ = np.nonzero(np.asarray(moved)[..., :1])
    np.testing.assert_allclose(np.asarray(by)[:, 0], 2 * np.stack([x - 60, y - 40], 1) / 96, atol=1e-6)
    assert len(set(x.tolist())) > 3


def law_of(encoder: Encoder) -> tuple[Seeing, Sights]:
    config = Config(Cloning(), encoder=dataclasses.replace(encoder, blocks=0), **SMALL)
    prepared = prepare(scenes(), config, TRAINING)
    law = problem_of(prepared).model
    assert isinstance(law, Seeing)
    rng = np.random.default_rng(0)
    law = jax.tree.map(
        lambda a: a + 0.1 * rng.normal(size=a.shape).astype(np.float32) if isinstance(a, jax.Array) else a, law
    )
    sights = prepared.plans.sample(8, 2, 3, key=jax.random.key(1))
    assert isinstance(sights, Sights)
    return law, sights


def test_the_regression_reaches_the_encoder_and_not_the_plan_whose_loss_reaches_the_encoder_only_from_images():
    """The gradient of the loss less that of the regression, w px² / (2 256²), is that of the plan."""
    from_images = dataclasses.replace(EYES, plans_from="images", points=11)
    cases = {"keypoints": EYES, "images": from_images}
    laws = {name: law_of(options) for name, options in cases.items()}

    @eqx.filter_jit
    def gradients(laws: dict[str, tuple[Seeing, Sights]]) -> dict[str, Any]:
        def both(law: Seeing, sights: Sights) -> Any:
            value, (metrics, _) = law.loss(sights, law.first_aux(), key=jax.random.key(2))
            return value, law.options.weight * jnp.square(metrics["keypoints"] / 256) / 2

        def found(law: Seeing, sights: Sights) -> Any:
            _, pull = eqx.filter_vjp(lambda law: both(law, sights), law)
            return pull((jnp.ones(()), jnp.zeros(())))[0], pull((jnp.zeros(()), jnp.ones(())))[0]

        return {name: found(*one) for name, one in laws.items()}

    for name, (of_all, of_regression) in gradients(laws).items():
        assert not any(np.any(g) for g in jax.tree.leaves(of_regression.inner))
        assert all(np.any(g) for g in jax.tree.leaves(of_all.inner))
        a, b = (np.concatenate([np.ravel(g) for g in jax.tree.leaves(one.encoder)]) for one in (of_all, of_regression))
        assert np.abs(b).max() > 0
        rest = np.abs(a - b).max() / np.abs(a).max()
        assert rest > 1e-2 if name == "images" else rest < 1e-4


def test_errors_are_dealt_out_to_keypoints_alone():
    law, sights = law_of(EYES)
    errors = law.errors(sights)
    moved = misplaced(sights.moments, errors, key=jax.random.key(0))
    off = np.asarray(moved.history - sights.moments.history)
    np.testing.assert_array_equal(off[..., -2:], 0)
    dealt = np.abs(np.asarray(errors).reshape(-1, 18))
    gaps = np.abs(np.abs(off[..., :-2]).reshape(-1, 1, 18) - dealt).max(-1)
    assert gaps.min(-1).max() < 1e-6
    assert len(set(gaps.argmin(-1).tolist())) > 3


def test_a_policy_learns_to_see_and_is_the_same_when_it_is_loaded(tmp_path: Path):
    """Held-out scenes: off by less than the mean keypoints are. Bytes and floats are seen alike."""
    watched: list[float] = []
    demos = scenes()

    def watch(policy: Any, moments: Any) -> dict[str, float]:
        watched.append(float(jnp.sqrt(jnp.mean(jnp.square(policy.law.errors(moments))))))
        return {"off": watched[-1]}

    config = Config(Cloning(), encoder=EYES, **SMALL)
    policy = train_policy(demos, config, TRAINING, tmp_path / "run", watch=watch)
    spread = np.asarray(normaliser("keypoints").encode(observations(demos, "keypoints")))[:, :-2].std(0).mean()
    assert watched[-1] < 0.8 * spread
    assert f'"off": {watched[-1]}' in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert demos.images is not None
    law = policy.law
    assert isinstance(law, Seeing)
    some = jnp.asarray(demos.images[:2])
    np.testing.assert_array_equal(law.points(some), law.points(some.astype(jnp.float32)))
    histories = image_features(demos.images[:6].reshape(3, 2, 96, 96, 3), demos.state[:6].reshape(3, 2, 5))
    last = demos.actions[1:6:2].astype(np.float32)
    acted = policy.executing(execute=2).act(histories, last, 3)
    assert acted.shape == (3, 2, 2)
    np.testing.assert_array_equal(load_policy(tmp_path / "run", Execution(2)).act(histories, last, 3), acted)
    with pytest.raises(InputError, match="27650"):
        policy.act(histories[:, :, :100], last, 3)


def test_settings_of_an_encoder_come_back_from_json():
    config = Config(Cloning(), encoder=dataclasses.replace(EYES, plans_from="images", points=12), **SMALL)
    assert config_of(json.loads(json.dumps(config.to_dict()))) == config
    assert Config(kind="image").encoder == Encoder()
    assert Config().encoder is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Encoder(images=0),
        lambda: Encoder(points=8),
        lambda: Encoder(points=12),
        lambda: Encoder(weight=0.0),
        lambda: Encoder(plans_from="images", weight=0.0, pull=0.0),
        lambda: Encoder(plans_from="keypoint"),
        lambda: Encoder(pull=2.0),
        lambda: Encoder(shift=40),
        lambda: Config(encoder=EYES),
        lambda: Config(SDE(joint=True), kind="image", encoder=Encoder(plans_from="images")),
        lambda: Config(kind="image", encoder=Encoder(plans_from="images"), observation_noise=0.1),
        lambda: prepare(dataclasses.replace(scenes(), images=None), Config(kind="image"), TRAINING),
        lambda: config_of({"method": "cloning", "kind": "image", "encoder": {"wide": 3}}),
    ],
)
def test_what_cannot_be_seen_is_refused_in_one_line(wrong: Any):
    with pytest.raises(InputError) as error:
        wrong()
    assert "\n" not in error.value.line

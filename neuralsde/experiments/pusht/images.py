"""`neuralsde reproduce pusht --obs image`: a policy that sees, trained from nothing within an hour of one CPU core.

The policy is that of the main table with an encoder before it. The encoder finds nine keypoints, which it is taught by
those of the demonstrations, an auxiliary regression; the plan is learnt from keypoints with the encoder's errors on
them (`robot.seeing`). At several points of the training the averaged weights look at held-out images and play some
episodes, never those of the published starts: the learning curve. At the end the policy plays the published starts, and
so does the same plan told the true keypoints, which is what sight could give at best.

All of it resumes: the training from its last save, its curve with it, what was played from the last figure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from neuralsde.data.pusht import ACTIONS, Demonstrations, image_parts, keypoints_of, normaliser, observations
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.pusht import lines
from neuralsde.experiments.pusht.data import demonstrations
from neuralsde.experiments.pusht.images_page import Look, curve_of, page, picture
from neuralsde.experiments.pusht.pictures import film
from neuralsde.experiments.pusht.trials import Resting
from neuralsde.robot.environment import PushT
from neuralsde.robot.plans import Batch
from neuralsde.robot.policy import Config, Policy
from neuralsde.robot.rollout import rollout
from neuralsde.robot.seeing import KEYPOINTS, Encoder, Seeing
from neuralsde.robot.sights import Sights
from neuralsde.robot.starts import CHOICES, PUBLISHED, starts
from neuralsde.robot.train import is_weight, train_policy
from neuralsde.runs.folder import RunFolder, begun
from neuralsde.train.problem import TrainConfig


@dataclass(frozen=True)
class Size:
    """What is trained, and what is played.

    steps of batch moments and `images` images; width, blocks, n_obs, horizon: of the plan; channels, layers: of the
    encoder, whose images are moved by up to `shift` pixels. execute: actions of a plan that are carried out.
    points: of the learning curve, at each of which `chosen` starts are played. starts: published ones, at the end.
    max_steps: of an episode. film: episodes of the video.
    """

    steps: int = 10_000
    batch: int = 512
    images: int = 64
    channels: int = 32
    layers: int = 4
    shift: int = 4
    width: int = 256
    blocks: int = 3
    n_obs: int = 2
    horizon: int = 8
    execute: int = 4
    points: int = 8
    chosen: int = 24
    starts: int = 200
    max_steps: int = 300
    film: int = 8

    def config(self) -> Config:
        """The line of the main table, with eyes."""
        found = lines.config(lines.OURS, "image", n_obs=self.n_obs, horizon=self.horizon, width=self.width,
                             blocks=self.blocks)  # fmt: skip
        encoder = Encoder(images=self.images, channels=self.channels, blocks=self.layers, shift=self.shift)
        return replace(found, encoder=encoder)

    def training(self, seed: int) -> TrainConfig:
        return TrainConfig(
            steps=self.steps, batch_size=self.batch, learning_rate=1e-3, seed=seed, ema=0.999,
            validate_every=max(1, self.steps // self.points), log_every=max(1, self.steps // 60), save_seconds=60.0,
        )  # fmt: skip


FULL = Size(steps=40_000, batch=1_024, images=256, channels=64, layers=6, width=1_024, blocks=4)
"""For a GPU; the plan is the paper's network."""
SMALL = Size(steps=2, batch=4, images=2, channels=4, layers=1, width=8, blocks=1, horizon=2, execute=2, points=1,
             chosen=2, starts=2, max_steps=2, film=1)  # fmt: skip


@experiment("pusht-images", Size(), FULL)
def reproduce(asked: Asked[Size], *, data: Path | None = None) -> Iterator[str]:
    """Write pusht-images.json, .md, .png, .html and the policy into `out`; yields lines as they are known.

    One training, of the first seed. data: the demonstrations, with images; $NEURALSDE_DATA/pusht by default.
    """
    demos, size = demonstrations(data, images=True), asked.size
    policy = asked_as_there(trained(asked, demos), size)
    law = policy.law
    assert isinstance(law, Seeing)
    folder = RunFolder.open(run_folder(asked))
    seconds = folder.summary()["seconds"]
    facts: dict[str, Any] = {**asked.first, "rows": len(demos), "episodes": demos.episodes, **asked.before()}
    spent = facts.get("seconds", 0)
    facts |= {
        "curve": curve_of(folder.metrics_path, size.steps, seconds),
        "weights": {"encoder": weights(law.encoder), "plan": weights(law.inner)},
        "trivial": trivial(demos, size, asked.seed),
    }
    yield f"trained in {facts['curve'][-1]['minutes']:.1f} minutes, {seconds / 60:.1f} with what was played meanwhile"
    for name, who in {"seen": policy, "true": told(policy)}.items():
        if name not in facts:
            facts[name] = played(who, PUBLISHED, size.starts, size, asked.seed)
            facts["seconds"] = spent + asked.seconds
            asked.write(facts, "")
        yield f"keypoints as {name}: {facts[name]['reward']:.3f} ± {facts[name]['error']:.3f}"
    shown = rollout(policy, starts(PUBLISHED, size.film), seed=asked.seed,
                    max_steps=size.max_steps, record=range(size.film))  # fmt: skip
    film({"neural SDE, from images": list(shown.frames.values())}, asked.path(".html"))
    facts["seconds"] = spent + asked.seconds
    words = page(facts)
    asked.write(facts, words)
    picture(facts, looks(law, 3), asked.path())
    yield from words.splitlines()


def run_folder(asked: Asked[Size]) -> Path:
    return asked.out / f"{asked.name}-runs" / f"sde-{asked.seed}"


def trained(asked: Asked[Size], demos: Demonstrations) -> Policy:
    """The policy, its learning curve in metrics.jsonl; goes on with a training that was stopped."""
    size, folder = asked.size, run_folder(asked)

    def watch(policy: Policy, moments: Batch | Sights) -> Mapping[str, float]:
        began = time.monotonic()
        assert isinstance(moments, Sights)
        found = played(asked_as_there(policy, size), CHOICES, size.chosen, size, asked.seed)
        off = distances(policy, moments)
        return {
            "reward": found["reward"], "reward_error": found["error"], "px": float(off.mean()),
            "px_median": float(np.median(off)), "px_95": float(np.quantile(off, 0.95)),
            "watched": time.monotonic() - began,
        }  # fmt: skip

    return train_policy(
        demos, size.config(), size.training(asked.seed), folder, resume=begun(folder),
        progress=asked.progress, watch=watch,
    )  # fmt: skip


def asked_as_there(policy: Policy, size: Size) -> Policy:
    """With as much of its noise as in the main table."""
    return policy.executing(execute=size.execute, noise=lines.LINES[lines.OURS].share(size.execute))


def told(policy: Policy) -> Policy:
    """The same plan, given the true keypoints in place of images."""
    assert isinstance(policy.law, Seeing)
    inner = policy.law.inner
    setting = replace(policy.setting, observation=inner.shape.observation, observations=normaliser("keypoints"))
    return Policy(replace(policy.config, kind="keypoints", encoder=None), setting, inner, policy.how)


def played(policy: Policy, first: int, count: int, size: Size, seed: int) -> dict[str, Any]:
    """One evaluation an executed action."""
    found = rollout(policy, starts(first, count), seed=seed, max_steps=size.max_steps).summary()
    return {"reward": found["max_reward"], "error": found["standard_error"], "success": found["success"]}


def weights(model: Any) -> int:
    """How many numbers are learnt."""
    return sum(leaf.size for leaf in jax.tree.leaves(model) if is_weight(leaf))


def distances(policy: Policy, sights: Sights) -> np.ndarray:
    """Of found from true keypoints, px (m, k, 9)."""
    assert isinstance(policy.law, Seeing)
    errors = eqx.filter_jit(type(policy.law).errors)(policy.law, sights)
    return ACTIONS.scale[0] * np.linalg.norm(np.asarray(errors), axis=-1)


def trivial(demos: Demonstrations, size: Size, seed: int) -> dict[str, float]:
    """What one is off by who always says the mean keypoints, and the reward of who never moves."""
    reward = rollout(Resting(), starts(PUBLISHED, size.starts), seed=seed, max_steps=size.max_steps).summary()
    points = observations(demos, "keypoints")[:, :-2].reshape(len(demos), -1, 2)
    off = np.linalg.norm(points - points.mean(0), axis=-1)
    return {"px": float(off.mean()), "reward": reward["max_reward"]}


def looks(law: Seeing, count: int) -> list[Look]:
    """The first pictures of episodes that start from published starts, with what is found in them; px."""
    env, found = PushT("image"), []
    for start in starts(PUBLISHED, count):
        image, _ = image_parts(env.reset(start))
        points = np.asarray(law.points(jnp.asarray(image)))
        truth = keypoints_of(np.array(env.state)[None])[0]
        found.append(Look(image.astype(np.uint8), ACTIONS.decode(points[:KEYPOINTS]), truth))
    return found

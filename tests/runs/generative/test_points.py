"""Runs on points: an untrained model is a Gaussian whose numbers are known; folders, resume, labels and refusals."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy.stats import multivariate_normal

from neuralsde.data import Points, SomePoints, digits, points
from neuralsde.data.split import TEST, TRAIN
from neuralsde.errors import InputError
from neuralsde.models import energy, flow_matching, score
from neuralsde.noising import EDM, VP
from neuralsde.runs import Backbone, GenerativeRun, fit, load
from neuralsde.runs.folder import RunFolder
from neuralsde.runs.generative.families import FAMILIES, changed, config_of, family_of, plain, settings
from neuralsde.runs.generative.fit import problem_of
from neuralsde.runs.generative.likelihood import alone, gaussian
from neuralsde.runs.generative.plan import prepare
from neuralsde.train.loop import Interrupted
from neuralsde.train.problem import TrainConfig

RNG = np.random.default_rng(0)
SMALL = Backbone("mlp", width=8, depth=1)


def untrained(data: Points, config: Any = FAMILIES["score"].default, share: float = 0.2) -> GenerativeRun:
    """A run before its first step: every network is zero then."""
    plan = prepare(data, config, SMALL, TrainConfig(batch_size=4), SomePoints(share)).plan
    return GenerativeRun(plan, plan.model(), None, data)


def leaves(run: GenerativeRun) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(run.model) if hasattr(leaf, "dtype")]


def folder_of(run: GenerativeRun) -> RunFolder:
    assert run.folder is not None
    return run.folder


# -- numbers that are known --------------------------------------------------------------------------------------------


def test_untrained_the_model_is_a_gaussian_in_data_units() -> None:
    """Columns of other means and scales: nats of that Gaussian, in data units, and samples of its moments."""
    data = points(RNG.normal([3.0, -40.0], [0.1, 7.0], (600, 2)))
    run = untrained(data, share=100)
    scale, held = run.plan.scale, run.held_out()
    exact = multivariate_normal(np.array(scale.mean), np.diag(np.square(scale.sd))).logpdf(held.values)  # type: ignore[arg-type]
    found = run.score()
    assert found.nats.n == 100
    assert found.nats.mean == pytest.approx(-exact.mean(), abs=2e-3)
    assert found.nats.standard_error == pytest.approx(exact.std(ddof=1) / 10, rel=1e-3)
    assert found.bits.mean == pytest.approx(-exact.mean() / (2 * np.log(2)), abs=1e-3)
    drawn = run.sample(1_500, nfe=12)
    np.testing.assert_allclose(drawn.mean(0), scale.mean, atol=4 * max(scale.sd) / np.sqrt(1_500))
    np.testing.assert_allclose(drawn.std(0), scale.sd, rtol=0.08)
    assert run.columns == ("x0", "x1")


def test_simple_laws_are_those_of_a_textbook() -> None:
    """Whole numbers: frequencies of a coin; a Gaussian against scipy's, with the cell of one level."""
    coin = points(RNG.integers(0, 2, (4_000, 2)))
    run = untrained(coin)
    scale, train, held = run.plan.scale, coin.values[run.plan.rule.roles(4_000) == TRAIN], run.held_out().values
    bits = -alone(scale, held, train) / np.log(2)
    assert bits.mean() == pytest.approx(2.0, abs=0.01)
    u = RNG.random(held.shape)
    spread = train + np.random.default_rng(0).random(train.shape)
    wanted = multivariate_normal(spread.mean(0), np.cov(spread.T, bias=True)).logpdf(held + u)  # type: ignore[arg-type]
    np.testing.assert_allclose(gaussian(scale, held, train, u), wanted, atol=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_a_loss_of_its_batches(name: str) -> None:
    """Shapes only: one number from a batch, and what the next step is given has the shape of what this one was."""
    data = points(RNG.integers(0, 5, (40, 4, 4)), np.arange(40) % 3)
    problem = problem_of(prepare(data, FAMILIES[name].default, SMALL, TrainConfig(batch_size=4), None))

    def both(model: object, data: object, key: jax.Array) -> object:
        return problem.loss(model, problem.sample_batch(data, key), problem.aux, key=key)

    value, (_, aux) = eqx.filter_eval_shape(both, problem.model, problem.data, jax.random.key(0))
    assert value.shape == ()
    assert jax.tree.map(jnp.shape, aux) == jax.tree.map(jnp.shape, problem.aux)


# -- folders -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> GenerativeRun:
    """Three steps on the digits, told of their labels."""
    training = TrainConfig(steps=4, batch_size=8, learning_rate=1e-2, validate_every=2, log_every=1, save_seconds=0)
    folder = tmp_path_factory.mktemp("points") / "digits"
    network = Backbone("mlp", width=8, depth=1)
    return fit(digits(labels=True), model="score", training=training, network=network, out=folder)


def test_images_are_whole_numbers_and_the_folder_holds_all_of_the_run(images: GenerativeRun) -> None:
    again = load(folder_of(images).path)
    drawn = again.sample(5, label=3, guidance=2.0, nfe=4)
    assert (drawn.shape, drawn.dtype) == ((5, 8, 8), np.uint8)
    assert drawn.max() <= 16
    np.testing.assert_array_equal(drawn, images.sample(5, label="3", guidance=2.0, nfe=4))
    assert again.plan == images.plan
    assert [row["step"] for row in again.metrics] == [1, 2, 3, 4]
    held = again.held_out()  # read again from the package
    assert len(held) == round(0.2 * 1797) == int((images.plan.rule.roles(1797) == TEST).sum())
    assert "8 x 8, whole numbers" in again.describe()


def test_guidance_is_between_two_laws_and_one_is_none(images: GenerativeRun) -> None:
    """Classifier-free guidance is linear in the weight, through the class (1) from the law of all (0)."""
    x = jax.random.normal(jax.random.key(0), (8, 8))
    at = [images.predictor(2, w).x0(x, 1.0) for w in (0.5, 1.0, 3.0)]
    free = images.predictor().x0(x, 1.0)
    np.testing.assert_allclose(at[2] - free, 3 * (at[1] - free), atol=1e-5)
    np.testing.assert_allclose(at[0] - free, 0.5 * (at[1] - free), atol=1e-5)
    assert np.abs(at[1] - free).max() > 1e-7


def test_resume_is_bit_for_bit(images: GenerativeRun, tmp_path: Path) -> None:
    class StopAfterTwo:
        def start(self, done: int, total: int) -> None: ...
        def finish(self) -> None: ...
        def note(self, text: str) -> None: ...
        def update(self, step: int, values: Mapping[str, float]) -> None:
            if step == 2:
                raise KeyboardInterrupt

    plan, folder = images.plan, tmp_path / "digits"
    given: dict[str, Any] = {"model": plan.config, "training": plan.train, "network": plan.network, "out": folder}
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        fit(digits(labels=True), progress=StopAfterTwo(), **given)
    assert not (folder / "finished.json").exists()
    again = fit(digits(labels=True), resume=True, **given)
    assert all(np.array_equal(a, b) for a, b in zip(leaves(images), leaves(again), strict=True))
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (folder / name).read_bytes() == (folder_of(images).path / name).read_bytes()


def test_another_file_and_other_options(images: GenerativeRun, tmp_path: Path) -> None:
    np.save(tmp_path / "new.npy", digits().values[:7])
    assert len(images.read(tmp_path / "new.npy")) == 7
    with pytest.raises(InputError, match=r"\(4, 4\)[\s\S]*fitted on \(8, 8\)"):
        images.read(np.ones((3, 4, 4)))
    with pytest.raises(InputError, match=r"network\.width 8 -> 16"):
        fit(digits(labels=True), model=images.plan.config, training=images.plan.train, resume=True,
            network=replace(images.plan.network, width=16), out=folder_of(images).path)  # fmt: skip
    elsewhere = tmp_path / "unfinished"
    shutil.copytree(folder_of(images).path, elsewhere)
    (elsewhere / "finished.json").unlink()
    with pytest.raises(InputError, match="not been trained to its end"):
        load(elsewhere)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [score.Config(VP(0.2, 10.0)), flow_matching.Config(coupling="ot"),
     energy.Config(matching=score.Config(EDM(0.01, 30.0)), chain=energy.Langevin(7))],
)  # fmt: skip
def test_a_config_is_its_plain_values(config: score.Config) -> None:
    assert config_of(family_of(config), plain(config)) == config
    assert changed(config, {}) == config


def test_settings_reach_where_they_stand() -> None:
    """An outer setting hides an inner one of its name; the schedule goes by its name."""
    typed = {"objective": "cd", "schedule": "vp", "log_sd": 2.0, "steps": 3}
    found = changed(FAMILIES["energy"].default, typed)
    assert (found.objective, found.matching.objective) == ("cd", "denoising")
    assert (found.matching.schedule, found.matching.log_sd, found.chain.steps) == (VP(), 2.0, 3)
    assert settings(found).schedule == "vp"


@pytest.mark.parametrize(
    ("shape", "chosen"), [((3,), "mlp"), ((28, 28), "patches"), ((7, 7, 1), "mlp"), ((12, 12, 3), "patches")]
)
def test_the_network_follows_the_shape(shape: tuple[int, ...], chosen: str) -> None:
    found = Backbone().resolved(shape)
    assert found.net == chosen
    assert found.resolved(shape) == found
    assert (found.patch > 0) is (chosen == "patches")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda run: fit(tiny.ou_table(), model="score"), "sequences for the model score"),
        (lambda run: fit(np.eye(3), model="sequence-sde"), "is one of sequences"),
        (lambda run: fit(np.eye(30), model="scores"), "did you mean 'score'"),
        (lambda run: fit(np.eye(30), model="score", network=Backbone("patches")), "they are no images"),
        (lambda run: Backbone("unets"), "did you mean 'unet'"),
        (lambda run: run.sample(4, sampler="dpmpp2m"), "did you mean 'dpmpp-2m'"),
        (lambda run: run.sample(4, nfe=0), "nfe=0"),
        (lambda run: run.sample(0), "nothing to draw"),
        (lambda run: run.sample(4, sampler="adaptive-ode", nfe=4), "chooses its steps"),
        (lambda run: run.sample(4, label=11), "no such class"),
        (lambda run: run.sample(4, guidance=2.0), "without a label"),
        (lambda run: run.report(), "reports are for sequences"),
        (lambda run: replace(run, data=None, plan=replace(run.plan, source="")).held_out(), "without its points"),
        (lambda run: config_of("score", {"schedul": "vp"}), "did you mean 'schedule'"),
        (lambda run: config_of("score", {"schedule": "vpp"}), "the schedule 'vpp'"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_line(images: GenerativeRun, make, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        make(images)
    assert "\n" not in caught.value.line


def test_guidance_of_an_unconditional_model_is_refused() -> None:
    data = points(RNG.normal(size=(40, 2)))
    with pytest.raises(InputError, match="knows no classes"):
        untrained(data).sample(3, label=1, guidance=2.0)
    with pytest.raises(InputError, match="Langevin or HMC"):
        untrained(data, energy.Config("cd")).sample(3)

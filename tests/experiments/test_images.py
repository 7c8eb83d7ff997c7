"""The image experiments: the judge against what is known, the readers of MNIST, and a small run of the whole."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from neuralsde.data import Scale, digits
from neuralsde.data.split import TEST, TRAIN
from neuralsde.errors import InputError
from neuralsde.experiments.asked import Asked
from neuralsde.experiments.images.digits import CASE, SMALL
from neuralsde.experiments.images.judge import gaussian_images
from neuralsde.experiments.images.mnist import mnist
from neuralsde.experiments.images.page import others, rows_of
from neuralsde.experiments.images.study import Known, shared_out, study


@pytest.fixture(scope="module")
def known() -> Known:
    return Known.of(CASE, digits(labels=True), replace(SMALL, classifier=120, compared=200), 0)


def test_the_judge_knows_real_images_copies_and_gaussians(known: Known) -> None:
    """Held-out images are at distance 0 from themselves and 1 in novelty; training images are copies; draws of a
    Gaussian have its moments in pixels, and are far off in features.
    """
    judge, train, held = known.judge, known.part(TRAIN).values, known.part(TEST).values
    assert judge.accuracy > 0.85
    assert judge.facts(held).frechet == pytest.approx(0, abs=1e-6 * judge.floor.mean + 1e-9)
    assert judge.facts(held).copies == pytest.approx(1)
    assert judge.facts(train).copies == pytest.approx(0, abs=1e-3)
    assert 0 < judge.facts(train[:200]).frechet < 3 * judge.floor.mean
    drawn = gaussian_images(known.scale, train, 2_000, 0)
    np.testing.assert_allclose(drawn.mean(0), train.mean(0), atol=1.0)  # kept within range, which moves thin tails
    assert judge.frechet(drawn) > 2 * judge.floor.mean
    assert judge.facts(drawn).sure < judge.sure_of_real


def test_a_class_that_is_drawn_too_often_shows_in_the_shares(known: Known) -> None:
    data = known.part(TEST)
    assert data.labels is not None
    ones = data.values[data.labels == 1]
    assert known.judge.facts(np.concatenate([data.values, ones])).shares_off > 0.05
    assert known.judge.facts(data.values).shares_off < 0.03


def test_a_share_is_dealt_in_whole_numbers() -> None:
    assert shared_out(np.array([5, 3, 2]), 10) == [5, 3, 2]
    assert shared_out(np.array([1, 1, 1]), 10) in ([4, 3, 3], [3, 4, 3], [3, 3, 4])
    assert sum(shared_out(np.array([0.3, 12.4, 7.7]), 101)) == 101


def test_what_was_asked_is_judged_on_the_mean() -> None:
    real = {"frechet": 2.0, "sure": 0.97, "shares_off": 0.01}
    run = {"frechet": 5.0, "sure": 0.8, "shares_off": 0.04, "copies": 0.9}
    rows = rows_of({"real": real, "trivial": run | {"frechet": 60.0}, "runs": [run, run | {"frechet": 8.0}]})
    assert [row["holds"] for row in rows] == ["**no**", "**no**", "yes", ""]
    assert (rows[0]["measured"].split()[0], rows[0]["Gaussian"]) == ("3.25", "30.00")


def test_a_small_run_of_the_whole(tmp_path: Path) -> None:
    case = replace(CASE, curve=("dpmpp-2m",), guidance=1.5)  # of the evaluations that are drawn with: one program
    lines = list(study(case, Asked.of(case.name, SMALL, out=tmp_path)))
    facts = json.loads((tmp_path / "digits.json").read_text())
    assert facts["command"] == "neuralsde reproduce digits --seed 0 --seeds 1"
    assert list(facts["curve"]["dpmpp-2m"]) == ["32"]
    assert others(facts) == ["guided", "unlabelled"]
    page = (tmp_path / "digits.md").read_text()
    assert all(told in page for told in ("## Evaluations of the network", "| `dpmpp-2m` |", "bits per dimension"))
    assert page.strip().splitlines() == [line.rstrip() for line in lines[-len(page.strip().splitlines()) :]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.json", "digits.md", "digits.png"]
    untrained = np.log2(Scale.fit(digits()).sd[0]) + 0.5 * np.log2(2 * np.pi * np.e)  # of a unit Gaussian, on average
    assert facts["runs"][0]["bits"] == pytest.approx(untrained, abs=0.6)
    jax.clear_caches()


def test_mnist_is_read_as_keras_and_as_the_publisher_write_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (n, 28, 28)).astype(np.uint8) for n in (5, 3)]
    labels = [np.arange(n, dtype=np.uint8) for n in (5, 3)]
    for name in ("keras", "publisher", "nothing"):
        (tmp_path / name).mkdir()
    np.savez(tmp_path / "keras" / "mnist.npz", x_train=images[0], y_train=labels[0], x_test=images[1], y_test=labels[1])
    for part, x, y in zip(("train", "t10k"), images, labels, strict=True):
        head = bytes([0, 0, 8, 3]) + np.array(x.shape, ">u4").tobytes()
        with gzip.open(tmp_path / "publisher" / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(head + x.tobytes())
        head = bytes([0, 0, 8, 1]) + np.array(y.shape, ">u4").tobytes()
        (tmp_path / "publisher" / f"{part}-labels.idx1-ubyte").write_bytes(head + y.tobytes())
    first, second = mnist(tmp_path / "keras"), mnist(tmp_path / "publisher")
    assert first.fingerprint() == second.fingerprint()
    np.testing.assert_array_equal(first.values, np.concatenate(images))
    with pytest.raises(InputError, match="MNIST is not there"):
        mnist(tmp_path / "nothing")

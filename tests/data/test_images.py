"""Independent points: units and their way back, what is held out, files, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from neuralsde.data import Points, Scale, SomePoints, digits, points, read_points
from neuralsde.data.embedded import DIGITS
from neuralsde.data.images import quantum
from neuralsde.data.split import TEST, TRAIN, VALIDATION
from neuralsde.errors import InputError
from neuralsde.evaluate.images import mosaic

RNG = np.random.default_rng(0)


def test_the_embedded_digits_are_those_of_the_source():
    found = digits(labels=True)
    assert (found.values.shape, found.values.dtype, found.values.max()) == ((1797, 8, 8), np.uint8, 16)
    assert found.classes == tuple("0123456789")
    assert found.labels is not None
    assert np.bincount(found.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert found.values[0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert hashlib.sha256(found.values.tobytes()).hexdigest()[:12] == "8f26b2bd9d13"
    assert DIGITS.stat().st_size < 60_000
    assert digits().labels is None


def test_whole_numbers_come_back_wherever_in_their_cell_they_lie():
    """Images (one scale), images in 255ths with channels, and a table with one whole column: q floor((s z + m)/q)."""
    whole = points(RNG.integers(0, 17, (50, 4, 4)).astype(np.uint8))
    part = points(RNG.integers(0, 256, (20, 3, 3, 2)) / 255)
    mixed = points(np.stack([RNG.integers(-5, 5, 40), RNG.normal(3, 2, 40)], 1))
    for data, steps in ((whole, (1.0,)), (part, (1 / 255, 1 / 255)), (mixed, (1.0, 0.0))):
        scale = Scale.fit(data)
        assert scale.step == steps
        u = RNG.uniform(1e-3, 1 - 1e-3, data.values.shape)
        back = scale.decode(scale.encode(data.values, u))
        np.testing.assert_allclose(back, data.values, atol=2e-6)
        assert back.dtype == data.values.dtype
        assert Scale.from_dict(scale.to_dict()) == scale


def test_a_scale_makes_mean_0_and_sd_1_and_knows_its_volume():
    data = points(RNG.integers(0, 9, (4_000, 3)))
    scale = Scale.fit(data)
    z = scale.encode(data.values, RNG.random(data.values.shape))
    np.testing.assert_allclose(z.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(z.std(0), 1, atol=0.02)
    assert scale.log_volume() == pytest.approx(np.log(scale.sd).sum())
    images = Scale.fit(points(RNG.integers(0, 256, (30, 4, 4)) / 255))
    assert images.log_volume() == pytest.approx(16 * np.log(images.sd[0]))
    assert images.log_cell() == pytest.approx(-16 * np.log(255))
    np.testing.assert_array_equal(images.decode(np.full((1, 4, 4), 99.0)), 1.0)  # within the range that was seen


@pytest.mark.parametrize(("values", "step"), [([0.0, 3.0], 1.0), ([0.0, 51 / 255], 1 / 255), ([0.1, 0.25], 0.0)])
def test_the_quantum(values: list[float], step: float):
    assert quantum(np.array(values)) == step


@pytest.mark.parametrize(("share", "held"), [(0.25, 250), (40, 40)])
def test_roles_are_a_partition_and_a_function_of_the_seed(share: float, held: int):
    roles = SomePoints(share).roles(1_000)
    counts = [int((roles == role).sum()) for role in (TRAIN, VALIDATION, TEST)]
    assert counts == [1_000 - held - counts[1], round(0.1 * (1_000 - held)), held]
    np.testing.assert_array_equal(roles, SomePoints(share).roles(1_000))
    assert (roles != SomePoints(share, seed=1).roles(1_000)).any()


def test_points_from_files(tmp_path: Path):
    images, label = RNG.integers(0, 4, (6, 2, 2)).astype(np.uint8), np.array([3, 1, 3, 1, 1, 3])
    np.savez(tmp_path / "a.npz", images=images, y=label)
    np.save(tmp_path / "a.npy", images)
    found = read_points(tmp_path / "a.npz", labels="y")
    np.testing.assert_array_equal(found.values, images)
    assert found.labels is not None
    assert (found.labels.tolist(), found.classes) == ([1, 0, 1, 0, 0, 1], ("1", "3"))
    assert read_points(tmp_path / "a.npy").fingerprint() == points(images).fingerprint()
    table = pl.DataFrame({"b": [1.5, 2.5], "name": ["x", "y"], "a": [3, 4]})
    for suffix in ("csv", "parquet"):
        getattr(table, f"write_{suffix}")(tmp_path / f"t.{suffix}")
        read = read_points(tmp_path / f"t.{suffix}")
        assert (read.columns, read.values.tolist()) == (("b", "a"), [[1.5, 3.0], [2.5, 4.0]])
        assert read.notes == ("left out, not numeric: name",)
        chosen = read_points(tmp_path / f"t.{suffix}", values=["a"], labels="name")
        assert (chosen.columns, chosen.classes) == (("a",), ("x", "y"))


def test_a_picture_of_images_is_row_by_row():
    found = mosaic(np.stack([np.full((28, 28), float(k)) for k in range(5)]), columns=3)
    assert found.shape == (2 * 56 + 2, 3 * 56 + 2 * 2, 1)
    assert [found[10, 10, 0], found[10, 70, 0], found[70, 70, 0]] == [0, 1, 4]
    assert np.isnan(found[70, 130, 0])


def broken(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "x.npz", **arrays)  # type: ignore[arg-type]
    return folder / "x.npz"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: points(np.zeros((2, 3, 3, 3, 1))), r"\(n, h, w, c\)"),
        (lambda p: points([[1.0, np.nan]]), "1 entries that are not finite"),
        (lambda p: points(np.array([["a"]])), "no numbers"),
        (lambda p: points(np.eye(3), [1, 2]), "labels of shape"),
        (lambda p: Scale.fit(points([[1.0, 2.0], [1.0, 3.0]])), "all its entries are 1"),
        (lambda p: Scale.fit(points(np.eye(3))).require(points(np.eye(4))), "fitted on"),
        (lambda p: SomePoints(1.5), "held-out share"),
        (lambda p: SomePoints(10).roles(10), "at most 8"),
        (lambda p: read_points(p / "none.npz"), "no such file"),
        (lambda p: read_points(p / "none.txt"), "kind is not known"),
        (lambda p: read_points(broken(p, a=np.eye(2), b=np.eye(2))), "--values a"),
        (lambda p: read_points(broken(p, a=np.ones(2))), "no array of two or more axes"),
        (lambda p: read_points(broken(p, images=np.eye(2)), values="image"), "did you mean 'images'"),
        (lambda p: read_points(broken(p, images=np.array([{}]))), "holds objects"),
        (lambda p: mosaic(np.zeros((2, 3, 3, 2))), "c of 1 or 3"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, says: str, tmp_path: Path):
    with pytest.raises(InputError, match=says):
        make(tmp_path)


def test_missing_entries_and_text_are_refused(tmp_path: Path):
    (tmp_path / "hole.csv").write_text("a,b\n1,2\n,3\n")
    (tmp_path / "text.csv").write_text("a,b\nx,y\n")
    with pytest.raises(InputError, match="1 missing entries in the column 'a'"):
        read_points(tmp_path / "hole.csv")
    with pytest.raises(InputError, match="none is numeric"):
        read_points(tmp_path / "text.csv")
    with pytest.raises(InputError, match="holds no numbers"):
        read_points(tmp_path / "text.csv", values=["a"])
    assert isinstance(read_points(tmp_path / "hole.csv", values=["b"]), Points)

"""`fit`, `sample` and `score` on points and images: files in and out, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tiny

from neuralsde.cli import app as cli
from neuralsde.runs import Run, load


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run on images, told of labels, and one on a table."""
    folder, rng = tmp_path_factory.mktemp("points"), np.random.default_rng(0)
    small, rule = "--set net=mlp width=4 depth=1 batch_size=4 validate_every=1", "some-points=8"
    np.savez(folder / "i.npz", images=rng.integers(0, 9, (60, 4, 4)).astype(np.uint8), kind=np.arange(60) % 2)
    pl.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60), "name": ["x"] * 60}).write_csv(folder / "t.csv")
    commands = [
        f"fit {folder}/i.npz --model score --labels kind --steps 2 --out {folder}/images {small} --held-out {rule}",
        f"fit {folder}/t.csv --model energy --steps 2 --out {folder}/table {small}",
    ]
    for command in commands:
        assert cli.run(command.split()) == 0, command
    return folder


def test_fit_says_what_it_models_and_where_the_run_is(place: Path, capsys: pytest.CaptureFixture[str]):
    run = load(place / "images")
    assert (run.plan.classes, run.plan.rule.share, run.plan.network.width) == (("0", "1"), 8, 4)
    assert cli.run(f"fit {place}/i.npz --model score --resume --out {place}/images".split()) == 0
    out, err = capsys.readouterr()
    assert f"the run is in {place}/images; next: neuralsde sample {place}/images --out samples.png" in out
    assert "modelling 60 images of 4 x 4, 2 classes; held out for the score: 8 points" in err
    assert "all its 2 steps already" in err


def test_samples_take_the_form_of_the_file(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The same draws as an array, a table and a picture; of a table the columns of the table."""
    draw = f"sample {place}/images --n 3 --nfe 2 --label 1 --out {tmp_path}/s"
    for suffix in ("npz", "csv", "png"):
        assert cli.run(f"{draw}.{suffix}".split()) == 0
    with np.load(tmp_path / "s.npz") as file:
        images = file["images"]
    assert (images.shape, images.dtype) == ((3, 4, 4), np.uint8)
    np.testing.assert_array_equal(pl.read_csv(tmp_path / "s.csv").to_numpy(), images.reshape(3, 16))
    assert (tmp_path / "s.png").read_bytes()[1:4] == b"PNG"
    capsys.readouterr()
    assert cli.run(f"sample {place}/table --n 4 --sampler heun --nfe 4".split()) == 0
    assert pl.read_csv(capsys.readouterr().out.encode()).columns == ["a", "b"]


def test_score_prints_bits_and_writes_them(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.run(f"score {place}/images --n 5".split()) == 0
    out = capsys.readouterr().out
    assert "5 held-out images" in out
    assert "bits per dimension\n" in out
    assert "each number alone" in out
    assert cli.run(f"score {place}/table {place}/t.csv --out {tmp_path}/s.csv".split()) == 0
    assert pl.read_csv(tmp_path / "s.csv")["points"].to_list() == [60, 60]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sample images --sampler dpm2m", "did you mean"),
        ("sample images --nfe 0", "nfe=0"),
        ("sample images --guidance 2", "without a label"),
        ("sample images --label 7", "no such class"),
        ("sample table --label 1 --guidance 2", "knows no classes"),
        ("sample images --start 1 2", "no start and no times"),
        ("sample table --out table.png", "only images make a picture"),
        ("sample images --out x.txt", "names no kind of file"),
        ("score images t.csv", "fitted on (4, 4)"),
        ("score images --leads 3", "independent points"),
        ("forecast images t.csv", "neuralsde sample, or neuralsde score"),
        ("report images", "independent points or images"),
        ("fit i.npz --model scores", "did you mean 'score'"),
        ("fit i.npz --model score --time hour", "--time; it is for sequences"),
        ("fit i.npz --model score --values image", "did you mean 'images'"),
        ("fit i.npz --model score --labels kinds", "did you mean 'kind'"),
        ("fit i.npz --model score --held-out last-part=0.2", "some-points=SHARE"),
        ("fit i.npz --model score --set widht=4", "did you mean 'width'"),
        ("fit i.npz --model score --set schedule=edn", "did you mean 'edm'"),
        ("fit i.npz --model score --set net=patches patch=3", "do not fill it"),
        ("fit i.npz --model energy --set ratio=0", "ratio=0"),
        ("fit t.csv --labels name", "is one of sequences"),
        ("fit digits", "--model score"),
        ("fit none.npz --model score", "no such file"),
    ],
)
def test_every_mistake_has_its_line(
    place: Path, command: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(place)
    before = {path.name for path in place.iterdir()}
    assert cli.run(command.split()) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert (out, err.count("neuralsde: "), err.splitlines()[-1][:11]) == ("", 1, "neuralsde: ")
    assert {path.name for path in place.iterdir()} == before


def test_a_run_of_sequences_keeps_its_options(run: Run, capsys: pytest.CaptureFixture[str]):
    """--start is asked for with the names of the columns; what is for points is refused."""
    path = tiny.folder_of(run).path
    for options, says in (("", "--start with level, flow"), ("--start 1 2 --nfe 4", "is a run of sequences")):
        assert cli.run(f"sample {path} {options}".split()) == 2
        assert says in capsys.readouterr().err
    assert cli.run(f"score {path} --label 3".split()) == 2
    assert "is a run of sequences" in capsys.readouterr().err

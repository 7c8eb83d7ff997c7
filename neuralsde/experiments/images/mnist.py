"""MNIST by a network of matrix products on patches of 4 x 4, small enough to be trained in minutes on a CPU.

    NEURALSDE_DATA=/path/to/data neuralsde reproduce mnist

reads `$NEURALSDE_DATA/mnist/mnist.npz`, with the arrays x_train, y_train, x_test and y_test, or the four IDX
files of the publisher, plain or gzipped, in the same folder.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neuralsde.data.images import Points, points
from neuralsde.errors import InputError
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.images.study import Case, Size, study

_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def mnist(folder: Path | None = None) -> Points:
    """All 70,000 images (28, 28) of uint8 with their labels, those of the test set last.

    folder: instead of `$NEURALSDE_DATA/mnist`. Raises InputError when they are not there.
    """
    root = os.environ.get("NEURALSDE_DATA", "")
    place = folder or Path(root) / "mnist"
    if (place / "mnist.npz").is_file():
        with np.load(place / "mnist.npz", allow_pickle=False) as file:
            parts = [file[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    elif all(found := [_idx_path(place, name) for name in _IDX]):
        parts = [_idx(path) for path in found if path is not None]
    else:
        raise InputError(
            f"the folder {place}" if folder or root else "NEURALSDE_DATA is not set",
            "MNIST is not there",
            "mnist/mnist.npz with x_train, y_train, x_test, y_test, or the four IDX files",
            "NEURALSDE_DATA=/path/to/data",
        )
    return points(np.concatenate(parts[0::2]), np.concatenate(parts[1::2]), source="mnist")


def _idx_path(place: Path, name: str) -> Path | None:
    """The file, as it is or gzipped; names are also written with a dot before idx."""
    names = [spelled + end for spelled in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    return next((place / each for each in names if (place / each).is_file()), None)


def _idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes: a magic number whose last byte counts the axes, their lengths, the bytes."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = file.read()
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4).astype(int)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


CASE = Case(
    name="mnist",
    title="MNIST",
    images=mnist,
    held_out=10_000,
    patch=4,
    rate=1.5e-3,
    sampler="dpmpp-2m",
    nfe=40,
    guidance=1.5,
    remarks=(
        "",
        "The default is small: broken and doubled strokes are what the classifier is unsure of. A network that never "
        "sees a label, of the same size, after 6,000 steps is sure of 80 % (69 % after half as many images). `--full` "
        "was not run. The noise levels are chosen for images: fewer than one draw in a thousand is below one grey "
        "level in 256, which most of the bits are about, so that on mostly blank pages counting each pixel's values "
        "by itself costs fewer of them. The bits are those of the law without a class.",
    ),
)
DEFAULT = Size(
    steps=12_000, batch=64, width=64, depth=3, rank=256, drawn=1_000, compared=1_000, scored=500, flow_steps=24,
    classifier=1_500,
)  # fmt: skip
SMALL = Size(
    steps=2, batch=4, width=4, depth=1, rank=0, drawn=70, compared=70, scored=4, flow_steps=1, classifier=10, net="mlp"
)
FULL = Size(
    steps=100_000, batch=512, width=128, depth=0, rank=1_024, drawn=10_000, compared=2_500, scored=500, flow_steps=96,
    classifier=5_000, net="auto",
)  # fmt: skip


@experiment(CASE.name, DEFAULT, FULL)
def reproduce(asked: Asked[Size]) -> Iterator[str]:
    """Write mnist.json, mnist.md and mnist.png into `out`; yields lines as they become known."""
    return study(CASE, asked)

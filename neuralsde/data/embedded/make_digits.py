"""Makes `digits.npz` again from the table that scikit-learn ships.

    python -m neuralsde.data.embedded.make_digits /path/to/sklearn/datasets/data/digits.csv.gz

Each row of that table is an 8 x 8 image of whole numbers from 0 to 16, row by row, and the digit. Nothing is changed.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np

TARGET = Path(__file__).with_name("digits.npz")


def extract(source: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8) and labels (1797,), uint8."""
    with gzip.open(source, "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",").astype(np.uint8)
    return table[:, :64].reshape(-1, 8, 8), table[:, 64]


def main() -> None:
    images, labels = extract(Path(sys.argv[1]))
    np.savez_compressed(TARGET, images=images, labels=labels)


if __name__ == "__main__":
    main()

"""Many small images as one picture: what a model of images drew."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np

from neuralsde.errors import InputError

CELL = 56
"""Least side of an image in the picture, in pixels; images are enlarged by whole factors."""
_GAP = 2


def image_grid(images: Any, path: Path, *, columns: int | None = None, low: float | None = None,
               high: float | None = None) -> None:  # fmt: skip
    """Write images (n, h, w), or (n, h, w, c) with one or three channels, as one PNG, row by row.

    Grey images are drawn as ink on paper: `low` is white, `high` black; by default the ends of the images' range.
    columns: images in a row; a square by default. Raises InputError for what are no images.
    """
    picture = mosaic(np.asarray(images, np.float64), columns)
    least = float(np.nanmin(picture)) if low is None else low
    most = float(np.nanmax(picture)) if high is None else high
    part = np.clip((picture - least) / max(most - least, 1e-12), 0.0, 1.0)
    part = 1.0 - part if part.shape[2] == 1 else part
    filled = np.where(np.isfinite(part), part, 1.0)
    matplotlib.image.imsave(path, np.broadcast_to(filled, (*filled.shape[:2], 3)))


def mosaic(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """(rows, columns, c) of all images, enlarged, with NaN between them and where none is left."""
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[3] not in (1, 3) or len(images) == 0:
        raise InputError(f"images of shape {images.shape}", "", "(n, h, w), or (n, h, w, c) with c of 1 or 3")
    n, h, w, c = images.shape
    across = min(n, columns or math.ceil(math.sqrt(n)))
    down, by = -(-n // across), -(-CELL // max(h, w))
    large = images.repeat(by, axis=1).repeat(by, axis=2)
    cells = np.full((down * across, h * by + _GAP, w * by + _GAP, c), np.nan)
    cells[:n, : h * by, : w * by] = large
    cells = cells.reshape(down, across, *cells.shape[1:]).transpose(0, 2, 1, 3, 4)
    whole = cells.reshape(down * (h * by + _GAP), across * (w * by + _GAP), c)
    return whole[:-_GAP, :-_GAP]

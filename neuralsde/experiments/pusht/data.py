"""The demonstrations that the Push-T experiments read: a path that is given, or `$NEURALSDE_DATA/pusht`."""

from __future__ import annotations

import os
from pathlib import Path

from neuralsde.data.pusht import Demonstrations, read_demonstrations
from neuralsde.errors import InputError


def demonstrations(path: Path | None = None, images: bool = False) -> Demonstrations:
    """The demonstrations at `path`, or else in `$NEURALSDE_DATA/pusht`; with images where they are asked for.

    Raises InputError when neither is there, and what `read_demonstrations` raises.
    """
    root = os.environ.get("NEURALSDE_DATA", "")
    if path is None and not root:
        raise InputError(
            "NEURALSDE_DATA is not set",
            "the demonstrations of Push-T are not there",
            "pusht/ in it, with a zarr replay buffer or an NPZ of state, action and episode_ends",
            "NEURALSDE_DATA=/path/to/data, or --data PATH",
        )
    return read_demonstrations(path or Path(root) / "pusht", images)

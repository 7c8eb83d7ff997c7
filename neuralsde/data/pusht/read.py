"""Demonstrations from files, in the form in which they were published or in a compact one.

    zarr replay buffer    data/state (n, 5), data/action (n, 2), meta/episode_ends (episodes,);
                          data/keypoint (n, 9, 2) and data/img (n, 96, 96, 3) where there are any
    NPZ                   state, action, episode_ends, keypoint, img, in one file or img in a second one beside it

The replay buffer (Chi et al. 2023) is a folder or a zip of it, which may lie deeper in the folder or zip that is named;
zarr reads versions 2 and 3. Grey levels were published as floats: they are rounded to uint8. Nothing pickled is read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from neuralsde.data.pusht.demonstrations import Demonstrations
from neuralsde.data.pusht.features import GOAL
from neuralsde.errors import InputError, extra

NEEDED = ("state", "action", "episode_ends")
_IMAGE_ROWS = 1024  # read and rounded at a time: published images are floats, four times their size
_BROKEN = (ValueError, OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile)


def read_demonstrations(
    path: str | Path, images: bool = False, goal: tuple[float, float, float] = GOAL
) -> Demonstrations:
    """The demonstrations in a zarr replay buffer (folder or zip), an NPZ, or a folder that holds one of them.

    images: whether to read them too (one byte a number; 0.7 GB for the published set).
    goal: x, y, angle that the demonstrators worked towards; files do not say.
    Raises InputError for a path that is neither, an array that is missing, and what `Demonstrations` refuses.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"the demonstrations {str(path)!r}", "there is no such file or folder",
                         "a zarr replay buffer (folder or zip) or an NPZ")  # fmt: skip
    try:
        arrays = _arrays(path, images)
    except InputError:
        raise
    except _BROKEN as error:
        why = "it holds objects, which are not read" if "allow_pickle" in str(error) else "it is cut off or garbled"
        raise InputError(f"the demonstrations {str(path)!r}", f"they cannot be read: {why}",
                         "a zarr replay buffer (folder or zip) or an NPZ") from None  # fmt: skip
    return Demonstrations(
        arrays["state"], arrays["action"], arrays["episode_ends"], arrays.get("keypoint"), arrays.get("img"),
        goal=goal, source=str(path),
    )  # fmt: skip


def _arrays(path: Path, images: bool) -> dict[str, np.ndarray]:
    """The arrays by their published names, without data/ and meta/."""
    if path.is_dir():
        roots = _roots(str(found.relative_to(path).as_posix()) for found in path.rglob("meta/episode_ends/*"))
        if roots:
            return _zarr(path, path / _only(roots, path), images)
        return _npz(path, sorted(path.glob("*.npz")), images)
    if not zipfile.is_zipfile(path):
        raise InputError(f"the file {path.name!r}", "it is neither a zip of a zarr replay buffer nor an NPZ",
                         "one of these, or a folder with one in it")  # fmt: skip
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    roots = _roots(names)
    if roots:
        return _zarr(path, _only(roots, path), images)
    if not any(name.endswith(".npy") for name in names):
        raise InputError(f"the file {path.name!r}", "no array 'meta/episode_ends' or 'episode_ends.npy' is in the zip",
                         "a zarr replay buffer or an NPZ")  # fmt: skip
    beside = [other for other in sorted(path.parent.glob("*.npz")) if other != path]
    return _npz(path, [path, *beside] if images else [path], images)


# -- zarr --------------------------------------------------------------------------------------------------------------


def _roots(names: Iterable[str]) -> list[str]:
    """The groups that hold meta/episode_ends, out of the names of all entries."""
    files = [PurePosixPath(name) for name in names if name.endswith(("meta/episode_ends/.zarray",
                                                                     "meta/episode_ends/zarr.json"))]  # fmt: skip
    return sorted({str(file.parents[2]) for file in files})


def _only(roots: list[str], path: Path) -> str:
    if len(roots) > 1:
        raise InputError(f"{str(path)!r} with {len(roots)} replay buffers", ", ".join(roots), "one of them")
    return roots[0]


def _zarr(path: Path, root: Path | str, images: bool) -> dict[str, np.ndarray]:
    with extra("robot", "a zarr replay buffer"):
        import zarr
        import zarr.storage
    if isinstance(root, Path):
        return _from_group(path, zarr.open_group(str(root), mode="r"), images)
    store = zarr.storage.ZipStore(path, mode="r")
    try:
        return _from_group(path, zarr.open_group(store, path="" if root == "." else root, mode="r"), images)
    finally:
        store.close()


def _from_group(path: Path, group: Any, images: bool) -> dict[str, np.ndarray]:
    found = {}
    for name in (*NEEDED, "keypoint", *(["img"] if images else [])):
        where = f"meta/{name}" if name == "episode_ends" else f"data/{name}"
        if where in group:
            found[name] = _bytes(path, group[where]) if name == "img" else np.asarray(group[where][:])
        elif name != "keypoint":
            raise _missing(path, where, "data/state, data/action and meta/episode_ends")
    return found


# -- NPZ ---------------------------------------------------------------------------------------------------------------


def _npz(path: Path, files: list[Path], images: bool) -> dict[str, np.ndarray]:
    """From the first file with states, and the first with images among those with as many."""
    held = {file: _names(file) for file in files}
    with_states = [file for file in files if "state" in held[file]]
    if not with_states:
        what = "states are in no NPZ of the folder" if path.is_dir() else "it has no array 'state'"
        raise InputError(f"the demonstrations {str(path)!r}", what, "state, action and episode_ends")
    if path.is_dir() and len(with_states) > 1:
        listed = ", ".join(file.name for file in with_states)
        raise InputError(f"the folder {str(path)!r} with {len(with_states)} sets", listed, "the name of one of them")
    first = path if path in with_states else with_states[0]
    if path.is_file() and first != path:
        raise _missing(path, "state", "state, action and episode_ends")
    with np.load(first, allow_pickle=False) as opened:
        found = {name: opened[name] for name in (*NEEDED, "keypoint") if name in opened.files}
    for name in NEEDED:
        if name not in found:
            raise _missing(first, name, "state, action and episode_ends")
    if images:
        holder = next((file for file in sorted(files, key=lambda f: f != first) if "img" in held[file]), None)
        if holder is None:
            raise _missing(first, "img", "img (n, 96, 96, 3), in this file or in one beside it", "images=False")
        with np.load(holder, allow_pickle=False) as opened:
            found["img"] = _bytes(holder, opened["img"])
    return found


def _names(file: Path) -> tuple[str, ...]:
    with np.load(file, allow_pickle=False) as opened:
        return tuple(opened.files)


def _bytes(path: Path, pixels: Any) -> np.ndarray:
    """Grey levels as uint8, a thousand images at a time; `pixels` is an array or a zarr array."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels[:])
    out = np.empty(pixels.shape, np.uint8)
    for low in range(0, len(out), _IMAGE_ROWS):
        part = np.asarray(pixels[low : low + _IMAGE_ROWS], np.float32)
        if not (part >= 0).all() or part.max(initial=0.0) > 255.0:
            raise InputError(f"the array 'img' of {path.name}", "its entries do not lie between 0 and 255",
                             "grey levels")  # fmt: skip
        out[low : low + len(part)] = np.rint(part)
    return out


def _missing(path: Path, name: str, expected: str, hint: str = "") -> InputError:
    return InputError(f"the demonstrations {str(path)!r}", f"there is no array {name!r}", expected, hint)

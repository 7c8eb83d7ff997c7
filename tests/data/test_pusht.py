"""Push-T demonstrations: three spellings of one set, the recorded keypoints, units there and back, what is refused."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuralsde.data.pusht import (
    GOAL,
    LOCAL_KEYPOINTS,
    Demonstrations,
    Normaliser,
    features,
    image_parts,
    keypoints_of,
    mirrored,
    mirrored_images,
    mirrored_points,
    mirrored_states,
    normaliser,
    observations,
    read_demonstrations,
)
from neuralsde.errors import InputError

RNG = np.random.default_rng(0)
ENDS = np.array([3, 4, 9])
Arrays = dict[str, np.ndarray]


def arrays() -> Arrays:
    """Nine steps in three episodes, laid out as published: float32, whole grey levels as floats."""
    state = np.concatenate([RNG.uniform(20, 490, (9, 4)), RNG.uniform(0, 2 * np.pi, (9, 1))], 1).astype(np.float32)
    return {
        "state": state,
        "action": RNG.uniform(0, 512, (9, 2)).astype(np.float32),
        "keypoint": keypoints_of(state).astype(np.float32),
        "img": RNG.integers(0, 256, (9, 96, 96, 3)).astype(np.float32),
        "episode_ends": ENDS,
    }


def replay_buffer(folder: Path, held: Arrays, version: Any = 2) -> Path:
    """A zarr replay buffer with the published names, in chunks that do not divide the steps."""
    zarr = pytest.importorskip("zarr")
    root = zarr.open_group(str(folder), mode="w", zarr_format=version)
    for name, array in held.items():
        group = root.require_group("meta" if name == "episode_ends" else "data")
        group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=(4, *array.shape[1:]))[:] = array
    return folder


def zipped(folder: Path, path: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, inside + file.relative_to(folder).as_posix())
    return path


def test_every_spelling_of_a_set_is_the_same_set(tmp_path: Path):
    held = arrays()
    folder = replay_buffer(tmp_path / "set" / "replay.zarr", held)
    np.savez(tmp_path / "whole.npz", **held)  # type: ignore[arg-type]
    parts = tmp_path / "parts"
    parts.mkdir()
    np.savez(parts / "a_img.npz", img=held["img"].astype(np.uint8))
    np.savez(parts / "b_lowdim.npz", **{name: held[name] for name in held if name != "img"})  # type: ignore[arg-type]
    spellings = [
        folder,
        folder.parent,  # the replay buffer is found below
        zipped(folder, tmp_path / "flat.zarr.zip"),
        zipped(folder, tmp_path / "deep.zip", "pusht/replay.zarr/"),
        replay_buffer(tmp_path / "three.zarr", held, 3),
        tmp_path / "whole.npz",
        parts,
        parts / "b_lowdim.npz",  # images from the file beside it
    ]
    for path in spellings:
        demos = read_demonstrations(path, images=True)
        for name, array in (("state", demos.state), ("action", demos.actions), ("keypoint", demos.keypoints),
                            ("img", demos.images), ("episode_ends", demos.ends)):  # fmt: skip
            np.testing.assert_array_equal(array, held[name], err_msg=f"{path} {name}")
        assert demos.images is not None
        assert (demos.images.dtype, demos.goal, demos.episodes, len(demos)) == (np.uint8, GOAL, 3, 9)
    assert read_demonstrations(folder, goal=(200.0, 220.0, 1.0)).goal == (200.0, 220.0, 1.0)
    del held["keypoint"]
    bare = read_demonstrations(replay_buffer(tmp_path / "bare.zarr", held))
    assert bare.images is None
    np.testing.assert_allclose(np.asarray(bare.keypoints), keypoints_of(held["state"]), atol=1e-4)


def small() -> Demonstrations:
    held = arrays()
    return Demonstrations(held["state"], held["action"], ENDS, images=held["img"].astype(np.uint8))


def test_episodes_are_cut_out_whole():
    demos = small()
    assert demos.episode_of.tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 2]
    some = demos.take([2, 0])
    rows = [4, 5, 6, 7, 8, 0, 1, 2]
    np.testing.assert_array_equal(some.state, demos.state[rows])
    np.testing.assert_array_equal(some.images, np.asarray(demos.images)[rows])
    assert some.numbers is not None
    assert (some.ends.tolist(), some.numbers.tolist()) == ([5, 8], [2, 0])
    again = some.take([1]).numbers
    assert again is not None
    assert again.tolist() == [0]  # the place in the file is kept
    fit, held = demos.split(0, 0.34)
    assert fit.numbers is not None
    assert held.numbers is not None
    assert sorted([*fit.numbers, *held.numbers]) == [0, 1, 2]
    assert held.episodes == 1
    series = demos.take([0, 2]).trajectories()
    assert [len(s.values) for s in series] == [3, 5]
    turns = [s.values[:, series.columns.index("angle")] for s in series]
    np.testing.assert_allclose(np.cos(turns[1]), np.cos(demos.state[4:, 4]), atol=1e-6)
    assert all(np.abs(np.diff(turn)).max() <= np.pi for turn in turns)


def test_observations_hold_the_state_in_arena_units_with_the_agent_last():
    demos = small()
    pose = observations(demos, "pose").astype(np.float64)
    np.testing.assert_allclose(np.hypot(*(pose[:, 2:4] - 256).T), 256, rtol=1e-6)
    np.testing.assert_allclose(np.arctan2(*(pose[:, 3:1:-1] - 256).T) % (2 * np.pi), demos.state[:, 4], atol=1e-6)
    keys = observations(demos, "keypoints", np.array([1, 7]))
    np.testing.assert_allclose(keys[:, :-2].reshape(2, 9, 2), np.asarray(demos.keypoints)[[1, 7]], atol=1e-4)
    # a rigid motion keeps all distances
    spread = np.linalg.norm(LOCAL_KEYPOINTS[:, None] - LOCAL_KEYPOINTS, axis=-1)
    points = keypoints_of(demos.state.astype(np.float64))
    np.testing.assert_allclose(np.linalg.norm(points[:, :, None] - points[:, None], axis=-1), spread[None].repeat(9, 0))
    images = observations(demos, "image", slice(2, 4))
    grey, agent = image_parts(images)
    np.testing.assert_array_equal(grey, np.asarray(demos.images)[2:4])
    for seen, rows in ((pose, slice(None)), (keys, [1, 7]), (images, slice(2, 4))):
        np.testing.assert_allclose(seen[:, -2:], demos.state[rows, :2], rtol=1e-6)
    np.testing.assert_array_equal(agent, images[:, -2:])
    for kind in ("pose", "keypoints", "image"):
        seen = observations(demos, kind)
        assert seen.shape == (9, features(kind))
        assert seen.dtype == np.float32
        units = normaliser(kind)
        z = units.encode(seen)
        assert np.abs(z).max() < 1.3  # a keypoint may stick out of the arena
        np.testing.assert_allclose(units.decode(z), seen, atol=1e-4)
        assert Normaliser.from_dict(units.to_dict()) == units
    fitted = Normaliser.fit(np.array([[1.0, 5.0, 2.0], [3.0, 1.0, 2.0]]))
    np.testing.assert_allclose(fitted.encode(np.array([[1.0, 5.0, 2.0], [3.0, 1.0, 2.5]])), [[-1, 1, 0], [1, -1, 0.5]])


def test_a_mirror_turned_twice_changes_nothing():
    demos = small()
    once = mirrored(demos)
    again = mirrored(once)
    np.testing.assert_allclose(again.state, demos.state, atol=1e-4)
    np.testing.assert_allclose(again.actions, demos.actions, atol=1e-4)
    np.testing.assert_array_equal(again.images, demos.images)
    np.testing.assert_allclose(mirrored_states(np.array([[10.0, 20, *GOAL]])), [[492.0, 502, *GOAL]])
    corner = np.zeros((1, 96, 96, 3), np.uint8)
    corner[0, 5, 90] = 255  # row y, column x, near the corner through which the mirror goes
    assert np.argwhere(mirrored_images(corner)[0, :, :, 0]).tolist() == [[5, 90]]
    # what is seen of the mirrored state is what is seen, mirrored
    seen, other = observations(demos, "pose"), observations(once, "pose")
    np.testing.assert_allclose(mirrored_points(other[:, :2]), seen[:, :2], atol=1e-3)
    np.testing.assert_allclose(other[:, 2:4], seen[:, [3, 2]], atol=1e-3)  # the direction
    with pytest.raises(InputError, match="in a mirror"):
        mirrored(dataclasses.replace(demos, goal=(200.0, 256.0, 0.5)))


def test_the_published_set(needs_data: Callable[[str], Path]):
    folder = needs_data("pusht")
    demos = read_demonstrations(folder)
    assert (demos.episodes, len(demos)) == (206, 25_650)
    np.testing.assert_allclose(LOCAL_KEYPOINTS, np.load(folder / "local_keypoints.npy"), atol=1e-12)
    gap = np.abs(keypoints_of(demos.state.astype(np.float64)) - demos.keypoints).max((1, 2))
    assert np.median(gap) < 2e-5
    assert np.quantile(gap, 0.99) < 0.04


def broken(change: Callable[[Arrays], Any]) -> Callable[[Path], Path]:
    """An NPZ of `arrays` after a change."""

    def make(folder: Path) -> Path:
        held = arrays()
        change(held)
        np.savez(folder / "set.npz", **held)  # type: ignore[arg-type]
        return folder / "set.npz"

    return make


def zarr_without(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        held = arrays()
        del held[name]
        return replay_buffer(folder / "set.zarr", held)

    return make


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def cut_off(folder: Path) -> Path:
    path = replay_buffer(folder / "set.zarr", arrays())
    (path / "data" / "state" / "0.0").write_bytes(b"no blosc")
    return path


def twice(folder: Path) -> Path:
    path = replay_buffer(folder / "sets" / "a.zarr", arrays())
    shutil.copytree(path, folder / "sets" / "b.zarr")
    return folder / "sets"


CASES: list[tuple[Callable[[Path], Path], str]] = [
    (lambda p: p / "none", "no such file or folder; expected a zarr replay buffer"),
    (written("set.txt", b"x,y\n"), "neither a zip of a zarr replay buffer nor an NPZ"),
    (lambda p: zipped(p / "none", p / "empty.zip"), "no array 'meta/episode_ends'"),
    (lambda p: p, "states are in no NPZ of the folder"),
    (broken(lambda a: a.pop("action")), "there is no array 'action'"),
    (broken(lambda a: a.pop("state")), "it has no array 'state'"),
    (broken(lambda a: a.pop("img")), "there is no array 'img'"),
    (zarr_without("state"), "there is no array 'data/state'"),
    (broken(lambda a: a.update(action=a["action"][:-1])), "'action' .*: 8 steps; 'state' has 9"),
    (broken(lambda a: a.update(state=a["state"][:, :4])), r"'state' .* of shape \(9, 4\); .* \(n, 5\)"),
    (broken(lambda a: a.update(img=a["img"][:, ::2])), r"\(n, 96, 96, 3\)"),
    (broken(lambda a: a.update(img=a["img"] - 300)), "do not lie between 0 and 255"),
    (broken(lambda a: a.update(state=np.where(a["state"] > 300, np.nan, a["state"]))), "entries that are not finite"),
    (broken(lambda a: a.update(episode_ends=np.array([3, 3, 9], np.uint64))), "entry 1 is 3; ends do not increase"),
    (broken(lambda a: a.update(episode_ends=np.array([3, 8]))), "the last is 8; there are 9 steps"),
    (broken(lambda a: a.update(episode_ends=np.array([3.0, 9.0]))), r"\(episodes,\) integers"),
    (broken(lambda a: a.update(state=np.array([{}]))), "holds objects"),
    (cut_off, "cut off or garbled"),
    (twice, "with 2 replay buffers"),
]


@pytest.mark.parametrize(("make", "says"), CASES)
def test_what_cannot_be_meant_is_refused_in_one_line(make: Callable[[Path], Path], says: str, tmp_path: Path):
    path = make(tmp_path)
    with pytest.raises(InputError) as caught:
        read_demonstrations(path, images=True)
    assert re.search(says, caught.value.line)
    assert "\n" not in caught.value.line


def test_questions_that_have_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    demos = small()
    for ask, says in [
        (lambda: observations(demos, "keypoint"), "did you mean 'keypoints'"),
        (lambda: observations(Demonstrations(demos.state, demos.actions, ENDS), "image"), "images=True"),
        (lambda: demos.take([3]), "some of 0 to 2"),
        (lambda: demos.split(0, 0.1), "0 would be held out"),
    ]:
        with pytest.raises(InputError, match=says):
            ask()
    path = replay_buffer(tmp_path / "set.zarr", arrays())
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(InputError, match=r"needs the extra 'robot'(.|\n)*pip install 'neuralsde\[robot\]'"):
        read_demonstrations(path)

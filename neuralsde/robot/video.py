"""Recorded pictures as MP4 (H.264), in a file or inside an HTML page that opens offline."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from neuralsde.errors import InputError, extra
from neuralsde.robot.environment import STEPS_PER_SECOND

_GAP = 4
_QUALITY = "24"  # x264's constant rate factor: flat colours need few bytes


def mp4(frames: np.ndarray, rate: int = STEPS_PER_SECOND) -> bytes:
    """The bytes of a video of uint8 pictures (t, h, w, 3), `rate` a second; an odd height or width gains a white line.

    Raises InputError for arrays that are no pictures.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise InputError(f"pictures of {frames.dtype} and shape {frames.shape}", "", "uint8 of shape (t, h, w, 3)")
    with extra("robot", "a video"):
        import av
    even = np.pad(frames, [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)], constant_values=255)
    held = io.BytesIO()
    with av.open(held, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": _QUALITY, "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = even.shape[1], even.shape[2], "yuv420p"
        for picture in even:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
    return held.getvalue()


def write_mp4(path: Path, frames: np.ndarray, rate: int = STEPS_PER_SECOND) -> Path:
    """`mp4` in a file; the path again."""
    path.write_bytes(mp4(frames, rate))
    return path


def video_tag(video: bytes, caption: str = "") -> str:
    """A figure with the video in it as base64, muted and looping; nothing is fetched."""
    source = "data:video/mp4;base64," + base64.b64encode(video).decode("ascii")
    told = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure><video controls loop muted playsinline src="{source}"></video>{told}</figure>'


def side_by_side(recordings: Sequence[np.ndarray], columns: int = 4) -> UInt8[np.ndarray, "t h w 3"]:
    """Recordings (t, h, w, 3) of one size as one video, row by row; each stands still until the longest is over."""
    if not recordings or len({recording.shape[1:] for recording in recordings}) > 1 or columns < 1:
        shapes = [recording.shape for recording in recordings]
        raise InputError(
            f"recordings of shapes {shapes} in {columns} columns", "", "some of one size, in 1 column or more"
        )
    length, (h, w) = max(map(len, recordings)), recordings[0].shape[1:3]
    across = min(columns, len(recordings))
    down = -(-len(recordings) // across)
    out = np.full((length, down * (h + _GAP) - _GAP, across * (w + _GAP) - _GAP, 3), 255, np.uint8)
    for k, recording in enumerate(recordings):
        top, left = k // across * (h + _GAP), k % across * (w + _GAP)
        out[:, top : top + h, left : left + w] = recording[np.minimum(np.arange(length), len(recording) - 1)]
    return out

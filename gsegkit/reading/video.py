"""Videos, frame by frame. Their decoder (PyAV) is an extra.

It is asked for the format that the suffix names, never for a guess by content: a playlist that is called a video would
make it open other files.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gsegkit.errors import DataError, MissingDependencyError
from gsegkit.reading.files import MAX_PIXELS
from gsegkit.reading.images import Photograph
from gsegkit.records.parts import MAX_SIDE

#: Suffix -> the container format that a file of this name must have.
VIDEOS = {
    ".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".mkv": "matroska", ".webm": "matroska", ".avi": "avi",
    ".mpg": "mpeg", ".mpeg": "mpeg", ".wmv": "asf",
}  # fmt: skip
MAX_FRAMES = 200_000  # almost two hours
EXTRA = "pip install 'gsegkit[video]'"


def is_video(path: Path) -> bool:
    """Whether a file is a video by its suffix."""
    return path.suffix.lower() in VIDEOS


def can_read_videos() -> bool:
    """Whether the decoder is installed."""
    return find_spec("av") is not None


def decoder() -> Any:
    """PyAV.

    Raises:
        MissingDependencyError: it is not installed, or cannot be imported.
    """
    try:
        return import_module("av")
    except ImportError as error:
        what = f"videos need the package 'av', which cannot be imported ({error})"
        raise MissingDependencyError(what, EXTRA) from None


def count_frames(path: Path) -> tuple[int, Fraction]:
    """How many frames a video has, and how many a second; nothing is decoded.

    Raises:
        DataError: no video of the format that its suffix names, or beyond the limits.
        MissingDependencyError: PyAV is missing.
    """
    with _opened(path) as (container, stream):
        count = 0
        for packet in container.demux(stream):
            count += packet.size > 0
            if count > MAX_FRAMES:
                raise DataError(f"video '{path}' has more than {MAX_FRAMES} frames", "cut it")
        if count == 0:
            raise DataError(f"video '{path}' has no frame", "remove it or copy it again")
        return count, Fraction(stream.average_rate or stream.guessed_rate or 25)


def read_frames(path: Path, count: int) -> Iterator[Photograph | DataError]:
    """The first `count` frames, upright; a reason in the place of each that is missing because the file is damaged."""
    given = 0
    failure = DataError(f"video '{path}' ends after {{}} of {count} frames", "copy it again")
    try:
        with _opened(path) as (container, stream):
            for frame in container.decode(stream):
                if given == count:
                    break
                yield _photograph(frame, path)
                given += 1
    except DataError as error:
        failure = error
    for _ in range(given, count):
        yield DataError(failure.message.format(given), failure.hint)


class _opened:
    """The container and its video stream; PyAV's errors become DataError."""

    def __init__(self, path: Path) -> None:
        self.path, self.av = path, decoder()

    def __enter__(self) -> tuple[Any, Any]:
        form = VIDEOS[self.path.suffix.lower()]
        try:
            self.container = self.av.open(str(self.path), format=form, options={"protocol_whitelist": "file"})
        except (self.av.error.FFmpegError, OSError, ValueError) as error:
            raise self._damaged(error) from None
        streams = self.container.streams.video
        if not streams:
            self.container.close()
            raise DataError(f"'{self.path}' holds no video", "check the file")
        stream = streams[0]
        width, height = stream.codec_context.width or 0, stream.codec_context.height or 0
        if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
            self.container.close()
            raise DataError(f"video '{self.path}' is {width} x {height}", f"the limit is {MAX_SIDE} px per side")
        stream.thread_type = "AUTO"
        return self.container, stream

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.container.close()
        if isinstance(error, self.av.error.FFmpegError):
            raise self._damaged(error) from None

    def _damaged(self, error: BaseException) -> DataError:
        if isinstance(error, FileNotFoundError | PermissionError):
            return DataError(f"cannot read video '{self.path}': {error.strerror}", "check the file")
        form = VIDEOS[self.path.suffix.lower()]
        return DataError(
            f"video '{self.path}' is damaged, or not of the format '{form}' that its name says", "copy it again"
        )


def _photograph(frame: Any, path: Path) -> Photograph:
    if frame.width * frame.height > MAX_PIXELS:
        raise DataError(f"a frame of video '{path}' is {frame.width} x {frame.height}", "shrink it")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4  # counter-clockwise, as the camera noted
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), turns)
    notes = ("turned upright (camera's note)",) if turns else ()
    return Photograph(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), notes)

"""Predictions of a video as videos: class indices without loss, and the frames with their classes in colour."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gsegkit.colours import overlay
from gsegkit.errors import StorageError
from gsegkit.exports.places import place
from gsegkit.reading.video import decoder
from gsegkit.storage import storage_errors, temporary_beside

#: Format of predictions -> file below the output folder, codec, pixel format.
VIDEO_FORMATS = {
    "label": ("labels/{name}.mkv", "ffv1", "gray"),  # grey values are class indices
    "overlay": ("overlays/{name}.mp4", "libx264", "yuv420p"),
}
MAX_RATE = 1000  # frames a second


class VideoPredictions:
    """Writes the masks of one video, frame by frame; the files appear when they are closed without an error.

    Args:
        out: folder of all predictions.
        name: of the video.
        formats: of `VIDEO_FORMATS`.
        palette: [256, 3] uint8, colours of the classes.
        rate: frames a second.
    """

    def __init__(self, out: Path, name: str, formats: Sequence[str], palette: Tensor, rate: Fraction) -> None:
        self.palette = palette
        self.rate = min(max(Fraction(rate), Fraction(1, 100)), Fraction(MAX_RATE)).limit_denominator(100_000)
        self.paths = {form: place(out, *VIDEO_FORMATS[form][0].replace("{name}", name).split("/")) for form in formats}
        self._open: dict[str, tuple[Any, Any, Path]] = {}

    @staticmethod
    def files(name: str, formats: Sequence[str]) -> list[str]:
        """Files below `out` that a video of this name becomes."""
        return [VIDEO_FORMATS[form][0].replace("{name}", name) for form in formats]

    def write(self, pixels: Tensor, mask: Tensor) -> None:
        """Append a frame: [3, H, W] uint8 and its [H, W] uint8 classes."""
        for form, path in self.paths.items():
            if form == "label":
                image = mask.numpy()
            else:
                drawn = overlay(pixels[None], mask[None], palette=self.palette)[0].permute(1, 2, 0).numpy()
                image = np.pad(drawn, ((0, drawn.shape[0] % 2), (0, drawn.shape[1] % 2), (0, 0)), mode="edge")
            with storage_errors(path), _encoder_errors(path):
                self._encode(form, path, np.ascontiguousarray(image))

    def close(self) -> None:
        """Finish the files and put them in their places."""
        for form, (container, stream, temporary) in list(self._open.items()):
            path = self.paths[form]
            with storage_errors(path), _encoder_errors(path):
                container.mux(stream.encode(None))
                container.close()
                os.replace(temporary, path)
            del self._open[form]

    def discard(self) -> None:
        """Drop unfinished files; harmless after close()."""
        for container, _, temporary in self._open.values():
            with contextlib.suppress(Exception):
                container.close()
            temporary.unlink(missing_ok=True)
        self._open = {}

    def _encode(self, form: str, path: Path, image: np.ndarray) -> None:
        av = decoder()
        if form not in self._open:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = temporary_beside(path, path.suffix)
            container = av.open(str(temporary), "w")
            _, codec, pixel_format = VIDEO_FORMATS[form]
            stream = container.add_stream(codec, rate=self.rate)
            stream.height, stream.width, stream.pix_fmt = image.shape[0], image.shape[1], pixel_format
            self._open[form] = container, stream, temporary
        container, stream, _ = self._open[form]
        frame = av.VideoFrame.from_ndarray(image, format="gray" if image.ndim == 2 else "rgb24")
        container.mux(stream.encode(frame))


@contextlib.contextmanager
def _encoder_errors(path: Path) -> Any:
    """What the encoder refuses, in a sentence; a full disk is an OSError, which passes."""
    try:
        yield
    except OSError:
        raise
    except (ValueError, RuntimeError) as error:
        raise StorageError(
            f"'{path}' cannot be encoded as a video ({type(error).__name__})", "write images: --frames images"
        ) from None

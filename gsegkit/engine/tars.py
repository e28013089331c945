"""Shards as tar files that the webdataset library reads: NAME.image.png, NAME.mask.png and NAME.json side by side.

A tar without compression is a row of files, so a pair is read by its place; the file is never unpacked. The headers are
walked once: members of other names, kinds or sizes than we write are refused before anything of them is read.
"""

from __future__ import annotations

import io
import json
import math
import re
import tarfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gsegkit.engine.layouts import REMEDY, Files, Layout, Pair, pair_name
from gsegkit.errors import ArtifactError
from gsegkit.images import png_bytes
from gsegkit.records.text import json_value
from gsegkit.types import LabelledBatch

BLOCK = tarfile.BLOCKSIZE  # 512 bytes: of a header, and what contents are filled up to
MEMBERS = ("image.png", "mask.png", "json")  # of a pair, in this order
NAME = re.compile(r"(\d{8,10})\.(image\.png|mask\.png|json)")
LEVEL = 1  # of the PNGs' compression: three times as fast as the default, and no larger on generated images
MAX_JSON = 64 << 10
NOT_FINITE = ("nan", "inf", "-inf")  # scores that JSON has no number for


class Places(NamedTuple):
    """Where the pairs are: `starts` [n] int64 of their first headers, `sizes` [n, 3] int64 of their contents."""

    starts: np.ndarray
    sizes: np.ndarray


class Tars(Layout):
    """See the module; 32 bytes of places are kept for each pair of a shard that was read."""

    suffix = ".tar"

    def __init__(self, path: Path, rows: int, size: tuple[int, int], files: Files) -> None:
        super().__init__(path, rows, size, files)
        if path.stat().st_size < rows * 2 * BLOCK * len(MEMBERS):  # now: whoever shuffles makes room for all rows
            raise self._unlike("fewer pairs than its record says")

    def check(self) -> None:
        """See `Layout.check`."""
        _ = self._places

    @staticmethod
    def write(file: BinaryIO, batch: LabelledBatch) -> None:
        """See `Layout.write`; equal pairs give equal bytes: members carry neither time nor owner."""
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for row, seed in enumerate(batch.seeds.tolist()):
                scores = {name: _number(float(value[row])) for name, value in batch.scores.items()}
                about = json.dumps({"seed": seed, "scores": scores}).encode()
                images = (png_bytes(array[row], level=LEVEL) for array in (batch.pixels, batch.masks))
                for member, content in zip(MEMBERS, (*images, about), strict=True):
                    header = tarfile.TarInfo(f"{pair_name(seed)}.{member}")
                    header.size = len(content)
                    tar.addfile(header, io.BytesIO(content))

    @staticmethod
    def most_bytes(rows: int, area: int) -> int:
        """See `Layout.most_bytes`."""
        return rows * sum(BLOCK + _filled(limit) for limit in _limits(area)) + 2 * tarfile.RECORDSIZE

    def pair(self, row: int) -> Pair:
        """See `Layout.pair`."""
        start, (image, mask, _) = int(self._places.starts[row]), self._places.sizes[row].tolist()
        mask_at = BLOCK + _filled(image) + BLOCK
        data = memoryview(self.read(start, mask_at + mask))
        name, _ = self._name(data[:BLOCK])
        pixels = self._decoded(data[BLOCK : BLOCK + image], "RGB").permute(2, 0, 1).contiguous()
        return Pair(name, pixels, self._decoded(data[mask_at:], "L"))

    def seed(self, row: int) -> int:
        """See `Layout.seed`."""
        return int(self._about(row)["seed"])

    def scores(self, row: int) -> Mapping[str, float]:
        """See `Layout.scores`."""
        return {name: float(value) for name, value in self._about(row)["scores"].items()}

    @cached_property
    def _places(self) -> Places:
        """All headers, walked; ArtifactError unless the file is a row of pairs and nothing else."""
        starts, sizes = np.empty(self.rows, np.int64), np.empty((self.rows, len(MEMBERS)), np.int64)
        at = 0
        for row in range(self.rows):
            starts[row], names = at, set()
            for i, (member, limit) in enumerate(zip(MEMBERS, _limits(self.area), strict=True)):
                name, size = self._name(self.read(at, BLOCK), member)
                if not 0 <= size <= limit:  # a header can hold numbers below 0
                    raise self._unlike(f"a member of {size:,} bytes")
                names.add(name)
                sizes[row, i] = size
                at += BLOCK + _filled(size)
            if len(names) > 1:
                raise self._unlike("a pair of two names")
        if any(self.read(at, 2 * BLOCK)):
            raise self._unlike("more pairs than its record says")
        return Places(starts, sizes)

    def _name(self, header: bytes | bytearray | memoryview, member: str = MEMBERS[0]) -> tuple[str, int]:
        """The pair's name and the size of a header's content; ArtifactError unless it is a plain file `NAME.member`."""
        try:
            found = tarfile.TarInfo.frombuf(bytes(header), "ascii", "strict")
        except (tarfile.HeaderError, UnicodeError):
            raise self._unlike("something else than files") from None
        match = NAME.fullmatch(found.name)
        if found.type != tarfile.REGTYPE or match is None or match[2] != member:
            raise self._unlike("something else than files NAME.image.png, NAME.mask.png, NAME.json in this order")
        return match[1], found.size

    def _decoded(self, data: memoryview, mode: str) -> Tensor:
        """A PNG of the shard's size: [H, W, 3] ("RGB") or [H, W] ("L") uint8."""
        height, width = self.size
        try:
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                if image.mode == mode and image.size == (width, height):  # before anything is decoded
                    return torch.from_numpy(np.array(image))
        except Exception:  # decoders leak any kind
            raise self._unlike("an image that cannot be decoded") from None
        raise self._unlike(f"an image that is not {width} x {height} {mode}")

    def _about(self, row: int) -> dict[str, Any]:
        """What the JSON beside a pair says, checked."""
        start, (image, mask, about) = int(self._places.starts[row]), self._places.sizes[row].tolist()
        data = self.read(start + 3 * BLOCK + _filled(image) + _filled(mask), about)
        try:
            value = json_value(bytes(data))
            numbers = value["scores"].values()
            sound = type(value["seed"]) is int and -(2**63) <= value["seed"] < 2**63
            if sound and all(type(n) in (int, float) or n in NOT_FINITE for n in numbers):
                return dict(value)
        except (ValueError, LookupError, TypeError, AttributeError):
            pass
        raise self._unlike("a .json that is not that of a pair")

    def _unlike(self, what: str) -> ArtifactError:
        return ArtifactError(f"'{self.path}' is not a shard of pairs: it holds {what}", REMEDY)


def _limits(area: int) -> tuple[int, int, int]:
    """What the members of a pair of so many pixels have at most, in bytes; PNG adds little to what does not shrink."""
    return 2 * 3 * area + MAX_JSON, 2 * area + MAX_JSON, MAX_JSON


def _filled(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)

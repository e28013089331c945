"""How the pairs of a shard lie in its file, and reading any of them by its place: nothing is mapped or unpacked.

So the memory that reading takes does not grow with the data set, and each pair is read from the file it was written to.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, ClassVar, NamedTuple

import torch
from torch import Tensor

from gsegkit.errors import ArtifactError
from gsegkit.records.files import regular
from gsegkit.records.tensors import StoredTensor, stored_tensors, write_tensors
from gsegkit.types import LabelledBatch

MAX_OPEN = 64  # files
SCORE = "score."  # before a score's name, in the names of stored tensors
REMEDY = "make the pairs again"


class Files:
    """Reads parts of files, and keeps the last few open: training asks for pairs of all shards in turn.

    One part is read at a time, whichever thread asks.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, BinaryIO] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: Path, start: int, count: int) -> bytearray:
        """Exactly `count` bytes from `start` on; ArtifactError when they are not there."""
        data = bytearray(count)
        try:
            with self._lock:
                file = self._file(path)
                file.seek(start)
                found = file.readinto(data)  # type: ignore[attr-defined]  # of the raw file
        except OSError as error:
            raise ArtifactError(f"'{path}' cannot be read: {error.strerror}", REMEDY) from None
        if found != count:
            raise ArtifactError(f"'{path}' ends too early", REMEDY)
        return data

    def _file(self, path: Path) -> BinaryIO:
        if path not in self._open:
            self._open[path] = regular(path).open("rb", buffering=0)
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(path)
        return self._open[path]

    def __del__(self) -> None:
        for file in self._open.values():
            file.close()


class Pair(NamedTuple):
    """One pair as it is stored; `name` holds the lower 32 bits of its seed."""

    name: str
    pixels: Tensor
    mask: Tensor


class Layout(ABC):
    """Where the pairs of one shard lie in its file. It holds places, neither pixels nor an open file.

    Args:
        path: the file.
        rows: pairs in it.
        size: (height, width).
        files: reads parts of it.

    Raises:
        ArtifactError: the file cannot hold such pairs.
    """

    suffix: ClassVar[str]

    def __init__(self, path: Path, rows: int, size: tuple[int, int], files: Files) -> None:
        self.path, self.rows, self.size, self.files = path, rows, size, files
        self.area = size[0] * size[1]

    @staticmethod
    @abstractmethod
    def write(file: BinaryIO, batch: LabelledBatch) -> None:
        """Write a shard's whole file."""

    @staticmethod
    @abstractmethod
    def most_bytes(rows: int, area: int) -> int:
        """What a file of so many pairs of so many pixels has at most: a larger one is not even looked at."""

    def check(self) -> None:  # noqa: B027 (a table at the file's start has said all)
        """ArtifactError unless the whole file is of this form; the pictures are not decoded."""

    @abstractmethod
    def pair(self, row: int) -> Pair:
        """A pair of the shard."""

    @abstractmethod
    def seed(self, row: int) -> int:
        """The identity of a pair's sample."""

    @abstractmethod
    def scores(self, row: int) -> Mapping[str, float]:
        """A pair's scores."""

    def read(self, start: int, count: int) -> bytearray:
        """Bytes of the file."""
        return self.files.read(self.path, start, count)


class Tensors(Layout):
    """A safetensors file: `seeds` [n] int64, `pixels` [n, 3, H, W] and `masks` [n, H, W] uint8, `score.*` [n] float32.

    A row of a tensor is one stretch of the file.
    """

    suffix = ".safetensors"

    def __init__(self, path: Path, rows: int, size: tuple[int, int], files: Files) -> None:
        super().__init__(path, rows, size, files)
        there = stored_tensors(path)
        want: dict[str, tuple[str, list[int]]] = {
            "seeds": ("I64", [rows]),
            "pixels": ("U8", [rows, 3, *size]),
            "masks": ("U8", [rows, *size]),
        }
        scores = {name: tensor for name, tensor in there.items() if name.startswith(SCORE)}
        want |= {name: ("F32", [rows]) for name in scores}
        if {name: (tensor.dtype, tensor.shape) for name, tensor in there.items()} != want:
            raise ArtifactError(f"the tensors in '{path}' are not those of the records beside it", REMEDY)
        self._starts = {name: there[name].start for name in ("seeds", "pixels", "masks")}
        self._scores = {name.removeprefix(SCORE): tensor.start for name, tensor in scores.items()}

    @staticmethod
    def write(file: BinaryIO, batch: LabelledBatch) -> None:
        """See `Layout.write`."""
        tensors = {"seeds": batch.seeds, "pixels": batch.pixels, "masks": batch.masks}
        write_tensors(file, tensors | {f"{SCORE}{name}": value for name, value in batch.scores.items()})

    @staticmethod
    def most_bytes(rows: int, area: int) -> int:
        """See `Layout.most_bytes`; seeds and up to 1,000 scores beside the pixels."""
        return rows * (4 * area + 8 + 4 * 1000) + StoredTensor.MAX_HEADER

    def pair(self, row: int) -> Pair:
        """See `Layout.pair`."""
        pixels = self._part("pixels", row, 3 * self.area).reshape(3, *self.size)
        return Pair(pair_name(self.seed(row)), pixels, self._part("masks", row, self.area).reshape(self.size))

    def seed(self, row: int) -> int:
        """See `Layout.seed`."""
        return int.from_bytes(self.read(self._starts["seeds"] + 8 * row, 8), "little", signed=True)

    def scores(self, row: int) -> Mapping[str, float]:
        """See `Layout.scores`."""
        return {
            name: float(torch.frombuffer(self.read(start + 4 * row, 4), dtype=torch.float32))
            for name, start in self._scores.items()
        }

    def _part(self, name: str, row: int, count: int) -> Tensor:
        return torch.frombuffer(self.read(self._starts[name] + count * row, count), dtype=torch.uint8)


def pair_name(seed: int) -> str:
    """The name of a sample: the number of its seed among those of its purpose."""
    return f"{seed & 0xFFFFFFFF:08d}"

"""Data on disk: the synthetic pairs (shards), and the two views that parts train on and score with."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from gsegkit.artifacts import atomic_write, atomic_write_json, file_hash, read_json
from gsegkit.errors import ArtifactError, DataError
from gsegkit.images import centre_crop, fit_pixels, read_image
from gsegkit.types import LabelledBatch, check_tensor

MANIFEST_FILE = "dataset.json"


@dataclass(frozen=True)
class Sample:
    """One image with its mask.

    Attributes:
        name: file stem, or the seed of a generated sample.
        pixels: [3, H, W] uint8.
        mask: [H, W] uint8, class indices, 255 = ignore.
    """

    name: str
    pixels: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        check_tensor(self.pixels, "pixels", torch.uint8, (3, None, None), f"sample '{self.name}' ")
        check_tensor(self.mask, "mask", torch.uint8, tuple(self.pixels.shape[1:]), f"sample '{self.name}' ")


class LabelledDataset(ABC):
    """(image, mask) pairs, in a fixed order.

    Attributes:
        classes: names of the K classes; masks hold 0 .. K-1 and 255.
        fit_rule: how real photographs were fitted to these images' size; see `gsegkit.images.fit_pixels`.
    """

    classes: tuple[str, ...]
    fit_rule: str = "native"

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    def __iter__(self) -> Iterator[Sample]:
        for index in range(len(self)):
            yield self[index]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Rows of equal size stacked: pixels [N, 3, H, W] uint8, masks [N, H, W] uint8."""
        rows = [self[int(i)] for i in indices]
        sizes = {tuple(row.mask.shape) for row in rows}
        if len(sizes) > 1:
            raise DataError(
                f"images of different sizes cannot train in one batch: {sorted(sizes)[:3]}",
                "resize them to one size first",
            )
        return torch.stack([row.pixels for row in rows]), torch.stack([row.mask for row in rows])

    def batch_weights(self, indices: Sequence[int]) -> Tensor | None:
        """Per-pixel training weights of the same rows, [N, H, W] float32 >= 0, or None for all ones."""
        return None


class Subset(LabelledDataset):
    """Some rows of another data set."""

    def __init__(self, dataset: LabelledDataset, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = [int(i) for i in indices]
        self.classes = dataset.classes
        self.fit_rule = dataset.fit_rule

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """See `LabelledDataset.batch`."""
        return self.dataset.batch([self.indices[int(i)] for i in indices])

    def batch_weights(self, indices: Sequence[int]) -> Tensor | None:
        """See `LabelledDataset.batch_weights`."""
        return self.dataset.batch_weights([self.indices[int(i)] for i in indices])


class MemoryDataset(LabelledDataset):
    """Pairs held in memory: pixels [N, 3, H, W] uint8, masks [N, H, W] uint8."""

    def __init__(
        self,
        pixels: Tensor,
        masks: Tensor,
        classes: Sequence[str],
        names: Sequence[str] | None = None,
        fit_rule: str = "native",
    ) -> None:
        check_tensor(pixels, "pixels", torch.uint8, (None, 3, None, None), "MemoryDataset ")
        check_tensor(masks, "masks", torch.uint8, (len(pixels), *pixels.shape[2:]), "MemoryDataset ")
        self.pixels, self.masks, self.classes, self.fit_rule = pixels, masks, tuple(classes), fit_rule
        self.names = list(names) if names is not None else [f"{i:06d}" for i in range(len(pixels))]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.names[index], self.pixels[index], self.masks[index])

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """See `LabelledDataset.batch`."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        return self.pixels[rows], self.masks[rows]


@dataclass(frozen=True)
class UnlabelledImages:
    """Image files without masks, fitted to one size when they are read.

    Attributes:
        paths: the files, in a stable order.
        size: (height, width) to fit to, None = as they are.
        fit_rule: "squash", "crop" (centre) or "pad"; see `gsegkit.images.fit_pixels`.
    """

    paths: tuple[Path, ...]
    size: tuple[int, int] | None = None
    fit_rule: str = "squash"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """[3, H, W] uint8."""
        pixels = read_image(self.paths[index])
        if self.size is None:
            return pixels
        fitted = fit_pixels(pixels[None], self.size, self.fit_rule)
        return centre_crop(fitted, self.size)[0]

    def fitted(self, size: tuple[int, int], fit_rule: str = "squash") -> UnlabelledImages:
        """The same files at another size."""
        return UnlabelledImages(self.paths, size, fit_rule)

    def batch(self, indices: Sequence[int]) -> Tensor:
        """[N, 3, H, W] uint8; needs a size, or files of equal size."""
        return torch.stack([self[int(i)] for i in indices])


# ---- shards ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Manifest:
    """What a synthetic data set is: dataset.json."""

    classes: tuple[str, ...]
    num_shards: int
    shard_size: int  # candidates per shard, before refiners dropped any
    height: int
    width: int
    fit_rule: str
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Store atomically."""
        atomic_write_json(folder / MANIFEST_FILE, {**self.__dict__, "classes": list(self.classes)})

    @staticmethod
    def read(folder: Path) -> Manifest:
        """Load; ArtifactError when `folder` is not a data set."""
        record = read_json(folder / MANIFEST_FILE)
        try:
            return Manifest(**{**record, "classes": tuple(record["classes"])})
        except (TypeError, KeyError) as error:
            raise ArtifactError(f"'{folder / MANIFEST_FILE}' is not a data set manifest: {error}") from None


def shard_path(folder: Path, shard: int) -> Path:
    """Where a shard's tensors lie; its commit record is the same name with .json."""
    return folder / f"shard-{shard:05d}.safetensors"


def write_shard(folder: Path, shard: int, batch: LabelledBatch, counts: Mapping[str, int]) -> None:
    """Store a shard: the tensors, then the record that commits it (hash, rows, what was dropped and by whom)."""
    tensors = {"seeds": batch.seeds, "pixels": batch.pixels, "masks": batch.masks}
    tensors |= {f"score.{name}": value for name, value in batch.scores.items()}
    path = shard_path(folder, shard)
    atomic_write(path, safetensors.torch.save({k: v.cpu().contiguous() for k, v in tensors.items()}))
    record = {"rows": len(batch), "counts": dict(counts), "sha256": file_hash(path)}
    atomic_write_json(path.with_suffix(".json"), record)


def shard_record(folder: Path, shard: int) -> dict[str, Any] | None:
    """The commit record of a shard whose file is there and unchanged, else None."""
    path = shard_path(folder, shard)
    try:
        record = json.loads(path.with_suffix(".json").read_bytes())
        return record if record["sha256"] == file_hash(path) else None
    except (OSError, ValueError, KeyError):
        return None


class ShardDataset(LabelledDataset):
    """The synthetic pairs of a run, memory-mapped from their shards."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.read(self.folder)
        self.classes = self.manifest.classes
        self.fit_rule = self.manifest.fit_rule
        self.counts: dict[str, int] = {}
        self._rows: list[tuple[int, int]] = []
        self._files: dict[int, Any] = {}
        for shard in range(self.manifest.num_shards):
            record = shard_record(self.folder, shard)
            if record is None:
                raise ArtifactError(
                    f"shard {shard} of '{self.folder}' is missing or damaged",
                    "run the same command again: only that shard is made anew",
                )
            self._rows += [(shard, row) for row in range(record["rows"])]
            for name, count in record["counts"].items():
                self.counts[name] = self.counts.get(name, 0) + count

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        shard, row = self._rows[index]
        seed = int(self._slice(shard, "seeds", row))
        return Sample(f"{seed & 0xFFFFFFFF:08d}", self._slice(shard, "pixels", row), self._slice(shard, "masks", row))

    def seeds(self) -> Tensor:
        """Identities of all rows, [len] int64."""
        return self._column("seeds")

    def scores(self) -> dict[str, Tensor]:
        """Scores of all rows: name -> [len] float32."""
        names = [key for key in self._file(0).keys() if key.startswith("score.")]  # noqa: SIM118 (not a dict)
        return {name.removeprefix("score."): self._column(name) for name in names}

    def _column(self, name: str) -> Tensor:
        return torch.cat([self._file(shard).get_tensor(name) for shard in range(self.manifest.num_shards)])

    def _slice(self, shard: int, name: str, row: int) -> Tensor:
        tensor: Tensor = self._file(shard).get_slice(name)[row]
        return tensor

    def _file(self, shard: int) -> Any:
        if shard not in self._files:
            self._files[shard] = safe_open(shard_path(self.folder, shard), framework="pt")
        return self._files[shard]

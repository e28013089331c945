"""The synthetic pairs on disk: shards of tensors, each with the record that commits it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.errors import ArtifactError
from gsegkit.storage import atomic_write, atomic_write_json, file_hash, read_json
from gsegkit.types import LabelledBatch

MANIFEST_FILE = "dataset.json"


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
                    "run the same command again: only that shard is made again",
                )
            self._rows += [(shard, row) for row in range(record["rows"])]
            for name, count in record["counts"].items():
                self.counts[name] = self.counts.get(name, 0) + count

    @property
    def shards(self) -> range:
        """Numbers of the shards."""
        return range(self.manifest.num_shards)

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

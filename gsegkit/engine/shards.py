"""The synthetic pairs on disk: shards of tensors, each with the record that commits it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field, StrictInt, StrictStr
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.errors import ArtifactError
from gsegkit.reading.scaling import DEFAULT_SCALING, check_scaling
from gsegkit.records.files import Record
from gsegkit.records.names import CLASS_NAME_RULE, is_class_name
from gsegkit.records.parts import FIT_RULES, MAX_SIDE
from gsegkit.records.tensors import write_tensors
from gsegkit.storage import atomic_file, atomic_write_json, file_hash
from gsegkit.types import LabelledBatch

MANIFEST_FILE = "dataset.json"
MAX_SHARDS = 1_000_000  # of a data set: 256 million pairs
MAX_ROWS = 1_000_000  # of a shard


def _a_name(value: str) -> str:
    if not is_class_name(value):
        raise ValueError(CLASS_NAME_RULE)
    return value


def _a_fit_rule(value: str) -> str:
    if value not in FIT_RULES:
        raise ValueError(f"should be one of {', '.join(FIT_RULES)}")
    return value


Name = Annotated[StrictStr, AfterValidator(_a_name)]
Side = Annotated[StrictInt, Field(ge=1, le=MAX_SIDE)]


class Manifest(Record):
    """What a synthetic data set is: dataset.json."""

    classes: tuple[Name, ...] = Field(min_length=1, max_length=255)
    num_shards: StrictInt = Field(ge=1, le=MAX_SHARDS)
    shard_size: StrictInt = Field(ge=1, le=MAX_ROWS)  # candidates per shard, before refiners dropped any
    height: Side
    width: Side
    fit_rule: Annotated[StrictStr, AfterValidator(_a_fit_rule)]
    scaling: Annotated[StrictStr, AfterValidator(check_scaling)] = DEFAULT_SCALING
    recipe: dict[str, Any] = Field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Store atomically."""
        atomic_write_json(folder / MANIFEST_FILE, self.model_dump(mode="json"))


class ShardRecord(Record):
    """What commits a shard: the record beside its tensors."""

    rows: StrictInt = Field(ge=0, le=MAX_ROWS)
    counts: dict[StrictStr, StrictInt]
    sha256: StrictStr


def shard_path(folder: Path, shard: int) -> Path:
    """Where a shard's tensors lie; its commit record is the same name with .json."""
    return folder / f"shard-{shard:05d}.safetensors"


def write_shard(folder: Path, shard: int, batch: LabelledBatch, counts: Mapping[str, int]) -> None:
    """Store a shard: the tensors, then the record that commits it (hash, rows, what was dropped and by whom)."""
    tensors = {"seeds": batch.seeds, "pixels": batch.pixels, "masks": batch.masks}
    tensors |= {f"score.{name}": value for name, value in batch.scores.items()}
    path = shard_path(folder, shard)
    with atomic_file(path) as file:
        write_tensors(file, tensors)
    record = ShardRecord(rows=len(batch), counts=dict(counts), sha256=file_hash(path))
    atomic_write_json(path.with_suffix(".json"), record.model_dump())


def shard_record(folder: Path, shard: int) -> ShardRecord | None:
    """The commit record of a shard whose file is there and unchanged, else None."""
    path = shard_path(folder, shard)
    try:
        record = ShardRecord.read(path.with_suffix(".json"))
        return record if record.sha256 == file_hash(path) else None
    except (OSError, ArtifactError):
        return None


def missing_shards(folder: Path, shards: Iterable[int]) -> list[int]:
    """Those of the shards that are not there, or damaged."""
    return [shard for shard in shards if shard_record(folder, shard) is None]


class ShardDataset(LabelledDataset):
    """The synthetic pairs of a run, memory-mapped from their shards."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.read(self.folder / MANIFEST_FILE)
        self.classes = self.manifest.classes
        self.fit_rule, self.scaling = self.manifest.fit_rule, self.manifest.scaling
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
            self._check_shapes(shard, record.rows)
            self._rows += [(shard, row) for row in range(record.rows)]
            for name, count in record.counts.items():
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

    def _check_shapes(self, shard: int, rows: int) -> None:
        """The tensors of a shard are those that its record and the manifest name; read from the file's header alone."""
        path = shard_path(self.folder, shard)
        size = [self.manifest.height, self.manifest.width]
        want = {"seeds": ([rows], "I64"), "pixels": ([rows, 3, *size], "U8"), "masks": ([rows, *size], "U8")}
        try:
            there = set(self._file(shard).keys())
            slices = {name: self._file(shard).get_slice(name) for name in want if name in there}
        except SafetensorError as error:
            raise ArtifactError(f"'{path}' is damaged: {error}", "run the same command again") from None
        if {name: (found.get_shape(), found.get_dtype()) for name, found in slices.items()} != want:
            raise ArtifactError(
                f"the tensors in '{path}' are not those of the records beside it", "make the pairs again"
            )

    def _column(self, name: str) -> Tensor:
        return torch.cat([self._file(shard).get_tensor(name) for shard in range(self.manifest.num_shards)])

    def _slice(self, shard: int, name: str, row: int) -> Tensor:
        tensor: Tensor = self._file(shard).get_slice(name)[row]
        return tensor

    def _file(self, shard: int) -> Any:
        if shard not in self._files:
            self._files[shard] = safe_open(shard_path(self.folder, shard), framework="pt")
        return self._files[shard]

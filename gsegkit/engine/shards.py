"""The synthetic pairs on disk: shards in one of two formats, each with the record that commits it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field, StrictInt, StrictStr
from torch import Tensor

from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.engine.layouts import Files, Layout, Tensors
from gsegkit.engine.plan import NATIVE, PairFormat
from gsegkit.engine.tars import Tars
from gsegkit.errors import ArtifactError
from gsegkit.reading.scaling import DEFAULT_SCALING, check_scaling
from gsegkit.records.files import Record
from gsegkit.records.names import CLASS_NAME_RULE, is_class_name
from gsegkit.records.parts import FIT_RULES, MAX_SIDE
from gsegkit.storage import atomic_file, atomic_write_json, file_hash
from gsegkit.types import LabelledBatch

MANIFEST_FILE = "dataset.json"
MAX_SHARDS = 1_000_000  # of a data set: 256 million pairs
MAX_ROWS = 1_000_000  # of a shard
LAYOUTS: Mapping[PairFormat, type[Layout]] = {NATIVE: Tensors, "webdataset": Tars}


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
    format: PairFormat = NATIVE  # of the shards' files; those of an earlier version do not say
    recipe: dict[str, Any] = Field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Store atomically."""
        atomic_write_json(folder / MANIFEST_FILE, self.model_dump(mode="json"))

    @property
    def layout(self) -> type[Layout]:
        """How pairs lie in its shards."""
        return LAYOUTS[self.format]


class ShardRecord(Record):
    """What commits a shard: the record beside its file."""

    rows: StrictInt = Field(ge=0, le=MAX_ROWS)
    counts: dict[StrictStr, StrictInt]
    sha256: StrictStr


def shard_path(folder: Path, shard: int, format: PairFormat = NATIVE) -> Path:
    """Where a shard's pairs lie; its commit record is the same name with .json."""
    return folder / f"shard-{shard:05d}{LAYOUTS[format].suffix}"


def write_shard(
    folder: Path, shard: int, batch: LabelledBatch, counts: Mapping[str, int], format: PairFormat = NATIVE
) -> None:
    """Store a shard: its pairs, then the record that commits them (hash, rows, what was dropped and by whom)."""
    path = shard_path(folder, shard, format)
    with atomic_file(path) as file:
        LAYOUTS[format].write(file, batch)
    record = ShardRecord(rows=len(batch), counts=dict(counts), sha256=file_hash(path))
    atomic_write_json(path.with_suffix(".json"), record.model_dump())


def shard_record(folder: Path, shard: int, manifest: Manifest, *, verify: bool = True) -> ShardRecord | None:
    """The commit record of a shard whose file is there, else None.

    Args:
        folder: of the data set.
        shard: its number.
        manifest: of the data set.
        verify: read the file, and ask that it is unchanged.
    """
    path = shard_path(folder, shard, manifest.format)
    try:
        record = ShardRecord.read(path.with_suffix(".json"))
        fits = path.stat().st_size <= manifest.layout.most_bytes(record.rows, manifest.height * manifest.width)
        return record if fits and (not verify or record.sha256 == file_hash(path)) else None
    except (OSError, ArtifactError):
        return None


def missing_shards(folder: Path, shards: Iterable[int], manifest: Manifest) -> list[int]:
    """Those of the shards that are not there, or damaged."""
    return [shard for shard in shards if shard_record(folder, shard, manifest) is None]


class ShardDataset(LabelledDataset):
    """The synthetic pairs of a run, each read from its shard when it is asked for.

    Args:
        folder: of the data set.
        verify: read all shards once, and ask that they are unchanged. Of several processes one has to.

    Attributes:
        counts: candidates, what every refiner dropped, and what was kept.
        hashes: of the shards' files, in order.

    Raises:
        ArtifactError: a shard is missing, damaged, or not what the records beside it say.
    """

    def __init__(self, folder: str | Path, *, verify: bool = True) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.read(self.folder / MANIFEST_FILE)
        self.classes = self.manifest.classes
        self.fit_rule, self.scaling = self.manifest.fit_rule, self.manifest.scaling
        self.counts: dict[str, int] = {}
        self.hashes: list[str] = []
        self._shards: list[Layout] = []
        size, files = (self.manifest.height, self.manifest.width), Files()
        for shard in range(self.manifest.num_shards):
            record = shard_record(self.folder, shard, self.manifest, verify=verify)
            if record is None:
                raise ArtifactError(
                    f"shard {shard} of '{self.folder}' is missing or damaged",
                    "run the same command again: only that shard is made again",
                )
            path = shard_path(self.folder, shard, self.manifest.format)
            self._shards.append(self.manifest.layout(path, record.rows, size, files))
            self.hashes.append(record.sha256)
            for name, count in record.counts.items():
                self.counts[name] = self.counts.get(name, 0) + count
        self._ends = list(accumulate(shard.rows for shard in self._shards))

    @property
    def paths(self) -> list[Path]:
        """Files of the shards, in order."""
        return [shard.path for shard in self._shards]

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        shard, row = self._place(index)
        return Sample(*shard.pair(row))

    def ready(self, format: str) -> Sequence[Path]:
        """See `LabelledDataset.ready`; the files are looked at: others will read them as they are."""
        if format != self.manifest.format:
            return ()
        for shard in self._shards:
            shard.check()
        return [path.resolve() for path in self.paths]

    def seeds(self, rows: Sequence[int] | None = None) -> Tensor:
        """Identities of rows, of all when none are given: [len] int64."""
        places = map(self._place, range(len(self)) if rows is None else rows)
        return torch.tensor([shard.seed(row) for shard, row in places], dtype=torch.int64)

    def scores(self, rows: Sequence[int] | None = None) -> dict[str, Tensor]:
        """Scores of rows, of all when none are given: name -> [len] float32; those that all of them have."""
        places = map(self._place, range(len(self)) if rows is None else rows)
        found = [shard.scores(row) for shard, row in places]
        names = [name for name in found[0] if all(name in row for row in found)] if found else []
        return {name: torch.tensor([row[name] for row in found], dtype=torch.float32) for name in names}

    def _place(self, index: int) -> tuple[Layout, int]:
        """The shard that holds a row, and its number there."""
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        number = bisect_right(self._ends, row)
        shard = self._shards[number]
        return shard, row - self._ends[number] + shard.rows

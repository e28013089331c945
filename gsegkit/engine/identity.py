"""What results depend on: for stage keys, for the record of a trained part, for the recipe of a data set."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gsegkit.classes.named import Named
from gsegkit.dataset import LabelledDataset, UnlabelledImages
from gsegkit.engine.plan import Plan
from gsegkit.engine.shards import ShardDataset
from gsegkit.errors import ArtifactError, DataError
from gsegkit.images import list_images
from gsegkit.interfaces import MaskExtractor
from gsegkit.rundir import HASHES_FILE
from gsegkit.storage import atomic_write_json, file_hash, read_json

SIDE_FILES = (".txt", ".json", ".yaml", ".yml", ".toml", ".csv")  # beside the images of a data set: names, annotations


def files_identity(images: UnlabelledImages | None, revision: str) -> list[Any]:
    """Names and sizes of image files, how they are fitted, and the revision of their contents (see `claim_images`)."""
    if images is None:
        return []
    found = [images.size, images.fit_rule, [(path.name, path.stat().st_size) for path in images.paths]]
    return [*found, revision] if revision else found


def contents_identity(paths: Iterable[Path], folder: Path) -> dict[str, str]:
    """Path below their common folder -> hash of the bytes, of every file.

    Args:
        paths: the files; at least one.
        folder: keeps the hashes, with size and times of the files: only what changed is read again.

    Raises:
        DataError: a file cannot be read.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    common = os.path.commonpath([path.parent for path in absolute])
    known, hashes = _known(folder / HASHES_FILE), {}
    for path in absolute:
        try:
            stat = path.stat()
            stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
            row = known.get(str(path))
            hashes[path] = row[3] if isinstance(row, list) and row[:3] == stamp else file_hash(path)
        except OSError as error:
            raise DataError(f"cannot read '{path}': {error.strerror}", "check the file and its permissions") from None
        known[str(path)] = [*stamp, hashes[path]]
    atomic_write_json(folder / HASHES_FILE, known)
    return {path.relative_to(common).as_posix(): value for path, value in hashes.items()}


def labelled_identity(source: Path, dataset: LabelledDataset, folder: Path) -> dict[str, str]:
    """Name -> hash of all that a labelled data set was read from: its shards, or the files of its folder.

    Args:
        source: where it was read from.
        dataset: as it was opened.
        folder: see `contents_identity`.
    """
    if isinstance(dataset, ShardDataset):
        return {path.name: sha256 for path, sha256 in zip(dataset.paths, dataset.hashes, strict=True)}
    if dataset.files:
        return contents_identity(sorted({*dataset.files, *dataset.sources}), folder)
    side = {path for path in source.iterdir() if path.is_file() and path.suffix.lower() in SIDE_FILES}
    return contents_identity([*list_images(source), *sorted({*side, *dataset.sources})], folder)


def recipe_of(plan: Plan, extractor: MaskExtractor) -> dict[str, Any]:
    """What a plan's pairs are made by, for their manifest; `fingerprint` says which fit the masks came from."""
    names = {"gen", "extractor", "refine", "seed", "batch_size"} | ({"classes"} if plan.classes else set())
    own = extractor.class_map.extractor if isinstance(extractor, Named) else extractor.fingerprint()
    return {**plan.model_dump(mode="json", include=names), "fingerprint": own}


def _known(path: Path) -> dict[str, Any]:
    """The hashes of before; {} when there are none that can be read: then every file is hashed."""
    try:
        record = read_json(path)
    except ArtifactError:
        return {}
    sound = isinstance(record, dict) and all(
        isinstance(row, list) and len(row) == 4 and isinstance(row[3], str) for row in record.values()
    )
    return record if sound else {}

"""COCO annotations: one JSON file with outlines or run lengths of the objects of all images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from gsegkit.errors import DataError, and_more, plural
from gsegkit.records.files import read_bytes
from gsegkit.records.text import UnreadableError, json_value, shown
from gsegkit_datasets.outlines import Annotated, Shape

MAX_BYTES = 1 << 30
MAX_VALUES = 50_000_000
KEYS = ("images", "annotations", "categories")
MAX_NAMED = 3
FARTHEST = 1e6  # pixels: farther points of an outline lie outside of every image all the same


def find_coco(folder: Path, chosen: str | None) -> Path | None:
    """The COCO file of a folder (in it or in annotations/), or the chosen one; None when there is none.

    Raises:
        DataError: several, or the chosen one is none.
    """
    if chosen is not None:
        path = folder / chosen
        if not _looks_like_coco(path):
            raise DataError(f"'{path}' holds no COCO annotations", f"they have {', '.join(KEYS)}")
        return path
    places = sorted([*folder.glob("*.json"), *(folder / "annotations").glob("*.json")])
    found = [path for path in places if path.is_file() and _looks_like_coco(path)]
    if len(found) > 1:
        names = [f"'{path.relative_to(folder)}'" for path in found]
        raise DataError(
            f"'{folder}' has several files of COCO annotations: {and_more(names, MAX_NAMED)}",
            "choose one: -o data_reader.annotations=FILE",
        )
    return found[0] if found else None


def read_coco(path: Path, images: Sequence[Path], root: Path) -> Annotated:
    """The annotations of a COCO file.

    Args:
        path: the file.
        images: the image files that are there. A file name in the annotations never becomes a path: it chooses the one
            of these whose path ends alike.
        root: folder of the images.

    Raises:
        DataError: it cannot be read, or says what does not fit.
    """
    table = _table(path)
    names = {_number(row, "id", path, "category"): _text(row, "name", path) for row in _rows(table, "categories", path)}
    files = _Files(images, root)
    of_id: dict[int, Path] = {}
    sizes: dict[Path, tuple[int, int]] = {}
    lost: list[str] = []
    seen: set[Path] = set()
    for row in _rows(table, "images", path):
        name = _text(row, "file_name", path)
        file = files.find(name)
        if file is None:
            lost.append(f"'{name[-80:]}'")
            continue
        if file in seen:
            raise DataError(f"'{path}' lists the image '{name}' twice", "remove one")
        seen.add(file)
        of_id[_number(row, "id", path, "image")] = file
        if row.get("height") and row.get("width"):
            sizes[file] = _number(row, "height", path, "image"), _number(row, "width", path, "image")
    if lost:
        raise DataError(
            f"'{root}' lacks {plural(len(lost), 'image')} of '{path}': {and_more(lost, MAX_NAMED)}",
            "add them, or remove them from the annotations",
        )
    shapes: dict[Path, list[Shape]] = {file: [] for file in of_id.values()}
    empty = 0
    for row in _rows(table, "annotations", path):
        shape = _shape(row, path, names)
        image = of_id.get(_number(row, "image_id", path, "annotation"))
        if image is None:
            raise DataError(f"{shape.where} belongs to an image that is not listed", "fix the file")
        if shape.runs is None and not shape.outlines:
            empty += 1
            continue
        shapes[image].append(shape)
    notes = [f"left out, of fewer than 3 points: {plural(empty, 'outline')}"] if empty else []
    if len(shapes) < len(images):
        notes.append(f"left out, not listed in '{path.name}': {plural(len(images) - len(shapes), 'image')}")
    return Annotated("COCO", shapes, names, (path,), tuple(notes), sizes)


# ---- inside ------------------------------------------------------------------------------------------------------


class _Files:
    """Finds an image by the end of its path."""

    def __init__(self, images: Sequence[Path], root: Path) -> None:
        self.by_name: dict[str, list[tuple[str, ...]]] = {}
        self.paths: dict[tuple[str, ...], Path] = {}
        for path in images:
            parts = path.relative_to(root).parts
            self.by_name.setdefault(parts[-1], []).append(parts)
            self.paths[parts] = path

    def find(self, name: str) -> Path | None:
        """The image whose path has the most parts in common with `name`, from the end; None when there is none.

        Raises:
            DataError: several have.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        rows = [(_shared(own, parts), own) for own in self.by_name.get(parts[-1] if parts else "", ())]
        best = max((shared for shared, _ in rows), default=0)
        found = [own for shared, own in rows if shared == best]
        if len(found) > 1:
            raise DataError(
                f"the annotated image '{name[-80:]}' may be {' or '.join('/'.join(own) for own in found[:2])}",
                "write its path below the folder of the images",
            )
        return self.paths[found[0]] if found else None


def _shared(own: Sequence[str], parts: Sequence[str]) -> int:
    count = 0
    while count < min(len(own), len(parts)) and own[-1 - count] == parts[-1 - count]:
        count += 1
    return count


def _shape(row: Mapping[str, Any], path: Path, names: Mapping[int, str]) -> Shape:
    where = f"annotation {shown(row.get('id'), 30)} of '{path}'"
    label = _number(row, "category_id", path, "annotation")
    if label not in names:
        raise DataError(f"{where} has the category {label}, which is not listed", "fix the file")
    given, crowd = row.get("segmentation"), bool(row.get("iscrowd"))
    if isinstance(given, dict):
        return Shape(label, (), _runs(given, where), crowd, where)
    if not isinstance(given, list) or not given:
        raise DataError(f"{where} has a box and no outline", "masks need outlines or run lengths: annotate objects so")
    rings = given if isinstance(given[0], list) else [given]
    outlines = [_ring(ring, where) for ring in rings]
    return Shape(label, tuple(ring for ring in outlines if len(ring) >= 3), None, crowd, where)


def _ring(ring: Any, where: str) -> np.ndarray:
    numbers = isinstance(ring, list) and all(_is_number(value) for value in ring)
    if not numbers or len(ring) % 2:
        raise DataError(f"{where} has an outline that is not x1, y1, x2, y2 ...", "fix the file")
    return np.array(ring, np.float64).reshape(-1, 2).clip(-FARTHEST, FARTHEST)


def _runs(given: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    size, counts = given.get("size"), given.get("counts")
    sized = isinstance(size, list) and len(size) == 2 and all(_is_whole(side) and side > 0 for side in size)
    listed = isinstance(counts, list) and all(_is_whole(run) for run in counts)
    if not sized or not (listed or isinstance(counts, str)):
        raise DataError(f"{where} has run lengths without size or counts", "fix the file")
    return {"size": size, "counts": counts}


def _looks_like_coco(path: Path) -> bool:
    try:
        data = read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror}", "check the path") from None
    except UnreadableError as error:
        raise DataError(f"'{path}' {error}", "split it") from None
    return all(f'"{key}"'.encode() in data for key in KEYS)


def _table(path: Path) -> Mapping[str, Any]:
    try:
        table = json_value(read_bytes(path, MAX_BYTES), most=MAX_VALUES)
    except (OSError, UnreadableError) as error:
        raise DataError(f"'{path}' {error}", "fix or remove it") from None
    if not isinstance(table, dict):
        raise DataError(f"'{path}' holds no COCO annotations", f"they have {', '.join(KEYS)}")
    return table


def _rows(table: Mapping[str, Any], key: str, path: Path) -> Iterator[Mapping[str, Any]]:
    rows = table.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"'{path}' has no list of {key}", f"COCO annotations have {', '.join(KEYS)}")
    yield from rows


def _number(row: Mapping[str, Any], key: str, path: Path, what: str) -> int:
    value = row.get(key)
    if not _is_whole(value):
        raise DataError(f"'{path}': an entry ({what}) has the {key} {shown(value, 60)}", "it must be a whole number")
    return int(value)  # type: ignore[arg-type]


def _text(row: Mapping[str, Any], key: str, path: Path) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise DataError(f"'{path}': an entry has the {key} {shown(value, 60)}", "it must be a text")
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

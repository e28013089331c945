"""Masks in other tools' words: COCO annotations, YOLO-seg lines, VOC palette."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from gsegkit.exports.polygons import mask_polygons
from gsegkit.exports.rle import encode_rle
from gsegkit.storage import storage_errors

BACKGROUND_NAMES = ("background", "bg", "void")


def object_classes(classes: Sequence[str]) -> dict[int, str]:
    """Mask value -> name of the classes that are objects.

    Class 0 is the background of a two-class set, and wherever it is called so; in any other set (clusters without
    names) every class is an object.
    """
    has_background = bool(classes) and (len(classes) == 2 or classes[0].lower() in BACKGROUND_NAMES)
    return {value: name for value, name in enumerate(classes) if value > 0 or not has_background}


def yolo_lines(mask: Tensor, classes: Sequence[str]) -> list[str]:
    """YOLO-seg lines `class x1 y1 x2 y2 ...` of a mask, one per 4-connected region.

    Class numbers count the object classes from 0 (see `object_classes`). Coordinates are pixel corners divided by
    width and height. A hole is joined to its outline by a bridge of zero width; 255 (ignore) belongs to no line.

    Args:
        mask: [H, W] uint8.
        classes: names of the K classes.
    """
    height, width = mask.shape
    lines = []
    for number, value in enumerate(object_classes(classes)):
        for polygon in mask_polygons(mask == value):
            points = " ".join(f"{x / width:.6f} {y / height:.6f}" for x, y in polygon.tolist())
            lines.append(f"{number} {points}")
    return lines


def coco_categories(classes: Sequence[str]) -> list[dict[str, Any]]:
    """COCO categories of the object classes. Beside a background an id is the mask value, else the value plus one.

    COCO's own tools take id 0 for "nothing", so an id is never 0.
    """
    objects = object_classes(classes)
    shift = 1 if 0 in objects else 0
    return [{"id": value + shift, "name": name, "supercategory": ""} for value, name in objects.items()]


def coco_annotations(mask: Tensor, image_id: int, first_id: int, classes: Sequence[str]) -> list[dict[str, Any]]:
    """One COCO annotation per object class that occurs in a mask ([H, W] uint8), as COCO-Stuff does.

    Pixels of 255 (ignore) belong to no annotation.
    """
    objects = object_classes(classes)
    shift = 1 if 0 in objects else 0
    found: list[dict[str, Any]] = []
    for value in objects:
        region = mask == value
        if not bool(region.any()):
            continue
        rows, columns = region.any(dim=1).nonzero().flatten(), region.any(dim=0).nonzero().flatten()
        top, left = int(rows[0]), int(columns[0])
        found.append(
            {
                "id": first_id + len(found),
                "image_id": image_id,
                "category_id": value + shift,
                "segmentation": encode_rle(region),
                "area": int(region.sum()),
                "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
                "iscrowd": 0,
            }
        )
    return found


class CocoFile:
    """Writes a COCO JSON image by image; the file appears when it is closed without an error.

    Args:
        path: the file to make.
        classes: names of the K classes.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self.path = path
        self.classes = classes
        self.images: list[dict[str, Any]] = []
        self._next_id = 1
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._temporary, "w", encoding="utf-8")  # noqa: SIM115 (closed by close or discard)
        self._write('{"info": {"description": "made by gsegkit"}, "licenses": [],\n"categories": ')
        self._write(json.dumps(coco_categories(classes)) + ',\n"annotations": [')

    def add(self, file_name: str, mask: Tensor) -> None:
        """Append one image with its mask, [H, W] uint8."""
        image_id = len(self.images) + 1
        height, width = mask.shape
        self.images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        for annotation in coco_annotations(mask, image_id, self._next_id, self.classes):
            self._write(("\n" if self._next_id == 1 else ",\n") + json.dumps(annotation))
            self._next_id += 1

    def close(self) -> None:
        """Finish the file and put it in its place."""
        images = ",\n".join(json.dumps(image) for image in self.images)
        self._write(f'],\n"images": [\n{images}]}}\n')
        with storage_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._temporary, self.path)

    def discard(self) -> None:
        """Drop what was written; harmless after close()."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _write(self, text: str) -> None:
        with storage_errors(self.path):
            self._file.write(text)


def unique_name(name: str, taken: set[str]) -> str:
    """A file stem made of letters, digits, `_` and `-` that is not in `taken` yet; it is added there.

    Names are compared without case: some file systems do not tell `A` from `a`.
    """
    stem = re.sub(r"[^\w-]+", "_", name).strip("_") or "image"
    candidate, number = stem, 2
    while candidate.casefold() in taken:
        candidate, number = f"{stem}-{number}", number + 1
    taken.add(candidate.casefold())
    return candidate

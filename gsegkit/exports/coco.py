"""COCO: one JSON file with a run-length encoded mask per image and class."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from gsegkit.annotation.rle import encode_rle
from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.exports.places import place
from gsegkit.exports.writers import DatasetWriter, PredictionWriter, object_classes, write_bytes
from gsegkit.images import png_bytes
from gsegkit.storage import storage_errors, temporary_beside


class CocoPredictions(PredictionWriter):
    """coco.json: one RLE per image and class, see `coco_annotations`."""

    shared = ("coco.json",)
    in_order = True

    def __init__(self, out: Path, classes: Sequence[str], palette: Tensor | None = None) -> None:
        super().__init__(out, classes, palette)
        self.file = CocoFile(place(out, *self.shared), self.classes)

    def write(self, name: str, source: str, pixels: Tensor, mask: Tensor) -> None:
        """See `PredictionWriter.write`."""
        self.file.add(source, mask)

    def close(self) -> None:
        """Put the file in its place."""
        self.file.close()

    def discard(self) -> None:
        """Drop the unfinished file."""
        self.file.discard()


class CocoDataset(DatasetWriter):
    """images/NAME.png and annotations.json: one RLE per image and class; see `coco_annotations`."""

    def __init__(self, folder: Path, dataset: LabelledDataset) -> None:
        super().__init__(folder, dataset)
        self.file = CocoFile(folder / "annotations.json", self.classes)

    def add(self, name: str, sample: Sample) -> None:
        """See `DatasetWriter.add`."""
        write_bytes(self.folder / "images" / f"{name}.png", png_bytes(sample.pixels))
        self.file.add(f"{name}.png", sample.mask)

    def close(self) -> None:
        """Put annotations.json in its place."""
        self.file.close()

    def discard(self) -> None:
        """See `DatasetWriter.discard`."""
        self.file.discard()


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
        self._temporary = temporary_beside(path)
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
        with contextlib.suppress(OSError):  # a full disk: what is in the buffer goes nowhere
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _write(self, text: str) -> None:
        with storage_errors(self.path):
            self._file.write(text)


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

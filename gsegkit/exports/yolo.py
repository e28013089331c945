"""YOLO-seg: one text file per image, a polygon per region."""

from __future__ import annotations

from collections.abc import Sequence

import yaml
from torch import Tensor

from gsegkit.annotation.polygons import mask_polygons
from gsegkit.dataset import Sample
from gsegkit.exports.places import place
from gsegkit.exports.writers import DatasetWriter, PredictionWriter, object_classes, write_bytes, write_text
from gsegkit.images import png_bytes
from gsegkit.storage import atomic_write


class YoloPredictions(PredictionWriter):
    """yolo/NAME.txt: one polygon per region, see `yolo_lines`; names in yolo/classes.txt."""

    pattern = "yolo/labels/{name}.txt"
    shared = ("yolo/classes.txt",)

    def write(self, name: str, source: str, pixels: Tensor, mask: Tensor) -> None:
        """See `PredictionWriter.write`."""
        lines = yolo_lines(mask, self.classes)
        atomic_write(place(self.out, self.path_below(name)), "".join(f"{line}\n" for line in lines).encode())

    def close(self) -> None:
        """Write the names that the numbers stand for."""
        names = object_classes(self.classes).values()
        atomic_write(place(self.out, *self.shared), "".join(f"{name}\n" for name in names).encode())


class YoloDataset(DatasetWriter):
    """images/train/NAME.png, labels/train/NAME.txt and data.yaml; see `yolo_lines`."""

    def add(self, name: str, sample: Sample) -> None:
        """See `DatasetWriter.add`."""
        write_bytes(self.folder / "images" / "train" / f"{name}.png", png_bytes(sample.pixels))
        lines = "".join(f"{line}\n" for line in yolo_lines(sample.mask, self.classes))
        write_text(self.folder / "labels" / "train" / f"{name}.txt", lines)

    def close(self) -> None:
        """Write data.yaml; YOLO insists on a `val` folder, and there is no second one."""
        names = dict(enumerate(object_classes(self.classes).values()))
        text = yaml.safe_dump({"train": "images/train", "val": "images/train", "names": names}, sort_keys=False)
        write_text(self.folder / "data.yaml", "# val is the training set: put annotated photographs there\n" + text)


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

"""Images whose masks are drawn from annotated objects: what COCO and YOLO have in common."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gsegkit.annotation.polygons import fill_polygon
from gsegkit.annotation.rle import decode_rle, expand_runs
from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.errors import DataError, plural
from gsegkit.images import image_size, read_image
from gsegkit.reading.class_names import check_class_names
from gsegkit.types import IGNORE

BACKGROUND_NAMES = ("background", "bg", "void")


@dataclass(frozen=True)
class Shape:
    """One annotated object.

    Attributes:
        label: its class, as the annotation numbers it.
        outlines: [M, 2] float (x, y) in pixels each; the object is all that lies in one of them.
        runs: run lengths of COCO, with `size` and `counts`; None = the object has outlines.
        crowd: a coarse region around many objects; it lies beneath the others.
        where: the annotation, for messages.
    """

    label: int
    outlines: tuple[np.ndarray, ...] = ()
    runs: Mapping[str, Any] | None = None
    crowd: bool = False
    where: str = ""

    def area(self) -> float:
        """About how many pixels it covers: what lies on what is decided by it."""
        if self.runs is not None:
            counts = self.runs["counts"]
            try:
                return float(sum((expand_runs(counts) if isinstance(counts, str) else counts)[1::2]))
            except DataError as error:
                raise DataError(f"{self.where}: {error.message}", error.hint) from None
        return sum(map(_area, self.outlines))

    def region(self, size: tuple[int, int]) -> np.ndarray:
        """[H, W] bool, its pixels; DataError when the annotation is damaged."""
        try:
            if self.runs is not None:
                if tuple(self.runs["size"]) != size:
                    height, width = self.runs["size"]
                    raise DataError(f"its mask is {width} x {height}, the image {size[1]} x {size[0]}", "fix it")
                return decode_rle(dict(self.runs)).numpy()
            found = np.zeros(size, bool)
            for outline in self.outlines:
                found |= fill_polygon(outline, size)
            return found
        except DataError as error:
            raise DataError(f"{self.where}: {error.message}", error.hint) from None


@dataclass(frozen=True)
class Annotated:
    """What annotations say.

    Attributes:
        format: "COCO" or "YOLO".
        shapes: image file -> its objects; every image of the data set is there.
        names: label -> class name, of the object classes.
        sources: the files of the annotations.
        notes: what was left out.
        sizes: image file -> (height, width) that the annotation was made for, where it says so.
    """

    format: str
    shapes: Mapping[Path, Sequence[Shape]]
    names: Mapping[int, str]
    sources: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    sizes: Mapping[Path, tuple[int, int]] | None = None


class AnnotatedDataset(LabelledDataset):
    """Pairs of image files and masks that are drawn from annotations when they are asked for.

    Smaller objects lie on larger ones, crowds beneath all. What no object covers is class 0; where class 0 is an object
    class itself, it is 255.
    """

    def __init__(self, found: Annotated, classes: tuple[str, ...] | None, scaling: str, folder: Path) -> None:
        self.shapes = {path: tuple(shapes) for path, shapes in found.shapes.items()}
        self.images = list(self.shapes)
        self.scaling, self.sources = scaling, found.sources
        self.classes, self._values = _class_values(found, classes)
        self.ground = 0 if 0 not in self._values.values() or _is_ground(self.classes[0]) else IGNORE
        self._names = _sample_names(self.images, folder)
        sizes = found.sizes or {}
        for path in self.images:  # every file is opened once, as every mask is: problems come before the work
            size = image_size(path)
            if sizes.get(path, size) != size:
                height, width = sizes[path]
                raise DataError(
                    f"the annotation of '{path}' is for {width} x {height}, the image is {size[1]} x {size[0]}",
                    "annotate it in its own size (after EXIF rotation)",
                )
        objects = sum(map(len, self.shapes.values()))
        bare = sum(not shapes for shapes in self.shapes.values())
        counts = [plural(len(self.images), "image"), plural(objects, "object"), plural(len(found.names), "class")]
        what = f"{found.format} annotations: {', '.join(counts)}"
        self.notes = (what + (f"; background alone: {plural(bare, 'image')}" if bare else ""), *found.notes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        path = self.images[index]
        pixels = read_image(path, self.scaling)
        size = (int(pixels.shape[1]), int(pixels.shape[2]))
        mask = np.full(size, self.ground, np.uint8)
        for shape in sorted(self.shapes[path], key=lambda shape: (not shape.crowd, -shape.area())):
            mask[shape.region(size)] = self._values[shape.label]
        return Sample(self._names[index], pixels, torch.from_numpy(mask))


def _area(outline: np.ndarray) -> float:
    x, y = outline.T
    return abs(float((np.roll(y, -1) * x - np.roll(x, -1) * y).sum())) / 2


def _class_values(found: Annotated, classes: tuple[str, ...] | None) -> tuple[tuple[str, ...], dict[int, int]]:
    """All class names, and label -> mask value.

    Args:
        found: labels and their names.
        classes: names of all classes, background included; None = those of the annotation, with gaps closed.
    """
    names = {label: unicodedata.normalize("NFC", found.names[label].strip()) for label in sorted(found.names)}
    source = f"'{found.sources[0]}'" if found.sources else "the annotation"
    check_class_names(tuple(names.values()), source)
    if classes is None:
        ground = next((name for name in names.values() if _is_ground(name)), "background")
        classes = (ground, *(name for name in names.values() if name != ground))
    lost = [name for name in names.values() if name not in classes]
    if lost:
        raise DataError(
            f"{source} has the class '{lost[0]}', which is not among the named ones ({', '.join(classes[:8])})",
            "name all classes from 0 on, background included, or remove the list",
        )
    return classes, {label: classes.index(name) for label, name in names.items()}


def _is_ground(name: str) -> bool:
    return name.lower() in BACKGROUND_NAMES


def _sample_names(images: Sequence[Path], folder: Path) -> list[str]:
    """The stems; below sub-folders that share one, the path."""
    counts = Counter(path.stem for path in images)
    return [
        path.stem if counts[path.stem] == 1 else path.relative_to(folder).with_suffix("").as_posix() for path in images
    ]

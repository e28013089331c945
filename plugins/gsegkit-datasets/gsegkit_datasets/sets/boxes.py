"""Dataset readers `stanford-cars` and `stanford-dogs`: boxes, and masks where you have some."""

from __future__ import annotations

import re
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np

from gsegkit.errors import DataError, NoMasksError, plural
from gsegkit.images import list_images
from gsegkit.records.files import read_bytes
from gsegkit.records.text import UnreadableError
from gsegkit_datasets.config import CarsConfig, DogsConfig
from gsegkit_datasets.sets import facts
from gsegkit_datasets.sets.crops import Box
from gsegkit_datasets.sets.encodings import binary
from gsegkit_datasets.sets.layouts import Found, Layout
from gsegkit_datasets.sets.lists import inside, mat_structs, mat_texts, npy_texts, read_mat
from gsegkit_datasets.sets.reader import Listed, Row, SetReader

DETECTED = "data_mrcnn"
SELECTED = {  # DRC's lists of the pairs that it uses, beside its folder: of the cars, of the dogs
    "train": ("data_mrcnn_train_select.npy", "data_tr_sel.npy"),
    "test": ("data_mrcnn_test_select.npy", "data_te_sel.npy"),
}
MASKS = "masks"  # beside the photographs: masks/PATH.png for PATH.jpg
PARTS = ("train", "test")
BOX_FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
TEST_LISTS = (  # with labels, in the two spellings and places that are in circulation, and without
    "cars_test_annos_withlabels.mat", "devkit/cars_test_annos_withlabels.mat", "cars_test_annos_with_labels.mat",
    "devkit/cars_test_annos_with_labels.mat", "devkit/cars_test_annos.mat", "car_devkit/devkit/cars_test_annos.mat",
)  # fmt: skip
TRAIN_LISTS = ("devkit/cars_train_annos.mat", "car_devkit/devkit/cars_train_annos.mat", "cars_train_annos.mat")
MAX_XML_BYTES = 1 << 20
BOX = re.compile(r"<(xmin|ymin|xmax|ymax)>\s*(\d{1,6})\s*</\1>")
SHARED_LAYOUTS = (Layout(DETECTED, (f"{DETECTED}/",), ("", "cars", "dogs")),)


class BoxedReader(SetReader):
    """What both have in common: no published masks, a folder masks/ beside the photographs, DRC's detector masks."""

    config: CarsConfig
    object: ClassVar[str]

    def classes(self) -> tuple[str, ...]:
        """See `SetReader.classes`."""
        return ("background", self.object)

    def no_masks(self, found: Found, count: int) -> DataError:
        """See `SetReader.no_masks`."""
        return NoMasksError(
            f"{self.facts.title} has no masks, and neither has '{found.root}' for {plural(count, 'image')}",
            f"put those of a detector, 0 and 255, beside the photographs: {MASKS}/PATH.png for PATH.jpg",
        )

    def listed(self, found: Found) -> Listed:
        """See `SetReader.listed`."""
        split = self.config.split
        family = "drc" if found.name == DETECTED else "official"
        if split != "all" and not split.startswith(family):
            raise DataError(
                f"the layout {found.name} has no split '{split}'", f"splits: all, {family}-train, {family}-test"
            )
        parts = PARTS if split == "all" else (split.partition("-")[2],)
        if found.name == DETECTED:
            return _detected(found.root, parts)
        return self.published(found, parts)

    @abstractmethod
    def published(self, found: Found, parts: tuple[str, ...]) -> Listed:
        """The rows of "train", "test" or both."""

    def decode(self, row: Row) -> np.ndarray:
        """See `SetReader.decode`."""
        assert isinstance(row.mask, Path)
        return binary(row.mask)


class CarsReader(BoxedReader):
    """Reads Stanford Cars by its annotations."""

    facts = facts.CARS
    object = "car"
    layouts = (
        Layout("torchvision", ("cars_train/", "cars_test/", "devkit/"), ("", "stanford_cars", "stanford-cars")),
        Layout("kaggle", ("cars_train/cars_train/", "cars_test/cars_test/")),
        Layout("old", ("car_ims/", "cars_annos.mat"), ("", "stanford_cars")),
        *SHARED_LAYOUTS,
    )

    def published(self, found: Found, parts: tuple[str, ...]) -> Listed:
        """See `BoxedReader.published`."""
        if found.name == "old":
            return self._old(found.root, parts)
        rows, sources = [], []
        for part in parts:
            path = self._list(found.root, TRAIN_LISTS if part == "train" else TEST_LISTS)
            folder = f"cars_{part}"
            nested = found.root / folder / folder  # Kaggle's copy
            root = nested if nested.is_dir() else found.root / folder
            remedy, fields = self.facts.unpack("list"), (*BOX_FIELDS, "fname")
            for *box, name in mat_structs(read_mat(path, remedy), "annotations", fields, path, remedy):
                image = inside(root, str(name), path)
                mask = inside(found.root / MASKS / folder, str(name), path).with_suffix(".png")
                rows.append(Row(f"{part}/{image.stem}", image, mask, _corners(box, path)))
            sources.append(path)
        return Listed(rows, tuple(sources))

    # ---- inside --------------------------------------------------------------------------------------------------

    def _list(self, root: Path, places: tuple[str, ...]) -> Path:
        for place in places:
            if (root / place).is_file():
                return root / place
        raise DataError(f"'{root}' has no list {places[0]}", self.facts.unpack("list"))

    def _old(self, root: Path, parts: tuple[str, ...]) -> Listed:
        path, remedy = root / "cars_annos.mat", self.facts.unpack("list")
        fields = (*BOX_FIELDS, "relative_im_path", "test")
        rows = []
        for *box, name, is_test in mat_structs(read_mat(path, remedy), "annotations", fields, path, remedy):
            if PARTS[bool(is_test)] in parts:
                image = inside(root, str(name), path)
                mask = inside(root / MASKS, str(name), path).with_suffix(".png")
                rows.append(Row(image.stem, image, mask, _corners(box, path)))
        return Listed(rows, (path,))


class DogsReader(BoxedReader):
    """Reads Stanford Dogs by its lists."""

    config: DogsConfig
    facts = facts.DOGS
    object = "dog"
    layouts = (Layout("official", ("Images/",), ("", "stanford_dogs", "StanfordDogs")), *SHARED_LAYOUTS)

    def published(self, found: Found, parts: tuple[str, ...]) -> Listed:
        """See `BoxedReader.published`."""
        root, remedy = found.root, self.facts.unpack("list")
        rows, sources = [], []
        for part in parts:
            places = (root / f"{part}_list.mat", root / "lists" / f"{part}_list.mat")
            path = next((path for path in places if path.is_file()), places[0])
            for name in mat_texts(read_mat(path, remedy), "file_list", path, remedy):
                image = inside(root / "Images", name, path)
                mask = inside(root / MASKS / "Images", name, path).with_suffix(".png")
                box = None
                if self.config.crop == "box-1.5":
                    box = _box(inside(root / "Annotation", name, path).with_suffix(""), self.facts.unpack("boxes"))
                rows.append(Row(name.rpartition(".")[0], image, mask, box))
            sources.append(path)
        return Listed(rows, tuple(sources))


# ---- inside ------------------------------------------------------------------------------------------------------


def _detected(root: Path, parts: tuple[str, ...]) -> Listed:
    """DRC's folders: photographs and masks of a detector, resized, side by side; of its lists what they select."""
    rows, sources, notes = [], [], []
    for part in parts:
        folder = root / DETECTED / part / "resized"
        path = next((root / name for name in SELECTED[part] if (root / name).is_file()), None)
        if path is None:
            notes.append(f"without the list {' or '.join(SELECTED[part])} all pairs of {part} are taken")
            tokens = [image.stem for image in list_images(folder)]
            tokens = [token.removesuffix("_resized") for token in tokens if token.endswith("_resized")]
        else:
            sources.append(path)
            tokens = npy_texts(path, "take it from DRC's data again, or remove it: then all pairs are taken")
        for token in tokens:
            image = inside(folder, f"{token}_resized.png", path or folder)
            rows.append(Row(f"{part}/{token}", image, image.with_name(f"{image.stem[:-8]}_maskresized.png")))
    if not rows:
        raise DataError(f"'{root / DETECTED}' has no NAME_resized.png", "give DRC's folder as it was published")
    return Listed(rows, tuple(sources), tuple(notes))


def _corners(box: list[object], path: Path) -> Box:
    """(left, top, width, height) of 1-based corners."""
    try:
        left, top, right, bottom = (min(max(float(value), 1.0), 1e5) for value in box)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise DataError(f"the list '{path}' has a box that is no numbers", facts.CARS.unpack("list")) from None
    return left - 1, top - 1, right - left + 1, bottom - top + 1


def _box(path: Path, remedy: str) -> Box:
    """The first box of an annotation of Stanford Dogs: XML without a suffix."""
    try:
        found = dict(reversed(BOX.findall(read_bytes(path, MAX_XML_BYTES).decode("utf-8", "replace"))))
        left, top, right, bottom = (float(found[key]) for key in ("xmin", "ymin", "xmax", "ymax"))
    except OSError as error:
        raise DataError(f"cannot read the box '{path}': {error.strerror}", remedy) from None
    except (KeyError, UnreadableError):
        raise DataError(f"'{path}' has no box", remedy) from None
    return left, top, right - left, bottom - top

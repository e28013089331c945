"""Dataset reader `cub`: CUB-200-2011, birds with masks that five annotators voted on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from gsegkit.errors import DataError
from gsegkit.images import list_images
from gsegkit_datasets.config import CubConfig
from gsegkit_datasets.sets import facts
from gsegkit_datasets.sets.crops import Box
from gsegkit_datasets.sets.encodings import votes
from gsegkit_datasets.sets.layouts import Found, Layout
from gsegkit_datasets.sets.lists import inside, number, read_rows
from gsegkit_datasets.sets.reader import Listed, Row, SetReader, pairs_of

CLASSES = ("background", "bird")
AGAIN = facts.CUB.unpack("images")
SPLIT_FILE = "train_val_test_split.txt"
SPLIT_PLACES = (SPLIT_FILE, f"datasplits/cub/{SPLIT_FILE}", f"cub/{SPLIT_FILE}")
SPLIT_REMEDY = (
    f"give ReDO's list (datasplits/cub/{SPLIT_FILE} of its public code: a line 'id flag' for each of 11,788 images, "
    "flag 0 = train, 1 = val, 2 = test): -o data_reader.split_file=FILE"
)
REDO = ("redo-train", "redo-val", "redo-test")  # by flag
OFFICIAL = ("official-test", "official-train")  # by flag of train_test_split.txt
PREPARED = "prepared"


class CubReader(SetReader):
    """Reads CUB-200-2011 by its lists; the masks lie in segmentations/, in its folder or beside it."""

    config: CubConfig
    facts = facts.CUB
    layouts = (
        Layout("official", ("images.txt", "images/"), ("", "CUB_200_2011")),
        Layout(PREPARED, ("test_images/", "test_segmentations/")),
    )

    tables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "all": ("train", "test"), "official-train": ("train",), "official-test": ("test",),
    }  # fmt: skip

    def classes(self) -> tuple[str, ...]:
        """See `SetReader.classes`."""
        return CLASSES

    def listed(self, found: Found) -> Listed:
        """See `SetReader.listed`."""
        if found.name == PREPARED:
            return self._prepared(found.root)
        root, path = found.root, found.root / "images.txt"
        names = {number(row[0], path, AGAIN): row[1] for row in read_rows(path, 2, AGAIN)}
        chosen, sources = self._chosen(root, list(names))
        masks = next((at for at in (root / "segmentations", root.parent / "segmentations") if at.is_dir()), None)
        boxes, extra = _boxes(root) if self.config.crop == "box-1.5" else ({}, ())
        rows = []
        for key in chosen:
            image = inside(root / "images", names[key], path)
            mask = inside(masks, names[key], path).with_suffix(".png") if masks is not None else None
            rows.append(Row(names[key].rpartition(".")[0], image, mask, boxes.get(key)))
        return Listed(rows, (path, *sources, *extra))

    def unpacked(self, root: Path, folders: tuple[str, ...]) -> Listed:
        """See `SetReader.unpacked`; boxes are in the archive alone."""
        if self.config.crop == "box-1.5":
            raise DataError(f"'{root}' has no boxes", "give the folder of the unpacked archives")
        return super().unpacked(root, folders)

    def decode(self, row: Row) -> np.ndarray:
        """See `SetReader.decode`."""
        assert isinstance(row.mask, Path)
        return votes(row.mask, self.config.ignore_soft)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _prepared(self, root: Path) -> Listed:
        if self.config.split != "redo-test" or self.config.crop == "box-1.5":
            raise DataError(
                f"'{root}' holds prepared test images: neither other splits nor boxes",
                "set data_reader.split=redo-test, or give the folder of the unpacked archives",
            )
        images, masks = root / "test_images", root / "test_segmentations"
        rows, spare = pairs_of(list_images(images), list_images(masks), images, masks)
        return Listed(rows, (), (f"left out, without an image: {spare} masks",) if spare else ())

    def _chosen(self, root: Path, known: list[int]) -> tuple[list[int], tuple[Path, ...]]:
        """Ids of the split, in the order of images.txt, and the file that says so."""
        split = self.config.split
        if split == "all":
            return known, ()
        names: tuple[str, ...]
        if split in OFFICIAL:
            path, remedy, names = root / "train_test_split.txt", AGAIN, OFFICIAL
        else:
            path, remedy, names = self._split_file(root), SPLIT_REMEDY, REDO
        flags = {number(row[0], path, remedy): number(row[1], path, remedy) for row in read_rows(path, 2, remedy)}
        if set(flags) != set(known):
            raise DataError(
                f"'{path}' numbers {len(flags):,} images, images.txt {len(known):,} (not the same ones)", remedy
            )
        if set(flags.values()) != set(range(len(names))):
            found = ", ".join(f"{flag}: {count:,}" for flag, count in sorted(Counter(flags.values()).items()))
            raise DataError(f"'{path}' has other flags than those of the split '{split}' ({found})", remedy)
        return [key for key in known if names[flags[key]] == split], (path,)

    def _split_file(self, root: Path) -> Path:
        if self.config.split_file is not None:
            given = Path(self.config.split_file)
            return given if given.exists() else root / given
        for where in (root, root.parent):
            for place in SPLIT_PLACES:
                if (where / place).is_file():
                    return where / place
        raise DataError(f"the split '{self.config.split}' needs a list that is not in the archives", SPLIT_REMEDY)


def _boxes(root: Path) -> tuple[dict[int, Box], tuple[Path, ...]]:
    path = root / "bounding_boxes.txt"
    boxes = {}
    for row in read_rows(path, 5, AGAIN):
        try:
            x, y, w, h = (min(max(float(word), 0.0), 1e5) for word in row[1:5])
        except ValueError:
            raise DataError(f"'{path}' has a line that is no box", AGAIN) from None
        boxes[number(row[0], path, AGAIN)] = (x, y, w, h)
    return boxes, (path,)

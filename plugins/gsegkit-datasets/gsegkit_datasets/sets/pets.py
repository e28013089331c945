"""Dataset reader `oxford-pets`: cats and dogs with trimaps, under a licence that lets everybody use them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gsegkit.errors import DataError
from gsegkit.types import IGNORE
from gsegkit_datasets.config import PetsConfig
from gsegkit_datasets.sets import facts
from gsegkit_datasets.sets.encodings import stored
from gsegkit_datasets.sets.layouts import Found, Layout
from gsegkit_datasets.sets.lists import inside, read_rows
from gsegkit_datasets.sets.reader import Listed, Row, SetReader

CLASSES = ("background", "pet")
PET, BACKGROUND, BORDER = 1, 2, 3  # of a trimap
MARKERS = ("images/", "annotations/")
LISTS = {
    "official-trainval": ("trainval.txt",), "official-test": ("test.txt",), "all": ("trainval.txt", "test.txt"),
}  # fmt: skip


class PetsReader(SetReader):
    """Reads Oxford-IIIT Pets by its lists: the folder of images holds more files than they name."""

    config: PetsConfig
    facts = facts.PETS
    layouts = (
        Layout("official", MARKERS),
        Layout("torchvision", MARKERS, ("oxford-iiit-pet", "oxford-iiit-pets")),
    )

    def classes(self) -> tuple[str, ...]:
        """See `SetReader.classes`."""
        return CLASSES

    def listed(self, found: Found) -> Listed:
        """See `SetReader.listed`."""
        notes, remedy = found.root / "annotations", self.facts.unpack("masks")
        paths = tuple(notes / name for name in LISTS[self.config.split])
        rows = []
        for path in paths:
            for name, *_ in read_rows(path, 4, remedy):
                image = inside(found.root / "images", f"{name}.jpg", path)
                rows.append(Row(name, image, inside(notes / "trimaps", f"{name}.png", path)))
        return Listed(rows, paths)

    def decode(self, row: Row) -> np.ndarray:
        """See `SetReader.decode`."""
        assert isinstance(row.mask, Path)
        values = stored(row.mask, palette=True)[..., 0]
        if not set(np.unique(values).tolist()) <= {PET, BACKGROUND, BORDER}:
            raise DataError(
                f"the trimap '{row.mask}' holds other values than 1, 2 and 3",
                "it is a converted copy: read it with the reader 'folder', or " + self.facts.unpack("masks"),
            )
        mask = (values == PET).astype(np.uint8)
        mask[values == BORDER] = {"ignore": IGNORE, "foreground": 1, "background": 0}[self.config.border]
        return mask

"""Dataset reader `labels4free-custom`: ten generated images a class with masks by hand, out of the authors' code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gsegkit.errors import DataError
from gsegkit.images import list_images
from gsegkit.reading.files import damaged, open_image
from gsegkit_datasets.config import CustomConfig
from gsegkit_datasets.sets import facts
from gsegkit_datasets.sets.layouts import Found, Layout
from gsegkit_datasets.sets.reader import Listed, Row, SetReader

WHITE = 255
#: Split -> its folder, and the folder of its masks.
PLACES: Mapping[str, tuple[str, str]] = {
    "faces": ("Faces", "Mask_face_gt"), "cats": ("Cats", "Mask_cat_gt"),
    "horses": ("Horse", "Mask_horse_gt"), "cars": ("Cars", "Mask_car_gt"),
}  # fmt: skip


class CustomReader(SetReader):
    """Reads the hand-labelled samples of Labels4Free: image 0.png belongs to mask Face1.png, and so on."""

    config: CustomConfig
    facts = facts.CUSTOM
    layouts = (Layout("official", tuple(f"{folder}/" for folder, _ in PLACES.values()), ("", "custom_dataset")),)

    def listed(self, found: Found) -> Listed:
        """See `SetReader.listed`."""
        folder, masks = PLACES[self.config.split]
        root = found.root / folder
        numbered = {_number(path) - 1: path for path in list_images(root / masks)}
        images = {_number(path): path for path in list_images(root / "data")}
        return Listed([Row(f"{folder}-{key}", images[key], numbered.get(key)) for key in sorted(images)])

    def decode(self, row: Row) -> np.ndarray:
        """White alone is foreground: the authors floor the grey of the softened edges."""
        assert isinstance(row.mask, Path)
        with open_image(row.mask) as image:
            try:
                grey = np.asarray(image.convert("L"))
            except Exception as error:
                raise damaged(row.mask, error) from None
        return (grey == WHITE).astype(np.uint8)


def _number(path: Path) -> int:
    digits = "".join(mark for mark in path.stem if mark in "0123456789")
    if not 0 < len(digits) < 10:
        raise DataError(f"'{path}' has no number in its name", "give the folder of the authors' code, unchanged")
    return int(digits)

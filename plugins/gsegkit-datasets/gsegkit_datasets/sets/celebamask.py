"""Dataset reader `celebamask-hq`: faces with 18 parts, in one file a part or merged in one of three class orders."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from gsegkit.errors import DataError, plural
from gsegkit.images import list_images
from gsegkit.types import IGNORE
from gsegkit_datasets.config import CelebaMaskConfig
from gsegkit_datasets.sets import facts
from gsegkit_datasets.sets.encodings import indices, stored
from gsegkit_datasets.sets.layouts import Found, Layout
from gsegkit_datasets.sets.lists import number, read_rows
from gsegkit_datasets.sets.parts import BACKGROUND, OFFICIAL, ORDERS, class_names, value_of
from gsegkit_datasets.sets.reader import Listed, Row, SetReader, pairs_of

MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
IMAGES = "CelebA-HQ-img/"
PART_FOLDERS = ("CelebAMask-HQ-mask-anno/", "CelebAMaskHQ-mask-anno/")  # the second: as the published script spells it
PART_FILE = re.compile(r"(\d{5})_([a-z_]+)\.png")
#: Last CelebA file number of the training and of the validation photographs.
LAST_TRAIN, LAST_VAL = 162_770, 182_637
AT = ("", "CelebAMask-HQ")
#: Folders of photographs and of index PNGs in merged copies.
MERGED_FOLDERS = (
    (IMAGES, "CelebAMask-HQ-mask/"), (IMAGES, "mask/"), (IMAGES, "masks/"), ("image/", "label_15/"),
    ("image/", "label_c15/"), ("image/", "raw_label/"), ("images/", "masks/"), ("images/", "labels/"),
)  # fmt: skip
MERGED_LAYOUTS = tuple(
    Layout(f"merged {images}+{masks}".replace("/", ""), (images, masks), AT) for images, masks in MERGED_FOLDERS
)
LEAST = {"hair": 0.03, "neck": 0.005}  # share of the pixels of most faces, if the order is right


class CelebaMaskReader(SetReader):
    """Reads CelebAMask-HQ; photographs of 1,024 pixels come down to the size of the masks, 512."""

    config: CelebaMaskConfig
    facts = facts.CELEBAMASK
    shrinks: ClassVar[bool] = True
    tables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "all": ("train", "validation", "test"), "official-train": ("train",), "official-val": ("validation",),
        "official-test": ("test",),
    }  # fmt: skip
    layouts = (*(Layout(f"official, {name}", (IMAGES, name), AT) for name in PART_FOLDERS), *MERGED_LAYOUTS)

    def classes(self) -> tuple[str, ...]:
        """See `SetReader.classes`."""
        return class_names(self.config.classes)

    def listed(self, found: Found) -> Listed:
        """See `SetReader.listed`."""
        layout = next(layout for layout in self.layouts if layout.name == found.name)
        images, masks = (found.root / marker for marker in layout.markers)
        if layout in MERGED_LAYOUTS:
            self._check_order(found.root)
            rows, spare = pairs_of(list_images(images), list_images(masks), images, masks)
            notes = (f"left out, without an image: {plural(spare, 'mask')}",) if spare else ()
        else:
            parts = _part_files(masks)
            numbered = {int(path.stem): path for path in list_images(images) if path.stem.isdecimal()}
            rows, notes = [Row(path.stem, path, parts.get(key)) for key, path in sorted(numbered.items())], ()
        if self.config.split == "all":
            return Listed(rows, (), notes)
        path = found.root / MAPPING
        of_split = _split(path, self.config.split, self.facts.unpack())
        there = {int(row.name): row for row in rows if row.name.isdigit()}
        chosen = [there.get(key, Row(str(key), images / f"{key}.jpg")) for key in of_split]
        return Listed(chosen, (path,), notes)

    def unpacked(self, root: Path, folders: tuple[str, ...]) -> Listed:
        """See `SetReader.unpacked`; the masks are merged."""
        self._check_order(root)
        return super().unpacked(root, folders)

    def decode(self, row: Row) -> np.ndarray:
        """See `SetReader.decode`."""
        mask = self._painted(row.mask) if isinstance(row.mask, tuple) else self._merged(row.mask)
        if self.config.background == "ignore":
            mask[mask == 0] = IGNORE
        return mask

    def peek(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[str, ...]:
        """Merged masks whose faces have no hair or no neck are probably in another order."""
        names = self.classes()
        if self.config.order is None or "hair" not in names or not pairs:
            return ()
        likely = sum(
            all(float(mask.eq(names.index(name)).float().mean()) >= least for name, least in LEAST.items())
            for _, mask in pairs
        )
        if likely * 2 > len(pairs):
            return ()
        said = (
            f"of {plural(len(pairs), 'face')} that were looked at, {len(pairs) - likely} have hardly any hair or neck"
        )
        return (f"{said}: are the masks in the order '{self.config.order}'?",)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _check_order(self, root: Path) -> None:
        order = self.config.order
        if order is None:
            raise DataError(
                f"'{root}' holds merged masks, which do not say in which order their classes are",
                f"say it: -o data_reader.order=NAME, one of {', '.join(ORDERS)}",
            )
        if order == "klish15" and self.config.classes in ("official", "bisenet"):
            raise DataError(
                "masks of 15 merged classes cannot be read as 19", "set data_reader.classes=klish15 or foreground"
            )

    def _painted(self, files: tuple[Path, ...]) -> np.ndarray:
        """The parts' masks over each other, in the order of the classes: a later part covers an earlier one."""
        order = self.config.classes if self.config.classes in ORDERS else "official"
        mask: np.ndarray | None = None
        for path in sorted(files, key=lambda path: (value_of(_part(path), order), _part(path))):
            values = stored(path)[..., 0]
            if mask is None:
                mask = np.zeros(values.shape, np.uint8)
            if values.shape != mask.shape:
                raise DataError(f"'{path}' has another size than the other parts of its face", self.facts.unpack())
            mask[values != 0] = value_of(_part(path), self.config.classes)
        assert mask is not None  # a face without any part has no mask at all
        return mask

    def _merged(self, path: Path | None) -> np.ndarray:
        """An index PNG of any order in the order of the classes."""
        assert path is not None
        assert self.config.order is not None
        names = ORDERS[self.config.order]
        new = np.full(256, IGNORE, np.uint8)
        new[: len(names)] = [value_of(name, self.config.classes) for name in names]
        found: np.ndarray = new[indices(path, len(names) - 1, f"classes of the order '{self.config.order}'")]
        return found


# ---- inside ------------------------------------------------------------------------------------------------------


def _part(path: Path) -> str:
    match = PART_FILE.fullmatch(path.name)
    return match[2] if match else BACKGROUND


def _part_files(folder: Path) -> dict[int, tuple[Path, ...]]:
    """Face -> the files of its parts; a part that is absent has no file."""
    found: dict[int, list[Path]] = {}
    for here, _, names in os.walk(folder):
        for name in sorted(names):
            match = PART_FILE.fullmatch(name)
            if match and match[2] in OFFICIAL[1:]:
                found.setdefault(int(match[1]), []).append(Path(here, name))
    if not found:
        raise DataError(f"'{folder}' has no file of a part, such as 0/00000_skin.png", facts.CELEBAMASK.unpack())
    return {key: tuple(paths) for key, paths in found.items()}


def _split(path: Path, split: str, remedy: str) -> list[int]:
    """Numbers of the faces of a split, by the CelebA files that they were made from."""
    found = []
    for words in read_rows(path, 3, remedy):
        if words[0] == "idx":
            continue
        index, original = number(words[0], path, remedy), number(words[1], path, remedy)
        file = number(words[2].partition(".")[0].lstrip("0") or "0", path, remedy)
        if original != file - 1:
            raise DataError(f"'{path}' says that face {index} is number {original} and file {words[2][:40]}", remedy)
        part = "train" if file <= LAST_TRAIN else "val" if file <= LAST_VAL else "test"
        if split == f"official-{part}":
            found.append(index)
    if not found:
        raise DataError(f"'{path}' has no face of the split '{split}'", remedy)
    return found

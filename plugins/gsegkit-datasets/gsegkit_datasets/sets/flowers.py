"""Dataset readers `flowers102` and `flowers17`: Oxford's flowers with cut-outs on blue, and with trimaps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from gsegkit.errors import DataError
from gsegkit.images import list_images
from gsegkit_datasets.config import Flowers17Config, Flowers102Config
from gsegkit_datasets.sets import facts
from gsegkit_datasets.sets.encodings import blue_ground, touching, trimap_colours
from gsegkit_datasets.sets.layouts import Found, Layout
from gsegkit_datasets.sets.lists import mat_ids, read_mat
from gsegkit_datasets.sets.reader import Listed, Row, SetReader, pairs_of

CLASSES = ("background", "flower")
PREPARED = "prepared"
#: Split -> variable of setid.mat. ReDO and the papers after it test on what the data set calls its training list.
LISTS_102 = {
    "official-train": "trnid", "official-val": "valid", "official-test": "tstid",
    "redo-train": "tstid", "redo-val": "valid", "redo-test": "trnid",
}  # fmt: skip
LISTS_17 = {"train": "trn", "val": "val", "test": "tst"}
RED = (128, 0, 0)  # the flower of a trimap
MAX_LOOKED_AT = 32  # trimaps that say which colour is the border


class Flowers102Reader(SetReader):
    """Reads Oxford Flowers-102 by setid.mat; torchvision's root has no masks."""

    config: Flowers102Config
    facts = facts.FLOWERS102
    layouts = (
        Layout("official", ("jpg/", "setid.mat")),
        Layout("torchvision", ("jpg/", "setid.mat"), ("flowers-102", "flowers102", "oxford-flowers-102")),
        Layout(PREPARED, ("test_images/", "test_segmentations/")),
    )

    def classes(self) -> tuple[str, ...]:
        """See `SetReader.classes`."""
        return CLASSES

    def listed(self, found: Found) -> Listed:
        """See `SetReader.listed`."""
        root, split = found.root, self.config.split
        if found.name == PREPARED:
            if split != "redo-test":
                raise DataError(
                    f"'{root}' holds prepared test images and no other split",
                    "set data_reader.split=redo-test, or give the folder of the unpacked archives",
                )
            images, masks = root / "test_images", root / "test_segmentations"
            return Listed(pairs_of(list_images(images), list_images(masks), images, masks)[0])
        path, remedy = root / "setid.mat", self.facts.unpack("list")
        table = read_mat(path, remedy)
        keys = (LISTS_102[split],) if split != "all" else ("trnid", "valid", "tstid")
        ids = [number for key in keys for number in mat_ids(table, key, path, remedy)]
        has_masks = (root / "segmim").is_dir()
        rows = [
            Row(
                f"image_{number:05d}",
                root / "jpg" / f"image_{number:05d}.jpg",
                root / "segmim" / f"segmim_{number:05d}.jpg" if has_masks else None,
            )
            for number in sorted(ids)
        ]
        return Listed(rows, (path,))

    def decode(self, row: Row) -> np.ndarray:
        """See `SetReader.decode`."""
        assert isinstance(row.mask, Path)
        return blue_ground(row.mask, self.config.mask_rule)


class Flowers17Reader(SetReader):
    """Reads Oxford Flowers-17: the photographs that have a trimap; what is not labelled is 255."""

    config: Flowers17Config
    facts = facts.FLOWERS17
    layouts = (Layout("official", ("jpg/", "trimaps/"), ("", "17flowers", "flowers-17")),)

    def classes(self) -> tuple[str, ...]:
        """See `SetReader.classes`."""
        return CLASSES

    def listed(self, found: Found) -> Listed:
        """See `SetReader.listed`."""
        root, remedy = found.root, self.facts.unpack("masks", "list")
        path = root / "trimaps" / "imlist.mat"
        ids = mat_ids(read_mat(path, remedy), "imlist", path, remedy)
        of_split = self._of_split(root) if self.config.split != "all" else None
        sources = (path,) if of_split is None else (path, of_split[0])
        chosen = [key for key in sorted(ids) if of_split is None or key in of_split[1]]
        names = [f"image_{key:04d}" for key in chosen]
        masks = [root / "trimaps" / f"{name}.png" for name in names]
        border, notes = (self.config.border, ()) if self.config.border is not None else _find_border(masks)
        rows = [
            Row(name, root / "jpg" / f"{name}.jpg", mask, border=border)
            for name, mask in zip(names, masks, strict=True)
        ]
        return Listed(rows, sources, notes)

    def decode(self, row: Row) -> np.ndarray:
        """See `SetReader.decode`."""
        assert isinstance(row.mask, Path)
        return trimap_colours(row.mask, RED, row.border)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _of_split(self, root: Path) -> tuple[Path, set[int]]:
        _, kind, part = self.config.split.split("-")
        path, remedy = root / "datasplits.mat", self.facts.unpack("list")
        return path, set(mat_ids(read_mat(path, remedy), f"{LISTS_17[kind]}{part}", path, remedy))


def _find_border(masks: list[Path]) -> tuple[tuple[int, int, int] | None, tuple[str, ...]]:
    """Which colour of the trimaps is not labelled: of several beside the flower's the one that touches it most."""
    seen: Counter[tuple[int, int, int]] = Counter()
    for path in [path for path in masks if path.is_file()][:MAX_LOOKED_AT]:
        seen.update(touching(path, RED))
    if len(seen) < 2:
        return None, ()
    border = seen.most_common(1)[0][0]
    return border, (f"the trimaps' colour {border} touches the flowers and was taken for what is not labelled",)

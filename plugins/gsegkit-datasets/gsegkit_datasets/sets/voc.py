"""Dataset reader `voc`: PASCAL VOC's segmentation set, all of it or the images with chosen classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gsegkit.colours import voc_palette
from gsegkit.errors import ConfigError, DataError, plural
from gsegkit.types import IGNORE
from gsegkit_datasets.config import VocConfig
from gsegkit_datasets.sets import facts
from gsegkit_datasets.sets.encodings import indices
from gsegkit_datasets.sets.layouts import Found, Layout
from gsegkit_datasets.sets.lists import inside, read_rows
from gsegkit_datasets.sets.reader import Listed, Row, SetReader

OBJECTS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
CLASSES = ("background", *OBJECTS)


class VocReader(SetReader):
    """Reads SegmentationClass by ImageSets/Segmentation; with `classes` only images that have them."""

    config: VocConfig
    facts = facts.VOC
    layouts = (
        Layout("devkit", ("VOCdevkit/",), ("", "TrainVal", "VOCtrainval_25-May-2011/TrainVal")),
        Layout("year", ("JPEGImages/", "ImageSets/Segmentation/")),
        Layout("years", ("VOC2012/",)),
    )

    def classes(self) -> tuple[str, ...]:
        """See `SetReader.classes`."""
        return CLASSES if self.config.classes is None else ("background", *self.config.classes)

    def expected(self, found: Found) -> int | None:
        """See `SetReader.expected`; chosen classes have no published number."""
        if self.config.classes is not None:
            return None
        return facts.VOC_COUNTS.get(self._root(found).name.removeprefix("VOC"), {}).get(self.config.split)

    def listed(self, found: Found) -> Listed:
        """See `SetReader.listed`."""
        unknown = [name for name in self.config.classes or () if name not in OBJECTS]
        if unknown:
            raise ConfigError(f"VOC has no class '{unknown[0]}'", f"classes: {', '.join(OBJECTS)}")
        root = self._root(found)
        path = root / "ImageSets" / "Segmentation" / f"{self.config.split.removeprefix('official-')}.txt"
        names = [words[0] for words in read_rows(path, 1, self.facts.unpack())]
        rows = [
            Row(
                name,
                inside(root / "JPEGImages", f"{name}.jpg", path),
                inside(root / "SegmentationClass", f"{name}.png", path),
            )
            for name in names
        ]
        if self.config.classes is None:
            return Listed(rows, (path,))
        chosen = [row for row in rows if not _there(row) or self._share(row) > self.config.least_share]
        if not chosen:
            raise DataError(
                f"no image of '{path}' has more than {self.config.least_share:.0%} of {', '.join(self.config.classes)}",
                "choose other classes, or set data_reader.least_share=0",
            )
        left = len(rows) - len(chosen)
        return Listed(chosen, (path,), (f"left out, without the chosen classes: {plural(left, 'image')}",))

    def decode(self, row: Row) -> np.ndarray:
        """See `SetReader.decode`."""
        assert isinstance(row.mask, Path)
        mask = indices(row.mask, len(OBJECTS), "VOC's classes", voc_palette().numpy())
        if self.config.classes is None:
            return mask
        new = np.full(256, IGNORE if self.config.others == "ignore" else 0, np.uint8)
        new[0], new[IGNORE] = 0, IGNORE
        for value, name in enumerate(self.config.classes, 1):
            new[CLASSES.index(name)] = value
        found: np.ndarray = new[mask]
        return found

    # ---- inside --------------------------------------------------------------------------------------------------

    def _root(self, found: Found) -> Path:
        """The folder of a year."""
        if found.name == "year":
            return found.root
        base = found.root / "VOCdevkit" if found.name == "devkit" else found.root
        years = sorted(path.name.removeprefix("VOC") for path in base.glob("VOC20??") if path.is_dir())
        chosen = str(self.config.year) if self.config.year else years[0] if len(years) == 1 else None
        if chosen is None or chosen not in years:
            listed = ", ".join(years) or "none"
            raise DataError(f"'{base}' holds the years {listed}", "choose one: -o data_reader.year=YEAR")
        return base / f"VOC{chosen}"

    def _share(self, row: Row) -> float:
        mask = self.decode(row)
        return float(((mask > 0) & (mask < IGNORE)).mean())


def _there(row: Row) -> bool:
    return isinstance(row.mask, Path) and row.mask.is_file()

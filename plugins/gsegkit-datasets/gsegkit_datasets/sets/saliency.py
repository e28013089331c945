"""Dataset readers `dut-omron`, `duts` and `ecssd`: photographs with masks of what is salient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from gsegkit.errors import plural
from gsegkit.images import list_images
from gsegkit_datasets.config import DutsConfig, SaliencyConfig
from gsegkit_datasets.sets import facts
from gsegkit_datasets.sets.encodings import soft
from gsegkit_datasets.sets.layouts import Found, Layout
from gsegkit_datasets.sets.reader import Listed, Row, SetReader, pairs_of

CLASSES = ("background", "salient")
#: Folders of images and masks in copies of the three sets.
COPIES = (("img", "gt"), ("Image", "Mask"), ("images", "masks"), ("imgs", "gt"), ("Imgs", "GT"))
DUTS_PARTS = {"official-test": "DUTS-TE", "official-train": "DUTS-TR"}
WHOLE = ("all", "train", "test")  # where the tables of a data set without splits were unpacked to


def copies(at: tuple[str, ...] = ("",)) -> tuple[Layout, ...]:
    """The layouts of common copies."""
    return tuple(Layout(f"copy {images}+{masks}", (f"{images}/", f"{masks}/"), at) for images, masks in COPIES)


class SaliencyReader(SetReader):
    """Pairs images and masks by name, never by order: an extra mask shifts nothing."""

    config: SaliencyConfig

    def classes(self) -> tuple[str, ...]:
        """See `SetReader.classes`."""
        return CLASSES

    def listed(self, found: Found) -> Listed:
        """See `SetReader.listed`."""
        layout = next(layout for layout in self.layouts if layout.name == found.name)
        images, masks = (found.root / marker for marker in layout.markers)
        nested = images / images.name  # DUT-OMRON's archive holds its folder twice
        images = nested if nested.is_dir() else images
        rows, spare = pairs_of(list_images(images), list_images(masks), images, masks)
        notes = (f"left out, without an image: {plural(spare, 'mask')}",) if spare else ()
        return Listed(rows, (), notes)

    def decode(self, row: Row) -> np.ndarray:
        """See `SetReader.decode`."""
        assert isinstance(row.mask, Path)
        return soft(row.mask, self.config.threshold, self.config.ignore_soft, self.config.invert)

    def peek(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[str, ...]:
        """Masks whose rim is mostly foreground, more than their middle, are probably inverted."""
        odd = sum(_inverted(mask) for _, mask in pairs)
        if pairs and odd * 2 > len(pairs):
            said = f"of {plural(len(pairs), 'mask')} that were looked at, {odd} are foreground at the rim"
            return (f"{said}: inverted? then set data_reader.invert={str(not self.config.invert).lower()}",)
        return ()


class OmronReader(SaliencyReader):
    """Reads DUT-OMRON."""

    facts = facts.OMRON
    layouts = (
        Layout("official", ("DUT-OMRON-image/", "pixelwiseGT-new-PNG/"), ("", "DUT-OMRON", "DUTOMRON")),
        *copies(("", "DUT-OMRON", "DUTOMRON", *WHOLE)),
    )


class EcssdReader(SaliencyReader):
    """Reads ECSSD."""

    facts = facts.ECSSD
    layouts = (
        Layout("official", ("images/", "ground_truth_mask/"), ("", "ECSSD")),
        *copies(("", "ECSSD", *WHOLE)),
    )


class DutsReader(SaliencyReader):
    """Reads DUTS-TE or DUTS-TR."""

    config: DutsConfig
    facts = facts.DUTS

    @property
    def layouts(self) -> tuple[Layout, ...]:  # type: ignore[override]
        """Those of the part that is asked for: a folder of the other part is not read in its place."""
        part = DUTS_PARTS[self.config.split]
        at = ("", part, f"DUTS/{part}")
        layouts = (Layout("official", (f"{part}-Image/", f"{part}-Mask/"), at), *copies(at))
        return (*layouts, Layout("unpacked", ("images/", "masks/"), (self.config.split.removeprefix("official-"),)))


def _inverted(mask: Tensor) -> bool:
    rim = float(sum(edge.eq(1).float().mean() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])) / 4)
    return rim > 0.7 and rim > float(mask.eq(1).float().mean())

"""Dataset reader `apc`: training photographs of the Amazon Picking Challenge, split by scenes as GENESIS does."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from gsegkit.errors import DataError
from gsegkit_datasets.config import ApcConfig
from gsegkit_datasets.sets import facts
from gsegkit_datasets.sets.encodings import stored
from gsegkit_datasets.sets.layouts import Found, Layout
from gsegkit_datasets.sets.reader import Listed, Row, SetReader

CLASSES = ("background", "object")
PLACES = ("shelf", "tote")
PREFIX = "data/apc/processed"  # in the paths that GENESIS sorts
EMPTY = "scene-empty"  # without masks: all is background


class ApcReader(SetReader):
    """Reads training/{shelf,tote}/OBJECT/scene-*/frame-*.color.png; scenes are the unit of the split."""

    config: ApcConfig
    facts = facts.APC
    layouts = (
        Layout("official", ("shelf/", "tote/"), ("training", "")),
        Layout("genesis", ("shelf/", "tote/"), ("processed", "apc/processed")),
    )

    def classes(self) -> tuple[str, ...]:
        """See `SetReader.classes`."""
        return CLASSES

    def listed(self, found: Found) -> Listed:
        """See `SetReader.listed`."""
        scenes = [
            path.relative_to(found.root).as_posix()
            for place in PLACES
            for path in (found.root / place).glob("*/scene-*")
            if path.is_dir()
        ]
        if not scenes:
            raise DataError(f"'{found.root}' has no scenes (shelf/OBJECT/scene-0000)", self.facts.unpack())
        rows = []
        for scene in split_scenes(scenes)[self.config.split]:
            for image in sorted((found.root / scene).glob("frame-*.color.png")):
                frame = image.name.removesuffix(".color.png")
                mask: Path | tuple[()] = image.parent / "masks" / f"{frame}.mask.png"
                if image.parent.name == EMPTY:
                    mask = ()
                rows.append(Row(f"{scene}/{frame}", image, mask))
        if not rows:
            raise DataError(
                f"'{found.root}' has no photographs in the split '{self.config.split}' ({len(scenes)} scenes in all)",
                self.facts.unpack(),
            )
        return Listed(rows)

    def decode(self, row: Row) -> np.ndarray:
        """See `SetReader.decode`."""
        assert isinstance(row.mask, Path)
        values = stored(row.mask)[..., 0]
        found: np.ndarray = (values == 255) if self.config.mask_rule == "genesis" else (values > 0)
        return found.astype(np.uint8)


def split_scenes(scenes: list[str]) -> dict[str, list[str]]:
    """Split -> its scenes, as GENESIS draws them: paths sorted as texts, shuffled with Python's seed 0, a tenth each.

    Args:
        scenes: PLACE/OBJECT/SCENE, with forward slashes.

    Example:
        >>> parts = split_scenes([f"shelf/a/scene-{number:04d}" for number in range(20)])
        >>> {name: len(found) for name, found in parts.items()}
        {'genesis-val': 2, 'genesis-test': 2, 'genesis-train': 16, 'all': 20}
    """
    ordered = sorted(f"{PREFIX}/{scene}" for scene in scenes)
    ordered = [path.removeprefix(f"{PREFIX}/") for path in ordered]
    shuffled = list(ordered)
    random.Random(0).shuffle(shuffled)
    share = len(shuffled) // 10
    return {
        "genesis-val": shuffled[:share],
        "genesis-test": shuffled[share : 2 * share],
        "genesis-train": shuffled[2 * share :],
        "all": ordered,
    }

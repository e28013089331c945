"""Miniatures of sets with several objects or scenes: the Amazon Picking Challenge and PASCAL VOC."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gsegkit.colours import voc_palette
from gsegkit.types import IGNORE
from gsegkit_datasets.sets.apc import split_scenes
from gsegkit_datasets.testing.base import Miniature
from gsegkit_datasets.testing.drawing import blob, photograph, save, votes

#: As published: an object's name may begin another one's, which decides how paths are sorted.
OBJECTS = ("expo_eraser", "expo_eraser-2", "rolodex.cup")
SIZE = (30, 40)
CAR, PERSON = 7, 15
VOC_NAMES = ("2007_000032", "2008_000001", "2008_000002", "2009_000003", "2010_000004")


def apc(layout: str, folder: Path) -> Miniature:
    """Scenes of two frames in shelf and tote, with empty ones; layouts "official" and "genesis" (processed/)."""
    root = folder / ("training" if layout == "official" else "processed")
    masks: dict[str, np.ndarray] = {}
    scenes = []
    for place in ("shelf", "tote"):
        for thing in OBJECTS:
            for number in (0, 1, 2, None):
                scene = f"{place}/{thing}/scene-{number:04d}" if number is not None else f"{place}/{thing}/scene-empty"
                scenes.append(scene)
                for frame in range(2):
                    index, name = len(masks), f"frame-{frame:06d}"
                    mask = blob(index, SIZE) if number is not None else np.zeros(SIZE, bool)
                    save(root / scene / f"{name}.color.png", photograph(mask, index))
                    save(root / scene / f"{name}.depth.png", np.full(SIZE, 4000, np.uint16))
                    if number is not None:
                        save(root / scene / "masks" / f"{name}.mask.png", mask * np.uint8(255))
                    masks[f"{scene}/{name}"] = mask.astype(np.uint8)
    parts = split_scenes(scenes)
    splits = {
        split: tuple(f"{scene}/frame-{frame:06d}" for scene in names for frame in range(2))
        for split, names in parts.items()
    }
    return Miniature(folder, {}, splits, masks)


def voc(layout: str, folder: Path) -> Miniature:
    """Cars and persons; layouts "devkit", "2011" (below TrainVal/), "year" (one year's folder), "years"."""
    base = {"devkit": folder / "VOCdevkit", "2011": folder / "TrainVal" / "VOCdevkit"}.get(layout, folder)
    root = base / ("VOC2011" if layout == "2011" else "VOC2012")
    masks = {}
    for index, name in enumerate(VOC_NAMES):
        inner = blob(index)
        mask = np.where(inner, CAR if index != 3 else PERSON, 0).astype(np.uint8)
        mask[votes(inner) == 102] = IGNORE
        if index == 2:  # a car of one pixel, far from the person beside it
            mask[mask == CAR] = PERSON
            mask[0, 0] = CAR
        save(root / "JPEGImages" / f"{name}.jpg", photograph(inner, index))
        save(root / "SegmentationClass" / f"{name}.png", mask, "", voc_palette().numpy())
        masks[name] = mask
    splits = {"official-train": VOC_NAMES[:2], "official-val": VOC_NAMES[2:], "official-trainval": VOC_NAMES}
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, names in splits.items():
        (lists / f"{split.removeprefix('official-')}.txt").write_text("".join(f"{name}\n" for name in names))
    return Miniature(root if layout == "year" else folder, {}, splits, masks)

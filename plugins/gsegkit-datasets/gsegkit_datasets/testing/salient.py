"""Miniatures of the saliency sets: DUT-OMRON, DUTS and ECSSD."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gsegkit_datasets.testing.base import Miniature
from gsegkit_datasets.testing.drawing import blob, photograph, save, soft_edges, stray

COPIES = ("img+gt", "Image+Mask", "images+masks", "imgs+gt", "Imgs+GT")
NUM_IMAGES = 6
TWICE = "n01532829_13482"  # of DUTS-TR: its mask is a .jpg, beside a .png of another size


def omron(layout: str, folder: Path) -> Miniature:
    """DUT-OMRON: the folder of photographs lies in itself, a Mac left files, one mask has no photograph."""
    names = tuple(f"im{index:03d}" for index in range(1, NUM_IMAGES + 1))
    images, masks = ("DUT-OMRON-image/DUT-OMRON-image", "pixelwiseGT-new-PNG")
    if layout in COPIES:
        images, masks = layout.split("+")
    stray(folder / "__MACOSX" / "DUT-OMRON-image" / "._im001.jpg")
    stray(folder / images / "._im001.jpg")
    return _pairs(folder, folder / images, folder / masks, names, {"all": names})


def ecssd(layout: str, folder: Path) -> Miniature:
    """ECSSD."""
    names = tuple(f"{index:04d}" for index in range(1, NUM_IMAGES + 1))
    images, masks = layout.split("+") if layout in COPIES else ("images", "ground_truth_mask")
    return _pairs(folder, folder / images, folder / masks, names, {"all": names})


def duts(layout: str, folder: Path) -> Miniature:
    """DUTS, both parts; layouts "official" (the folder of DUTS-TE), "parent" (the one above), copies of TE."""
    names = tuple(f"ILSVRC2012_test_{index:08d}" for index in range(1, NUM_IMAGES + 1))
    if layout in COPIES:
        images, masks = layout.split("+")
        return _pairs(folder, folder / images, folder / masks, names, {"official-test": names})
    root = folder / "DUTS-TE"
    given = folder if layout == "parent" else root
    made = _pairs(given, root / "DUTS-TE-Image", root / "DUTS-TE-Mask", names, {"official-test": names})
    if layout == "official":
        return made
    train = ("ILSVRC2014_train_00000004", TWICE)
    of_train = folder / "DUTS-TR"
    other = _pairs(given, of_train / "DUTS-TR-Image", of_train / "DUTS-TR-Mask", train, {"official-train": train})
    right = other.masks[TWICE]
    save(of_train / "DUTS-TR-Mask" / f"{TWICE}.jpg", right * 255)
    save(of_train / "DUTS-TR-Mask" / f"{TWICE}.png", np.zeros((9, 9), np.uint8))
    return Miniature(given, {}, {**made.splits, **other.splits}, {**made.masks, **other.masks})


def _pairs(
    given: Path, images: Path, masks: Path, names: tuple[str, ...], splits: dict[str, tuple[str, ...]]
) -> Miniature:
    """Photographs and masks with soft edges; one mask that no photograph has, before all others in sorted order."""
    drawn = {name: blob(index) for index, name in enumerate(names)}
    for index, (name, mask) in enumerate(drawn.items()):
        save(images / f"{name}.jpg", photograph(mask, index))
        save(masks / f"{name}.png", soft_edges(mask))
    save(masks / "0000_extra.png", soft_edges(blob(99)))
    return Miniature(given, {}, splits, {name: mask.astype(np.uint8) for name, mask in drawn.items()})

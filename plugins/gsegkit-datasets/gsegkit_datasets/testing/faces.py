"""Miniature of CelebAMask-HQ: drawn faces in one file a part, or merged in one of the three class orders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gsegkit_datasets.sets.parts import ORDERS, value_of
from gsegkit_datasets.testing.base import Miniature
from gsegkit_datasets.testing.drawing import face, photograph, save

NUM_FACES = 6
PHOTOGRAPH, MASK = 64, 32  # pixels; the published ones have 1,024 and 512
#: CelebA file number of each face: the last of the training photographs, the first and last of validation, ...
FILES = (162_770, 1, 182_638, 162_771, 202_599, 182_637)
SPLITS = {"official-train": ("0", "1"), "official-val": ("3", "5"), "official-test": ("2", "4")}
FOLDERS = {"merged-official": ("CelebA-HQ-img", "mask"), "merged-bisenet": ("images", "masks")}
FOLDERS |= {"merged-klish15": ("image", "label_15")}


def celebamask(layout: str, folder: Path) -> Miniature:
    """Faces; layouts "official", "script" (the folder as the published script spells it), and "merged-ORDER"."""
    order = layout.removeprefix("merged-") if layout.startswith("merged-") else "official"
    masks = {str(index): painted(index, order) for index in range(NUM_FACES)}
    images, places = FOLDERS.get(layout, ("CelebA-HQ-img", ""))
    for index in range(NUM_FACES):
        large = np.kron(masks[str(index)], np.ones((PHOTOGRAPH // MASK,) * 2, np.uint8))
        save(folder / images / f"{index}.jpg", photograph(large, index))
        if places:
            save(folder / places / f"{index}.png", masks[str(index)])
            continue
        spelling = "CelebAMask-HQ-mask-anno" if layout == "official" else "CelebAMaskHQ-mask-anno"
        for part, mask in face(index, MASK).items():
            save(
                folder / spelling / "0" / f"{index:05d}_{part}.png",
                np.repeat(mask[..., None] * np.uint8(255), 3, axis=2),
            )
    rows = [f"{index:<8}{file - 1:<12}{file:06d}.jpg" for index, file in enumerate(FILES)]
    (folder / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(["idx     orig_idx    orig_file", *rows]))
    options = {"order": order, "classes": order} if places else {}
    return Miniature(folder, options, {"all": tuple(masks), **SPLITS}, masks)


def painted(index: int, order: str) -> np.ndarray:
    """[MASK, MASK] uint8: a face's parts over each other in a class order."""
    mask, parts = np.zeros((MASK, MASK), np.uint8), face(index, MASK)
    rank = {name: place for place, name in enumerate(ORDERS[order])}
    for name in sorted(parts, key=lambda name: (value_of(name, order), rank.get(name, 0), name)):
        mask[parts[name]] = value_of(name, order)
    return mask

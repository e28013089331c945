"""Miniatures of data sets with masks by people: CUB, Oxford's flowers and pets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.io import savemat

from gsegkit.colours import voc_palette
from gsegkit.types import IGNORE
from gsegkit_datasets.sets.labels4free import PLACES
from gsegkit_datasets.testing.base import Miniature
from gsegkit_datasets.testing.drawing import blob, ellipse, photograph, save, size_of, soft_edges, stray, votes

BLUE = (0, 0, 254)  # ground of Flowers-102's cut-outs
NUM_BIRDS, NUM_FLOWERS, NUM_TRIMAPS = 12, 12, 7
BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
OFFICIAL_TRAIN = (1, 0, 0) * 4  # flags of CUB's own list
REDO = (0, 0, 2, 0, 1, 2, 0, 0, 2, 0, 1, 2)  # flags of ReDO's list: train, val, test
FLOWER_LISTS = {"trnid": (3, 1, 9), "valid": (5, 2, 10), "tstid": (4, 6, 7, 8, 11, 12)}
PETS = ("Abyssinian_1", "Abyssinian_34", "beagle_2", "Egyptian_Mau_14", "pug_7")  # the second a GIF, the fourth a PNG


def cub(layout: str, folder: Path) -> Miniature:
    """Birds; layouts "official" (masks beside the folder), "parent" (given from above, masks inside), "prepared"."""
    keys = [f"{BIRDS[index % 3]}/Bird_{index:04d}_{7 * index}" for index in range(NUM_BIRDS)]
    keys.sort()
    drawn = {key: blob(index) for index, key in enumerate(keys)}
    splits = {
        "all": tuple(keys),
        "official-train": tuple(key for key, flag in zip(keys, OFFICIAL_TRAIN, strict=True) if flag == 1),
        "official-test": tuple(key for key, flag in zip(keys, OFFICIAL_TRAIN, strict=True) if flag == 0),
    }
    for flag, name in enumerate(("redo-train", "redo-val", "redo-test")):
        splits[name] = tuple(key for key, own in zip(keys, REDO, strict=True) if own == flag)
    masks = {key: mask.astype(np.uint8) for key, mask in drawn.items()}
    if layout == "prepared":
        chosen = splits["redo-test"]
        for key in chosen:
            _bird(folder / "test_images" / f"{key}.jpg", folder / "test_segmentations" / f"{key}.png", drawn, key, keys)
        return Miniature(folder, {"split": "redo-test"}, {"redo-test": chosen}, {key: masks[key] for key in chosen})
    root = folder / "CUB_200_2011"
    place = root / "segmentations" if layout == "parent" else folder / "segmentations"
    for key in keys:
        _bird(root / "images" / f"{key}.jpg", place / f"{key}.png", drawn, key, keys)
    stray(root / "images" / f"{BIRDS[0]}" / "._Bird_0000_0.jpg")
    save(root / "images" / f"{keys[1]}_rgb.jpg", photograph(drawn[keys[1]], 1))  # not listed
    _lines(root / "images.txt", [f"{number} {key}.jpg" for number, key in enumerate(keys, 1)])
    _lines(root / "train_test_split.txt", [f"{number} {flag}" for number, flag in enumerate(OFFICIAL_TRAIN, 1)])
    _lines(root / "train_val_test_split.txt", [f"{number} {flag}" for number, flag in enumerate(REDO, 1)])
    _lines(root / "bounding_boxes.txt", [f"{number} {_box(drawn[key])}" for number, key in enumerate(keys, 1)])
    return Miniature(folder if layout == "parent" else root, {}, splits, masks)


def flowers102(layout: str, folder: Path) -> Miniature:
    """Flowers whose masks are JPEGs on blue; layouts "official", "torchvision" (masks added), "prepared" (grey)."""
    drawn = {f"image_{number:05d}": blob(number) for number in range(1, NUM_FLOWERS + 1)}
    lists = {key: tuple(f"image_{number:05d}" for number in sorted(ids)) for key, ids in FLOWER_LISTS.items()}
    masks = {key: mask.astype(np.uint8) for key, mask in drawn.items()}
    if layout == "prepared":
        for key in lists["trnid"]:
            save(folder / "test_images" / f"{key}.jpg", photograph(drawn[key], int(key[-5:])))
            save(folder / "test_segmentations" / f"{key}.png", masks[key] * 255)
        chosen = {key: masks[key] for key in lists["trnid"]}
        return Miniature(folder, {"split": "redo-test"}, {"redo-test": lists["trnid"]}, chosen)
    root = folder / "flowers-102" if layout == "torchvision" else folder
    for key, mask in drawn.items():
        pixels = photograph(mask, int(key[-5:]))
        save(root / "jpg" / f"{key}.jpg", pixels)
        save(root / "segmim" / f"segmim_{key[-5:]}.jpg", np.where(mask[..., None], pixels, np.array(BLUE, np.uint8)))
    savemat(root / "setid.mat", {key: np.array([ids], np.float64) for key, ids in FLOWER_LISTS.items()})
    splits = {
        "all": tuple(sorted(key for keys in lists.values() for key in keys)),
        "official-train": lists["trnid"], "official-val": lists["valid"], "official-test": lists["tstid"],
        "redo-train": lists["tstid"], "redo-val": lists["valid"], "redo-test": lists["trnid"],
    }  # fmt: skip
    return Miniature(folder, {"mask_rule": "tolerant"}, splits, masks, exact=False)


def flowers17(layout: str, folder: Path) -> Miniature:
    """Flowers of which some have a trimap: red the flower, black a border that is not labelled, blue the ground."""
    listed = tuple(range(2, 2 + NUM_TRIMAPS))
    palette, masks = voc_palette().numpy(), {}
    for number in range(1, NUM_FLOWERS + 1):
        mask, name = blob(number), f"image_{number:04d}"
        save(folder / "jpg" / f"{name}.jpg", photograph(mask, number))
        if number in listed:
            border = votes(mask) == 102
            masks[name] = np.where(border, IGNORE, mask).astype(np.uint8)
            save(folder / "trimaps" / f"{name}.png", np.select([border, mask], [0, 1], 4).astype(np.uint8), "", palette)
    stray(folder / "trimaps" / "._image_0002.png")
    savemat(folder / "trimaps" / "imlist.mat", {"imlist": np.array([listed], np.float64)})
    parts = {"trn1": (1, 2, 3), "val1": (4, 10), "tst1": (5, 6, 7, 8, 9)}
    parts |= {"trn2": (5, 6), "val2": (2, 9), "tst2": (3, 4), "trn3": (7,), "val3": (8,), "tst3": (2,)}
    savemat(folder / "datasplits.mat", {key: np.array([ids], np.float64) for key, ids in parts.items()})
    splits = {"all": tuple(masks)}
    for word, key in (("train", "trn"), ("val", "val"), ("test", "tst")):
        for part in "123":
            of_part = tuple(f"image_{number:04d}" for number in parts[key + part] if number in listed)
            splits[f"official-{word}-{part}"] = of_part
    return Miniature(folder, {}, splits, masks)


def pets(layout: str, folder: Path) -> Miniature:
    """Pets with trimaps 1 pet, 2 ground, 3 border; photographs that are no JPEG, not listed, and of a Mac."""
    root = folder / "oxford-iiit-pet" if layout == "torchvision" else folder
    masks = {}
    for index, name in enumerate(PETS):
        mask = blob(index)
        kind = {"Abyssinian_34": "GIF", "Egyptian_Mau_14": "PNG"}.get(name, "")
        pixels = photograph(mask, index)
        save(root / "images" / f"{name}.jpg", pixels[..., 0] if kind == "GIF" else pixels, kind)
        border = votes(mask) == 102
        save(root / "annotations" / "trimaps" / f"{name}.png", np.select([border, mask], [3, 1], 2).astype(np.uint8))
        masks[name] = np.where(border, IGNORE, mask).astype(np.uint8)
    save(root / "images" / "Abyssinian_99.jpg", photograph(ellipse(size_of(0), 0.5, 0.5, 0.2, 0.2), 9))  # not listed
    (root / "images" / "Abyssinian_100.mat").write_bytes(b"not an image")
    stray(root / "annotations" / "trimaps" / "._Abyssinian_1.png")
    splits = {"official-trainval": PETS[:3], "official-test": PETS[3:], "all": PETS}
    for file, split in (("trainval.txt", "official-trainval"), ("test.txt", "official-test"), ("list.txt", "all")):
        _lines(root / "annotations" / file, [f"{name} 1 1 1" for name in splits[split]])
    return Miniature(folder, {}, splits, masks)


def labels4free(layout: str, folder: Path) -> Miniature:
    """Generated images with masks by hand in RGBA, numbered from 1 where the images are from 0; layout "official"."""
    masks: dict[str, np.ndarray] = {}
    splits = {}
    for split, (place, under) in PLACES.items():
        names = tuple(f"{place}-{index}" for index in range(10))
        for index, name in enumerate(names):
            mask = blob(index)
            grey = soft_edges(mask) if split == "faces" else mask * np.uint8(255)
            alpha = np.full_like(grey, 255)
            save(folder / place / "data" / f"{index}.png", photograph(mask, index))
            save(folder / place / under / f"{place}{index + 1}.png", np.stack([grey, grey, grey, alpha], axis=2))
            save(folder / place / under.replace("_gt", "_pred") / f"{index + 1}.png", ~mask * np.uint8(255))
            masks[name] = (grey == 255).astype(np.uint8)
        splits[split] = names
    return Miniature(folder, {}, splits, masks)


# ---- inside ------------------------------------------------------------------------------------------------------


def _bird(image: Path, place: Path, drawn: Mapping[str, np.ndarray], key: str, keys: list[str]) -> None:
    """A photograph (the second grey) and its votes (the third with several channels)."""
    index, mask = keys.index(key), drawn[key]
    pixels = photograph(mask, index)
    save(image, pixels[..., 0] if index == 1 else pixels)
    save(place, votes(mask) if index != 2 else np.stack([votes(mask), votes(~mask), votes(mask)], axis=2))


def _box(mask: np.ndarray) -> str:
    rows, columns = np.nonzero(mask)
    return f"{columns.min():.1f} {rows.min():.1f} {np.ptp(columns) + 1:.1f} {np.ptp(rows) + 1:.1f}"


def _lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")

"""Miniatures of Stanford Cars and Dogs: photographs with boxes, and masks as a detector would give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import savemat

from gsegkit_datasets.testing.base import Miniature
from gsegkit_datasets.testing.drawing import blob, photograph, save

NUM_TRAIN, NUM_TEST = 4, 3
DOGS = ("n02085620-Chihuahua/n02085620_{}", "n02105855-Shetland_sheepdog/n02105855_{}")
CAR_LISTS = ("data_mrcnn_train_select.npy", "data_mrcnn_test_select.npy")
DOG_LISTS = ("data_tr_sel.npy", "data_te_sel.npy")
FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def cars(layout: str, folder: Path) -> Miniature:
    """Cars; layouts "torchvision", "kaggle" (folders in themselves), "old" (one folder), "data_mrcnn" (with lists)."""
    if layout.startswith("data_mrcnn"):
        return _detected(
            folder, ("data_mrcnn_train_select.npy", "data_mrcnn_test_select.npy") * (layout != "data_mrcnn")
        )
    root = folder / "stanford_cars" if layout == "torchvision" else folder
    masks: dict[str, np.ndarray] = {}
    old: list[tuple[object, ...]] = []
    for part, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        inner = f"cars_{part}/cars_{part}" if layout == "kaggle" else f"cars_{part}"
        rows: list[tuple[object, ...]] = []
        for number in range(1, count + 1):
            index = number + 10 * (part == "test")
            mask, name = blob(index), f"{number:05d}.jpg"
            if layout == "old":
                name = f"{len(old) + 1:06d}.jpg"
                old.append((*_corners(mask), f"car_ims/{name}", 1, int(part == "test")))
                image, place, key = root / "car_ims" / name, root / "masks" / "car_ims" / name, name[:-4]
            else:
                image, place, key = root / inner / name, root / "masks" / f"cars_{part}" / name, f"{part}/{name[:-4]}"
            rows.append((*_corners(mask), 1, name))
            pixels = photograph(mask, index)
            save(image, pixels[..., 0] if number == 1 else pixels)
            save(place.with_suffix(".png"), mask * np.uint8(255))
            masks[key] = mask.astype(np.uint8)
        if layout != "old":
            devkit = root / "car_devkit" / "devkit" if layout == "kaggle" else root / "devkit"
            labelled = part == "test" and layout == "torchvision"  # beside the devkit, not in it
            path = root / "cars_test_annos_withlabels.mat" if labelled else devkit / f"cars_{part}_annos.mat"
            _structs(path, (*FIELDS, "class", "fname"), rows)
    if layout == "old":
        _structs(root / "cars_annos.mat", (*FIELDS, "relative_im_path", "class", "test"), old)
    names = tuple(masks)
    splits = {"all": names, "official-train": names[:NUM_TRAIN], "official-test": names[NUM_TRAIN:]}
    return Miniature(folder, {}, splits, masks)


def dogs(layout: str, folder: Path) -> Miniature:
    """Dogs; layouts "official" (lists beside the folders), "lists" (in one of their own), "data_mrcnn" (with lists)."""
    if layout.startswith("data_mrcnn"):
        return _detected(folder, DOG_LISTS if layout != "data_mrcnn" else ())
    names = [DOGS[index % 2].format(100 + index) for index in range(NUM_TRAIN + NUM_TEST)]
    masks = {}
    for index, name in enumerate(names):
        mask = blob(index)
        save(folder / "Images" / f"{name}.jpg", photograph(mask, index), "PNG" if index == 1 else "")
        save(folder / "masks" / "Images" / f"{name}.png", mask.astype(np.uint8))
        box = (
            f"<{key}>{value}</{key}>"
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), _corners(mask), strict=True)
        )
        path = folder / "Annotation" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<annotation><object><bndbox>{''.join(box)}</bndbox></object></annotation>")
        masks[name] = mask.astype(np.uint8)
    splits = {
        "all": tuple(names),
        "official-train": tuple(names[:NUM_TRAIN]),
        "official-test": tuple(names[NUM_TRAIN:]),
    }
    where = folder / "lists" if layout == "lists" else folder
    where.mkdir(exist_ok=True)
    for part in ("train", "test"):
        files = np.array([[f"{name}.jpg"] for name in splits[f"official-{part}"]], object)
        savemat(where / f"{part}_list.mat", {"file_list": files})
    return Miniature(folder, {}, splits, masks)


# ---- inside ------------------------------------------------------------------------------------------------------


def _detected(folder: Path, lists: tuple[str, ...] = ()) -> Miniature:
    """DRC's pairs; with lists the second of each part is not selected."""
    masks, splits = {}, {}
    for number, part in enumerate(("train", "test")):
        root = folder / "data_mrcnn" / part
        tokens = [f"{index}_a" for index in range(3)]
        chosen = tokens[:1] + tokens[2:] if lists else tokens
        for index, token in enumerate(tokens):
            mask = blob(index + 20 * (part == "test"))
            save(root / "orig" / f"{token}_orig.png", photograph(mask, index))
            save(root / "resized" / f"{token}_resized.png", photograph(mask, index))
            save(root / "resized" / f"{token}_maskresized.png", mask * np.uint8(255))
            if token in chosen:
                masks[f"{part}/{token}"] = mask.astype(np.uint8)
        if lists:
            np.save(folder / lists[number], np.array(chosen))
        splits[f"drc-{part}"] = tuple(f"{part}/{token}" for token in chosen)
    return Miniature(folder, {}, {"all": tuple(masks), **splits}, masks)


def _corners(mask: np.ndarray) -> tuple[int, int, int, int]:
    """1-based corners of the box of a mask."""
    rows, columns = np.nonzero(mask)
    return int(columns.min()) + 1, int(rows.min()) + 1, int(columns.max()) + 1, int(rows.max()) + 1


def _structs(path: Path, fields: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """A struct array as MATLAB writes it: every field is an array of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.empty((1, len(rows)), [(field, object) for field in fields])
    for index, row in enumerate(rows):
        array[0, index] = tuple(np.array([[value]]) if not isinstance(value, str) else value for value in row)
    savemat(path, {"annotations": array})

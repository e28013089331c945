"""Miniatures of the published data sets: a few images drawn by us, in every layout that the readers know.

They stand in for the data sets where a reader, a recipe or a command is tested without them. Their defects are those of
the published ones: grey photographs, other formats under .jpg, files of a Mac, masks without an image, soft edges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from gsegkit.errors import ConfigError, DataError
from gsegkit_datasets.testing import boxed, faces, hand, salient, scenes
from gsegkit_datasets.testing.base import Miniature

__all__ = ["LAYOUTS", "Miniature", "make_miniature"]

_WRITERS: Mapping[str, tuple[Callable[[str, Path], Miniature], tuple[str, ...]]] = {
    "cub": (hand.cub, ("official", "parent", "prepared")),
    "flowers102": (hand.flowers102, ("official", "torchvision", "prepared")),
    "flowers17": (hand.flowers17, ("official",)),
    "dut-omron": (salient.omron, ("official", *salient.COPIES)),
    "duts": (salient.duts, ("official", "parent", *salient.COPIES)),
    "ecssd": (salient.ecssd, ("official", *salient.COPIES)),
    "celebamask-hq": (faces.celebamask, ("official", "script", "merged-official", "merged-bisenet", "merged-klish15")),
    "stanford-cars": (boxed.cars, ("torchvision", "kaggle", "old", "data_mrcnn", "data_mrcnn with lists")),
    "stanford-dogs": (boxed.dogs, ("official", "lists", "data_mrcnn", "data_mrcnn with lists")),
    "apc": (scenes.apc, ("official", "genesis")),
    "voc": (scenes.voc, ("devkit", "2011", "year", "years")),
    "labels4free-custom": (hand.labels4free, ("official",)),
    "oxford-pets": (hand.pets, ("official", "torchvision")),
}
#: Name of a reader -> layouts of its miniatures; the first is the published one.
LAYOUTS: Mapping[str, tuple[str, ...]] = {name: layouts for name, (_, layouts) in _WRITERS.items()}


def make_miniature(name: str, layout: str, folder: Path) -> Miniature:
    """Write a miniature of a data set into an empty folder.

    Args:
        name: of its reader, see `LAYOUTS`.
        layout: one of `LAYOUTS[name]`.
        folder: is made; must be empty.

    Raises:
        ConfigError: another name or layout.
        DataError: the folder is not empty.
    """
    if name not in LAYOUTS:
        raise ConfigError(f"there is no miniature of '{name}'", f"names: {', '.join(LAYOUTS)}")
    if layout not in LAYOUTS[name]:
        raise ConfigError(f"no miniature of '{name}' has the layout '{layout}'", f"layouts: {', '.join(LAYOUTS[name])}")
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"folder '{folder}' is not empty", "choose another one")
    folder.mkdir(parents=True, exist_ok=True)
    return _WRITERS[name][0](layout, folder)

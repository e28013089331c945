"""Readers of image folders, and of the data sets that the papers score on, for gsegkit."""

from __future__ import annotations

from typing import Any

from gsegkit.plugins import Component, hookimpl

#: Name of a reader -> its class, its options, and a line about it.
READERS = {
    "folder": ("folder:FolderReader", "FolderConfig", "plain folders: images, or images and masks of the same stem"),
    "cub": ("sets.cub:CubReader", "CubConfig", "CUB-200-2011: birds, masks by vote; ReDO's and the official splits"),
    "flowers102": ("sets.flowers:Flowers102Reader", "Flowers102Config", "Oxford Flowers-102: cut-outs on blue"),
    "flowers17": ("sets.flowers:Flowers17Reader", "Flowers17Config", "Oxford Flowers-17: trimaps of some photographs"),
    "dut-omron": ("sets.saliency:OmronReader", "SaliencyConfig", "DUT-OMRON: what is salient"),
    "duts": ("sets.saliency:DutsReader", "DutsConfig", "DUTS-TE or DUTS-TR: what is salient"),
    "ecssd": ("sets.saliency:EcssdReader", "SaliencyConfig", "ECSSD: what is salient"),
    "celebamask-hq": ("sets.celebamask:CelebaMaskReader", "CelebaMaskConfig", "CelebAMask-HQ: parts of faces"),
    "stanford-cars": ("sets.boxes:CarsReader", "CarsConfig", "Stanford Cars: boxes, and masks where you have them"),
    "stanford-dogs": ("sets.boxes:DogsReader", "DogsConfig", "Stanford Dogs: boxes, and masks where you have them"),
    "apc": ("sets.apc:ApcReader", "ApcConfig", "Amazon Picking Challenge: objects in scenes, GENESIS' split"),
    "voc": ("sets.voc:VocReader", "VocConfig", "PASCAL VOC: 20 classes, or the images of chosen ones"),
    "labels4free-custom": ("sets.labels4free:CustomReader", "CustomConfig", "Labels4Free's ten images a class"),
    "oxford-pets": ("sets.pets:PetsReader", "PetsConfig", "Oxford-IIIT Pets: cats and dogs with trimaps"),
}


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="dataset",
            name=name,
            target=f"gsegkit_datasets.{target}",
            config=f"gsegkit_datasets.config:{config}",
            summary=summary,
        )
        for name, (target, config, summary) in READERS.items()
    ]


@hookimpl
def gsegkit_commands(app: Any) -> None:
    """`gsegkit unpack`."""
    from gsegkit_datasets.command import unpack

    app.command()(unpack)
